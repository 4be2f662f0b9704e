//! Trees that grow and change by chance, made into layers by others, come out of the store as they were: what
//! `umoci repack` makes of each change, and what GNU tar makes of a whole tree in each of its formats, is
//! pulled, mounted and compared with the tree itself, with umoci's and with podman's.
//!
//! STRATA_ROUNDS says how many trees (3), STRATA_SEED repeats them: a failure prints it.
//!
//! Where trees may differ, and why:
//!
//! | from whom | what | why |
//! |---|---|---|
//! | all | the top directory | no layer of these has an entry for it, or tools give it a time of their own |
//! | `umoci unpack`, podman | times of directories | they remove what whiteouts name after they have set them |
//! | `umoci repack` | nanoseconds | rounds times to whole seconds: these trees have no finer ones |
//! | `umoci repack` | names with line ends | it loses their beginning: these trees have none (`trees.rs` has) |
//! | podman | attributes of directories | where a layer has a directory again without them, it keeps the lower one's |
//! | podman 4 | whiteouts below what has become a file | it gives up |
//! | podman 4 | a file in the place of a fifo | it opens the fifo and waits for ever |
//! | GNU tar's `ustar`, `gnu` | nanoseconds, attributes | the formats have no place for them |
//! | an ordinary user's | owners, capabilities | a single id is mapped; privileged attributes need more rights |
//! | an ordinary user's | devices | they need more rights: what a lower layer has in the place of one shows |

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rand::RngExt;
use rand::rngs::StdRng;
use strata_tests::chance::{number, random};
use strata_tests::clients::{Clients, umoci, umoci_unpack};
use strata_tests::command::{run, tool};
use strata_tests::entry::Compression;
use strata_tests::image::{Image, Layer};
use strata_tests::place::Place;
use strata_tests::scene::Scene;
use strata_tests::strata::Strata;
use strata_tests::tree::{Kind, Tree};
use strata_tests::user::{User, need_root};
use strata_tests::wild;

/// So many things are a tree worth the trouble.
const ENOUGH: usize = 30;

/// A layout with an image of some layers that umoci made of a tree's changes, and the tree.
fn grown(place: &Place, name: &str, random: &mut StdRng) -> (PathBuf, PathBuf) {
    let layout = place.join(format!("{name}-layout"));
    let image = format!("{}:v1", layout.display());
    umoci(&["init", "--layout", layout.to_str().expect("text")]);
    umoci(&["new", "--image", &image]);
    let bundle = place.join(format!("{name}-bundle"));
    let bundle_path = bundle.to_str().expect("text");
    umoci(&["unpack", "--image", &image, bundle_path]);
    let rootfs = bundle.join("rootfs");
    let (mut steps, mut left) = (random.random_range(2..5_u32), 0);
    // A change may remove a directory with nearly all that there is.
    while steps > 0 || left <= ENOUGH {
        match left {
            0..=ENOUGH => wild::grow(&rootfs, 60, random).expect("grow"),
            _ => wild::change(&rootfs, 12, random).expect("change"),
        }
        left = Tree::read(&rootfs).0.len();
        steps = steps.saturating_sub(1);
        umoci(&["repack", "--refresh-bundle", "--image", &image, bundle_path]);
    }
    (layout, rootfs)
}

fn mounted(strata: &Strata, reference: &str) -> Tree {
    let top = strata.run(&["mount", "--ro", reference]).ok().out();
    let tree = Tree::read(Path::new(&top));
    strata.run(&["umount", &top]).ok();
    tree
}

#[test]
fn what_umoci_makes_of_random_changes_comes_out_as_it_was() {
    need_root();
    let mut random = random();
    let s = Scene::new();
    let clients = Clients::new(&s.place);
    let (rounds, mut compared) = (number("STRATA_ROUNDS", 3), 0);
    for round in 0..rounds {
        let name = format!("wild{round}");
        let (layout, rootfs) = grown(&s.place, &name, &mut random);
        let truth = Tree::read(&rootfs);
        let reference = s.server.reference("wild", &name);
        let source = format!("oci:{}:v1", layout.display());
        s.strata.run(&["push", "-q", &source, &reference]).ok();
        s.strata.pull(&reference);
        let ours = mounted(&s.strata, &reference);
        ours.assert_same(&truth);
        let bundle = s.place.join(format!("{name}-again"));
        let theirs = Tree::read(&umoci_unpack(&layout, "v1", &bundle));
        ours.clone()
            .without_times_of_directories()
            .assert_same(&theirs.without_times_of_directories());
        // Where its version 4 gives up (see above), there is nothing to compare.
        let pulled = clients.podman_pull_or_give_up(&reference);
        if pulled.status.success() {
            let top = clients.podman(&["image", "mount", &reference]).ok().out();
            let comparable = |tree: Tree| {
                tree.without_times_of_directories()
                    .without_attributes_of_directories()
            };
            comparable(ours).assert_same(&comparable(Tree::read(Path::new(&top))));
            clients.podman(&["image", "umount", &reference]).ok();
            compared += 1;
        } else if pulled.status.code() != Some(124) {
            pulled.says("not a directory");
        }
    }
    println!("{compared} of {rounds} compared with podman's");
}

