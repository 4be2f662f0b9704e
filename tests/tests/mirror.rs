//! Mirrors: repositories kept in step between registries, by file and by command line, once and on a schedule.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use strata_tests::command::{Ran, Running};
use strata_tests::distribution::Distribution;
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::place::Place;
use strata_tests::proxy::{Faults, Proxy};
use strata_tests::strata::Strata;
use strata_tests::stratad::Stratad;

fn image(own: &str) -> Image {
    let base = Layer::of(&[Entry::file("base", "base ".repeat(200_000))]);
    Image::new(&[base, Layer::of(&[Entry::file(own, own)])])
}

/// Two registries and who mirrors between them.
struct Scene {
    place: Place,
    strata: Strata,
    source: Distribution,
    target: Stratad,
}

impl Scene {
    fn new() -> Self {
        let place = Place::new();
        Self {
            strata: Strata::new(&place),
            source: Distribution::start(&place, "source"),
            target: Stratad::start(&place.join("data")),
            place,
        }
    }

    fn push(&self, repository: &str, tags: &[&str]) {
        for tag in tags {
            let image = image(&format!("{repository} {tag}"));
            self.source.api().push(&image, repository, tag);
        }
    }

    fn config(&self, text: &str) -> PathBuf {
        let file = self.place.join("mirror.toml");
        let text = text
            .replace("SOURCE", &self.source.address().to_string())
            .replace("TARGET", &self.target.address().to_string());
        fs::write(&file, text).expect("write");
        file
    }

    fn mirror(&self, args: &[&str]) -> Ran {
        let all = [&["mirror", "--format", "json"], args].concat();
        self.strata.run(&all)
    }

    fn tags(&self, repository: &str) -> String {
        let name = format!("{}/{repository}", self.target.address());
        self.strata
            .run(&["tags", &name])
            .ok()
            .out()
            .replace('\n', " ")
    }
}

#[track_caller]
fn report(ran: &Ran) -> Value {
    serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", ran.story()))
}

#[test]
fn a_file_says_which_tags_go_where_and_the_second_round_moves_nothing() {
    let s = Scene::new();
    s.push("app", &["1.0", "1.1", "1.2", "2.0", "2.0-alpine", "edge"]);
    s.push("team/tool", &["v1", "v2"]);
    let file = s.config(
        r#"
images = 2
[[sync]]
source = "SOURCE/app"
destination = "TARGET/mirror/app"
tags = { semver = ">=1.1", newest = 2 }
[[sync]]
source = "SOURCE/team/tool"
destination = "TARGET/mirror/tool"
tags = { glob = "v*", exclude = ["v1"] }
"#,
    );
    let file = file.to_str().expect("text");
    let dry = report(&s.mirror(&["--dry-run", file]).ok());
    assert_eq!(dry["total"]["images"], 3);
    assert_eq!(s.target.stored().0, 0, "a dry run does nothing");
    let first = report(&s.mirror(&[file]).ok());
    assert_eq!(first["total"]["copied"], 3);
    assert_eq!(s.tags("mirror/app"), "1.2 2.0");
    assert_eq!(s.tags("mirror/tool"), "v2");
    // The base that all share went over the wire once, and was linked into the second repository.
    let base = image("x").layers[0].blob.len() as u64;
    assert_eq!(first["total"]["mounted"]["bytes"], base);
    let travelled = first["total"]["travelled"]["bytes"]
        .as_u64()
        .expect("number");
    assert!((base..base + 10_000).contains(&travelled), "{travelled}");
    let there = s.target.api().manifest("mirror/app", "2.0").expect(200);
    assert_eq!(there.body, image("app 2.0").manifest);

    let second = report(&s.mirror(&[file]).ok());
    assert_eq!(second["total"]["unchanged"], 3);
    assert_eq!(second["total"]["travelled"]["bytes"], 0);
    // A tag that has moved follows.
    let moved = image("moved");
    s.source.api().push(&moved, "team/tool", "v2");
    let third = report(&s.mirror(&[file]).ok());
    assert_eq!(third["total"]["copied"], 1);
    let there = s.target.api().manifest("mirror/tool", "v2").expect(200);
    assert_eq!(there.body, moved.manifest);
}

#[test]
fn repositories_on_the_command_line_go_below_the_target() {
    let s = Scene::new();
    s.push("team/app", &["a", "b", "c"]);
    let source = format!("{}/team/app", s.source.address());
    let to = format!("{}/copies", s.target.address());
    s.mirror(&["--to", &to, "--regex", "[ab]", &source]).ok();
    assert_eq!(s.tags("copies/team/app"), "a b");
    s.mirror(&["--to", &to, &format!("{source}:c")]).ok();
    assert_eq!(s.tags("copies/team/app"), "a b c");
    // What is not chosen any more goes only when that is wanted.
    let args = ["--to", &to, "--regex", "[bc]", "--delete"];
    let dry = report(
        &s.mirror(&[&args[..], &["--dry-run", &source]].concat())
            .ok(),
    );
    assert_eq!(dry["total"]["deleted"], 1);
    assert_eq!(s.tags("copies/team/app"), "a b c");
    s.mirror(&[&args[..], &[&source]].concat()).ok();
    assert_eq!(s.tags("copies/team/app"), "b c");
    // A filter that chooses nothing deletes nothing.
    let args = ["--to", &to, "--regex", "nothing", "--delete", &source];
    s.mirror(&args).ok();
    assert_eq!(s.tags("copies/team/app"), "b c");
    // And into a layout, from where all goes on.
    let layout = format!("oci:{}", s.place.join("layout").display());
    s.mirror(&["--to", &layout, &source]).ok();
    let again = format!("docker://{}/again", s.target.address());
    s.strata.run(&["copy", "--all", &layout, &again]).ok();
    assert_eq!(s.tags("again"), "a b c");
}

