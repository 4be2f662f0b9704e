//! What somebody removes from a store by hand, or a disk loses: nothing else goes with it, a pull brings back what it can, and
//! the rest is told with what to do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;
use strata_tests::command::{Ran, run, tool};
use strata_tests::disk::unmount;
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::scene::{Scene, shell_image};
use strata_tests::strata::Strata;

fn index(strata: &Strata) -> PathBuf {
    strata.root().join("strata.db")
}

/// Changes the index behind the program's back.
fn change(strata: &Strata, statements: &str) {
    let db = Connection::open(index(strata)).expect("open");
    db.pragma_update(None, "foreign_keys", "OFF").expect("off");
    db.execute_batch(statements).expect("change");
}

/// The one file that the container has written.
fn written(strata: &Strata) -> PathBuf {
    let containers = fs::read_dir(strata.root().join("containers")).expect("containers");
    let container = containers.map(|entry| entry.expect("entry").path()).next();
    container.expect("a container").join("upper/data.txt")
}

/// A store with an image of one layer and a container that has written a file.
fn used() -> (Scene, String) {
    let s = Scene::new();
    let reference = s.push(&shell_image(), "v1");
    let script = "echo precious > /data.txt";
    let run = ["run", "--name", "one", &reference, "sh", "-c", script];
    s.strata.run(&run).ok();
    (s, reference)
}

#[test]
fn an_index_that_is_lost_takes_no_layer_and_no_container_with_it() {
    let (s, reference) = used();
    let (layers, database) = (s.strata.layers(), index(&s.strata));
    let kept = fs::read(&database).expect("read");
    let losses: [fn(&Path); 2] = [
        |path| fs::remove_file(path).expect("remove"),
        |path| fs::write(path, "").expect("empty"),
    ];
    for lose in losses {
        lose(&database);
        for args in [
            &["images"][..],
            &["ps", "-a"],
            &["pull", &reference],
            &["system", "prune", "-a", "-f"],
            &["system", "check", "--repair"],
        ] {
            let ran = s.strata.run(args).refused();
            ran.says("strata.db")
                .says("backup")
                .says("containers/*/upper");
        }
        let precious = fs::read_to_string(written(&s.strata)).expect("read");
        assert_eq!(
            (precious.as_str(), &s.strata.layers()),
            ("precious\n", &layers)
        );
        let trash = fs::read_dir(s.strata.root().join("trash")).expect("trash");
        assert_eq!(trash.count(), 0);
        // What the log has that lies beside it is still there, too: the container.
        fs::write(&database, &kept).expect("put back");
        assert!(s.strata.run(&["ps", "-a"]).ok().out().contains("one"));
        s.strata.run(&["system", "check"]).ok();
    }
}

#[test]
fn an_index_that_is_damaged_is_told_with_what_to_do() {
    let (s, _) = used();
    let database = index(&s.strata);
    // All of it is in one file then.
    change(&s.strata, "PRAGMA wal_checkpoint(TRUNCATE)");
    for damage in [
        fs::read(&database).expect("read")[..5000].to_vec(),
        b"this is no database".repeat(1000),
    ] {
        fs::write(&database, damage).expect("damage");
        for args in [&["images"][..], &["system", "check", "--repair"]] {
            let ran = s.strata.run(args);
            assert_eq!(ran.code(), 2, "{}", ran.story());
            ran.says("backup").says("containers/*/upper");
        }
        assert!(written(&s.strata).exists());
    }
}

/// Two layers, and a directory that only the lower one names.
fn image() -> Image {
    Image::new(&[
        Layer::of(&[Entry::dir("p/"), Entry::file("p/one", "1")]),
        Layer::of(&[Entry::file("p/two", "2")]),
    ])
}

fn shows_both(s: &Scene, reference: &str) {
    let top = s.strata.run(&["mount", "--ro", reference]).ok().out();
    for (name, content) in [("p/one", "1"), ("p/two", "2")] {
        let found = fs::read_to_string(Path::new(&top).join(name));
        assert_eq!(found.expect("read"), content);
    }
    s.strata.run(&["umount", &top]).ok();
}

fn mount(s: &Scene, reference: &str) -> Ran {
    s.strata.run(&["mount", "--ro", reference])
}