const FORMATS: [(&str, &[&str]); 6] = [
    ("pax", &["--format=pax", "--xattrs", "--xattrs-include=*"]),
    (
        "pax-sparse",
        &["--format=pax", "-S", "--xattrs", "--xattrs-include=*"],
    ),
    (
        "pax-sparse-0.0",
        &["--format=pax", "-S", "--sparse-version=0.0"],
    ),
    ("gnu", &["--format=gnu"]),
    ("gnu-sparse", &["--format=gnu", "-S"]),
    ("oldgnu", &["--format=oldgnu"]),
];

#[test]
fn what_gnu_tar_makes_of_a_random_tree_is_unpacked_as_gnu_tar_does() {
    need_root();
    let mut random = random();
    let s = Scene::new();
    let tree = s.place.dir("tree");
    wild::grow(&tree, 150, &mut random).expect("grow");
    wild::refine(&tree, &mut random).expect("times");
    let truth = Tree::read(&tree);
    for (name, options) in FORMATS {
        let archive = s.place.join(format!("{name}.tar"));
        let mut pack = Command::new(tool("tar"));
        pack.arg("-cf")
            .arg(&archive)
            .args(options)
            .arg("-C")
            .arg(&tree)
            .arg(".");
        run(&mut pack).ok();
        let theirs = s.place.dir(&format!("{name}-theirs"));
        let mut unpack = Command::new(tool("tar"));
        unpack
            .args(["-xpf"])
            .arg(&archive)
            .arg("--numeric-owner")
            .arg("-C")
            .arg(&theirs);
        if options.contains(&"--xattrs") {
            unpack.args(["--xattrs", "--xattrs-include=*"]);
        }
        run(&mut unpack).ok();
        let layer = Layer::new(&fs::read(&archive).expect("read"), Compression::Zstd);
        let reference = s.push(&Image::new(std::slice::from_ref(&layer)), name);
        s.strata.pull(&reference);
        let top = s.strata.layer(&layer.diff_id).join("fs");
        let ours = Tree::read(&top);
        println!("{name}");
        ours.assert_same(&Tree::read(&theirs));
        if name == "pax" {
            ours.assert_same(&truth);
        }
        if options.contains(&"-S") {
            assert_holes(&ours, &tree, &top);
        }
    }
}

/// What was sparse is so again.
#[track_caller]
fn assert_holes(tree: &Tree, from: &Path, to: &Path) {
    let large = tree.0.iter().filter(|(_, node)| node.size >= 1 << 20);
    let mut holes = 0;
    for (path, _) in large {
        let blocks = |top: &Path| fs::metadata(top.join(path)).expect("there").blocks();
        assert!(
            blocks(to) <= blocks(from) + 16,
            "{} lost its holes",
            path.display()
        );
        holes += 1;
    }
    assert!(holes > 0, "nothing was sparse");
}

/// Paths, types, modes, link targets, sizes and times as find(1) says them, and the content of files.
const FIND: &str = r"find . -mindepth 1 ! -type b ! -type c -printf '%P %y %#m %l ' \( -type d -printf '\0' -o -printf '%s %T@\0' \) ; find . -type f -exec sha256sum -z {} +";

fn listed(text: &[u8]) -> Vec<String> {
    let lines = text.split(|byte| *byte == 0);
    let lines = lines.map(|line| String::from_utf8_lossy(line).into_owned());
    lines.collect()
}

#[test]
fn an_ordinary_user_gets_the_same_tree_but_for_owners_and_devices() {
    need_root();
    let mut random = random();
    let s = Scene::new();
    let user = User::new(&s.place, 61_040);
    let strata = Strata::of_user(&s.place, &user);
    for round in 0..number("STRATA_ROUNDS", 3) {
        let name = format!("wild{round}");
        let (layout, rootfs) = grown(&s.place, &name, &mut random);
        let reference = s.server.reference("wild", &name);
        let source = format!("oci:{}:v1", layout.display());
        s.strata.run(&["push", "-q", &source, &reference]).ok();
        strata.pull(&reference);
        let program = strata.program().display();
        let script = format!(
            "set -e; at=$({program} mount --ro {reference}); cd $at; {FIND}; cd /; {program} umount $at"
        );
        let ours = strata.run(&["unshare", "sh", "-c", &script]).ok();
        let mut find = Command::new("sh");
        let theirs = run(find.args(["-ec", FIND]).current_dir(&rootfs)).ok();
        let nodes = Tree::read(&rootfs).0;
        let is_device = |kind: &Kind| matches!(kind, Kind::Special('c' | 'b', _));
        let devices = nodes.iter().filter(|(_, node)| is_device(&node.kind));
        let devices: Vec<String> = devices
            .map(|(path, _)| path.to_string_lossy().into_owned())
            .collect();
        // What a lower layer has there: a file, or a directory and all that is in it.
        let in_place = |line: &str| {
            let path = line.split_once("  ./").map_or(line, |(_, path)| path);
            let is = |device: &String| {
                let rest = path.strip_prefix(device.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '/']))
            };
            devices.iter().any(is)
        };
        let (ours, theirs) = (listed(&ours.stdout), listed(&theirs.stdout));
        let differ: Vec<_> = ours
            .iter()
            .filter(|line| !theirs.contains(line) && !in_place(line))
            .collect();
        let missing: Vec<_> = theirs.iter().filter(|line| !ours.contains(line)).collect();
        assert!(
            differ.is_empty() && missing.is_empty(),
            "{differ:#?} instead of {missing:#?}"
        );
        println!("{} things, {} devices left out", nodes.len(), devices.len());
    }
}
