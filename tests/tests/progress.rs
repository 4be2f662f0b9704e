//! What a transfer shows: on a real terminal, in a pipe, and to a program.

use std::process::Command;

use serde_json::Value;
use strata_tests::command::{Ran, Running, run};
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::place::Place;
use strata_tests::proxy::{Faults, Proxy};
use strata_tests::strata::Strata;
use strata_tests::stratad::Stratad;

/// So many layers of noise, each a little larger than `size`.
fn image(layers: u64, size: usize) -> Image {
    let layers: Vec<Layer> = (0..layers)
        .map(|seed| {
            let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let noise = std::iter::repeat_with(|| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 24) as u8
            });
            Layer::of(&[Entry::file("x", noise.take(size).collect::<Vec<u8>>())])
        })
        .collect();
    Image::new(&layers)
}

/// An image behind a wire of so many bytes a second a connection.
struct Slow {
    place: Place,
    strata: Strata,
    server: Stratad,
    wire: Proxy,
    image: Image,
}

impl Slow {
    fn new(image: Image, rate: u64) -> Self {
        let place = Place::new();
        let server = Stratad::start(&place.join("data"));
        server.api().push(&image, "app", "v1");
        let rate = Some(rate);
        let faults = Faults {
            rate,
            ..Faults::default()
        };
        Self {
            strata: Strata::new(&place),
            wire: Proxy::start(server.address(), faults),
            place,
            server,
            image,
        }
    }

    fn reference(&self) -> String {
        format!("{}/app:v1", self.wire.address())
    }

    fn layout(&self) -> String {
        format!("oci:{}:v1", self.place.join("layout").display())
    }
}

/// What a command writes to a terminal of that size.
fn at_terminal(strata: &Strata, columns: u16, rows: u16, args: &[&str]) -> Ran {
    let program = strata.program().display();
    let line = args.join(" ");
    let line = format!("stty cols {columns} rows {rows}; exec {program} {line}");
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]);
    for (key, value) in strata.command(&[]).get_envs() {
        match value {
            Some(value) => script.env(key, value),
            None => script.env_remove(key),
        };
    }
    run(script.env("TERM", "xterm"))
}

/// The pictures that were drawn, each as its lines.
fn pictures(out: &str) -> Vec<Vec<String>> {
    let after = out.split("\x1b[?2026h").skip(1);
    after
        .filter_map(|rest| rest.split_once("\x1b[?2026l"))
        .map(|(picture, _)| {
            let lines = picture.split("\x1b[K\r\n");
            let own = lines.map(|line| {
                // Where the cursor goes first.
                let bare = line.trim_start_matches('\r');
                match bare.strip_prefix("\x1b[").and_then(|r| r.split_once('A')) {
                    Some((number, rest)) if number.bytes().all(|b| b.is_ascii_digit()) => rest,
                    _ => bare,
                }
            });
            // What is told stays above the picture.
            let changing = |line: &&str| !line.contains(": fetched (");
            let own = own.filter(|line| !line.is_empty() && *line != "\x1b[J");
            let own = own.filter(changing);
            own.map(str::to_owned).collect()
        })
        .collect()
}

