//! The drivers: each gives the same tree and the same containers; the best one that works is taken, with a word.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use strata_tests::command::{Ran, run, tool};
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::place::mounts_under;
use strata_tests::scene::{Scene, shell_layer};
use strata_tests::strata::Strata;
use strata_tests::tree::Tree;
use strata_tests::user::{User, need_root};

const DRIVERS: [&str; 3] = ["overlay", "fuse-overlayfs", "vfs"];

/// Layers that hide, replace and add, with directories that only lower layers describe.
fn image() -> Image {
    let low = [
        Entry::dir("data/").mode(0o1777).owner(33, 33),
        Entry::file("data/one", "one\n")
            .owner(33, 33)
            .xattr("user.note", b"kept"),
        Entry::hardlink("data/same", "data/one"),
        Entry::file("data/two", "two\n"),
        Entry::program("data/set", "x").mode(0o4755),
        Entry::dir("data/sub/"),
        Entry::file("data/sub/three", "three\n"),
        Entry::fifo("data/pipe"),
        Entry::dir("closed/").mode(0o700).owner(33, 33).mtime(77),
        Entry::file("closed/old", "old"),
    ];
    let high = [
        // No entry for data: its mode and owner are those of the layer below.
        Entry::whiteout("data", "two"),
        Entry::opaque("data/sub"),
        Entry::file("data/sub/new", "new\n"),
        Entry::symlink("data/link", "/data/one"),
        // Nor for closed: only what is in it is another.
        Entry::opaque("closed"),
        Entry::file("closed/new", "new"),
        // There is nothing to remove.
        Entry::dir("fresh/"),
        Entry::whiteout("fresh", "never"),
        Entry::file("fresh/file", "x"),
    ];
    Image::with_config(
        &[shell_layer(), Layer::of(&low), Layer::of(&high)],
        json!({ "Cmd": ["sh"], "Env": ["PATH=/usr/bin:/bin"], "WorkingDir": "/data" }),
    )
}

/// An image without anything that a store on an overlay could not hold.
fn plain_image() -> Image {
    let files = [Entry::dir("data/"), Entry::file("data/one", "one\n")];
    Image::with_config(
        &[shell_layer(), Layer::of(&files)],
        json!({ "Env": ["PATH=/usr/bin:/bin"] }),
    )
}

fn pulled(image: &Image) -> (Scene, String) {
    need_root();
    let scene = Scene::new();
    let reference = scene.push(image, "v1");
    scene.strata.pull(&reference);
    (scene, reference)
}

