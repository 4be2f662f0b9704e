//! `prune`, `system df` and deletion that nobody waits for.

use std::io::Read as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use strata_tests::command::{Running, run_with_input, wait_for_process};
use strata_tests::disk::Disk;
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::scene::{Scene, shell_image};
use strata_tests::strata::Strata;
use strata_tests::trial::noise;

/// An image of a shared layer and one of its own.
fn image(number: u64) -> Image {
    let base = [Entry::file("base", noise(99, 40_000))];
    let own = [Entry::file("own", noise(number, 10_000))];
    Image::new(&[Layer::of(&base), Layer::of(&own)])
}

/// A store where one name has moved from one image to another.
fn moved() -> (Scene, String) {
    let s = Scene::new();
    let reference = s.push(&image(1), "v1");
    s.strata.pull(&reference);
    s.push(&image(2), "v1");
    s.strata.pull(&reference);
    (s, reference)
}

fn json(s: &Scene, args: &[&str]) -> Value {
    let ran = s.strata.run(args).ok();
    serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", ran.story()))
}

#[test]
fn dangling_images_go_and_the_space_is_told() {
    let (s, reference) = moved();
    let dry = s.strata.run(&["image", "prune", "--dry-run"]).ok().out();
    assert!(dry.contains("Would delete Images:"), "{dry}");
    assert!(dry.contains("Total reclaimable space: 10kB"), "{dry}");
    assert_eq!(s.strata.images().as_array().map(Vec::len), Some(2));
    let spared = s
        .strata
        .run(&["image", "prune", "-f", "--filter", "label=keep"])
        .ok()
        .out();
    assert_eq!(spared, "Total reclaimed space: 0B");
    let pruned = s.strata.run(&["image", "prune", "-f"]).ok().out();
    assert!(
        pruned.contains("Deleted Images:\ndeleted: sha256:"),
        "{pruned}"
    );
    assert!(pruned.ends_with("Total reclaimed space: 10kB"), "{pruned}");
    assert_eq!(s.strata.layers().len(), 2);
    let all = s.strata.run(&["image", "prune", "-af"]).ok().out();
    assert!(all.contains(&format!("untagged: {reference}")), "{all}");
    assert!(all.ends_with("Total reclaimed space: 50kB"), "{all}");
    s.assert_nothing_there();
}

#[test]
fn it_is_asked_before_and_anything_but_yes_means_no() {
    let (s, _) = moved();
    for answer in ["n\n", "\n", "", "yess\n"] {
        let mut command = s.strata.command(&["image", "prune"]);
        let ran = run_with_input(&mut command, answer.as_bytes());
        assert_eq!(ran.code(), 1, "{}", ran.story());
        assert!(
            ran.story()
                .contains("Are you sure you want to continue? [y/N]"),
            "{}",
            ran.story()
        );
        assert_eq!(s.strata.images().as_array().map(Vec::len), Some(2));
    }
    let ran = run_with_input(&mut s.strata.command(&["image", "prune"]), b"y\n").ok();
    assert!(
        ran.out().contains("Total reclaimed space: 10kB"),
        "{}",
        ran.story()
    );
}

#[test]
fn filters_without_meaning_are_refused() {
    let s = Scene::new();
    for filter in ["until=yesterday", "dangling=maybe", "label", "label="] {
        let ran = s.strata.run(&["image", "prune", "-f", "--filter", filter]);
        assert_eq!(ran.code(), 2, "{}", ran.story());
    }
    s.strata
        .run(&["image", "prune", "-f", "--filter", "until=10m"])
        .ok();
}

#[test]
fn what_a_container_stands_on_stays_until_the_container_goes() {
    let s = Scene::new();
    let reference = s.push(&shell_image(), "v1");
    s.strata
        .run(&[
            "run",
            "--name",
            "ended",
            &reference,
            "sh",
            "-c",
            "echo kept > /data/new",
        ])
        .ok();
    let mut command = s
        .strata
        .command(&["run", "--name", "busy", &reference, "sleep", "64321"]);
    let running = Running::start(&mut command);
    wait_for_process(&["sleep", "64321"]);
    let df = json(&s, &["system", "df", "-v", "--format", "json"]);
    assert_eq!(
        (&df["containers"]["total"], &df["containers"]["active"]),
        (&2.into(), &1.into())
    );
    assert_eq!(
        (&df["images"]["active"], &df["images"]["reclaimable"]),
        (&1.into(), &0.into())
    );
    assert_eq!(df["images"]["list"][0]["containers"], 2);
    let pruned = s
        .strata
        .run(&["system", "prune", "-af", "--volumes"])
        .ok()
        .out();
    assert!(
        pruned.contains("Deleted Containers:") && !pruned.contains("Deleted Images"),
        "{pruned}"
    );
    let left = s.strata.run(&["ps", "-aq"]).ok().out();
    assert_eq!(left.lines().count(), 1);
    s.strata.run(&["rm", "-f", "busy"]).ok();
    running.wait();
    let pruned = s.strata.run(&["system", "prune", "-af"]).ok().out();
    assert!(
        pruned.contains(&format!("untagged: {reference}")),
        "{pruned}"
    );
    s.assert_nothing_there();
}