#[test]
fn a_terminal_shows_what_moves_within_its_size_and_a_few_times_a_second() {
    let s = Slow::new(image(9, 300_000), 250_000);
    for (columns, rows) in [(80, 24), (40, 5)] {
        let layout = s.place.join(format!("layout-{columns}"));
        let to = format!("oci:{}:v1", layout.display());
        let args = ["copy", "--parallel", "9", &s.reference(), &to];
        let ran = at_terminal(&s.strata, columns, rows, &args).ok();
        let out = ran.out();
        let pictures = pictures(&out);
        let most = ran.took.as_secs_f64() * 10.0 + 3.0;
        assert!(pictures.len() > 3, "{out:?}");
        assert!((pictures.len() as f64) < most, "{}", pictures.len());
        for picture in &pictures {
            assert!(picture.len() < rows.into(), "{picture:?}");
            for line in picture {
                let width = line.chars().count();
                assert!(width < columns.into(), "{width}: {line:?}");
            }
        }
        let fullest = pictures.iter().map(Vec::len).max();
        assert_eq!(fullest, Some(usize::from(rows - 1).min(10)));
        // Bytes, rate and time left: of a blob, and of all.
        let lines = || pictures.iter().flatten();
        if columns == 80 {
            let of_one =
                |l: &&String| l.contains("copy") && l.contains("kB/s") && l.contains("300kB");
            assert!(lines().any(|l| of_one(&l)), "{pictures:?}");
        }
        assert!(
            lines().any(|l| l.starts_with("0 of 10 done")),
            "{pictures:?}"
        );
        assert!(
            lines().any(|l| columns < 80 || l.ends_with("left")),
            "{pictures:?}"
        );
        // What is done stays, and nothing else does.
        assert_eq!(out.matches(": fetched (").count(), 10, "{out}");
        assert!(pictures.last().is_some_and(Vec::is_empty), "{out:?}");
    }
}

#[test]
fn a_pipe_gets_a_line_for_each_thing_that_is_done_and_nothing_that_moves() {
    let s = Slow::new(image(2, 100_000), 1_000_000);
    let ran = s.strata.run(&["pull", &s.reference()]).ok();
    assert!(!ran.stderr.contains('\x1b'), "{:?}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 2, "{}", ran.stderr);
    for layer in &s.image.layers {
        let line = format!("{}: fetched (", &layer.digest.hex()[..12]);
        assert!(ran.stderr.contains(&line), "{}", ran.stderr);
    }
    // Less is said when less is wanted, whatever is there.
    for flags in [["-q"].as_slice(), &["--progress", "none"]] {
        let reference = s.reference();
        let args = [&["pull"], flags, &[&*reference]].concat();
        let ran = s.strata.run(&args).ok();
        assert_eq!(ran.stderr, "", "{flags:?}");
    }
    // Bars are for whoever asks for them.
    let ran = s
        .strata
        .run(&["copy", "--progress", "tty", &s.reference(), &s.layout()]);
    assert!(!pictures(&ran.ok().stderr.replace('\n', "\r\n")).is_empty());
    s.strata
        .run(&["pull", "--progress", "some", &s.reference()])
        .says("json");
}

#[test]
fn a_long_transfer_in_a_pipe_is_not_silent() {
    let s = Slow::new(image(1, 2_600_000), 200_000);
    let ran = s.strata.run(&["copy", &s.reference(), &s.layout()]).ok();
    let all: Vec<&str> = ran.stderr.lines().collect();
    let told = all.iter().filter(|line| line.contains(" of 2 done, "));
    let told: Vec<_> = told.collect();
    assert_eq!(told.len(), 1, "{}", ran.stderr);
    assert!(
        told[0].contains("kB/s") && told[0].contains(" left"),
        "{told:?}"
    );
}

#[track_caller]
fn events(ran: &Ran) -> Vec<Value> {
    let lines = ran.stderr.lines();
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{}", ran.story()));
    lines.map(parse).collect()
}

fn of<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events
        .iter()
        .filter(|event| event["type"] == kind)
        .collect()
}