/// Waits until no program serves a mount below `place` any more.
#[track_caller]
fn assert_no_servers(place: &Path) {
    let limit = Instant::now() + Duration::from_secs(10);
    let serves = |entry: &fs::DirEntry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains("fuse-overlayfs") && line.contains(&*place.to_string_lossy())
    };
    while fs::read_dir("/proc")
        .expect("proc")
        .flatten()
        .any(|entry| serves(&entry))
    {
        assert!(Instant::now() < limit, "fuse-overlayfs lives on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn every_driver_mounts_the_same_tree() {
    tool("fuse-overlayfs");
    let (scene, reference) = pulled(&image());
    let mut trees = Vec::new();
    for driver in DRIVERS {
        for options in [&["mount"][..], &["mount", "--ro"]] {
            let args = [&["--driver", driver], options, &[&reference]].concat();
            let path = PathBuf::from(scene.strata.run(&args).ok().out());
            trees.push((driver, Tree::read(&path)));
            assert_eq!(
                fs::write(path.join("data/new"), "x").is_ok(),
                options.len() == 1
            );
            let listed = scene.strata.run(&["mount"]).ok().out();
            assert!(listed.contains(path.to_str().expect("text")), "{listed}");
            scene
                .strata
                .run(&["umount", path.to_str().expect("text")])
                .ok();
        }
    }
    let (_, first) = &trees[0];
    assert_eq!(first.get("data").expect("there").mode, 0o1777);
    assert_eq!(first.get("data").expect("there").owner, (33, 33));
    let closed = first.get("closed").expect("there");
    assert_eq!(
        (closed.mode, closed.owner, closed.mtime.0),
        (0o700, (33, 33), 77)
    );
    let same = &first.get("data/same").expect("there").same_as;
    assert_eq!(same.as_deref(), Some(Path::new("data/one")));
    for (path, there) in [
        ("data/two", false),
        ("data/sub/three", false),
        ("data/sub/new", true),
        ("data/pipe", true),
        ("closed/old", false),
        ("closed/new", true),
        ("fresh/file", true),
        ("fresh/never", false),
    ] {
        assert_eq!(first.get(path).is_some(), there, "{path}");
    }
    for (driver, tree) in &trees {
        eprintln!("{driver}");
        first.assert_same(tree);
    }
    scene.assert_no_containers();
    assert_no_servers(scene.place.path());
}

#[test]
fn an_image_without_layers_is_mounted_by_every_driver() {
    let (scene, reference) = pulled(&Image::new(&[]));
    for driver in DRIVERS {
        for options in [&["mount", "--ro"][..], &["mount"]] {
            let args = [&["--driver", driver], options, &[&reference]].concat();
            let path = PathBuf::from(scene.strata.run(&args).ok().out());
            assert_eq!(fs::read_dir(&path).expect("list").count(), 0, "{driver}");
            let mode = fs::metadata(&path).expect("stat").permissions().mode();
            assert_eq!(mode & 0o7777, 0o755, "{driver} {options:?}");
            let path = path.to_str().expect("text");
            scene.strata.run(&["umount", path]).ok();
        }
    }
    assert_no_servers(scene.place.path());
}

#[test]
fn an_opaque_root_keeps_what_the_root_below_it_is() {
    let low = [
        Entry::dir("./").mode(0o751).mtime(77),
        Entry::file("old", "x"),
    ];
    let high = [Entry::file(".wh..wh..opq", ""), Entry::file("new", "x")];
    let (scene, reference) = pulled(&Image::new(&[Layer::of(&low), Layer::of(&high)]));
    for driver in DRIVERS {
        let args = ["--driver", driver, "mount", "--ro", &reference];
        let path = scene.strata.run(&args).ok().out();
        let names = fs::read_dir(&path).expect("list");
        let names: Vec<_> = names.map(|e| e.expect("entry").file_name()).collect();
        assert_eq!(names, ["new"], "{driver}");
        let mode = fs::metadata(&path).expect("stat").permissions().mode();
        assert_eq!(mode & 0o7777, 0o751, "{driver}");
        scene.strata.run(&["umount", &path]).ok();
    }
}

#[test]
fn every_driver_runs_containers_that_see_only_their_own_writes() {
    let (scene, reference) = pulled(&image());
    for driver in DRIVERS {
        let named = |args: &[&str]| scene.strata.run(&[&["--driver", driver], args].concat());
        let change = "echo changed > one; rm -r sub; mkdir sub; echo mine > sub/mine; cat one sub/*; stat -c %a:%u . set";
        let out = named(&["run", "--rm", &reference, "sh", "-c", change])
            .ok()
            .out();
        assert_eq!(out, "changed\nmine\n1777:33\n4755:0", "{driver}");
        let kept = [
            "run",
            "--name",
            "kept",
            &reference,
            "sh",
            "-c",
            "cat one sub/new; rm one; echo x > two; exit 7",
        ];
        let ran = named(&kept);
        assert_eq!(
            (ran.code(), ran.out().as_str()),
            (7, "one\nnew"),
            "{}",
            ran.story()
        );
        assert!(
            mounts_under(scene.place.path()).is_empty(),
            "{driver}: nothing stays mounted"
        );
        // The driver need not be said again, and no other may be.
        let path = PathBuf::from(scene.strata.run(&["mount", "kept"]).ok().out());
        assert!(!path.join("data/one").exists() && path.join("data/sub/new").exists());
        assert_eq!(
            fs::read_to_string(path.join("data/two")).expect("read"),
            "x\n"
        );
        scene.strata.run(&["umount", "kept"]).ok();
        let other = if driver == "vfs" { "overlay" } else { "vfs" };
        let refused = scene
            .strata
            .run(&["--driver", other, "mount", "kept"])
            .refused();
        assert!(
            refused.stderr.contains(&format!("--driver {driver}")),
            "{}",
            refused.story()
        );
        scene.strata.run(&["rm", "kept"]).ok();
        // An ordinary user of the container sees files, too.
        let ran = named(&[
            "run",
            "--rm",
            "-u",
            "33",
            &reference,
            "sh",
            "-c",
            "cat one; echo y > three; cat three",
        ]);
        assert_eq!(ran.ok().out(), "one\ny", "{driver}");
        scene.assert_no_containers();
    }
    assert_no_servers(scene.place.path());
    let unknown = scene.strata.run(&["--driver", "aufs", "mount"]);
    assert_eq!(unknown.code(), 2);
    assert!(
        unknown.stderr.contains("fuse-overlayfs"),
        "{}",
        unknown.story()
    );
}

/// Mounts an overlay, where the kernel lets no other overlay write.
fn overlay_at(scene: &Scene, name: &str) -> PathBuf {
    let [low, upper, work, merged] =
        ["low", "upper", "work", "merged"].map(|part| scene.place.dir(&format!("{name}/{part}")));
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        low.display(),
        upper.display(),
        work.display()
    );
    let mut command = Command::new(tool("mount"));
    run(command
        .args(["-t", "overlay", "overlay", "-o", &options])
        .arg(&merged))
    .ok();
    merged
}

