//! Containers and their trees: what is written, deleted and replaced in one is seen in no other and
//! never below.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use strata_tests::command::{Ran, Running};
use strata_tests::place::mounts_under;
use strata_tests::scene::Shell;
use strata_tests::tree::Tree;

#[test]
fn containers_do_not_see_each_others_writes_and_layers_stay() {
    let s = Shell::new();
    let before = s.scene.layer_trees(&s.image);
    let change = "echo changed > /data/one; rm /data/two; rm -r /data/sub; mkdir /data/sub; echo new > /data/sub/new; \
                  echo added > /data/added; chmod 600 /etc/passwd; mv /data/mine /data/moved; cat /data/one";
    let args = ["run", "--name", "first", &s.reference, "sh", "-c", change];
    assert_eq!(s.strata(&args).ok().out(), "changed");
    let look = "cat one two sub/three mine; ls /data /data/sub; stat -c %a /etc/passwd";
    let unchanged = "one\ntwo\nthree\nmine\n/data:\nmine\none\nsub\ntwo\n\n/data/sub:\nthree\n644";
    assert_eq!(s.sh(&[], look).ok().out(), unchanged);
    let args = [
        "run",
        "--name",
        "second",
        &s.reference,
        "sh",
        "-c",
        "echo other > added; cat added one",
    ];
    assert_eq!(s.strata(&args).ok().out(), "other\none");
    // The first one's own view is what it made of it.
    let path = PathBuf::from(s.strata(&["mount", "first"]).ok().out());
    assert_eq!(
        fs::read_to_string(path.join("data/added")).expect("there"),
        "added\n"
    );
    let names = |dir: &str| -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(path.join(dir))
            .expect("list")
            .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("data"), ["added", "moved", "one", "sub"]);
    assert_eq!(
        names("data/sub"),
        ["new"],
        "a directory made anew hides what was below"
    );
    s.strata(&["umount", "first"]).ok();
    for (one, two) in before.iter().zip(s.scene.layer_trees(&s.image)) {
        one.assert_same(&two);
    }
    let listed = s.strata(&["ps", "-a"]).ok().out();
    assert!(
        listed.contains("first") && listed.contains("second"),
        "{listed}"
    );
    s.strata(&["rm", "first", "second"]).ok();
    s.assert_tidy();
}

#[test]
fn only_what_is_written_is_copied_up() {
    let s = Shell::new();
    let args = [
        "run",
        "--name",
        "small",
        &s.reference,
        "sh",
        "-c",
        "echo x >> /data/one; cat /bin/sh > /dev/null",
    ];
    s.strata(&args).ok();
    let containers = s.scene.strata.root().join("containers");
    let container = fs::read_dir(&containers)
        .expect("list")
        .next()
        .expect("one")
        .expect("entry")
        .path();
    let mut files: Vec<String> = Vec::new();
    for (path, node) in &Tree::read(&container).0 {
        if node.size > 0 && path.to_string_lossy().contains("data/") {
            files.push(
                path.file_name()
                    .expect("named")
                    .to_string_lossy()
                    .into_owned(),
            );
        }
    }
    assert_eq!(files, ["one"]);
    let bytes: u64 = Tree::read(&container).0.values().map(|n| n.size).sum();
    assert!(
        bytes < 100_000,
        "a container of one small change takes {bytes} bytes"
    );
    s.strata(&["rm", "small"]).ok();
    s.assert_tidy();
}

#[test]
fn rm_f_ends_a_running_container() {
    let s = Shell::new();
    let args = ["run", "--name", "long", &s.reference, "sleep", "1000"];
    let running = Running::start(&mut s.scene.strata.command(&args));
    let limit = Instant::now() + Duration::from_secs(10);
    while !s.strata(&["ps"]).ok().out().contains("long") {
        assert!(Instant::now() < limit, "ps does not show it");
        std::thread::sleep(Duration::from_millis(50));
    }
    s.strata(&["rm", "-f", "long"]).ok();
    assert!(!running.wait().status.success());
    s.assert_tidy();
}

#[test]
fn names_are_unique_and_unknown_ones_are_refused() {
    let s = Shell::new();
    s.strata(&["run", "--name", "one", &s.reference, "true"])
        .ok();
    s.strata(&["run", "--name", "one", &s.reference, "true"])
        .refused_by_run("one");
    s.strata(&["rm", "two"]).refused().says("two");
    s.strata(&["run", "--rm", "127.0.0.1:1/no/such:image", "true"])
        .refused_by_run("127.0.0.1:1");
    s.strata(&["rm", "one"]).ok();
    s.assert_tidy();
}

/// `run` refuses with 125, so that it is not taken for the container's own status.
trait Refused {
    fn refused_by_run(self, word: &str);
}

impl Refused for Ran {
    #[track_caller]
    fn refused_by_run(self, word: &str) {
        assert!([1, 125].contains(&self.code()), "{}", self.story());
        assert!(!self.stderr.contains("panicked"), "{}", self.story());
        self.says(word);
    }
}

#[test]
fn an_image_that_a_container_uses_keeps_its_layers() {
    let s = Shell::new();
    s.strata(&[
        "run",
        "--name",
        "user",
        &s.reference,
        "sh",
        "-c",
        "echo kept > /data/own",
    ])
    .ok();
    let _ = s.strata(&["rmi", &s.reference]);
    assert_eq!(
        s.scene.strata.layers().len(),
        2,
        "a container stands on them"
    );
    let path = PathBuf::from(s.strata(&["mount", "user"]).ok().out());
    assert_eq!(
        fs::read_to_string(path.join("data/one")).expect("there"),
        "one\n"
    );
    s.strata(&["umount", "user"]).ok();
    s.strata(&["rm", "user"]).ok();
}

#[test]
fn a_mounted_image_has_a_writable_layer_of_its_own() {
    let s = Shell::new();
    let before = s.scene.layer_trees(&s.image);
    let path = PathBuf::from(s.strata(&["mount", &s.reference]).ok().out());
    assert_eq!(
        fs::read_to_string(path.join("data/one")).expect("there"),
        "one\n"
    );
    fs::write(path.join("data/one"), "changed").expect("writable");
    fs::remove_file(path.join("data/two")).expect("writable");
    s.strata(&["umount", path.to_str().expect("text")]).ok();
    assert_eq!(mounts_under(s.scene.place.path()), Vec::<PathBuf>::new());
    for (one, two) in before.iter().zip(s.scene.layer_trees(&s.image)) {
        one.assert_same(&two);
    }
    assert_eq!(s.sh(&[], "cat one two").ok().out(), "one\ntwo");
}

#[test]
fn many_containers_run_at_once() {
    let s = Shell::new();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let s = &s;
            scope.spawn(move || {
                let script = format!("echo {n} > /data/one; sleep 0.2; cat /data/one");
                assert_eq!(s.sh(&[], &script).ok().out(), n.to_string());
            });
        }
    });
    s.assert_tidy();
}
