//! `strata system check`: damage of every kind is found and said, and repaired from where the image came from.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use serde_json::Value;
use strata_tests::command::{Ran, Running, wait_for_process};
use strata_tests::disk::Disk;
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::scene::{Scene, shell_image};
use strata_tests::strata::Strata;
use strata_tests::trial::noise;

/// Two layers with files, links, attributes and whiteouts.
fn image() -> Image {
    let base = [
        Entry::dir("etc/"),
        Entry::file("etc/config", "one=1\n"),
        Entry::file("etc/large", noise(1, 300_000)),
        Entry::hardlink("etc/same", "etc/config"),
        Entry::symlink("etc/link", "config"),
        Entry::file("etc/noted", "x").xattr("user.note", b"kept"),
        Entry::dir("var/"),
        Entry::file("var/old", "old"),
    ];
    let own = [
        Entry::whiteout("var/", "old"),
        Entry::file("srv/data", noise(2, 10_000)),
    ];
    Image::new(&[Layer::of(&base), Layer::of(&own)])
}

/// A scene with the image in its store.
fn pulled() -> (Scene, Image, String) {
    let s = Scene::new();
    let image = image();
    let reference = s.push(&image, "v1");
    s.strata.pull(&reference);
    (s, image, reference)
}

fn check(s: &Scene, options: &[&str]) -> (Ran, Value) {
    let args = [&["system", "check", "--format", "json"], options].concat();
    let ran = s.strata.run(&args);
    let report = serde_json::from_slice(&ran.stdout);
    let report = report.unwrap_or_else(|_| panic!("{}", ran.story()));
    (ran, report)
}

/// The file of a layer of the image, in the store.
fn at(s: &Scene, image: &Image, layer: usize, path: &str) -> PathBuf {
    s.strata.layer(&image.layers[layer].diff_id).join(path)
}

