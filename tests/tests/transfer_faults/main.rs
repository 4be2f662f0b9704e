//! Whatever a wire or a registry does to a transfer, the result is right or the message is clear, nothing that is not
//! proved is visible, and no byte travels twice that a fault does not excuse.

mod cases;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use strata_oci::digest::Digest;
use strata_tests::fake::{Asked, Fake, reply};
use strata_tests::faulty::{Fault, Faulty, IN_FLIGHT};
use strata_tests::place::Place;
use strata_tests::stratad::Stratad;
use strata_tests::trial::{Sample, Trial, Way, all, show};

use Expect::{Either, Refused, Right};
use cases::{cases, header, status};

/// What must come of it.
#[derive(Clone, Copy)]
enum Expect {
    Right,
    /// Refused, with these words: `{blob}` is one of the image's digests, `{host}` who did it.
    Refused(&'static [&'static str]),
    /// One of the two.
    Either(&'static [&'static str]),
}

/// What stands between.
struct Between {
    proxy: Faulty,
    /// Another host that is led to.
    other: Option<Faulty>,
    /// Who gives tokens.
    _tokens: Option<Fake>,
    /// Credentials for the proxy: name and password in base64.
    auth: Option<&'static str>,
}

struct Case {
    name: &'static str,
    expect: Expect,
    between: Box<dyn Fn(&Scene) -> Between + Sync>,
}

/// A registry with one image.
struct Scene {
    server: Stratad,
    sample: Sample,
    _place: Place,
}

impl Scene {
    fn new(sample: Sample) -> Self {
        let place = Place::new();
        let server = Stratad::start(&place.join("data"));
        server.api().push(&sample.image, "app", "v1");
        Self {
            server,
            sample,
            _place: place,
        }
    }
}

type Decide = fn(&Asked, usize) -> Option<Fault>;

/// Runs one case and gives its line of the table.
fn try_case(case: &Case, way: Way, scene: &Scene) -> Vec<String> {
    let what = format!("{} ({way:?})", case.name);
    let (server, sample) = (&scene.server, &scene.sample);
    let between = (case.between)(scene);
    let trial = Trial::new(way);
    let mut command = trial.command(&between.proxy.reference("app", "v1"));
    if let Some(auth) = between.auth {
        let file = trial.place.join("auth.json");
        let host = between.proxy.address().to_string();
        let auths = json!({ "auths": { host: { "auth": auth } } });
        std::fs::write(&file, auths.to_string()).expect("write");
        command.env("REGISTRY_AUTH_FILE", file);
    }
    let ran = strata_tests::command::run(&mut command);
    assert!(ran.took < Duration::from_secs(90), "{what}: {:?}", ran.took);
    let (right, took) = (ran.status.success(), ran.took.as_secs_f64());
    let words = match case.expect {
        Right => &[][..],
        Refused(words) | Either(words) => words,
    };
    let may = match case.expect {
        Right => right,
        Refused(_) => !right,
        Either(_) => true,
    };
    assert!(may, "{what}: {}", ran.story());
    let outcome = if right {
        trial.assert_right(sample);
        "right".to_owned()
    } else {
        let host = between.proxy.address().to_string();
        let ran = ran.refused();
        for word in words {
            let told = match *word {
                "{blob}" => sample.is_named_in(&ran.stderr),
                "{host}" => ran.stderr.contains(&host),
                word => ran.stderr.to_lowercase().contains(word),
            };
            assert!(told, "{what}: {word} is not told: {}", ran.stderr);
        }
        trial.assert_nothing_visible();
        trial.assert_tidy();
        // Nothing wrong was kept: the same from a good registry is right.
        trial.run(&server.reference("app", "v1")).ok();
        trial.assert_right(sample);
        let line = ran.stderr.lines().last().unwrap_or_default();
        let line = line.replace(&host, "HOST");
        format!("refused: {}", line.chars().take(110).collect::<String>())
    };
    let mut tally = between.proxy.tally();
    if let Some(other) = &between.other {
        for asked in other.asked() {
            assert_eq!(asked.header("authorization"), "", "{what}: shown elsewhere");
        }
        let there = other.tally();
        assert!(there.faults > 0 && between.proxy.tally().blob_bytes() == 0);
        tally = strata_tests::faulty::Tally {
            faults: there.faults,
            ..there
        };
    }
    assert!(tally.faults > 0 || case.name == "nothing wrong", "{what}");
    tally.assert_bound(sample.bytes(), &what);
    let share = tally.blob_bytes() as f64 / sample.bytes() as f64;
    vec![
        case.name.to_owned(),
        format!("{way:?}").to_lowercase(),
        format!("{}x", tally.faults),
        format!("{}/{}", tally.blob_bytes(), sample.bytes()),
        format!("{share:.2}"),
        format!("{took:.1} s"),
        outcome,
    ]
}

