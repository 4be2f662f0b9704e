//! `strata cp`: files between a container and the machine, whether it runs or not, on every driver, as root and as an ordinary
//! user; and containers that would like to have or give more than what is copied.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::thread;

use strata_tests::command::{Running, run_with_input};
use strata_tests::entry::{Entry, tar};
use strata_tests::image::{Image, Layer};
use strata_tests::place::Place;
use strata_tests::scene::{Scene, shell_image, shell_layer};
use strata_tests::strata::Strata;
use strata_tests::user::{User, need_root};

const DRIVERS: [&str; 3] = ["overlay", "fuse-overlayfs", "vfs"];

fn shell() -> (Scene, String) {
    let s = Scene::new();
    let reference = s.push(&shell_image(), "v1");
    s.strata.pull(&reference);
    (s, reference)
}

/// Starts a container that runs until it is dropped.
fn running(strata: &Strata, name: &str, reference: &str, script: &str) -> Running {
    let args = ["run", "--rm", "--name", name, reference, "sh", "-c", script];
    let running = Running::start(&mut strata.command(&args));
    for _ in 0..500 {
        let listed = strata.run(&["ps", "-q"]).ok().out();
        if !listed.is_empty() {
            return running;
        }
        thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{name} does not start");
}

#[test]
fn files_go_into_a_container_that_has_ended_and_come_out_of_it() {
    need_root();
    let (s, base) = shell();
    let host = s.place.dir("host");
    fs::create_dir_all(host.join("tree/sub")).expect("mkdir");
    fs::write(host.join("tree/sub/file"), "from the machine\n").expect("write");
    std::os::unix::fs::chown(host.join("tree/sub/file"), Some(1000), Some(1000)).expect("chown");
    let at = |path: &str| host.join(path).display().to_string();
    for driver in DRIVERS {
        let script = "mkdir /made; echo made > /made/file; chown 33:33 /made/file; cd /made; cp -s file link";
        s.strata
            .run(&[
                "--driver", driver, "run", "--name", "box", &base, "sh", "-c", script,
            ])
            .ok();
        let out = at(&format!("out-{driver}"));
        s.strata.run(&["cp", "box:/made", &out]).ok();
        assert_eq!(
            fs::read_to_string(Path::new(&out).join("file")).expect("read"),
            "made\n"
        );
        assert_eq!(
            fs::read_link(Path::new(&out).join("link")).expect("a link"),
            Path::new("file")
        );
        assert_eq!(
            fs::metadata(Path::new(&out).join("file"))
                .expect("there")
                .uid(),
            0,
            "whoever copies"
        );
        s.strata
            .run(&["container", "cp", "-a", "box:made/.", &out])
            .ok();
        assert_eq!(
            fs::metadata(Path::new(&out).join("file"))
                .expect("there")
                .uid(),
            33,
            "with -a its own"
        );
        s.strata.run(&["cp", "box:data/one", &at("one")]).ok();
        assert_eq!(
            fs::read_to_string(host.join("one")).expect("read"),
            "one\n",
            "of a lower layer"
        );

        s.strata.run(&["cp", &at("tree"), "box:/data"]).ok();
        s.strata
            .run(&["cp", "-a", &at("tree/."), "box:/data/owned"])
            .ok();
        s.strata.run(&["commit", "box", "with-tree"]).ok();
        let look = "cat tree/sub/file; stat -c %u tree/sub/file owned/sub/file; cat one";
        let seen = s
            .strata
            .run(&["run", "--rm", "with-tree", "sh", "-c", look])
            .ok()
            .out();
        assert_eq!(seen, "from the machine\n0\n1000\none", "{driver}");
        s.strata.run(&["rm", "box"]).ok();
    }
    s.assert_no_containers();
}

#[test]
fn files_go_into_a_running_container_and_come_out_of_it() {
    let (s, base) = shell();
    let host = s.place.dir("host");
    fs::write(host.join("file"), "in\n").expect("write");
    let script = "echo out > /tmp/out; while [ ! -e /data/in ]; do sleep 0.01; done; cat /data/in";
    let box_ = running(&s.strata, "box", &base, script);
    let at = |path: &str| host.join(path).display().to_string();
    let out = at("out");
    for _ in 0..500 {
        if s.strata.run(&["cp", "box:/tmp/out", &out]).status.success() {
            break;
        }
        thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(fs::read_to_string(&out).expect("read"), "out\n");
    let copied = s.strata.run(&["cp", &at("file"), "box:/data/in"]).ok();
    copied.says("Successfully copied 3B to box:/data/in");
    assert_eq!(box_.wait().ok().out(), "in");
}

#[test]
fn archives_go_through_standard_input_and_output() {
    let (s, base) = shell();
    s.strata.run(&["run", "--name", "box", &base, "true"]).ok();
    let archive = tar(&[
        Entry::dir("new/").mode(0o750).owner(5, 6),
        Entry::file("new/file", "x").owner(7, 8),
        Entry::hardlink("new/link", "new/file"),
    ]);
    let into = |archive: &[u8], path: &str| {
        run_with_input(
            &mut s.strata.command(&["cp", "-", &format!("box:{path}")]),
            archive,
        )
    };
    into(&archive, "/data").ok();
    into(
        &strata_tests::entry::Compression::Gzip.apply(&archive),
        "/tmp",
    )
    .ok();
    into(&archive, "/nowhere").refused().says("/nowhere");
    into(&archive, "/data/one").refused().says("directory");
    into(b"nonsense", "/data").refused();
    into(&tar(&[Entry::file("../up", "x")]), "/data")
        .refused()
        .says("../up");
    let out = s.strata.run(&["cp", "box:/data/new", "-"]).ok().stdout;
    let names: Vec<String> = tar::Archive::new(out.as_slice())
        .entries()
        .expect("entries")
        .map(|entry| {
            let entry = entry.expect("entry");
            let owner = (
                entry.header().uid().expect("uid"),
                entry.header().gid().expect("gid"),
            );
            format!("{} {owner:?}", entry.path().expect("path").display())
        })
        .collect();
    assert_eq!(names[..2], ["new/ (5, 6)", "new/file (7, 8)"]);
    assert_eq!(names.len(), 3);
}

#[test]
fn what_makes_no_sense_is_refused_with_a_reason() {
    let (s, base) = shell();
    s.strata.run(&["run", "--name", "box", &base, "true"]).ok();
    let host = s.place.dir("host");
    fs::create_dir(host.join("dir")).expect("mkdir");
    fs::write(host.join("file"), "x").expect("write");
    let at = |path: &str| host.join(path).display().to_string();
    for (from, to, word) in [
        ("box:/etc", "box:/tmp", "between containers"),
        (&at("file"), &at("other"), "CONTAINER:PATH"),
        ("box:/nothing", &at("x"), "could not find /nothing"),
        (&at("nothing"), "box:/tmp", "could not find"),
        ("nobody:/etc", &at("x"), "nobody"),
        (&at("dir"), "box:/data/one", "directory"),
        (&at("file"), "box:/none/", "must exist"),
        (&at("file"), "box:/none/x", "/none"),
        ("box:", &at("x"), "path"),
    ] {
        s.strata.run(&["cp", from, to]).refused().says(word);
    }
    assert!(!host.join("x").exists());
}

/// A container whose files lead everywhere but where they seem to.
fn hostile(outside: &Path) -> Image {
    let up = "../".repeat(20);
    let files = [
        Entry::dir("data/"),
        Entry::symlink("data/absolute", outside.as_os_str().as_encoded_bytes()),
        Entry::symlink("data/up", format!("{up}{}", outside.display())),
        Entry::symlink("data/proc", "/proc/1/root"),
        Entry::symlink(
            "data/secret",
            outside.join("secret").as_os_str().as_encoded_bytes(),
        ),
        Entry::dir("tree/"),
        Entry::symlink("tree/dir", outside.as_os_str().as_encoded_bytes()),
        Entry::program("tool", "x").mode(0o6755),
        Entry::device("disk", 7, 0),
    ];
    Image::new(&[shell_layer(), Layer::of(&files)])
}

#[test]
fn no_link_leads_out_of_a_container_nor_past_the_target() {
    need_root();
    let s = Scene::new();
    let outside = s.place.dir("outside");
    fs::write(outside.join("secret"), "secret").expect("write");
    let reference = s.push(&hostile(&outside), "v1");
    s.strata.pull(&reference);
    s.strata
        .run(&["run", "--name", "ended", &reference, "true"])
        .ok();
    let _running = running(&s.strata, "alive", &reference, "sleep 100");
    let host = s.place.dir("host");
    fs::write(host.join("file"), "x").expect("write");
    let at = |path: &str| host.join(path).display().to_string();
    for name in ["ended", "alive"] {
        for path in ["absolute/x", "up/x", "proc/tmp/x", "secret"] {
            s.strata
                .run(&["cp", &at("file"), &format!("{name}:/data/{path}")])
                .refused();
        }
        for path in ["absolute/secret", "up/secret", "proc/etc/hostname"] {
            s.strata
                .run(&["cp", &format!("{name}:/data/{path}"), &at("stolen")])
                .refused();
        }
        s.strata
            .run(&["cp", "-L", &format!("{name}:/data/secret"), &at("stolen")])
            .refused();
        assert!(!host.join("stolen").exists());
        // A directory of the machine's with the same names as the container's links.
        let tree = host.join("tree");
        fs::create_dir_all(tree.join("dir")).expect("mkdir");
        s.strata
            .run(&["cp", &format!("{name}:/tree"), &host.display().to_string()])
            .refused();
        fs::remove_dir_all(&tree).expect("remove");
        symlink(&outside, &tree).expect("link");
        s.strata
            .run(&["cp", &format!("{name}:/tree/."), &at("fresh")])
            .ok();
        assert!(
            fs::symlink_metadata(host.join("fresh/dir"))
                .expect("there")
                .is_symlink()
        );
        fs::remove_file(&tree).expect("remove");
        fs::remove_dir_all(host.join("fresh")).expect("remove");
        s.strata
            .run(&["cp", &format!("{name}:/tool"), &at("tool")])
            .ok();
        let mode = fs::metadata(host.join("tool"))
            .expect("there")
            .permissions()
            .mode()
            & 0o7777;
        assert_eq!(
            mode, 0o755,
            "no rights that a container's file gives itself"
        );
        s.strata
            .run(&["cp", &format!("{name}:/disk"), &at("disk")])
            .ok()
            .says("left out");
        assert!(!host.join("disk").exists());
    }
    let left: Vec<_> = fs::read_dir(&outside).expect("list").collect();
    assert_eq!(left.len(), 1);
    assert_eq!(fs::read(outside.join("secret")).expect("read"), b"secret");
}

#[test]
fn directories_that_are_exchanged_for_links_meanwhile_lead_nowhere() {
    need_root();
    let (s, base) = shell();
    let outside = s.place.dir("outside");
    fs::write(outside.join("file"), "outside").expect("write");
    // It exchanges /swap, a directory, for a link to a directory of the machine's, as fast as it can.
    let script = format!(
        "mkdir /real; echo inside > /real/file; ln -s {} /link; while true; do mv -T /real /swap; mv -T /swap /real; \
         mv -T /link /swap; mv -T /swap /link; done",
        outside.display()
    );
    let _running = running(&s.strata, "box", &base, &script);
    let host = s.place.dir("host");
    fs::write(host.join("new"), "from the machine").expect("write");
    let (mut into, mut out) = (0, 0);
    for round in 0..60 {
        let new = host.join("new").display().to_string();
        into += u32::from(
            s.strata
                .run(&["cp", &new, "box:/swap/file"])
                .status
                .success(),
        );
        let target = host.join(format!("out{round}"));
        let ran = s
            .strata
            .run(&["cp", "box:/swap/file", &target.display().to_string()]);
        if ran.status.success() {
            out += 1;
            assert_ne!(fs::read_to_string(&target).expect("read"), "outside");
        }
        assert_eq!(
            fs::read_to_string(outside.join("file")).expect("read"),
            "outside"
        );
    }
    println!("{into} in, {out} out");
}

#[test]
fn an_ordinary_user_copies_and_owns_what_comes_out() {
    let (_scene, base) = shell();
    let place = Place::new();
    let single = User::new(&place, 61_601);
    let granted = User::new(&place, 61_602).with_subordinate_ids(&place, 810_000, 65_536);
    for user in [&single, &granted] {
        let strata = Strata::of_user(&place, user);
        strata.pull(&base);
        let home = user.home();
        fs::write(home.join("file"), "mine\n").expect("write");
        std::os::unix::fs::chown(home.join("file"), Some(user.id()), Some(user.id()))
            .expect("chown");
        let at = |path: &str| home.join(path).display().to_string();
        // An ordinary user may not open /dev/fuse everywhere.
        for driver in ["overlay", "vfs"] {
            let script = [
                "--driver",
                driver,
                "run",
                "--name",
                "box",
                &base,
                "sh",
                "-c",
                "echo x > /made",
            ];
            strata.run(&script).ok();
            strata.run(&["cp", "box:/made", &at("made")]).ok();
            assert_eq!(
                fs::metadata(home.join("made")).expect("there").uid(),
                user.id()
            );
            strata.run(&["cp", &at("file"), "box:/data/sub"]).ok();
            let out = strata.run(&["cp", "box:/data/sub/file", "-"]).ok().stdout;
            assert!(String::from_utf8_lossy(&out).contains("mine"), "{driver}");
            strata.run(&["rm", "box"]).ok();
        }
        let box_ = running(
            &strata,
            "alive",
            &base,
            "while [ ! -e /data/in ]; do sleep 0.01; done; cat /data/in",
        );
        strata.run(&["cp", &at("file"), "alive:/data/in"]).ok();
        assert_eq!(box_.wait().ok().out(), "mine");
    }
}
