//! An ordinary user without any privilege: pulls, runs, mounts inside `strata unshare`, removes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use strata_tests::command::{Ran, run_with_input, tool};
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::place::Place;
use strata_tests::scene::shell_layer;
use strata_tests::strata::Strata;
use strata_tests::stratad::Stratad;
use strata_tests::tree::Tree;
use strata_tests::user::User;

struct Setup {
    place: Place,
    server: Stratad,
    strata: Strata,
    user: User,
    image: Image,
    reference: String,
}

fn setup(id: u32) -> Setup {
    let place = Place::new();
    let user = User::new(&place, id);
    let server = Stratad::start(&place.join("data"));
    let files = [
        Entry::dir("data/").mode(0o555),
        Entry::file("data/one", "one\n").owner(33, 33),
        Entry::file("data/two", "two\n").mode(0o400),
        Entry::dir("data/sub/"),
        Entry::file("data/sub/three", "three\n"),
        Entry::dir("gone/"),
        Entry::file("gone/file", "x"),
        // Neither can be made without root.
        Entry::device("data/null", 1, 3),
        Entry::hardlink("data/null-too", "data/null"),
    ];
    let marks = [
        Entry::whiteout("data", "two"),
        Entry::opaque("data/sub"),
        Entry::file("data/sub/new", "new\n"),
        Entry::file(".wh.gone", ""),
        Entry::dir("fresh/"),
        Entry::whiteout("fresh", "never-there"),
        Entry::file("fresh/file", "x"),
    ];
    let image = Image::with_config(
        &[shell_layer(), Layer::of(&files), Layer::of(&marks)],
        json!({ "Cmd": ["sh"], "Env": ["PATH=/usr/bin:/bin"], "WorkingDir": "/data" }),
    );
    let reference = server.api().push(&image, "app", "v1");
    let strata = Strata::of_user(&place, &user);
    Setup {
        place,
        server,
        strata,
        user,
        image,
        reference,
    }
}

impl Setup {
    fn sh(&self, script: &str) -> Ran {
        self.strata
            .run(&["run", "--rm", &self.reference, "sh", "-c", script])
    }
}

#[test]
fn an_ordinary_user_pulls_runs_and_removes() {
    let s = setup(61_010);
    let pulled = s.strata.pull(&s.reference);
    assert_eq!(pulled.fetched(), 3);
    assert_eq!(s.strata.pull(&s.reference).fetched(), 0);
    let out = s
        .sh("id -u; cat one; ls /data /data/sub /fresh; ls -d /gone 2>/dev/null; pwd")
        .ok()
        .out();
    assert_eq!(
        out,
        "0\none\n/data:\none\nsub\n\n/data/sub:\nnew\n\n/fresh:\nfile\n/data"
    );
    let change =
        "echo changed > one; rm -r sub; mkdir sub; echo mine > sub/mine; cat one sub/*; ls sub";
    assert_eq!(s.sh(change).ok().out(), "changed\nmine\nmine");
    assert_eq!(s.sh("cat one sub/new").ok().out(), "one\nnew");
    assert_eq!(s.sh("exit 42").code(), 42);
    let owner = fs::metadata(s.strata.root()).expect("there").uid();
    assert_eq!(owner, s.user.id());
    let listed = s.strata.run(&["ps", "-a"]).ok().out();
    assert!(listed.lines().count() <= 1, "{listed}");
    s.strata.run(&["rmi", &s.reference]).ok();
    assert_eq!(s.strata.layers(), [""; 0]);
}

#[test]
fn layers_carry_the_marks_of_an_unprivileged_overlay() {
    let s = setup(61_011);
    s.strata.pull(&s.reference);
    let top = s.strata.layer(&s.image.layers[2].diff_id).join("fs");
    let tree = Tree::read(&top);
    let sub = tree.get("data/sub").expect("there");
    assert_eq!(
        sub.xattrs
            .get(b"user.overlay.opaque".as_slice())
            .map(Vec::as_slice),
        Some(b"y".as_slice())
    );
    for node in tree.0.values() {
        assert_eq!(node.owner.0, s.user.id(), "all is the user's own");
    }
}

#[test]
fn a_user_mounts_inside_unshare() {
    let s = setup(61_012);
    s.strata.pull(&s.reference);
    let program = s.strata.program().display();
    let script = format!(
        "set -e; at=$({program} mount {0}); cat $at/data/one; echo x > $at/data/one; cat $at/data/one; \
         {program} umount $at; ro=$({program} mount --ro {0}); ls $ro/data/sub; ! touch $ro/x 2>/dev/null; {program} umount $ro",
        s.reference
    );
    let ran = s.strata.run(&["unshare", "sh", "-c", &script]).ok();
    assert_eq!(ran.out(), "one\nx\nnew", "{}", ran.story());
    let outside = s.strata.run(&["mount", &s.reference]);
    if !outside.status.success() {
        assert!(
            outside.stderr.contains("unshare"),
            "says what to do: {}",
            outside.story()
        );
    }
}

#[test]
fn a_container_is_kept_started_over_and_removed() {
    let s = setup(61_013);
    s.strata.pull(&s.reference);
    let args = [
        "run",
        "--name",
        "kept",
        &s.reference,
        "sh",
        "-c",
        "echo x > /data/kept; mkdir -m 0 /locked",
    ];
    s.strata.run(&args).ok();
    assert!(s.strata.run(&["ps", "-a"]).ok().out().contains("kept"));
    s.strata.run(&["rm", "kept"]).ok();
    let left = fs::read_dir(s.strata.root().join("containers"))
        .expect("list")
        .count();
    assert_eq!(left, 0);
}