#[test]
fn an_image_that_fails_stops_no_other() {
    let s = Scene::new();
    s.push("app", &["a", "b", "c"]);
    let damaged = image("app b").layers[1].digest.clone();
    let hex = damaged.hex();
    let path = format!(
        "source/docker/registry/v2/blobs/sha256/{}/{hex}/data",
        &hex[..2]
    );
    fs::write(s.place.join(path), b"other bytes").expect("damage");
    let source = format!("{}/app", s.source.address());
    let to = s.target.address().to_string();
    let ran = s.mirror(&[
        "--to",
        &to,
        &source,
        &format!("{}/none", s.source.address()),
    ]);
    assert_eq!(ran.code(), 1, "{}", ran.story());
    let report = report(&ran);
    assert_eq!(report["total"]["copied"], 2);
    assert_eq!(report["total"]["failed"], 2);
    assert_eq!(s.tags("app"), "a c");
    assert!(ran.stderr.contains("none"), "{}", ran.stderr);
}

#[test]
fn a_round_that_was_ended_goes_on_the_next_time() {
    let s = Scene::new();
    let tags: Vec<String> = (0..6).map(|n| format!("t{n}")).collect();
    s.push("app", &tags.iter().map(String::as_str).collect::<Vec<_>>());
    let slow = Faults {
        rate: Some(20_000),
        ..Faults::default()
    };
    let wire = Proxy::start(s.source.address(), slow);
    let source = format!("{}/app", wire.address());
    let to = s.target.address().to_string();
    let args = ["mirror", "-q", "--images", "1", "--to", &to, &source];
    let running = Running::start(&mut s.strata.command(&args));
    let limit = Instant::now() + Duration::from_secs(60);
    while s.target.api().manifest("app", "t0").status != 200 {
        assert!(Instant::now() < limit, "nothing is copied");
        std::thread::sleep(Duration::from_millis(20));
    }
    running.signal(Signal::TERM);
    let ran = running.wait();
    assert_eq!(ran.code(), 143, "{}", ran.story());
    let source = format!("{}/app", s.source.address());
    let report = report(&s.mirror(&["--to", &to, &source]).ok());
    assert!(report["total"]["unchanged"].as_u64() >= Some(1), "{report}");
    assert_eq!(s.tags("app").split(' ').count(), 6);
}

#[test]
fn a_schedule_runs_until_it_is_told_to_end() {
    let s = Scene::new();
    s.push("app", &["a"]);
    let source = format!("{}/app", s.source.address());
    let to = s.target.address().to_string();
    let args = ["mirror", "--every", "1s", "--to", &to, &source];
    let running = Running::start(&mut s.strata.command(&args));
    let limit = Instant::now() + Duration::from_secs(60);
    let mut pushed = false;
    while s.target.api().manifest("app", "b").status != 200 {
        assert!(Instant::now() < limit, "the second round did not come");
        if !pushed && s.target.api().manifest("app", "a").status == 200 {
            s.push("app", &["b"]);
            pushed = true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    running.signal(Signal::TERM);
    let ran = running.wait();
    assert_eq!(ran.code(), 0, "{}", ran.story());
    assert!(ran.out().contains("unchanged"), "{}", ran.story());
}

#[test]
fn a_limit_on_bytes_a_second_is_kept() {
    let s = Scene::new();
    let noise: Vec<u8> = (0..400_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let layer = Layer::new(&noise, strata_tests::entry::Compression::Plain);
    let size = layer.blob.len() as f64;
    s.source.api().push(&Image::new(&[layer]), "app", "v1");
    let source = format!("{}/app", s.source.address());
    let to = s.target.address().to_string();
    let ran = s
        .mirror(&["--limit-rate", "200k", "--to", &to, &source])
        .ok();
    let least = Duration::from_secs_f64(size / 200_000.0 * 0.8);
    assert!(ran.took > least, "{:?} for {size} bytes", ran.took);
}

#[test]
fn a_file_with_a_key_that_is_not_known_is_refused_with_its_line() {
    let s = Scene::new();
    let file =
        s.config("[[sync]]\nsource = \"SOURCE/app\"\ndestination = \"TARGET/app\"\ntag = \"x\"\n");
    let file = file.to_str().expect("text");
    s.mirror(&[file]).refused().says("line 4").says("tag");
    s.mirror(&["/nothing/here"]).refused().says("--to");
}