#[test]
fn programs_get_a_line_of_json_for_each_event() {
    let s = Slow::new(image(2, 900_000), 600_000);
    let size = s.image.layer_bytes();
    let ran = s
        .strata
        .run(&["pull", "--progress", "json", &s.reference()])
        .ok();
    let all = events(&ran);
    assert_eq!(of(&all, "planned").len(), 2);
    let done = of(&all, "done");
    assert_eq!(done.len(), 2);
    for event in done {
        assert_eq!(event["how"], "fetched");
        let digest = event["digest"].as_str().unwrap_or_default();
        assert!(
            s.image
                .layers
                .iter()
                .any(|l| l.digest.to_string() == digest)
        );
    }
    let moving = of(&all, "progress");
    assert!(
        moving
            .iter()
            .any(|e| e["phase"] == "download" && e["rate"].as_u64() > Some(0))
    );
    let rate = of(&all, "total")
        .iter()
        .filter_map(|e| e["rate"].as_u64())
        .max();
    // Two connections.
    assert!(
        rate.is_some_and(|rate| (300_000..2_400_000).contains(&rate)),
        "{rate:?}"
    );
    let end = all.last().expect("events");
    assert_eq!(
        (&end["type"], &end["items"], &end["done"]),
        (&"end".into(), &2.into(), &2.into())
    );
    assert_eq!(
        (end["bytes"].as_u64(), end["size"].as_u64()),
        (Some(size), Some(size))
    );
    assert_eq!(end["kept"], 0);
    let again = s
        .strata
        .run(&["pull", "--progress", "json", &s.reference()])
        .ok();
    assert!(
        of(&events(&again), "done")
            .iter()
            .all(|e| e["how"] == "reused")
    );
    // So is all else that is told.
    let nothing = format!("{}/none:v1", s.server.address());
    let ran = s.strata.run(&["pull", "--progress", "json", &nothing]);
    assert_eq!(ran.code(), 1);
    let all = events(&ran);
    assert!(
        of(&all, "error")[0]["text"]
            .as_str()
            .is_some_and(|t| t.contains("none"))
    );
}

#[test]
fn bytes_of_an_earlier_try_are_told_and_are_no_part_of_the_rate() {
    let s = Slow::new(image(1, 3_000_000), 1_000_000);
    let (from, to) = (s.reference(), s.layout());
    let args = ["copy", "--progress", "json", &from, &to];
    let mut running = Running::start(&mut s.strata.command(&args));
    while s.wire.received() < 2_000_000 {
        assert!(running.child.try_wait().expect("wait").is_none());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    running.signal(rustix::process::Signal::KILL);
    running.wait();
    let all = events(&s.strata.run(&args).ok());
    let resumed = of(&all, "resumed");
    let kept = resumed
        .first()
        .and_then(|e| e["bytes"].as_u64())
        .unwrap_or(0);
    assert!(kept > 1_000_000, "{all:?}");
    let end = all.last().expect("events");
    assert_eq!(end["kept"], kept);
    let size = end["size"].as_u64().expect("a size");
    assert_eq!(end["bytes"], size);
    let (rate, elapsed) = (end["rate"].as_f64(), end["elapsed"].as_f64());
    let travelled = rate.unwrap_or(0.0) * elapsed.unwrap_or(0.0);
    let expected = (size - kept) as f64;
    assert!(
        (travelled - expected).abs() < expected * 0.1 + 5000.0,
        "{travelled} of {expected}"
    );
    for total in of(&all, "total") {
        assert!(total["rate"].as_u64().unwrap_or(0) < 2_000_000, "{total}");
    }
}

#[test]
fn run_and_push_and_mirror_show_it_too() {
    let s = Slow::new(image(1, 1000), 1_000_000);
    let to = format!("{}/copy:v1", s.server.address());
    s.strata.run(&["pull", "-q", &s.reference()]).ok();
    let ran = s
        .strata
        .run(&["push", "--progress", "json", &s.reference(), &to]);
    let all = events(&ran.ok());
    assert_eq!(all.last().expect("events")["type"], "end");
    let repository = format!("{}/app", s.server.address());
    let args = [
        "mirror",
        "--progress",
        "json",
        "--to",
        &s.layout()[..s.layout().len() - 3],
        &repository,
    ];
    let all = events(&s.strata.run(&args).ok());
    assert_eq!(of(&all, "done").len(), 2);
    let ran = s.strata.run(&[
        "run",
        "--rm",
        "--pull",
        "always",
        "--progress",
        "json",
        &s.reference(),
        "/none",
    ]);
    let all = events(&ran);
    assert_eq!(of(&all, "done")[0]["how"], "reused");
    assert!(!of(&all, "error").is_empty(), "{}", ran.story());
}
