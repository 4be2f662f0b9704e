//! `strata export`: the merged tree as one archive, which anybody's tar unpacks to what a container sees.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use rustix::fs::{CWD, FileType, Mode};
use strata_tests::command::{run, tool};
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::scene::{Scene, shell_image};
use strata_tests::tree::Tree;
use strata_tests::trial::noise;

/// Unpacks an archive with GNU tar.
fn unpacked(s: &Scene, archive: &Path, name: &str) -> PathBuf {
    let to = s.place.dir(name);
    let mut command = Command::new(tool("tar"));
    command.args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"]);
    run(command.arg(archive).arg("-C").arg(&to)).ok();
    to
}

/// A scene with an image in its store whose layers hide, replace and link.
fn layered() -> (Scene, String) {
    let long = "n".repeat(120);
    let low = [
        Entry::dir("etc/").mode(0o750),
        Entry::file("etc/one", "one"),
        Entry::file("etc/two", "two").owner(1000, 3_000_000),
        Entry::hardlink("etc/two-again", "etc/two"),
        Entry::dir("replaced/"),
        Entry::file("replaced/old", "old"),
        Entry::dir("cleared/"),
        Entry::file("cleared/old", "old"),
        Entry::file("becomes-directory", "file"),
        Entry::dir("becomes-file/"),
        Entry::file("becomes-file/inside", "x"),
    ];
    let high = [
        Entry::whiteout("etc/", "one"),
        Entry::whiteout("", "replaced"),
        Entry::dir("replaced/").mode(0o700),
        Entry::file("replaced/new", "new"),
        Entry::dir("cleared/"),
        Entry::opaque("cleared/"),
        Entry::file("cleared/new", "new").xattr("user.note", b"kept"),
        Entry::dir("becomes-directory/"),
        Entry::file("becomes-directory/inside", "y"),
        Entry::file("becomes-file", "file"),
        Entry::symlink("link", "etc/two"),
        Entry::fifo("fifo"),
        Entry::device("device", 1, 3),
        Entry::file(format!("{long}/{long}"), "long").mtime(1),
    ];
    let s = Scene::new();
    let reference = s.push(&Image::new(&[Layer::of(&low), Layer::of(&high)]), "v1");
    s.strata.pull(&reference);
    (s, reference)
}

#[test]
fn an_image_is_exported_as_it_is_mounted() {
    let (s, reference) = layered();
    let file = s.place.join("image.tar");
    let text = file.display().to_string();
    s.strata.run(&["export", "-o", &text, &reference]).ok();
    let again = s.strata.run(&["export", &reference]).ok().stdout;
    assert!(
        again == fs::read(&file).expect("read"),
        "not the same archive twice"
    );
    let tree = Tree::read(&unpacked(&s, &file, "unpacked"));
    let mounted = s.strata.run(&["mount", "--ro", &reference]).ok().out();
    let shown = Tree::read(Path::new(mounted.trim()));
    s.strata.run(&["umount", mounted.trim()]).ok();
    assert!(shown.0.len() > 15);
    shown.assert_same(&tree);
    for gone in [
        "etc/one",
        "replaced/old",
        "cleared/old",
        "becomes-file/inside",
    ] {
        assert!(tree.get(gone).is_none(), "{gone}");
    }
}

#[test]
fn a_container_is_exported_with_what_it_changed_whatever_the_driver() {
    let s = Scene::new();
    let reference = s.push(&shell_image(), "v1");
    s.strata.pull(&reference);
    let script = "rm one; rm -r sub; mkdir sub; echo new > sub/new; chmod 700 .; echo x > .wh.name";
    for driver in ["overlay", "vfs", "fuse-overlayfs"] {
        // Such a name means something to fuse-overlayfs.
        let script = match driver {
            "fuse-overlayfs" => script.split("; echo x").next().expect("a part"),
            _ => script,
        };
        let run = [
            "--driver", driver, "run", "--name", "changed", &reference, "sh", "-c", script,
        ];
        s.strata.run(&run).ok();
        let file = s.place.join("container.tar");
        let text = file.display().to_string();
        s.strata
            .run(&["container", "export", "--output", &text, "changed"])
            .ok();
        let to = unpacked(&s, &file, &format!("unpacked-{driver}"));
        let tree = Tree::read(&to);
        assert_eq!(
            fs::read_to_string(to.join("data/sub/new")).expect("read"),
            "new\n"
        );
        for gone in ["data/one", "data/sub/three"] {
            assert!(tree.get(gone).is_none(), "{driver}: {gone}");
        }
        assert_eq!(tree.get("data").map(|node| node.mode), Some(0o700));
        let odd = tree.get("data/.wh.name");
        assert_eq!(odd.is_some(), driver != "fuse-overlayfs");
        s.strata.run(&["rm", "changed"]).ok();
    }
}

