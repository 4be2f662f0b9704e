//! Every row of the table of hostile archives (`strata_tests::hostile`) as a layer of an image that the real program
//! pulls: exit code 1 and a message that names layer and entry, or all of it held inside; nothing outside
//! changed, nothing visible in the store of what was refused, nothing left in staging. As root and as an
//! ordinary user.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use strata_tests::api::Api;
use strata_tests::archive::{Archive, Head};
use strata_tests::command::{Running, run, tool};
use strata_tests::entry::Compression;
use strata_tests::faulty::Faulty;
use strata_tests::hostile::{At, Case, Expect, ROWS, Row};
use strata_tests::image::{Image, Layer};
use strata_tests::place::Place;
use strata_tests::strata::Strata;
use strata_tests::stratad::Stratad;
use strata_tests::tree::Tree;
use strata_tests::trial::{all, noise};
use strata_tests::user::{User, need_root};

/// A directory outside that nothing may change.
fn canary(place: &Place) -> PathBuf {
    let outside = place.dir("outside");
    fs::create_dir(outside.join("inner")).expect("make a directory");
    for name in ["secret", "inner/file"] {
        fs::write(outside.join(name), "not yours").expect("write");
    }
    outside
}

/// Pulls one row into a store of its own; what is wrong, in words.
fn wrong(row: &Row, api: &Api, user: Option<u32>) -> Vec<String> {
    let place = Place::new();
    let outside = canary(&place);
    let strata = match user {
        None => Strata::new(&place),
        Some(id) => {
            let user = User::new(&place, id);
            for path in [
                &outside,
                &outside.join("inner"),
                &outside.join("secret"),
                &outside.join("inner/file"),
            ] {
                // The user's own: the program could reach it.
                std::os::unix::fs::chown(path, Some(id), Some(id)).expect("give away");
            }
            Strata::of_user(&place, &user)
        }
    };
    let before = Tree::read(&outside);
    let Case {
        lower,
        layer,
        expect,
        ..
    } = (row.make)(&At {
        outside: outside.to_str().expect("text"),
    });
    let gzip = |tar: &Vec<u8>| Layer::new(tar, Compression::Gzip);
    let layers: Vec<Layer> = lower.iter().chain([&layer]).map(gzip).collect();
    let image = Image::new(&layers);
    let tag = format!("{}-{}", row.name, user.unwrap_or(0));
    let reference = api.push(&image, "hostile", &tag);
    let mut command = strata.command(&["pull", "-q", &reference]);
    if user.is_none() {
        // Relative names must not be looked up here.
        command.current_dir(&outside);
    }
    let ran = run(&mut command);
    let mut wrong = Vec::new();
    let mut check = |good: bool, what: &str| {
        if !good {
            wrong.push(format!("{}: {what}: {}", row.name, ran.story()));
        }
    };
    let differences = before.differences(&Tree::read(&outside));
    check(
        differences.is_empty(),
        &format!("reached out: {differences:?}"),
    );
    check(!ran.stderr.contains("panicked"), "panicked");
    let staged = strata.leftovers();
    check(
        !staged.iter().any(|name| name.starts_with("staging/")),
        &format!("{staged:?} is left"),
    );
    match &expect {
        Expect::Refused(words) => {
            check(ran.code() == 1, "not exit code 1");
            let top = layers.last().expect("a layer");
            let named = [&top.digest, &top.diff_id]
                .iter()
                .any(|digest| ran.stderr.contains(digest.short()));
            check(named, "the layer is not named");
            for word in words {
                check(ran.stderr.contains(word), &format!("{word:?} is not said"));
            }
            check(strata.layers().len() < layers.len(), "the layer is visible");
            check(strata.images() == json!([]), "the image is visible");
        }
        Expect::Held(checks) => {
            check(ran.code() == 0, "not accepted");
            // A user's mount is only seen in a namespace of its own.
            if ran.code() == 0 && user.is_none() {
                let top = strata.run(&["mount", "--ro", &reference]).ok().out();
                checks
                    .iter()
                    .for_each(|check| check.assert(Path::new(&top)));
                strata.run(&["umount", &top]).ok();
            } else if ran.code() == 0 && lower.is_none() {
                let top = strata.layer(&layers[0].diff_id).join("fs");
                checks.iter().for_each(|check| check.assert(&top));
            }
            let links = fs::metadata(outside.join("secret")).expect("there").nlink();
            check(links == 1, "a second name of something outside");
        }
    }
    wrong
}

