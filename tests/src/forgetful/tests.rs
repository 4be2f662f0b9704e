//! The model, tried through the kernel.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;

use super::*;

fn sync(path: &Path) {
    File::open(path)
        .and_then(|file| file.sync_all())
        .expect("sync");
}

/// What a power cut leaves of what `act` did, by name and content.
fn left(loss: Loss, act: impl FnOnce(&Path)) -> Vec<(String, String)> {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut disk = Forgetful::mount(dir.path()).expect("mount");
    act(disk.path());
    disk.power_cut(loss).expect("power cut");
    let mut found = Vec::new();
    list(disk.path(), "", &mut found);
    found.sort();
    found
}

fn list(path: &Path, prefix: &str, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(path).expect("read directory") {
        let entry = entry.expect("entry");
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().expect("type").is_dir() {
            found.push((format!("{name}/"), String::new()));
            list(&entry.path(), &format!("{name}/"), found);
        } else {
            found.push((name, fs::read_to_string(entry.path()).expect("read")));
        }
    }
}

fn files(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(n, c)| (n.to_string(), c.to_string()))
        .collect()
}

#[test]
fn nothing_stays_without_a_sync() {
    assert!(
        left(Loss::All, |root| fs::write(root.join("a"), "x")
            .expect("write"))
        .is_empty()
    );
}

#[test]
fn a_synced_file_in_a_directory_that_is_not_has_no_name() {
    let found = left(Loss::All, |root| {
        fs::write(root.join("a"), "x").expect("write");
        sync(&root.join("a"));
    });
    assert!(found.is_empty());
}

#[test]
fn a_synced_name_of_a_file_that_is_not_is_empty() {
    let found = left(Loss::All, |root| {
        fs::write(root.join("a"), "x").expect("write");
        sync(root);
    });
    assert_eq!(found, files(&[("a", "")]));
}

#[test]
fn a_file_and_its_name_stay_when_both_are_synced() {
    let found = left(Loss::All, |root| {
        fs::create_dir(root.join("d")).expect("mkdir");
        sync(root);
        let mut file = File::create(root.join("d/a")).expect("create");
        file.write_all(b"kept").expect("write");
        file.sync_data().expect("sync");
        sync(&root.join("d"));
        file.write_all(b" lost").expect("write");
    });
    assert_eq!(found, files(&[("d/", ""), ("d/a", "kept")]));
}

#[test]
fn a_directory_whose_parent_is_not_synced_is_lost_with_all_in_it() {
    let found = left(Loss::All, |root| {
        fs::create_dir(root.join("d")).expect("mkdir");
        fs::write(root.join("d/a"), "x").expect("write");
        sync(&root.join("d/a"));
        sync(&root.join("d"));
    });
    assert!(found.is_empty());
}

#[test]
fn a_rename_without_a_sync_of_the_directory_is_undone() {
    let act = |durable: bool| {
        left(Loss::All, |root| {
            for (name, content) in [("old", "1"), ("new", "2")] {
                fs::write(root.join(name), content).expect("write");
                sync(&root.join(name));
            }
            sync(root);
            fs::rename(root.join("new"), root.join("old")).expect("rename");
            if durable {
                sync(root);
            }
        })
    };
    assert_eq!(act(false), files(&[("new", "2"), ("old", "1")]));
    assert_eq!(act(true), files(&[("old", "2")]));
}

#[test]
fn a_move_is_durable_where_the_directory_was_synced() {
    let act = |which: &str| {
        left(Loss::All, |root| {
            for name in ["from", "to"] {
                fs::create_dir(root.join(name)).expect("mkdir");
            }
            fs::write(root.join("from/a"), "x").expect("write");
            sync(&root.join("from/a"));
            sync(&root.join("from"));
            sync(root);
            fs::rename(root.join("from/a"), root.join("to/a")).expect("rename");
            sync(&root.join(which));
        })
    };
    assert_eq!(
        act("to"),
        files(&[("from/", ""), ("from/a", "x"), ("to/", ""), ("to/a", "x")])
    );
    assert_eq!(act("from"), files(&[("from/", ""), ("to/", "")]));
}

#[test]
fn an_unlink_without_a_sync_is_undone() {
    let found = left(Loss::All, |root| {
        fs::write(root.join("a"), "x").expect("write");
        sync(&root.join("a"));
        fs::hard_link(root.join("a"), root.join("b")).expect("link");
        sync(root);
        fs::remove_file(root.join("a")).expect("unlink");
        fs::remove_file(root.join("b")).expect("unlink");
    });
    assert_eq!(found, files(&[("a", "x"), ("b", "x")]));
}

