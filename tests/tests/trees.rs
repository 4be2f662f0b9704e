//! The trees that strata extracts and mounts, entry by entry the same as those of umoci: type, mode,
//! owner, size, times, link targets, extended attributes, content and hard links.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use strata_tests::clients::{Clients, umoci_unpack};
use strata_tests::command::tool;
use strata_tests::debian;
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::scene::Scene;
use strata_tests::stratad::Stratad;
use strata_tests::tree::{Kind, Tree};
use strata_tests::user::need_root;

fn scene() -> Scene {
    need_root();
    Scene::new()
}

/// Pushes an image, mounts it read-only with strata and unpacks it with umoci: both trees.
fn both(s: &Scene, image: &Image) -> (Tree, Tree) {
    let layout = s.place.dir("layout");
    image.write_layout(&layout, "v1").expect("write");
    let reference = s.push(image, "v1");
    s.strata.pull(&reference);
    let ours = mounted(s, &reference);
    let theirs = Tree::read(&umoci_unpack(&layout, "v1", &s.place.join("bundle")));
    (ours, theirs)
}

fn mounted(s: &Scene, reference: &str) -> Tree {
    let path = PathBuf::from(s.strata.run(&["mount", "--ro", reference]).ok().out());
    let tree = Tree::read(&path);
    let denied = fs::write(path.join("new"), "x");
    assert!(denied.is_err(), "mounted read-only");
    s.strata.run(&["umount", path.to_str().expect("text")]).ok();
    assert!(!path.join("new").exists());
    tree
}

/// Every type and every attribute that a layer can carry.
fn all_kinds() -> Vec<Entry> {
    let capability =
        b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let long_dir = format!("deep/{}/", "d".repeat(110));
    let long = format!("{long_dir}{}", "f".repeat(200));
    vec![
        Entry::dir("etc/")
            .mode(0o750)
            .owner(7, 8)
            .mtime(1_000_000_000),
        Entry::file("etc/plain", "text"),
        Entry::file("etc/empty", ""),
        Entry::file("etc/secret", "x")
            .mode(0o000)
            .owner(4_000_000, 4_000_001),
        Entry::program("etc/setuid", "x").mode(0o4755),
        Entry::program("etc/setgid", "x").mode(0o2755).owner(0, 50),
        Entry::program("etc/capable", "x").xattr("security.capability", capability),
        Entry::file("etc/attributes", "x")
            .xattr("user.one", b"1")
            .xattr("user.zwei", b"\x00\xff"),
        Entry::hardlink("etc/twin", "etc/plain"),
        Entry::hardlink("triplet", "etc/plain"),
        Entry::symlink("relative", "etc/plain").owner(5, 6).mtime(5),
        Entry::symlink("absolute", "/etc/plain"),
        Entry::symlink("dangling", "../../outside/../../of/everything"),
        Entry::dir("tmp/").mode(0o1777),
        Entry::dir("locked/").mode(0o555),
        Entry::file("locked/inside", "x").mode(0o444),
        Entry::fifo("pipe"),
        Entry::device("null", 1, 3).mode(0o666),
        Entry::file("old", "x").mtime(0),
        Entry::file("new", "x").mtime(4_000_000_000),
        Entry::file("precise", "x").record("mtime", b"1600000000.123456789"),
        Entry::file("before", "x").record("mtime", b"-5"),
        Entry::dir("deep/"),
        Entry::dir(&long_dir),
        Entry::file(&long, "at the end of a long name"),
        Entry::file(b"bytes-\xff\xfe", "a name that is not text"),
        Entry::file("blank and \t tab\n", "x"),
        Entry::file("üñí", "x").record("path", "üñí-2".as_bytes()),
    ]
}

#[test]
fn every_kind_of_entry_is_extracted_as_others_do() {
    let s = scene();
    let (ours, theirs) = both(&s, &Image::new(&[Layer::of(&all_kinds())]));
    assert_eq!(ours.0.len(), all_kinds().len() + 1, "the top beside them");
    ours.assert_same(&theirs);
    assert_eq!(
        ours.get("triplet").expect("there").same_as,
        Some("etc/plain".into())
    );
}