#[track_caller]
fn assert_all(user: Option<u32>) {
    need_root();
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let rows: Vec<&Row> = ROWS
        .iter()
        .filter(|row| {
            !(row.make)(&At {
                outside: "/outside",
            })
            .small_limits
        })
        .collect();
    let came = all(&rows, 4, |row| wrong(row, &server.api(), user));
    let wrong: Vec<String> = came
        .into_iter()
        .zip(&rows)
        .flat_map(|(came, row)| came.unwrap_or_else(|panic| vec![format!("{}: {panic}", row.name)]))
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        rows.len(),
        wrong.join("\n\n")
    );
}

#[test]
fn hostile_images_are_refused_or_held_inside() {
    assert_all(None);
}

#[test]
fn hostile_images_are_refused_or_held_inside_for_an_ordinary_user() {
    assert_all(Some(61_020));
}

/// Nothing of an image is run by a pull, nor any helper (CVE-2026-41567): the programs in it bear the names of
/// decompressors, and the pull starts no program at all.
#[test]
fn a_pull_starts_no_program() {
    need_root();
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let script = "#!/bin/sh\nexit 1\n";
    let program = |archive: Archive, name: &str| {
        let head = Head::new(b'0', name).mode(0o755);
        archive.entry(head, script)
    };
    let helpers = [
        "unpigz",
        "igzip",
        "pigz",
        "gzip",
        "zstd",
        "tar",
        "newuidmap",
    ];
    let archive = helpers.iter().fold(Archive::new(), |archive, name| {
        program(archive, &format!("usr/bin/{name}"))
    });
    let tar = archive.end();
    let layers = [Compression::Gzip, Compression::Zstd].map(|way| Layer::new(&tar, way));
    let other = Layer::new(&Archive::new().file("a", "b").end(), Compression::Gzip);
    for layer in layers {
        let reference = server
            .api()
            .push(&Image::new(&[layer, other.clone()]), "app", "v1");
        let strata = Strata::at(
            Strata::new(&place).program().to_owned(),
            place.join(reference.len().to_string()),
        );
        let trace = place.join("trace");
        let mut command = Command::new(tool("strace"));
        command
            .args(["-f", "-qq", "-e", "trace=execve,execveat", "-o"])
            .arg(&trace);
        command
            .arg(strata.program())
            .args(["pull", "-q", &reference]);
        run(command.env("STRATA_ROOT", strata.root())).ok();
        let traced = fs::read_to_string(&trace).expect("the trace");
        let started: Vec<&str> = traced
            .lines()
            .filter(|line| line.contains("exec"))
            .collect();
        assert_eq!(started.len(), 1, "only strata itself: {started:#?}");
        strata_tests::place::remove_tree(strata.root()).expect("remove");
    }
}