#[test]
fn where_the_kernel_refuses_the_next_driver_is_taken_with_one_word() {
    tool("fuse-overlayfs");
    let (scene, _) = pulled(&plain_image());
    let reference = scene.push(&plain_image(), "v1");
    for (name, path, expected) in [
        ("with", None, "fuse-overlayfs"),
        ("without", Some("/nowhere"), "vfs"),
    ] {
        let root = overlay_at(&scene, name).join("store");
        let strata = Strata::at(scene.strata.program().to_owned(), root.clone());
        strata.pull(&reference);
        let ask = |args: &[&str]| -> Ran {
            let mut command = strata.command(args);
            if let Some(path) = path {
                command.env("PATH", path);
            }
            run(&mut command)
        };
        let first = ask(&["run", "--rm", &reference, "cat", "/data/one"]).ok();
        assert_eq!(first.out(), "one");
        for word in [
            "overlay does not work in",
            "lies on an overlay itself",
            &format!("using {expected}"),
        ] {
            assert!(first.stderr.contains(word), "{word}: {}", first.story());
        }
        let told = first.stderr.contains("fuse-overlayfs does not work in");
        assert_eq!(told, expected == "vfs", "{}", first.story());
        let info = ask(&["info"]).ok().out();
        for word in [
            &format!("Driver: {expected}"),
            "not used: overlay does not work in",
        ] {
            assert!(info.contains(word), "{word}: {info}");
        }
        // What was found is known now, and not told again.
        let second = ask(&["run", "--rm", &reference, "cat", "/data/one"]).ok();
        assert_eq!((second.out().as_str(), second.stderr.as_str()), ("one", ""));
        let mounted = PathBuf::from(ask(&["mount", &reference]).ok().out());
        assert_eq!(
            fs::read_to_string(mounted.join("data/one")).expect("read"),
            "one\n"
        );
        ask(&["umount", "-a"]).ok();
        // Who asks for a driver gets no other.
        let refused = ask(&["--driver", "overlay", "run", "--rm", &reference, "true"]);
        assert_eq!(refused.code(), 125);
        assert!(
            refused.stderr.contains("lies on an overlay itself"),
            "{}",
            refused.story()
        );
        ask(&["--driver", "overlay", "mount", &reference])
            .refused()
            .says("overlay does not work");
        assert_no_servers(&root);
        let left = fs::read_dir(root.join("containers")).expect("list").count();
        assert_eq!(left, 0);
    }
}