fn flip(path: &PathBuf) {
    let before = fs::metadata(path).and_then(|m| m.modified()).expect("time");
    let mut bytes = fs::read(path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("write");
    let file = fs::File::options().write(true).open(path).expect("open");
    file.set_modified(before).expect("time");
}

#[test]
fn a_sound_store_is_found_sound() {
    let (s, _, reference) = pulled();
    let told = s.strata.run(&["system", "check"]).ok();
    assert!(
        told.out().contains("1 images, 2 layers"),
        "{}",
        told.story()
    );
    assert!(
        told.out().contains("nothing is damaged"),
        "{}",
        told.story()
    );
    let (ran, report) = check(&s, &[]);
    assert_eq!(ran.code(), 0);
    assert_eq!(report["findings"], serde_json::json!([]));
    assert!(report["bytes"].as_u64() > Some(300_000), "{report}");
    let (_, quick) = check(&s, &["--quick"]);
    assert_eq!(
        (quick["bytes"].as_u64(), &quick["damaged"]),
        (Some(0), &0.into())
    );
    s.strata.run(&["inspect", &reference]).ok();
}

#[test]
fn every_kind_of_damage_is_found_and_repaired_and_the_layer_is_again_what_it_was() {
    let (s, image, reference) = pulled();
    let trees = s.layer_trees(&image);
    type Damage = (&'static str, fn(&Scene, &Image));
    let cases: [Damage; 9] = [
        ("content has changed", |s, i| {
            flip(&at(s, i, 0, "fs/etc/large"))
        }),
        (
            "etc/large is a file of 7 bytes, not a file of 300000 bytes",
            |s, i| {
                let file = fs::File::options()
                    .write(true)
                    .open(at(s, i, 0, "fs/etc/large"));
                file.expect("open").set_len(7).expect("truncate");
            },
        ),
        ("etc/config is missing", |s, i| {
            fs::remove_file(at(s, i, 0, "fs/etc/config")).expect("remove");
        }),
        ("etc/noted has mode 0777, not 0644", |s, i| {
            let mode = fs::Permissions::from_mode(0o777);
            fs::set_permissions(at(s, i, 0, "fs/etc/noted"), mode).expect("mode");
        }),
        ("etc/more is not of the layer", |s, i| {
            fs::write(at(s, i, 0, "fs/etc/more"), "more").expect("write");
        }),
        ("var/old is missing", |s, i| {
            fs::remove_file(at(s, i, 1, "fs/var/old")).expect("remove")
        }),
        ("No such file", |s, i| {
            fs::remove_file(at(s, i, 0, "record.zst")).expect("remove")
        }),
        ("layer.json", |s, i| {
            fs::write(at(s, i, 1, "layer.json"), "{}").expect("write")
        }),
        ("No such file", |s, i| {
            fs::remove_dir_all(at(s, i, 1, "")).expect("remove")
        }),
    ];
    for (words, damage) in cases {
        damage(&s, &image);
        let (ran, report) = check(&s, &[]);
        assert_eq!(ran.code(), 1, "{words}: {}", ran.story());
        assert!(report.to_string().contains(words), "{words}: {report}");
        assert!(
            report["findings"][0]["images"]
                .to_string()
                .contains(&reference),
            "{report}"
        );
        let repaired = s.strata.run(&["system", "check", "--repair"]).ok();
        assert!(repaired.out().contains("again"), "{}", repaired.story());
        let (ran, _) = check(&s, &[]);
        assert_eq!(ran.code(), 0, "{words}: {}", ran.story());
        for (before, now) in trees.iter().zip(s.layer_trees(&image)) {
            let settled = before.clone().without_whiteout_times();
            settled.assert_same(&now.without_whiteout_times());
        }
        assert_eq!(s.strata.leftovers(), [""; 0], "{words}");
    }
}

#[test]
fn what_only_stands_around_proven_content_needs_no_registry() {
    let (mut s, image, _) = pulled();
    let trees = s.layer_trees(&image);
    s.server.stop();
    fs::set_permissions(
        at(&s, &image, 0, "fs/etc"),
        fs::Permissions::from_mode(0o700),
    )
    .expect("mode");
    let told = s.strata.run(&["system", "check", "--repair"]).ok();
    assert!(told.out().contains("unpacked again"), "{}", told.story());
    trees[0].assert_same(&s.layer_tree(&image, 0));
}

#[test]
fn what_no_registry_has_stays_damaged_and_is_said() {
    let (mut s, image, _) = pulled();
    s.server.stop();
    flip(&at(&s, &image, 0, "fs/etc/large"));
    let told = s.strata.run(&["system", "check", "--repair"]);
    assert_eq!(told.code(), 1, "{}", told.story());
    assert!(
        told.out()
            .contains("not repaired: it cannot be fetched again"),
        "{}",
        told.story()
    );
    assert!(told.out().contains("127.0.0.1"), "{}", told.story());
}

#[test]
fn a_layer_that_a_running_container_shows_is_not_replaced() {
    let s = Scene::new();
    let image = shell_image();
    let reference = s.push(&image, "v1");
    s.strata.pull(&reference);
    let mut command = s
        .strata
        .command(&["run", "--name", "busy", &reference, "sleep", "64123"]);
    let running = Running::start(&mut command);
    wait_for_process(&["sleep", "64123"]);
    fs::write(at(&s, &image, 1, "fs/data/one"), "two\n").expect("write");
    let told = s.strata.run(&["system", "check", "--repair"]);
    assert_eq!(told.code(), 1, "{}", told.story());
    assert!(
        told.out().contains("in use by container busy"),
        "{}",
        told.story()
    );
    s.strata.run(&["rm", "-f", "busy"]).ok();
    running.wait();
    s.strata.run(&["system", "check", "--repair"]).ok();
    assert_eq!(s.sh(&reference, &[], "cat /data/one").ok().out(), "one");
}

#[test]
fn rubbish_is_found_and_removed_and_is_no_damage() {
    let (s, _, _) = pulled();
    let root = s.strata.root();
    let stray = [
        root.join("layers").join("f".repeat(64)),
        root.join("staging/dead"),
    ];
    for path in &stray {
        fs::create_dir(path).expect("stray");
        fs::write(path.join("file"), "x").expect("write");
    }
    fs::write(root.join("staging/dead.lock"), "").expect("lock");
    let (ran, report) = check(&s, &[]);
    assert_eq!(ran.code(), 0, "{}", ran.story());
    assert_eq!(
        report["findings"].as_array().map(Vec::len),
        Some(2),
        "{report}"
    );
    s.strata.run(&["system", "check", "--repair"]).ok();
    assert!(stray.iter().all(|path| !path.exists()));
    let (_, report) = check(&s, &[]);
    assert_eq!(report["findings"], serde_json::json!([]));
}

#[test]
fn pulls_go_on_beside_a_check() {
    let (s, _, reference) = pulled();
    let others: Vec<String> = (0..4)
        .map(|number| {
            let own = [Entry::file("own", noise(number, 2_000_000))];
            let image = Image::new(&[image().layers[0].clone(), Layer::of(&own)]);
            s.push(&image, &format!("other-{number}"))
        })
        .collect();
    std::thread::scope(|scope| {
        let checks = scope.spawn(|| {
            for _ in 0..6 {
                s.strata.run(&["system", "check"]).ok();
            }
        });
        for other in &others {
            s.strata.pull(other);
            s.strata.run(&["rmi", other]).ok();
        }
        checks.join().expect("checks");
    });
    s.strata.run(&["rmi", &reference]).ok();
    let (_, report) = check(&s, &[]);
    assert_eq!(
        (&report["layers"], &report["damaged"]),
        (&0.into(), &0.into()),
        "{report}"
    );
}

#[test]
fn what_mends_a_stack_is_compared_with_its_layers_and_made_again_when_nothing_shows_it() {
    let s = Scene::new();
    let image = Image::new(&[
        Layer::of(&[
            Entry::dir("p/"),
            Entry::dir("p/q/"),
            Entry::file("p/one", "1"),
        ]),
        // Neither /p nor /p/q is named here.
        Layer::of(&[Entry::file("p/q/two", "2")]),
    ]);
    let reference = s.push(&image, "v1");
    s.strata.pull(&reference);
    let mounted = |read: &str| {
        let top = PathBuf::from(s.strata.run(&["mount", "--ro", &reference]).ok().out());
        let content = fs::read_to_string(top.join(read)).expect("read");
        assert_eq!(
            fs::metadata(top.join("p")).expect("p").permissions().mode() & 0o777,
            0o755
        );
        assert!(!top.join("p/stray").exists());
        s.strata.run(&["umount", top.to_str().expect("plain")]).ok();
        content
    };
    assert_eq!(mounted("p/one"), "1");
    type Damage = (&'static str, fn(PathBuf));
    let cases: [Damage; 3] = [
        ("directory /p has another mode", |fs| {
            let mode = fs::Permissions::from_mode(0o777);
            fs::set_permissions(fs.join("p"), mode).expect("mode");
        }),
        ("/p/stray does not belong there", |fs| {
            fs::write(fs.join("p/stray"), "").expect("write");
        }),
        ("directory /p/q is missing", |fs| {
            fs::remove_dir_all(fs.join("p")).expect("remove");
        }),
    ];
    for (problem, damage) in cases {
        let (ran, report) = check(&s, &[]);
        assert_eq!(
            (ran.code(), &report["findings"]),
            (0, &serde_json::json!([]))
        );
        let stacks = fs::read_dir(s.strata.root().join("stacks")).expect("stacks");
        let stacks: Vec<PathBuf> = stacks.map(|entry| entry.expect("entry").path()).collect();
        assert_eq!(stacks.len(), 1);
        damage(stacks[0].join("fs"));
        let (ran, report) = check(&s, &[]);
        assert_eq!(ran.code(), 1, "{problem}: {report}");
        let finding = &report["findings"][0];
        assert_eq!(finding["kind"], "stack", "{report}");
        assert!(
            finding["problems"].to_string().contains(problem),
            "{report}"
        );
        let shown = s.strata.run(&["mount", "--ro", &reference]).ok().out();
        let (_, report) = check(&s, &["--repair"]);
        let refused = report["findings"][0]["not_repaired"].to_string();
        assert!(refused.contains("in use by"), "{report}");
        s.strata.run(&["umount", &shown]).ok();
        s.strata.run(&["system", "check", "--repair"]).ok();
        assert_eq!(mounted("p/q/two"), "2", "{problem}");
    }
}

#[test]
fn where_a_store_is_leaves_no_trace_in_what_it_shows() {
    let s = Scene::new();
    // Linux' uapi/linux/posix_acl_xattr.h: tag, rights and id of each entry.
    let mut acl = 2_u32.to_le_bytes().to_vec();
    let any = u32::MAX;
    for (tag, rights, id) in [
        (1, 6, any),
        (2, 7, 1000),
        (4, 4, any),
        (16, 7, any),
        (32, 4, any),
    ] {
        acl.extend(u16::to_le_bytes(tag));
        acl.extend(u16::to_le_bytes(rights));
        acl.extend(u32::to_le_bytes(id));
    }
    let low = [
        Entry::dir("a/"),
        Entry::file("a/shared", "x")
            .mode(0o674)
            .xattr("system.posix_acl_access", &acl),
    ];
    let image = Image::new(&[Layer::of(&low), Layer::of(&[Entry::file("a/new", "x")])]);
    let reference = s.push(&image, "v1");
    let disk = Disk::xfs(&s.place, "xfs");
    let shared = disk.path().join("shared");
    fs::create_dir(&shared).expect("make");
    std::os::unix::fs::chown(&shared, None, Some(4242)).expect("chown");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o2775)).expect("chmod");
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&shared, "system.posix_acl_default", &acl, flags).expect("an ACL");
    for driver in ["overlay", "vfs"] {
        let strata = Strata::at(s.strata.program().to_owned(), shared.join(driver));
        strata.pull(&reference);
        let mounted = strata.run(&["--driver", driver, "mount", "--ro", &reference]);
        let mounted = PathBuf::from(mounted.ok().out());
        for path in ["", "a", "a/new"] {
            let path = mounted.join(path);
            assert_eq!(fs::metadata(&path).expect("look").gid(), 0, "{path:?}");
            let mut names = vec![0; 1000];
            let length = rustix::fs::listxattr(&path, &mut names).expect("list");
            let names = String::from_utf8_lossy(&names[..length]).into_owned();
            assert!(!names.contains("acl"), "{driver} {path:?}: {names}");
        }
        strata.run(&["system", "check"]).ok();
        let exported = strata.run(&["export", &reference]).ok().stdout;
        let exported = String::from_utf8_lossy(&exported).into_owned();
        assert!(exported.contains("SCHILY.xattr.system.posix_acl_access"));
        assert!(!exported.contains("SGI_ACL"), "{driver}");
        strata
            .run(&["umount", mounted.to_str().expect("text")])
            .ok();
    }
}