#[test]
fn a_pull_looks_whether_what_the_index_says_is_here_and_brings_the_rest() {
    let s = Scene::new();
    let image = image();
    let reference = s.push(&image, "v1");
    s.strata.pull(&reference);
    shows_both(&s, &reference);
    type Loss = (&'static str, fn(&Scene, &Image));
    let losses: [Loss; 6] = [
        ("system check --repair", |s, i| {
            let layer = s.strata.layer(&i.layers[0].diff_id);
            fs::remove_dir_all(layer).expect("remove");
        }),
        ("system check --repair", |s, i| {
            let layer = s.strata.layer(&i.layers[1].diff_id);
            fs::remove_dir_all(layer.join("fs")).expect("remove");
        }),
        ("pull it again", |s, _| {
            change(&s.strata, "DELETE FROM image_layers");
        }),
        ("pull it again", |s, _| {
            change(&s.strata, "DELETE FROM image_layers WHERE position = 1");
        }),
        ("pull it again", |s, _| {
            change(&s.strata, "DELETE FROM images");
        }),
        ("configuration", |s, _| {
            change(&s.strata, "UPDATE images SET config = x'7b'");
        }),
    ];
    for (number, (advice, lose)) in losses.into_iter().enumerate() {
        lose(&s, &image);
        let ran = mount(&s, &reference);
        assert_eq!(ran.code(), 2, "{number}: {}", ran.story());
        ran.says(advice);
        s.strata.pull(&reference);
        shows_both(&s, &reference);
        s.strata.run(&["system", "check"]).ok();
    }
    assert_eq!(s.strata.pull(&reference).reused(), 2);
}

#[test]
fn a_layer_whose_record_is_lost_is_left_to_a_repair() {
    let s = Scene::new();
    let image = image();
    let reference = s.push(&image, "v1");
    s.strata.pull(&reference);
    let record = s.strata.layer(&image.layers[0].diff_id).join("layer.json");
    fs::remove_file(record).expect("remove");
    let ran = s.strata.run(&["pull", &reference]);
    assert_ne!(ran.code(), 0);
    ran.says("layer.json").says("system check --repair");
    s.strata.run(&["system", "check", "--repair"]).ok();
    assert_eq!(s.strata.pull(&reference).reused(), 2);
    shows_both(&s, &reference);
}

#[test]
fn what_mends_a_stack_is_made_again_when_it_is_lost() {
    let s = Scene::new();
    let reference = s.push(&image(), "v1");
    s.strata.pull(&reference);
    shows_both(&s, &reference);
    let stacks = || fs::read_dir(s.strata.root().join("stacks")).expect("stacks");
    for entry in stacks() {
        fs::remove_dir_all(entry.expect("entry").path()).expect("remove");
    }
    shows_both(&s, &reference);
    assert_eq!(stacks().count(), 1);
}

#[test]
fn a_row_that_names_nothing_is_in_nobodys_way() {
    let s = Scene::new();
    let reference = s.push(&image(), "v1");
    s.strata.pull(&reference);
    change(
        &s.strata,
        "INSERT INTO layers SELECT 'junk', 1, 1, 1, 0, 0, 1, 1;
         INSERT INTO stacks VALUES ('more junk', 1)",
    );
    let found = s.strata.run(&["system", "check"]).refused();
    assert!(found.out().contains("\"junk\""), "{}", found.story());
    s.strata.run(&["images"]).ok();
    shows_both(&s, &reference);
    s.strata.run(&["system", "check"]).ok();
}

#[test]
fn a_store_that_cannot_be_written_to_says_what_to_do() {
    let (s, reference) = used();
    let mount = |options: &[&str]| {
        let mut mount = Command::new(tool("mount"));
        run(mount.args(options).arg(s.strata.root())).ok();
    };
    let root = s.strata.root().to_str().expect("text");
    mount(&["--bind", root]);
    mount(&["-o", "remount,bind,ro"]);
    for args in [
        &["images"][..],
        &["save", &reference],
        &["pull", &reference],
    ] {
        let ran = s.strata.run(args).refused();
        ran.says("mounted read-only: remount it for writing");
    }
    unmount(s.strata.root());
    s.strata.run(&["images"]).ok();
}