#[test]
fn what_cannot_be_exported_is_refused_and_a_file_that_is_there_stays() {
    let (s, reference) = layered();
    let file = s.place.join("kept.tar");
    fs::write(&file, "kept").expect("write");
    let text = file.display().to_string();
    let mistyped = reference.replace("app:", "apq:");
    let ran = s.strata.run(&["export", "-o", &text, &mistyped]).refused();
    assert!(
        ran.story().contains(&format!("did you mean {reference}")),
        "{}",
        ran.story()
    );
    assert_eq!(fs::read_to_string(&file).expect("read"), "kept");
    s.strata
        .run(&["export", "-o", "/nonexistent/x.tar", &reference])
        .refused();
    let directory = s.place.dir("directory").display().to_string();
    for command in ["export", "save"] {
        s.strata
            .run(&[command, "-o", &directory, &reference])
            .refused()
            .says("is a directory");
    }
    assert!(!Path::new(&format!("{directory}.part")).exists());
}

#[test]
fn a_device_or_a_pipe_is_written_to_and_stays_and_of_a_link_the_file_is_replaced() {
    let (s, reference) = layered();
    let at = |name: &str| s.place.join(name);
    let (null, pipe) = (at("null"), at("pipe"));
    let device = rustix::fs::makedev(1, 3);
    for (path, kind, device) in [
        (&null, FileType::CharacterDevice, device),
        (&pipe, FileType::Fifo, 0),
    ] {
        rustix::fs::mknodat(CWD, path, kind, Mode::RWXU, device).expect("mknod");
    }
    for command in ["export", "save"] {
        let whole = s.strata.run(&[command, &reference]).ok().stdout;
        let write = |path: &Path| {
            let text = path.display().to_string();
            s.strata.run(&[command, "-o", &text, &reference]).ok();
        };
        write(&null);
        let kind = fs::metadata(&null).expect("look").file_type();
        assert!(kind.is_char_device(), "{command}");
        thread::scope(|scope| {
            let reading = scope.spawn(|| fs::read(&pipe).expect("read"));
            write(&pipe);
            assert!(reading.join().expect("join") == whole, "{command}");
        });
        assert!(fs::metadata(&pipe).expect("look").file_type().is_fifo());
        fs::write(at("real"), "old").expect("write");
        symlink("real", at(command)).expect("link");
        write(&at(command));
        assert!(fs::read(at("real")).expect("read") == whole, "{command}");
        let kind = fs::symlink_metadata(at(command)).expect("look").file_type();
        assert!(kind.is_symlink(), "{command}");
    }
    let target = format!("docker-archive:{}", null.display());
    s.strata
        .run(&["copy", &reference, &target])
        .refused()
        .says("it is no file");
    let kind = fs::metadata(&null).expect("look").file_type();
    assert!(kind.is_char_device());
}

#[test]
fn an_export_that_is_killed_leaves_what_was_there_and_nothing_else() {
    let s = Scene::new();
    let image = Image::new(&[Layer::of(&[Entry::file("big", noise(1, 5_000_000))])]);
    let reference = s.push(&image, "v1");
    s.strata.pull(&reference);
    let directory = s.place.dir("here");
    let file = directory.join("kept.tar");
    fs::write(&file, "kept").expect("write");
    // SIGXFSZ kills whoever makes a file longer than this: a MiB or two, as shells count.
    let mut command = Command::new(tool("sh"));
    command.args(["-c", "ulimit -f 2048; exec \"$@\"", "sh"]);
    command.arg(s.strata.program()).arg("export").arg("-o");
    command.arg(&file).arg(&reference);
    let ran = run(command.env("STRATA_ROOT", s.strata.root()));
    assert_eq!(ran.status.signal(), Some(25), "{}", ran.story());
    assert_eq!(fs::read_to_string(&file).expect("read"), "kept");
    assert_eq!(fs::read_dir(&directory).expect("list").count(), 1);
}
