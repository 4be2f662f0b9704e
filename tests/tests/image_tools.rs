//! `strata image append` and `squash`: new images of images, as files and as others see them.

use std::fs;

use strata_tests::clients::{Clients, umoci_unpack};
use strata_tests::command::{run, run_with_input};
use strata_tests::committed::{layers, mounted, shell};
use strata_tests::entry::{Compression, Entry, tar};
use strata_tests::image::{Image, Layer};
use strata_tests::scene::Scene;
use strata_tests::tree::Tree;
use strata_tests::user::need_root;

#[test]
fn a_directory_becomes_a_layer_on_an_image() {
    let (s, base) = shell();
    let dir = s.place.dir("dir");
    fs::create_dir_all(dir.join("data/sub")).expect("mkdir");
    fs::write(dir.join("data/sub/added"), "added\n").expect("write");
    fs::write(dir.join("data/one"), "other\n").expect("write");
    let append = || {
        let source = dir.display().to_string();
        let args = [
            "image",
            "append",
            "-m",
            "files",
            "-c",
            "CMD cat /data/sub/added",
            &base,
            &source,
            "appended",
        ];
        let mut command = s.strata.command(&args);
        run(command.env("SOURCE_DATE_EPOCH", "1600000000"))
            .ok()
            .out()
    };
    let id = append();
    assert_eq!(append(), id, "the same directory gives the same image");
    assert_eq!(
        s.strata.run(&["run", "--rm", "appended"]).ok().out(),
        "added"
    );
    let look = [
        "run",
        "--rm",
        "appended",
        "sh",
        "-c",
        "cat one two sub/three",
    ];
    assert_eq!(s.strata.run(&look).ok().out(), "other\ntwo\nthree");
    let history = s.strata.run(&["history", "appended"]).ok().out();
    assert!(
        history.lines().nth(1).expect("a step").contains("files"),
        "{history}"
    );
    assert_eq!(layers(&s.strata, "appended").len(), 3);
}

#[test]
fn an_archive_becomes_a_layer_to_the_byte_and_its_whiteouts_count() {
    let (s, base) = shell();
    let archive = tar(&[
        Entry::dir("data/"),
        Entry::whiteout("data", "one"),
        Entry::file("data/new", "new\n"),
    ]);
    let diff_id = strata_oci::digest::Digest::of(&archive).to_string();
    for compression in [Compression::Plain, Compression::Gzip, Compression::Zstd] {
        let file = s.place.join("layer.tar");
        fs::write(&file, compression.apply(&archive)).expect("write");
        let source = file.display().to_string();
        s.strata
            .run(&["image", "append", &base, &source, "from-file"])
            .ok();
        assert_eq!(layers(&s.strata, "from-file")[2], diff_id);
    }
    let mut command = s
        .strata
        .command(&["image", "append", &base, "-", "from-stream"]);
    run_with_input(&mut command, &archive).ok();
    assert_eq!(layers(&s.strata, "from-stream")[2], diff_id);
    let seen = s
        .strata
        .run(&["run", "--rm", "from-stream", "sh", "-c", "ls; cat new"])
        .ok()
        .out();
    assert_eq!(seen, "mine\nnew\nsub\ntwo\nnew");

    let before = s.strata.layers();
    for (source, word) in [
        ("/nonexistent", "nonexistent"),
        ("/etc/hostname", "archive"),
    ] {
        s.strata
            .run(&["image", "append", &base, source, "never"])
            .refused()
            .says(word);
    }
    s.strata
        .run(&["image", "append", "no-such", "/etc", "never"])
        .refused()
        .says("no such image");
    assert_eq!(s.strata.layers(), before);
    assert_eq!(s.strata.leftovers(), [""; 0]);
}

/// Layers that hide, replace and link, on a base of one.
fn layered(s: &Scene) -> (String, String) {
    let low = [
        Entry::dir("etc/").mode(0o750),
        Entry::file("etc/one", "one"),
        Entry::file("etc/two", "two").owner(1000, 3_000_000),
        Entry::hardlink("etc/two-again", "etc/two"),
        Entry::dir("cleared/"),
        Entry::file("cleared/old", "old"),
        Entry::dir("becomes-file/"),
        Entry::file("becomes-file/inside", "x"),
    ];
    let middle = [
        Entry::whiteout("etc", "one"),
        Entry::file("etc/middle", "middle").xattr("user.note", b"kept"),
        Entry::dir("cleared/"),
        Entry::opaque("cleared"),
        Entry::file("cleared/new", "new"),
    ];
    let high = [
        Entry::file("becomes-file", "file"),
        Entry::whiteout("etc", "middle"),
        Entry::file("etc/one", "again").mode(0o4755),
        Entry::file("deep/down/file", "no parents").mtime(1),
        Entry::fifo("pipe"),
        Entry::device("device", 1, 3),
    ];
    let base = Image::new(&[Layer::of(&low)]);
    let all = Image::new(&[Layer::of(&low), Layer::of(&middle), Layer::of(&high)]);
    let (base, all) = (s.push(&base, "base"), s.push(&all, "all"));
    s.strata.pull(&base);
    s.strata.pull(&all);
    (base, all)
}

#[test]
fn squashed_layers_show_the_same_tree() {
    need_root();
    let s = Scene::new();
    let (base, all) = layered(&s);
    let truth = mounted(&s.strata, &all);
    let clients = Clients::new(&s.place);
    for (args, count, tag) in [(&[][..], 1, "whole"), (&["--base", &base][..], 2, "above")] {
        let name = s.server.reference("squashed", tag);
        s.strata
            .run(&[&["image", "squash"], args, &[&all, &name]].concat())
            .ok();
        let found = layers(&s.strata, &name);
        assert_eq!(found.len(), count);
        let history = s.strata.run(&["history", &name]).ok().out();
        assert_eq!(history.lines().count(), 5, "{history}");
        mounted(&s.strata, &name).assert_same(&truth);
        s.strata.run(&["push", "-q", &name]).ok();
        let there = s.fresh_store();
        there.pull(&name);
        mounted(&there, &name).assert_same(&truth);
        let layout = s.place.join(format!("layout-{tag}"));
        let to = format!("oci:{}:v1", layout.display());
        clients
            .skopeo_copy(&format!("docker://{name}"), &to, &[])
            .ok();
        let bundle = s.place.join(format!("bundle-{tag}"));
        let theirs = Tree::read(&umoci_unpack(&layout, "v1", &bundle));
        let plain = |tree: Tree| tree.without_times_of_directories();
        plain(truth.clone()).assert_same(&plain(theirs));
    }
    let again = s
        .strata
        .run(&["image", "squash", "--base", &all, &base])
        .refused();
    again.says("does not stand on");
    s.strata.run(&["system", "check"]).ok();
}