#[test]
fn an_ordinary_user_has_every_driver_that_the_machine_allows() {
    let (scene, _) = pulled(&plain_image());
    let user = User::new(&scene.place, 61_031);
    let strata = Strata::of_user(&scene.place, &user);
    let reference = scene.push(&image(), "v2");
    strata.pull(&reference);
    let info: serde_json::Value = serde_json::from_str(
        &strata
            .run(&["system", "info", "--format", "json"])
            .ok()
            .out(),
    )
    .expect("JSON");
    assert_eq!(
        (&info["rootless"], &info["driver"], &info["images"]),
        (&json!(true), &json!("overlay"), &json!(1))
    );
    let script = "cat one sub/new; ls -d two sub/three 2>/dev/null; echo x > one; cat one";
    for driver in ["overlay", "vfs"] {
        let ran = strata.run(&[
            "--driver", driver, "run", "--rm", &reference, "sh", "-c", script,
        ]);
        assert_eq!(ran.out(), "one\nnew\nx", "{driver}: {}", ran.story());
        let program = strata.program().display();
        let inside = format!(
            "set -e; at=$({program} --driver {driver} mount {reference}); cat $at/data/sub/new; ls $at/data; echo x > $at/data/x; \
             {program} umount $at; {program} mount"
        );
        let ran = strata.run(&["unshare", "sh", "-c", &inside]).ok();
        assert_eq!(
            ran.out(),
            "new\nlink\none\npipe\nsame\nset\nsub",
            "{driver}: {}",
            ran.story()
        );
    }
    let ran = strata.run(&[
        "--driver",
        "fuse-overlayfs",
        "run",
        "--rm",
        &reference,
        "sh",
        "-c",
        script,
    ]);
    let mut open = user.command(&tool("sh"));
    match run(open.args(["-c", ": <> /dev/fuse"])).status.success() {
        true => assert_eq!(ran.out(), "one\nnew\nx", "{}", ran.story()),
        false => {
            assert_eq!(ran.code(), 125, "{}", ran.story());
            assert!(ran.stderr.contains("fuse-overlayfs"), "{}", ran.story());
        }
    }
    assert_no_servers(scene.place.path());
    let left = fs::read_dir(strata.root().join("containers"))
        .expect("list")
        .count();
    assert_eq!(left, 0);
}

#[test]
fn copies_share_their_blocks_where_the_file_system_can() {
    const FILE: usize = 40 << 20;
    let (scene, _) = pulled(&plain_image());
    let large = Layer::of(&[Entry::file("large", vec![7; FILE])]);
    let reference = scene.push(&Image::new(&[shell_layer(), large]), "large");
    let disk = scene.place.join("disk");
    fs::File::create(&disk)
        .expect("create")
        .set_len(320 << 20)
        .expect("grow");
    run(Command::new(tool("mkfs.xfs")).arg("-q").arg(&disk)).ok();
    let at = scene.place.dir("xfs");
    run(Command::new(tool("mount"))
        .args(["-o", "loop"])
        .arg(&disk)
        .arg(&at))
    .ok();
    let strata = Strata::at(scene.strata.program().to_owned(), at.join("store"));
    strata.pull(&reference);
    // Ten copies would not fit.
    for _ in 0..10 {
        let path = PathBuf::from(
            strata
                .run(&["--driver", "vfs", "mount", &reference])
                .ok()
                .out(),
        );
        assert_eq!(
            fs::metadata(path.join("large")).expect("there").len(),
            FILE as u64
        );
    }
    let listed = strata.run(&["mount"]).ok().out();
    assert_eq!(listed.lines().count(), 10, "{listed}");
    strata.run(&["umount", &reference]).ok();
    assert_eq!(strata.run(&["mount"]).ok().out(), "");
}