/// Nobody else can look into the store, or into what is being unpacked (CVE-2024-25621, CVE-2021-41103): so nobody
/// can put a link there while it is.
#[test]
fn a_store_and_what_is_staged_are_nobody_elses() {
    need_root();
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let layer = Archive::new().entry(Head::new(b'5', "./").mode(0o777), b"");
    let tar = layer.dir("open").file("file", noise(1, 3_000_000)).end();
    let image = Image::new(&[Layer::new(&tar, Compression::Gzip)]);
    server.api().push(&image, "app", "v1");
    let slow = Faulty::slow(server.address(), 2_000_000);
    let reference = slow.reference("app", "v1");
    for user in [None, Some(61_030)] {
        let strata = match user {
            None => Strata::new(&place),
            Some(id) => Strata::of_user(&place, &User::new(&place, id)),
        };
        // The user's own umask would let others in.
        let mut command = Command::new("sh");
        let script = "umask 0; exec \"$@\"";
        let pull = strata.command(&["pull", "-q", &reference]);
        command
            .args(["-c", script, "sh"])
            .arg(pull.get_program())
            .args(pull.get_args());
        for (name, value) in pull.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let mut running = Running::start(&mut command);
        let staging = strata.root().join("staging");
        let staged = loop {
            let mut found = fs::read_dir(&staging).into_iter().flatten().flatten();
            if let Some(found) = found.find(|entry| entry.path().is_dir()) {
                break found.path();
            }
            if let Some(status) = running.child.try_wait().expect("wait") {
                panic!("{status}, and never staged: {}", running.wait().story());
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        };
        for path in [strata.root(), &staging, &staged] {
            let data = fs::metadata(path).expect("there");
            assert_eq!(data.mode() & 0o7777, 0o700, "{}", path.display());
            assert_eq!(data.uid(), user.unwrap_or(0), "{}", path.display());
        }
        let layers = strata.root().join("layers");
        running.wait().ok();
        let top = strata.layer(&image.layers[0].diff_id);
        assert_eq!(fs::metadata(&layers).expect("there").mode() & 0o077, 0);
        assert_eq!(fs::metadata(top).expect("there").mode() & 0o077, 0);
    }
}

/// Should somebody be there all the same, who swaps a directory for a link to the outside all the time: nothing is
/// written, made or changed there. What is refused or is odd inside is the swapper's affair.
#[test]
fn a_parent_that_is_swapped_all_the_time_leads_nowhere() {
    need_root();
    let place = Place::new();
    let outside = canary(&place);
    let server = Stratad::start(&place.join("data"));
    let files = (0..400).fold(Archive::new().dir("a").dir("a/b"), |archive, n| {
        // Many parents, so that none stays open for long.
        archive
            .dir(format!("p{n}"))
            .file(format!("a/b/{n}"), "mine")
            .dir(format!("a/b/d{n}"))
    });
    let tar = files.hard_link("a/b/secret", "p1/x").end();
    let reference = server.api().push(
        &Image::new(&[Layer::new(&tar, Compression::Gzip)]),
        "app",
        "v1",
    );
    let before = Tree::read(&outside);
    let (mut swaps, mut round) = (0u64, 0);
    // A pull may be over before this thread gets its turn.
    while round < 4 || (swaps <= 50 && round < 60) {
        round += 1;
        let strata = Strata::at(
            Strata::new(&place).program().to_owned(),
            place.join(format!("store{round}")),
        );
        let mut running = Running::start(&mut strata.command(&["pull", "-q", &reference]));
        let staging = strata.root().join("staging");
        while running.child.try_wait().expect("wait").is_none() {
            for entry in fs::read_dir(&staging).into_iter().flatten().flatten() {
                let parent = entry.path().join("fs/a");
                for _ in 0..20 {
                    if fs::rename(parent.join("b"), parent.join("away")).is_err() {
                        break;
                    }
                    let _ = std::os::unix::fs::symlink(&outside, parent.join("b"));
                    let _ = fs::remove_file(parent.join("b"));
                    let _ = fs::rename(parent.join("away"), parent.join("b"));
                    swaps += 1;
                }
            }
        }
        let ran = running.wait();
        assert!(!ran.stderr.contains("panicked"), "{}", ran.story());
        let differences = before.differences(&Tree::read(&outside));
        assert!(differences.is_empty(), "reached out: {differences:?}");
    }
    assert!(swaps > 50, "{swaps} swaps: nothing was tried");
    println!("{swaps} swaps");
}