#[test]
fn chance_keeps_any_part_of_what_was_not_synced() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let found = left(Loss::Some { seed }, |root| {
            fs::write(root.join("a"), "x").expect("write");
        });
        seen.insert(found.first().map(|(_, content)| content.clone()));
    }
    let expected = [None, Some(""), Some("\0"), Some("x")];
    assert!(
        seen.iter()
            .eq(expected.map(|s| s.map(str::to_owned)).iter()),
        "{seen:?}"
    );
}

#[test]
fn without_power_everything_fails_and_nothing_becomes_durable() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut disk = Forgetful::mount(dir.path()).expect("mount");
    let file = File::create(disk.path().join("a")).expect("create");
    sync(disk.path());
    disk.cut_at(disk.operations() + 2);
    file.write_all_at(b"x", 0).expect("before the cut");
    let error = file.sync_all().expect_err("after the cut");
    assert_eq!(
        error.raw_os_error(),
        Some(rustix::io::Errno::IO.raw_os_error())
    );
    assert!(disk.is_cut());
    assert!(File::open(disk.path().join("b")).is_err());
    drop(file);
    disk.power_cut(Loss::All).expect("power cut");
    assert_eq!(fs::read(disk.path().join("a")).expect("read"), b"");
}

#[test]
fn a_deaf_disk_says_yes_and_does_nothing() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut disk = Forgetful::mount(dir.path()).expect("mount");
    disk.ignore(|sync| matches!(sync, Sync::File("a")));
    for name in ["a", "b"] {
        fs::write(disk.path().join(name), "x").expect("write");
        sync(&disk.path().join(name));
    }
    sync(disk.path());
    disk.power_cut(Loss::All).expect("power cut");
    assert_eq!(fs::read(disk.path().join("a")).expect("read"), b"");
    assert_eq!(fs::read(disk.path().join("b")).expect("read"), b"x");
}

#[test]
fn a_full_disk_says_so() {
    let dir = tempfile::tempdir().expect("tempdir");
    let disk = Forgetful::mount(dir.path()).expect("mount");
    let file = File::create(disk.path().join("a")).expect("create");
    disk.disk()
        .write(2, 0, &vec![1; CAPACITY as usize])
        .expect("fill");
    let error = file.write_all_at(b"x", CAPACITY).expect_err("full");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    fs::remove_file(disk.path().join("a")).expect("unlink");
}

#[test]
fn a_directory_can_be_emptied_while_it_is_listed() {
    let dir = tempfile::tempdir().expect("tempdir");
    let disk = Forgetful::mount(dir.path()).expect("mount");
    let many = disk.path().join("many");
    fs::create_dir(&many).expect("mkdir");
    for n in 0..2000 {
        File::create(many.join(format!("{n:050}"))).expect("create");
    }
    for entry in fs::read_dir(&many).expect("list") {
        fs::remove_file(entry.expect("entry").path()).expect("unlink");
    }
    fs::remove_dir(&many).expect("rmdir");
}

/// SQLite with a write-ahead log and a second connection: shared memory works, a commit with
/// synchronous=FULL stays, one without is lost.
#[test]
fn sqlite_keeps_what_it_committed() {
    for (synchronous, expected) in [("FULL", 20), ("OFF", 0)] {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut disk = Forgetful::mount(dir.path()).expect("mount");
        let path = disk.path().join("test.db");
        let open = || {
            let db = rusqlite::Connection::open(&path).expect("open");
            db.pragma_update(None, "journal_mode", "WAL").expect("WAL");
            db.pragma_update(None, "synchronous", synchronous)
                .expect("synchronous");
            db
        };
        let db = open();
        db.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER)", [])
            .expect("create");
        drop(db);
        sync(disk.path());
        let (db, reader) = (open(), open());
        for n in 0..20 {
            db.execute("INSERT INTO t VALUES (?1)", [n])
                .expect("insert");
            let seen: i64 = reader
                .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
                .expect("count");
            assert_eq!(seen, n + 1);
        }
        disk.cut();
        drop((db, reader));
        disk.power_cut(Loss::All).expect("power cut");
        let count = open().query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
        assert_eq!(count.unwrap_or(0), expected, "synchronous={synchronous}");
    }
}
