//! `system dedup`: what several layers have is kept once.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use strata_tests::command::{run, tool};
use strata_tests::disk::{Disk, unmount};
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::scene::{Scene, shell_layer};
use strata_tests::strata::Strata;
use strata_tests::tree::Tree;
use strata_tests::trial::noise;
use strata_tests::user::need_root;

const LARGE: usize = 600_000;

/// What an upgrade brings again: one file unchanged, one of other content, one of another mode.
fn versions() -> [Image; 2] {
    let first = [
        Entry::dir("lib/").mtime(77),
        Entry::file("lib/same", noise(1, LARGE)).xattr("user.note", b"kept"),
        Entry::file("lib/changed", noise(2, LARGE)),
        Entry::file("lib/private", noise(3, LARGE)),
    ];
    let second = [
        Entry::dir("opt/").mtime(78),
        Entry::file("opt/same", noise(1, LARGE)).xattr("user.note", b"kept"),
        Entry::file("opt/again", noise(1, LARGE)).xattr("user.note", b"kept"),
        Entry::file("opt/changed", noise(4, LARGE)),
        Entry::file("opt/private", noise(3, LARGE)).mode(0o600),
    ];
    let layers = [shell_layer(), Layer::of(&first), Layer::of(&second)];
    [Image::new(&layers[..2]), Image::new(&layers)]
}

fn inode(s: &Strata, image: &Image, layer: usize, path: &str) -> u64 {
    let fs = s.layer(&image.layers[layer].diff_id).join("fs");
    fs::metadata(fs.join(path)).expect("there").ino()
}

/// What a container of the image sees.
fn seen(s: &Strata, reference: &str) -> Tree {
    let at = PathBuf::from(s.run(&["mount", "--ro", reference]).ok().out());
    let tree = Tree::read(&at);
    s.run(&["umount", reference]).ok();
    tree
}

#[test]
fn files_of_several_layers_become_one_and_stay_what_they_were() {
    need_root();
    let s = Scene::new();
    let [_, image] = versions();
    let reference = s.push(&image, "v2");
    s.strata.pull(&reference);
    let (before, exported) = (seen(&s.strata, &reference), s.place.join("before.tar"));
    let export = |to: &Path| {
        let words = ["export", "-o", to.to_str().expect("a path"), &reference];
        s.strata.run(&words).ok();
        fs::read(to).expect("an archive")
    };
    let archive = export(&exported);
    let dry = s
        .strata
        .run(&["system", "dedup", "--hard-links", "--dry-run"]);
    assert_eq!(dry.ok().out(), "Would share: 1 file, 600kB");
    assert_ne!(
        inode(&s.strata, &image, 1, "lib/same"),
        inode(&s.strata, &image, 2, "opt/again")
    );
    let done = s
        .strata
        .run(&["system", "dedup", "--hard-links", "--format", "json"])
        .ok();
    let done: Value = serde_json::from_slice(&done.stdout).expect("json");
    assert_eq!((&done["files"], &done["bytes"]), (&1.into(), &LARGE.into()));
    let [low, same, again] = [(1, "lib/same"), (2, "opt/same"), (2, "opt/again")]
        .map(|(layer, path)| inode(&s.strata, &image, layer, path));
    assert!(
        (low == same) != (low == again),
        "one of the two, which stay two files"
    );
    assert_ne!(
        inode(&s.strata, &image, 1, "lib/private"),
        inode(&s.strata, &image, 2, "opt/private")
    );
    s.strata.run(&["system", "check"]).ok();
    // All that is to be seen of it: overlayfs shows the file's number, as the help says.
    let differences = seen(&s.strata, &reference).differences(&before);
    assert!(
        matches!(differences.as_slice(), [one] if one.starts_with("opt/") && one.contains("= lib/same")),
        "{differences:?}"
    );
    assert!(
        export(&s.place.join("after.tar")) == archive,
        "the archive is another one"
    );
    let nothing = s
        .strata
        .run(&["system", "dedup", "--hard-links"])
        .ok()
        .out();
    assert_eq!(nothing, "Shared: 0 files, 0B");
    // A copy of the tree has two files as well.
    let copied = s
        .strata
        .run(&["--driver", "vfs", "mount", &reference])
        .ok()
        .out();
    let links = fs::metadata(Path::new(&copied).join("lib/same"))
        .expect("there")
        .nlink();
    assert_eq!(links, 1);
    s.strata.run(&["umount", &reference]).ok();
    s.strata.run(&["rmi", "-f", &reference]).ok();
    s.assert_nothing_there();
}

#[test]
fn layers_that_are_shown_are_left_as_they_are() {
    need_root();
    let s = Scene::new();
    let [_, image] = versions();
    let reference = s.push(&image, "v2");
    s.strata.pull(&reference);
    s.strata.run(&["mount", &reference]).ok();
    let left = s.strata.run(&["system", "dedup", "--hard-links"]).ok();
    assert_eq!(left.out(), "Shared: 0 files, 0B");
    assert!(
        left.stderr.contains("stays as it is: mount "),
        "{}",
        left.story()
    );
    s.strata.run(&["umount", &reference]).ok();
    let done = s.strata.run(&["system", "dedup", "--hard-links"]).ok();
    assert_eq!(done.out(), "Shared: 1 file, 600kB");
}

#[test]
fn what_one_image_loses_the_other_keeps() {
    let s = Scene::new();
    let [first, second] = versions();
    let old = s.push(&first, "v1");
    let new = s.push(&second, "v2");
    s.strata.pull(&old);
    s.strata.pull(&new);
    s.strata.run(&["system", "dedup", "--hard-links"]).ok();
    s.strata.run(&["rmi", &new]).ok();
    s.strata.run(&["system", "check"]).ok();
    let fs = s.strata.layer(&first.layers[1].diff_id).join("fs");
    assert!(fs::read(fs.join("lib/same")).expect("there") == noise(1, LARGE));
}

#[test]
fn blocks_are_shared_where_the_file_system_can_and_elsewhere_it_says_so() {
    need_root();
    let s = Scene::new();
    let [_, image] = versions();
    let reference = s.push(&image, "v2");
    let disk = Disk::xfs(&s.place, "xfs");
    let at = disk.path().to_owned();
    let strata = Strata::at(s.strata.program().to_owned(), at.join("store"));
    strata.pull(&reference);
    let mounted = strata.run(&["mount", &reference]).ok().out();
    let before = Tree::read(Path::new(&mounted));
    let free = || {
        rustix::fs::syncfs(fs::File::open(&at).expect("open")).expect("sync");
        let stat = rustix::fs::statvfs(&at).expect("statvfs");
        stat.f_bfree * stat.f_frsize
    };
    let had = free();
    // All but one of the three, and of the two that differ in their mode alone, mounted or not.
    let done = strata.run(&["system", "dedup"]).ok().out();
    assert_eq!(done, "Shared: 3 files, 1.8MB");
    let won = free().saturating_sub(had);
    assert!(won > 3 * LARGE as u64 * 9 / 10, "{won} bytes");
    Tree::read(Path::new(&mounted)).assert_same(&before);
    strata.run(&["umount", &reference]).ok();
    strata.run(&["system", "check"]).ok();
    unmount(&at);
    let memory = s.place.dir("memory");
    run(Command::new(tool("mount"))
        .args(["-t", "tmpfs", "none"])
        .arg(&memory))
    .ok();
    let strata = Strata::at(s.strata.program().to_owned(), memory.join("store"));
    strata.pull(&reference);
    let refused = strata.run(&["system", "dedup"]).refused();
    refused.says("cannot share blocks").says("--hard-links");
    unmount(&memory);
}