#[test]
fn upper_layers_delete_and_replace_as_others_do() {
    let s = scene();
    let lower = [
        Entry::dir("etc/").mode(0o700).owner(9, 9).mtime(77),
        Entry::file("etc/kept", "kept"),
        Entry::file("etc/deleted", "deleted"),
        Entry::file("etc/replaced", "old"),
        Entry::dir("opaque/").mode(0o711),
        Entry::file("opaque/hidden", "hidden"),
        Entry::dir("opaque/under/"),
        Entry::file("opaque/under/hidden", "hidden"),
        Entry::dir("gone/"),
        Entry::file("gone/with", "all"),
        Entry::dir("becomes-file/"),
        Entry::file("becomes-file/x", "x"),
        Entry::file("becomes-dir", "x"),
        Entry::dir("becomes-link/"),
        Entry::file("becomes-link/x", "x"),
        Entry::dir("again/"),
        Entry::file("again/old", "old"),
        Entry::dir("usr/").mode(0o751).mtime(88),
        Entry::dir("usr/share/").mode(0o705).mtime(99),
        Entry::dir("closed/").mode(0o700).owner(9, 9).mtime(66),
        Entry::file("closed/old", "old"),
    ];
    let middle = [
        Entry::whiteout("etc", "deleted"),
        Entry::file("etc/replaced", "new").mode(0o600),
        Entry::dir("opaque/").mode(0o755),
        Entry::opaque("opaque"),
        Entry::file("opaque/shown", "shown"),
        Entry::file(".wh.gone", ""),
        Entry::file(".wh.becomes-file", ""),
        Entry::file("becomes-file", "file"),
        Entry::dir("becomes-dir/"),
        Entry::file("becomes-dir/x", "x"),
        Entry::symlink("becomes-link", "etc"),
        Entry::file(".wh.again", ""),
        // Its parents are named by the layer below only: their modes and times stay.
        Entry::file("usr/share/doc", "x"),
    ];
    let upper = [
        Entry::dir("again/").mode(0o700),
        Entry::file("again/new", "new"),
        Entry::whiteout("usr/share", "nothing-like-this"),
        // No entry for the directory: it stays what it is.
        Entry::opaque("closed"),
        Entry::file("closed/new", "new"),
        Entry::dir("fresh/"),
        Entry::whiteout("fresh", "nothing-like-this"),
        Entry::file("fresh/new", "new"),
    ];
    let layers = [lower.as_slice(), &middle, &upper].map(Layer::of);
    let (ours, theirs) = both(&s, &Image::new(&layers));
    for gone in [
        "etc/deleted",
        "opaque/hidden",
        "opaque/under",
        "gone",
        "again/old",
        "becomes-file/x",
        "closed/old",
        "fresh/nothing-like-this",
    ] {
        assert!(ours.get(gone).is_none(), "{gone} should be gone");
    }
    let etc = ours.get("etc").expect("there");
    assert_eq!((etc.mode, etc.owner, etc.mtime.0), (0o700, (9, 9), 77));
    let closed = ours.get("closed").expect("there");
    assert_eq!((closed.mode, closed.owner), (0o700, (9, 9)));
    let share = ours.get("usr/share").expect("there");
    assert_eq!((share.mode, share.mtime.0), (0o705, 99));
    ours.assert_same(&theirs);
}

#[test]
fn layers_are_directories_of_their_own_with_overlays_marks() {
    let s = scene();
    let lower = Layer::of(&[
        Entry::dir("d/"),
        Entry::file("d/a", "a"),
        Entry::file("b", "b"),
    ]);
    let upper = Layer::of(&[
        Entry::dir("d/"),
        Entry::opaque("d"),
        Entry::file(".wh.b", ""),
    ]);
    let image = Image::new(&[lower.clone(), upper.clone()]);
    s.strata.pull(&s.server.api().push(&image, "app", "v1"));
    let below = Tree::read(&s.strata.layer(&lower.diff_id).join("fs"));
    assert!(below.get("d/a").is_some() && below.get("b").is_some());
    let above = Tree::read(&s.strata.layer(&upper.diff_id).join("fs"));
    assert_eq!(
        above.get("b").map(|node| &node.kind),
        Some(&Kind::Special('c', 0))
    );
    let marks = &above.get("d").expect("there").xattrs;
    assert_eq!(
        marks
            .get(b"trusted.overlay.opaque".as_slice())
            .map(Vec::as_slice),
        Some(b"y".as_slice())
    );
    assert_eq!(
        above.0.len(),
        3,
        "no .wh. file is left: {:?}",
        above.0.keys()
    );
}