#[test]
fn a_user_pushes_what_was_pulled() {
    let s = setup(61_014);
    s.strata.pull(&s.reference);
    let other = Stratad::start(&s.place.join("other"));
    let away = other.reference("app", "v1");
    s.strata.run(&["tag", &s.reference, &away]).ok();
    drop(s.server);
    s.strata.run(&["push", &away]).ok();
    let fresh = Strata::new(&s.place);
    let ids: Vec<String> = fresh
        .pull(&away)
        .layers
        .iter()
        .map(|l| l.diff_id.clone())
        .collect();
    let expected: Vec<String> = s
        .image
        .layers
        .iter()
        .map(|l| l.diff_id.to_string())
        .collect();
    assert_eq!(
        ids, expected,
        "owners that could not be set are still in the tar"
    );
}

#[test]
fn what_a_user_without_other_ids_changes_keeps_its_owner() {
    let s = setup(61_024);
    let script = "echo more >> /data/one; echo new > /data/own";
    let run = ["run", "--name", "one", &s.reference, "sh", "-c", script];
    s.strata.run(&run).ok();
    let name = s.server.reference("app", "v2");
    s.strata.run(&["commit", "one", &name]).ok();
    for exported in ["one", &name, &s.reference] {
        let archive = s.strata.run(&["export", exported]).ok().stdout;
        let mut tar = Command::new(tool("tar"));
        tar.args(["--numeric-owner", "-tvf", "-"]);
        let listed = run_with_input(&mut tar, &archive).ok().out();
        let owner = |path: &str| {
            let line = listed.lines().find(|line| line.ends_with(path));
            line.and_then(|line| line.split_whitespace().nth(1))
        };
        assert_eq!(owner(" data/one"), Some("33/33"), "{exported}: {listed}");
        let own = (exported != s.reference).then_some("0/0");
        assert_eq!(owner(" data/own"), own, "{exported}: {listed}");
    }
    s.strata.run(&["push", &name]).ok();
    let root = Strata::new(&s.place);
    root.pull(&name);
    let mounted = PathBuf::from(root.run(&["mount", "--ro", &name]).ok().out());
    let stat = fs::metadata(mounted.join("data/one")).expect("look");
    assert_eq!((stat.uid(), stat.gid(), stat.size()), (33, 33, 9));
    root.run(&["umount", "-a"]).ok();
}

#[test]
fn a_store_is_not_shared_between_root_and_a_user() {
    let s = setup(61_015);
    s.strata.pull(&s.reference);
    let root = Strata::at(s.strata.program().to_owned(), s.strata.root().to_owned());
    let ran = root.run(&["images"]);
    assert!(
        !ran.status.success() && !ran.stderr.trim().is_empty(),
        "{}",
        ran.story()
    );
}

#[test]
fn a_layer_cannot_give_orders_to_the_overlay() {
    let s = setup(61_016);
    let orders = [
        Entry::dir("etc/"),
        Entry::file("etc/plain", "x").xattr("user.plain", b"kept"),
        Entry::dir("other/").xattr("user.overlay.redirect", b"/etc"),
        Entry::dir("data/").xattr("user.overlay.opaque", b"y"),
    ];
    let layers = [&s.image.layers[..], &[Layer::of(&orders)]].concat();
    let reference = s.server.api().push(&Image::new(&layers), "app", "orders");
    s.strata.pull(&reference);
    let tree = Tree::read(&s.strata.layer(&layers[3].diff_id).join("fs"));
    for (path, node) in &tree.0 {
        for name in ["user.overlay.redirect", "user.overlay.opaque"] {
            let there = node.xattrs.contains_key(name.as_bytes());
            assert!(!there, "{name} on {}", path.display());
        }
    }
    let plain = tree.get("etc/plain").expect("there");
    assert_eq!(
        plain
            .xattrs
            .get(b"user.plain".as_slice())
            .map(Vec::as_slice),
        Some(b"kept".as_slice())
    );
    let look = [
        "run",
        "--rm",
        &reference,
        "sh",
        "-c",
        "ls /other; cat /data/one",
    ];
    assert_eq!(
        s.strata.run(&look).ok().out(),
        "one",
        "nothing is redirected or hidden"
    );
}

#[test]
fn a_users_container_lives_in_the_background_and_further_commands_join_it() {
    let s = setup(61_017);
    s.strata.pull(&s.reference);
    let script = "echo hello; while :; do sleep 0.05; done";
    let args = [
        "run",
        "-d",
        "--name",
        "box",
        &s.reference,
        "sh",
        "-c",
        script,
    ];
    s.strata.run(&args).ok();
    let look = "echo x > /data/sub/made; id -u; test $(stat -L -c %i /proc/1/ns/pid) = $(stat -L -c %i /proc/self/ns/pid) && cat /data/one";
    let ran = s.strata.run(&["exec", "box", "sh", "-c", look]).ok();
    assert_eq!(ran.out(), "0\none");
    assert_eq!(s.strata.run(&["logs", "box"]).ok().out(), "hello");
    let top = s.strata.run(&["top", "box"]).ok().out();
    assert!(top.contains("sleep") || top.contains("sh -c"), "{top}");
    s.strata.run(&["pause", "box"]).ok();
    s.strata.run(&["unpause", "box"]).ok();
    s.strata.run(&["stop", "-t", "1", "box"]).ok();
    let listed = s.strata.run(&["ps", "-a"]).ok().out();
    assert!(listed.contains("Exited (137)"), "{listed}");
    s.strata.run(&["start", "box"]).ok();
    s.strata.run(&["exec", "box", "cat", "/data/sub/made"]).ok();
    s.strata.run(&["rm", "-f", "box"]).ok();
    let left = fs::read_dir(s.strata.root().join("containers")).expect("list");
    assert_eq!(left.count(), 0);
}
