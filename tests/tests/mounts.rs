//! Mounts of images: many at once, stacks as high as the kernel takes, and what crashes and reboots leave.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use strata_tests::command::{run, tool};
use strata_tests::entry::{Compression, Entry, tar};
use strata_tests::image::{Image, Layer};
use strata_tests::place::mounts_under;
use strata_tests::program;
use strata_tests::scene::{Scene, shell_image};
use strata_tests::user::need_root;

fn setup() -> (Scene, String) {
    need_root();
    let scene = Scene::new();
    let reference = scene.push(&shell_image(), "v1");
    scene.strata.pull(&reference);
    (scene, reference)
}

fn mount(scene: &Scene, args: &[&str]) -> PathBuf {
    let args = [&["mount"], args].concat();
    PathBuf::from(scene.strata.run(&args).ok().out())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Runs a command of strata's in a mount namespace of its own, which ends with it.
fn elsewhere(scene: &Scene, script: &str) -> String {
    let mut command = Command::new(tool("unshare"));
    command
        .args(["-m", "--propagation", "private", "sh", "-c", script])
        .env("STRATA_ROOT", scene.strata.root())
        .env("S", scene.strata.program());
    run(&mut command).ok().out()
}

/// Waits until the mounts of the store are in nobody's table: a process that deletes what was removed may outlive the
/// command that started it, and keep a namespace.
#[track_caller]
fn wait_until_gone(scene: &Scene) {
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let seen = |entry: &fs::DirEntry| {
        let table = fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
        table.contains(text(scene.strata.root()))
    };
    while fs::read_dir("/proc")
        .expect("proc")
        .flatten()
        .any(|entry| seen(&entry))
    {
        assert!(std::time::Instant::now() < limit, "the namespace stays");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn listed(scene: &Scene) -> usize {
    scene.strata.run(&["mount"]).ok().out().lines().count()
}

/// How many containers and mounts have a directory.
fn directories(scene: &Scene) -> usize {
    fs::read_dir(scene.strata.root().join("containers"))
        .expect("list")
        .count()
}

#[test]
fn an_image_is_mounted_several_times_at_once() {
    let (scene, reference) = setup();
    let mut paths: Vec<PathBuf> = std::thread::scope(|scope| {
        let mounting: Vec<_> = (0..8)
            .map(|n| {
                let (scene, reference) = (&scene, &reference);
                let options: &[&str] = if n % 4 == 3 { &[] } else { &["--ro"] };
                scope.spawn(move || mount(scene, &[options, &[reference]].concat()))
            })
            .collect();
        mounting
            .into_iter()
            .map(|m| m.join().expect("mounted"))
            .collect()
    });
    assert_eq!(mounts_under(scene.strata.root()).len(), 8);
    assert_eq!(listed(&scene), 8);
    let mut writable = 0;
    for path in &paths {
        assert_eq!(
            fs::read_to_string(path.join("data/one")).expect("read"),
            "one\n"
        );
        writable += usize::from(fs::write(path.join("data/one"), "own").is_ok());
    }
    assert_eq!(
        writable, 2,
        "six are read-only, and nobody sees another's writes"
    );
    let first = paths.remove(0);
    scene.strata.run(&["umount", text(&first)]).ok();
    scene
        .strata
        .run(&["umount", text(&first)])
        .refused()
        .says("not mounted");
    assert_eq!(listed(&scene), 7);
    scene
        .strata
        .run(&["rmi", &reference])
        .refused()
        .says("uses it: end it first with `strata umount");
    scene.strata.run(&["umount", &reference]).ok();
    assert_eq!(listed(&scene), 0);
    scene.assert_no_containers();
    scene.strata.run(&["rmi", &reference]).ok();
}

#[test]
fn what_a_reboot_leaves_of_mounts_is_forgotten() {
    let (scene, reference) = setup();
    let script = format!("$S mount {reference}; $S mount --ro {reference}; $S mount | wc -l");
    let leave = || {
        let out = elsewhere(&scene, &script);
        assert_eq!(out.lines().last(), Some("2"), "{out}");
        assert_eq!(directories(&scene), 2);
        wait_until_gone(&scene);
    };
    leave();
    scene.strata.run(&["rmi", &reference]).ok();
    assert_eq!(directories(&scene), 0);
    scene.strata.pull(&reference);
    leave();
    scene.strata.run(&["umount", "-a"]).ok();
    assert_eq!(directories(&scene), 0);
    leave();
    assert_eq!(listed(&scene), 0);
    assert_eq!(directories(&scene), 0);
    leave();
    scene.strata.run(&["umount", &reference]).ok();
    assert_eq!(directories(&scene), 0);

    // A container keeps what it wrote, and is mounted again.
    let args = [
        "run",
        "--name",
        "kept",
        &reference,
        "sh",
        "-c",
        "echo x > /data/kept",
    ];
    scene.strata.run(&args).ok();
    elsewhere(&scene, "$S mount kept");
    let path = mount(&scene, &["kept"]);
    assert_eq!(
        fs::read_to_string(path.join("data/kept")).expect("read"),
        "x\n"
    );
    scene.strata.run(&["rm", "kept"]).ok();
    scene.assert_no_containers();
}

#[test]
fn a_mount_that_lives_in_another_namespace_is_left_alone() {
    let (scene, reference) = setup();
    // The other namespace stays while this program waits for a line.
    let script = format!(
        "at=$($S mount {reference}); echo own > $at/data/one; echo $at; read line; cat $at/data/one"
    );
    let mut child = Command::new(tool("unshare"))
        .args(["-m", "--propagation", "private", "sh", "-c", &script])
        .env("STRATA_ROOT", scene.strata.root())
        .env("S", scene.strata.program())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("start");
    let mut out = std::io::BufReader::new(child.stdout.take().expect("piped"));
    let mut path = String::new();
    std::io::BufRead::read_line(&mut out, &mut path).expect("a path");
    assert_eq!(listed(&scene), 0, "it is not to be seen here");
    scene.strata.run(&["umount", "-a"]).ok();
    scene
        .strata
        .run(&["umount", &reference])
        .says("another mount namespace");
    scene
        .strata
        .run(&["rmi", &reference])
        .refused()
        .says("uses it");
    assert!(Path::new(path.trim()).exists());
    drop(child.stdin.take());
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut out, &mut rest).expect("read");
    assert!(child.wait().expect("wait").success());
    assert_eq!(rest, "own\n");
    wait_until_gone(&scene);
    scene.strata.run(&["rmi", &reference]).ok();
    assert_eq!(directories(&scene), 0);
}

#[test]
fn who_is_killed_while_mounting_leaves_nothing_that_lasts() {
    let (scene, reference) = setup();
    // Through a program that is stopped before it mounts: the record is there, the mount is not.
    let bin = scene.place.dir("bin");
    let slow = bin.join("fuse-overlayfs");
    program::write(&slow, "#!/bin/sh\nsleep 1000\n");
    let mut command = scene
        .strata
        .command(&["--driver", "fuse-overlayfs", "mount", &reference]);
    let path = std::env::var("PATH").expect("PATH");
    let mut child = command
        .env("PATH", format!("{}:{path}", bin.display()))
        .spawn()
        .expect("start");
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let helper = loop {
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let children = fs::read_to_string(children).unwrap_or_default();
        if let Some(pid) = children.split_whitespace().next() {
            break pid.parse().expect("a number");
        }
        assert!(std::time::Instant::now() < limit, "does not start");
        std::thread::sleep(std::time::Duration::from_millis(10));
    };
    assert_eq!(directories(&scene), 1);
    let busy = scene.strata.run(&["rmi", &reference]);
    assert!(!busy.status.success(), "somebody is mounting it");
    child.kill().expect("kill");
    child.wait().expect("wait");
    assert_eq!(listed(&scene), 0);
    assert_eq!(directories(&scene), 0);
    scene.strata.run(&["rmi", &reference]).ok();
    let helper = rustix::process::Pid::from_raw(helper).expect("a pid");
    rustix::process::kill_process(helper, rustix::process::Signal::KILL).expect("kill");
}

#[test]
fn a_mount_whose_program_died_is_not_in_the_way() {
    tool("fuse-overlayfs");
    let (scene, reference) = setup();
    let args = [
        "run",
        "--name",
        "kept",
        &reference,
        "sh",
        "-c",
        "echo x > /data/kept",
    ];
    scene
        .strata
        .run(&[&["--driver", "fuse-overlayfs"], &args[..]].concat())
        .ok();
    for target in [reference.as_str(), "kept"] {
        let path = mount(&scene, &["--driver", "fuse-overlayfs", target]);
        let line = |entry: &fs::DirEntry| {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(text(&path))
        };
        let server = fs::read_dir("/proc")
            .expect("proc")
            .flatten()
            .find(line)
            .expect("serves");
        let pid = server.file_name().to_string_lossy().parse().expect("a pid");
        let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
        let limit = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while fs::metadata(&path).is_ok() {
            assert!(std::time::Instant::now() < limit, "still served");
        }
        assert_eq!(listed(&scene), 0, "what is dead is not mounted");
        if target == "kept" {
            let again = mount(&scene, &["kept"]);
            assert_eq!(
                fs::read_to_string(again.join("data/kept")).expect("read"),
                "x\n"
            );
            scene.strata.run(&["rm", "kept"]).ok();
        } else {
            let again = mount(&scene, &[&reference]);
            assert!(again.join("data/one").exists());
            scene.strata.run(&["umount", "-a"]).ok();
        }
        assert!(mounts_under(scene.strata.root()).is_empty());
    }
    scene.assert_no_containers();
}

/// An image of small layers, one file each, which all also change one.
fn high(layers: usize) -> Image {
    let layers: Vec<Layer> = (0..layers)
        .map(|n| {
            let entries = [
                Entry::file("number", format!("{n}\n")),
                Entry::file(format!("file{n}"), ""),
            ];
            Layer::new(&tar(&entries), Compression::Plain)
        })
        .collect();
    Image::new(&layers)
}

#[test]
fn five_hundred_layers_are_mounted_and_more_are_refused_with_a_way_out() {
    tool("fuse-overlayfs");
    need_root();
    let scene = Scene::new();
    let most = scene.push(&high(500), "most");
    scene.strata.pull(&most);
    for driver in ["overlay", "fuse-overlayfs", "vfs"] {
        for options in [&[][..], &["--ro"]] {
            let path = mount(&scene, &[&["--driver", driver], options, &[&most]].concat());
            assert_eq!(
                fs::read_to_string(path.join("number")).expect("read"),
                "499\n"
            );
            let files = fs::read_dir(&path).expect("list").count();
            assert_eq!(files, 501, "{driver}");
            scene.strata.run(&["umount", text(&path)]).ok();
        }
    }
    let more = scene.push(&high(501), "more");
    scene.strata.pull(&more);
    let refused = scene.strata.run(&["mount", &more]).refused();
    for word in ["501 layers", "at most 500", "--driver vfs"] {
        assert!(refused.stderr.contains(word), "{word}: {}", refused.story());
    }
    let path = mount(&scene, &["--driver", "vfs", &more]);
    assert_eq!(
        fs::read_to_string(path.join("number")).expect("read"),
        "500\n"
    );
    scene.strata.run(&["umount", "-a"]).ok();
    scene.assert_no_containers();
}