#[test]
fn a_debian_image_is_the_same_as_with_umoci() {
    let s = scene();
    let layout = debian::layout();
    let reference = s.server.reference("debian", "python");
    let source = format!("oci:{}:latest", layout.display());
    s.strata.run(&["push", &source, &reference]).ok();
    let pulled = s.strata.pull(&reference);
    assert_eq!(pulled.fetched(), 3);
    let theirs = Tree::read(&umoci_unpack(&layout, "latest", &s.place.join("bundle")));
    assert!(theirs.0.len() > 3000, "a real image");
    mounted(&s, &reference).assert_same(&theirs);

    let ran = s.strata.run(&["run", "--rm", &reference]).ok();
    assert!(ran.out().starts_with("python in "), "{}", ran.story());
    // apt, dpkg and maintainer scripts are a hard trial of the writable layer.
    let script = "dpkg --remove --force-all python3-minimal >/dev/null 2>&1; test ! -e /usr/bin/python3 && dpkg --audit";
    s.strata
        .run(&["run", "--rm", &reference, "sh", "-c", script])
        .ok();
    mounted(&s, &reference).assert_same(&theirs);
}

/// STRATA_LAYOUTS names more layouts to try, with `:` between; their tag is `latest`.
#[test]
fn real_images_are_the_same_as_with_podman_and_their_lowest_layer_as_with_gnu_tar() {
    let s = scene();
    let clients = Clients::new(&s.place);
    let more = std::env::var_os("STRATA_LAYOUTS").unwrap_or_default();
    let layouts = std::env::split_paths(&more).filter(|path| path.is_absolute());
    for (n, layout) in [debian::layout()].into_iter().chain(layouts).enumerate() {
        let reference = s.server.reference("real", &format!("image{n}"));
        let source = format!("oci:{}:latest", layout.display());
        s.strata.run(&["push", "-q", &source, &reference]).ok();
        let pulled = s.strata.pull(&reference);
        let ours = mounted(&s, &reference);
        clients.podman_transfer("pull", &reference).ok();
        let top = clients.podman(&["image", "mount", &reference]).ok().out();
        let theirs = Tree::read(Path::new(&top));
        ours.clone()
            .without_times_of_directories()
            .assert_same(&theirs.without_times_of_directories());
        clients.podman(&["image", "umount", &reference]).ok();
        clients.podman(&["rmi", "-f", &reference]).ok();

        let lowest = &pulled.layers[0];
        let hex = |digest: &str| digest.rsplit(':').next().unwrap_or_default().to_owned();
        let blob = fs::File::open(layout.join("blobs/sha256").join(hex(&lowest.digest)));
        let there = s.place.dir(&format!("lowest{n}"));
        let mut tar = Command::new(tool("tar"));
        tar.args([
            "-xzp",
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
            "-C",
        ]);
        let status = tar.arg(&there).stdin(blob.expect("the blob")).status();
        assert!(status.expect("tar").success());
        let layer = s.strata.root().join("layers").join(hex(&lowest.diff_id));
        Tree::read(&layer.join("fs")).assert_same(&Tree::read(&there));
        println!("{}: {} entries", layout.display(), ours.0.len());
        s.strata.run(&["rmi", &reference]).ok();
        strata_tests::place::remove_tree(&there).expect("remove");
    }
}

#[test]
fn a_debian_image_goes_through_skopeo_and_back_through_the_store() {
    let mut s = scene();
    let clients = Clients::new(&s.place);
    let from = format!("oci:{}:latest", debian::layout().display());
    let reference = s.server.reference("debian", "skopeo");
    clients
        .skopeo_copy(&from, &format!("docker://{reference}"), &[])
        .ok();
    let first = s.strata.pull(&reference);
    // Away from where it came, each layer is rebuilt from its directory: the same diffIDs.
    let other = Stratad::start(&s.place.join("other"));
    let away = other.reference("debian", "rebuilt");
    s.strata.run(&["tag", &reference, &away]).ok();
    s.server.kill();
    s.strata.run(&["push", &away]).ok();
    let fresh = s.fresh_store();
    let second = fresh.pull(&away);
    let ids = |pulled: &strata_tests::strata::Pulled| {
        pulled
            .layers
            .iter()
            .map(|l| l.diff_id.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&first), ids(&second));
    assert!(Path::new(fresh.root()).join("layers").is_dir());
}