#[track_caller]
fn report(title: &str, came: Vec<Result<Vec<String>, String>>) {
    let mut rows = Vec::new();
    let mut wrong = Vec::new();
    for line in came {
        match line {
            Ok(row) => rows.push(row),
            Err(why) => wrong.push(why),
        }
    }
    show(title, &rows);
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}

#[test]
fn each_fault_leaves_a_right_result_or_a_clear_message_and_no_byte_travels_twice() {
    let scene = Scene::new(Sample::new(1, &[2_500_000, 700_000, 90_000]));
    let cases = cases();
    let mut all_cases: Vec<(&Case, Way)> = cases
        .iter()
        .flat_map(|case| [Way::Pull, Way::Copy].map(|way| (case, way)))
        .collect();
    // Those that have to wait for half a minute begin first.
    all_cases
        .sort_by_key(|(case, _)| !case.name.contains("silence") && !case.name.contains("a second"));
    let came = all(&all_cases, 12, |(case, way)| try_case(case, *way, &scene));
    report(
        "faults of downloads: injected, bytes of blobs sent / their size, outcome",
        came,
    );
}

/// A fault that a transfer may meet at any time; `None`: all is well.
fn chance(seed: u64, asked: &Asked, before: usize) -> Option<Fault> {
    let blob = asked.blob()?;
    if before > 6 {
        return None;
    }
    let key = Digest::of(format!("{seed} {blob} {before}").as_bytes());
    let key = u64::from_str_radix(&key.hex()[..16], 16).expect("hex");
    let mut rng = StdRng::seed_from_u64(key);
    let after = rng.random_range(0..900_000);
    Some(match rng.random_range(0..24) {
        0..6 => Fault::Cut {
            after,
            reset: false,
        },
        6..10 => Fault::Cut { after, reset: true },
        10 => Fault::Whole,
        11 => Fault::Earlier(after),
        12 => header("content-range", "bytes 7-8/9"),
        13 => status(503),
        14 => Fault::Answer(reply(429, &[("Retry-After", "0")], b"slowly")),
        15 => Fault::Delay(Duration::from_millis(after / 10_000)),
        16 => Fault::Corrupt { at: after, len: 3 },
        17 => Fault::Truncate(after),
        _ => return None,
    })
}

#[test]
fn any_sequence_of_faults_leaves_a_right_result_or_a_clear_message() {
    let Scene {
        server,
        sample,
        _place,
    } = &Scene::new(Sample::new(2, &[2_000_000, 600_000, 90_000]));
    let seeds: Vec<u64> = (0..40).collect();
    let came = all(&seeds, 8, |seed| {
        let way = [Way::Pull, Way::Copy][*seed as usize % 2];
        let seed = *seed;
        let proxy = Faulty::start(server.address(), move |asked, before| {
            chance(seed, asked, before)
        });
        let trial = Trial::new(way);
        let mut refused = 0;
        // A user tries again. What a fault spoilt is not in the way of the next run.
        let ran = loop {
            let ran = trial.run(&proxy.reference("app", "v1"));
            if ran.status.success() {
                break ran;
            }
            let ran = ran.refused();
            let told = sample.is_named_in(&ran.stderr);
            assert!(told, "seed {seed}: names no blob: {}", ran.stderr);
            trial.assert_nothing_visible();
            refused += 1;
            assert!(refused < 20, "seed {seed}: {}", ran.story());
        };
        assert!(ran.took < Duration::from_secs(60));
        trial.assert_right(sample);
        let tally = proxy.tally();
        tally.assert_bound(sample.bytes(), &format!("seed {seed}"));
        (tally, refused)
    });
    let wrong: Vec<&String> = came.iter().filter_map(|came| came.as_ref().err()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let came: Vec<_> = came.into_iter().flatten().collect();
    let sum =
        |f: fn(&strata_tests::faulty::Tally) -> u64| came.iter().map(|(t, _)| f(t)).sum::<u64>();
    let rows = [
        ("sequences", came.len() as u64),
        ("faults", sum(|t| t.faults)),
        ("breaks", sum(|t| t.cuts + t.left)),
        (
            "runs that were refused",
            came.iter().map(|(_, refused)| *refused).sum(),
        ),
        (
            "bytes of blobs sent",
            sum(strata_tests::faulty::Tally::blob_bytes),
        ),
        ("their size", sample.bytes() * came.len() as u64),
        ("excused by faults", sum(|t| t.spoilt)),
        ("allowed for each break", IN_FLIGHT),
    ];
    let rows = rows.map(|(name, value)| vec![name.to_owned(), value.to_string()]);
    show("random sequences of faults", &rows);
}
