//! A thousand containers of one image side by side: only what each has written costs disk.

use std::time::Instant;

use strata_tests::command::run;
use strata_tests::scene::{Scene, shell_image};
use strata_tests::user::need_root;

const MANY: usize = 1000;
/// Containers that write.
const WRITERS: usize = 20;
/// Bytes that each of them writes.
const WRITTEN: u64 = 100_000;

#[test]
fn a_thousand_containers_cost_only_what_they_write() {
    need_root();
    let scene = Scene::new();
    let reference = scene.push(&shell_image(), "v1");
    scene.strata.pull(&reference);
    let containers = scene.strata.root().join("containers");
    let script = format!("head -c {WRITTEN} /dev/zero > /data/written");
    let began = Instant::now();
    for n in 0..MANY {
        let name = format!("many-{n}");
        let create = ["create", "--name", &name, &reference, "sh", "-c", &script];
        run(&mut scene.strata.command(&create)).ok();
    }
    println!("{MANY} create: {:?}", began.elapsed());
    let used = strata::store::disk_usage(&containers);
    let each = used / MANY as u64;
    println!("{each} bytes of disk for each container that was only created");
    assert!(each < 16 * 1024, "{each} bytes each");
    for n in 0..WRITERS {
        let name = format!("many-{n}");
        scene.strata.run(&["start", "-a", &name]).ok();
    }
    let grown = strata::store::disk_usage(&containers) - used;
    let expected = WRITTEN * WRITERS as u64;
    assert!(
        (expected..expected + WRITERS as u64 * 64 * 1024).contains(&grown),
        "{WRITERS} of them wrote {WRITTEN} bytes each, and that costs {grown}"
    );
    let listed = scene.strata.run(&["ps", "-aq"]).ok().out();
    assert_eq!(listed.lines().count(), MANY);
    let created = scene
        .strata
        .run(&["ps", "-q", "--filter", "status=created"])
        .ok()
        .out();
    assert_eq!(created.lines().count(), MANY - WRITERS);
    scene.strata.run(&["container", "prune", "-f"]).ok();
    scene.assert_no_containers();
}