#[test]
fn sizes_that_images_share_count_once() {
    let s = Scene::new();
    for number in [1, 2] {
        let reference = s.push(&image(number), &format!("v{number}"));
        s.strata.pull(&reference);
    }
    let df = json(&s, &["system", "df", "-v", "--format", "json"]);
    assert_eq!(
        (&df["images"]["size"], &df["images"]["reclaimable"]),
        (&60_000.into(), &60_000.into())
    );
    let own = &df["images"]["list"][0];
    assert_eq!(
        (&own["shared_size"], &own["unique_size"]),
        (&40_000.into(), &10_000.into())
    );
    let table = s.strata.run(&["system", "df"]).ok().out();
    let images = table
        .lines()
        .find(|line| line.starts_with("Images"))
        .expect("a line");
    let words: Vec<&str> = images.split_whitespace().collect();
    assert_eq!(words, ["Images", "2", "0", "60kB", "60kB", "(100%)"]);
    let each = s.strata.run(&["system", "df", "-v"]).ok().out();
    assert!(
        each.contains("SHARED SIZE") && each.contains("40kB"),
        "{each}"
    );
}

#[test]
fn grouped_words_are_the_plain_commands() {
    let s = Scene::new();
    let reference = s.push(&image(1), "v1");
    s.strata.run(&["image", "pull", "-q", &reference]).ok();
    for words in [&["image", "ls", "-q"][..], &["image", "list", "-q"]] {
        assert_eq!(
            s.strata.run(words).ok().out(),
            s.strata.run(&["images", "-q"]).ok().out()
        );
    }
    let one = s.strata.run(&["image", "inspect", &reference]).ok().out();
    assert_eq!(one, s.strata.run(&["inspect", &reference]).ok().out());
    s.strata.run(&["image", "tag", &reference, "other"]).ok();
    s.strata.run(&["image", "rm", "other", &reference]).ok();
    s.strata.run(&["container", "ls", "-a"]).ok();
    s.assert_nothing_there();
}

#[test]
fn what_was_removed_is_deleted_later_and_nobody_waits_for_it() {
    // On a disk of its own: with less than a tenth of one free, space goes before time.
    let mut s = Scene::new();
    let disk = Disk::new(&s.place, "disk", 512);
    s.strata = Strata::at(s.strata.program().to_owned(), disk.path().join("store"));
    let files: Vec<Entry> = (0..4_000)
        .map(|n| Entry::file(format!("d{}/f{n}", n % 50), "x"))
        .collect();
    let reference = s.push(&Image::new(&[Layer::of(&files)]), "v1");
    s.strata.pull(&reference);
    let mut command = s.strata.command(&["rmi", &reference]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("rmi");
    // Whoever reads to the end of the output waits for nobody but the command itself.
    let mut told = String::new();
    child
        .stdout
        .take()
        .expect("stdout")
        .read_to_string(&mut told)
        .expect("read");
    child
        .stderr
        .take()
        .expect("stderr")
        .read_to_string(&mut String::new())
        .expect("read");
    assert!(child.wait().expect("wait").success());
    assert!(told.contains("Deleted: sha256:"), "{told}");
    assert!(s.strata.layers().is_empty());
    let trash = s.strata.root().join("trash");
    let is_empty = || std::fs::read_dir(&trash).expect("read").next().is_none();
    assert!(!is_empty(), "it was deleted at once");
    let limit = Instant::now() + Duration::from_secs(180);
    while !is_empty() {
        assert!(Instant::now() < limit, "nobody deletes what was removed");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn who_wants_the_space_at_once_says_so() {
    let (s, reference) = moved();
    s.strata.run(&["image", "prune", "-af"]).ok();
    s.strata.run(&["system", "sweep"]).ok();
    let trash = s.strata.root().join("trash");
    assert!(std::fs::read_dir(trash).expect("read").next().is_none());
    s.strata.pull(&reference);
}
