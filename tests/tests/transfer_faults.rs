//! Whatever a wire or a registry does to a transfer, the result is right or the message is clear, nothing that is not
//! proved is visible, and no byte travels twice that a fault does not excuse.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
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

/// What must come of it.
#[derive(Clone, Copy)]
enum Expect {
    Right,
    /// Refused, with these words: `{blob}` is one of the image's digests, `{host}` who did it.
    Refused(&'static [&'static str]),
    /// One of the two.
    Either(&'static [&'static str]),
}
use Expect::{Either, Refused, Right};

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

/// A case that is a plan and nothing else. The configuration is spared: it is asked for first, and would end most.
fn case(name: &'static str, expect: Expect, plan: Decide) -> Case {
    let between = move |scene: &Scene| {
        let spared = scene.sample.image.id().to_string();
        let plan = move |asked: &Asked, before| {
            let spare = asked.blob() == Some(&spared);
            (!spare).then(|| plan(asked, before)).flatten()
        };
        Between {
            proxy: Faulty::start(scene.server.address(), plan),
            other: None,
            _tokens: None,
            auth: None,
        }
    };
    Case {
        name,
        expect,
        between: Box::new(between),
    }
}

/// A fault of each blob's first answer.
fn once(asked: &Asked, before: usize, fault: Fault) -> Option<Fault> {
    asked.blob().filter(|_| before == 0).map(|_| fault)
}

/// A cut of each blob's first answer, then the fault.
fn behind_a_cut(asked: &Asked, before: usize, fault: Fault) -> Option<Fault> {
    asked.blob()?;
    match before {
        0 => Some(CUT),
        1 => Some(fault),
        _ => None,
    }
}

/// In the middle of even the smallest layer.
const CUT: Fault = Fault::Cut {
    after: 60_000,
    reset: false,
};

fn header(name: &'static str, value: &str) -> Fault {
    Fault::Header(name, value.to_owned())
}

fn status(status: u16) -> Fault {
    Fault::Answer(reply(status, &[], b""))
}

#[rustfmt::skip]
fn cases() -> Vec<Case> {
    vec![
        case("nothing wrong", Right, |_, _| None),
        case("connection closed in a blob, twice", Right, |asked, before| {
            let after = [60_000, 30_000][before.min(1)];
            asked.blob().filter(|_| before < 2).map(|_| Fault::Cut { after, reset: false })
        }),
        case("connection reset in a blob, twice", Right, |asked, before| {
            asked.blob().filter(|_| before < 2).map(|_| Fault::Cut { after: 60_000, reset: true })
        }),
        case("connection closed before a blob's first byte", Right, |asked, before| {
            asked.blob().filter(|_| before < 2).map(|_| Fault::Cut { after: 0, reset: false })
        }),
        case("connection closed 20 times in each blob", Right, |asked, before| {
            asked.blob().filter(|_| before < 20).map(|_| Fault::Cut { after: 25_000, reset: false })
        }),
        case("connection always reset behind 100 bytes", Refused(&["{blob}", "{host}"]), |asked, _| {
            asked.blob().map(|_| Fault::Cut { after: 100, reset: true })
        }),
        case("manifest cut", Right, |asked, before| {
            let cut = asked.is_manifest() && asked.method == "GET" && before == 0;
            cut.then_some(Fault::Cut { after: 50, reset: false })
        }),
        case("answers delayed by 300 ms", Right, |_, _| Some(Fault::Delay(Duration::from_millis(300)))),
        case("a byte of a blob changed once", Either(&["{blob}"]), |asked, before| {
            once(asked, before, Fault::Corrupt { at: 20_000, len: 1 })
        }),
        case("a byte of a blob always changed", Refused(&["{blob}"]), |asked, _| {
            asked.blob().map(|_| Fault::Corrupt { at: 100, len: 1 })
        }),
        case("a byte of the manifest changed", Either(&["manifest"]), |asked, _| {
            (asked.is_manifest()).then_some(Fault::Corrupt { at: 30, len: 1 })
        }),
        case("blob and Content-Length too short", Either(&["{blob}", "bytes"]), |asked, before| {
            once(asked, before, Fault::Truncate(60_000))
        }),
        case("Content-Length too long", Either(&["{blob}", "bytes"]), |asked, before| {
            once(asked, before, header("content-length", "99000000"))
        }),
        case("silence in a blob", Right, |asked, before| once(asked, before, Fault::Stall(60_000))),
        case("500 bytes a second", Right, |asked, before| once(asked, before, Fault::Crawl { rate: 500 })),
        case("Range answered by 200 and the whole", Right, |asked, before| {
            behind_a_cut(asked, before, Fault::Whole)
        }),
        case("Content-Range of other bytes", Either(&["{blob}", "range"]), |asked, before| {
            behind_a_cut(asked, before, header("content-range", "bytes 0-9/10"))
        }),
        case("206 that begins earlier and says so", Either(&["{blob}", "range"]), |asked, before| {
            behind_a_cut(asked, before, Fault::Earlier(1000))
        }),
        case("206 to a request for the whole", Either(&["{blob}", "206"]), |asked, before| {
            once(asked, before, Fault::Status(206))
        }),
        case("416 to a Range", Right, |asked, before| behind_a_cut(asked, before, status(416))),
        case("another Docker-Content-Digest, blob", Either(&["{blob}"]), |asked, _| {
            let other = Digest::of(b"other").to_string();
            asked.blob().map(|_| Fault::Header("docker-content-digest", other))
        }),
        case("another Docker-Content-Digest, manifest", Refused(&["manifest", "digest"]), |asked, _| {
            let other = Digest::of(b"other").to_string();
            asked.is_manifest().then_some(Fault::Header("docker-content-digest", other))
        }),
        case("Content-Type text/html, blob", Right, |asked, _| {
            asked.blob().map(|_| header("content-type", "text/html"))
        }),
        case("Content-Type of an index, image manifest", Either(&["manifest"]), |asked, _| {
            asked.is_manifest().then(|| header("content-type", strata_oci::media::OCI_INDEX))
        }),
        case("Content-Encoding: gzip", Either(&["{blob}", "encoded"]), |asked, before| {
            once(asked, before, header("content-encoding", "gzip"))
        }),
        case("429 with Retry-After: 1", Right, |_, before| {
            (before == 0).then(|| Fault::Answer(reply(429, &[("Retry-After", "1")], b"")))
        }),
        case("500, 502, 503 in turn", Right, |asked, before| {
            asked.blob()?;
            [500, 502, 503].get(before).map(|code| status(*code))
        }),
        case("always 500", Refused(&["500", "{blob}"]), |asked, _| asked.blob().map(|_| status(500))),
        case("404 for a blob", Refused(&["{blob}", "not in the registry"]), |asked, _| asked.blob().map(|_| status(404))),
        case("403 for a blob", Refused(&["{blob}", "{host}"]), |asked, _| asked.blob().map(|_| status(403))),
        case("other content behind a cut", Either(&["{blob}"]), |asked, before| {
            behind_a_cut(asked, before, Fault::Corrupt { at: 0, len: u64::MAX })
        }),
        case("other content from a cut on, always", Refused(&["{blob}"]), |asked, before| {
            asked.blob()?;
            Some(if before == 0 { CUT } else { Fault::Corrupt { at: 0, len: u64::MAX } })
        }),
        of_configuration("the configuration cut", Right, |before| (before < 2).then_some(Fault::Cut { after: 50, reset: true })),
        of_configuration("a byte of the configuration always changed", Refused(&["{blob}"]), |_| {
            Some(Fault::Corrupt { at: 50, len: 1 })
        }),
        redirected("led to another host, cut there", |_, before| (before == 0).then_some(CUT)),
        redirected("led to another host, 500 there", |_, before| (before == 0).then(|| status(500))),
        redirected("led to another host by an address that is good once", |asked, before| {
            // A signature that is used up with the first request is refused with 403, as object stores do.
            if asked.target.ends_with("signed=0") && before > 0 { Some(status(403)) } else { (before == 0).then_some(CUT) }
        }),
        token_runs_out(),
    ]
}

/// Only the configuration is not as it should be.
fn of_configuration(name: &'static str, expect: Expect, plan: fn(usize) -> Option<Fault>) -> Case {
    let between = move |scene: &Scene| {
        let config = scene.sample.image.id().to_string();
        let plan = move |asked: &Asked, before| {
            let is_it = asked.blob() == Some(&config);
            is_it.then(|| plan(before)).flatten()
        };
        Between {
            proxy: Faulty::start(scene.server.address(), plan),
            other: None,
            _tokens: None,
            auth: None,
        }
    };
    Case {
        name,
        expect,
        between: Box::new(between),
    }
}

/// The registry wants a password, and leads to another host for every blob.
fn redirected(name: &'static str, there: Decide) -> Case {
    let between = move |scene: &Scene| {
        let server = scene.server.address();
        let other = Faulty::elsewhere("127.0.0.2", server, there);
        let host = other.address();
        let proxy = Faulty::start(server, move |asked, before| {
            if asked.header("authorization") != "Basic bWU6c2VjcmV0" {
                let challenge = [("WWW-Authenticate", "Basic realm=\"x\"")];
                return Some(Fault::Answer(reply(401, &challenge, b"")));
            }
            let target = format!("http://{host}{}?signed={before}", asked.target);
            let lead = || Fault::Answer(reply(307, &[("Location", &target)], b""));
            asked.blob().map(|_| lead())
        });
        Between {
            proxy,
            other: Some(other),
            _tokens: None,
            auth: Some("bWU6c2VjcmV0"),
        }
    };
    Case {
        name,
        expect: Right,
        between: Box::new(between),
    }
}

/// A blob's answer is cut, and the token that it was asked for with is good no more.
fn token_runs_out() -> Case {
    let between = |scene: &Scene| {
        let server = scene.server.address();
        let good = Arc::new(AtomicU32::new(0));
        let giver = good.clone();
        let tokens = Fake::start(move |_| {
            let number = giver.load(Ordering::SeqCst);
            let token = json!({ "token": format!("t{number}"), "expires_in": 300 });
            reply(200, &[], token.to_string().as_bytes())
        });
        let realm = tokens.address();
        let proxy = Faulty::start(server, move |asked, _| {
            let wanted = format!("Bearer t{}", good.load(Ordering::SeqCst));
            if asked.header("authorization") != wanted {
                let challenge = format!("Bearer realm=\"http://{realm}/token\",service=\"x\"");
                let challenge = [("WWW-Authenticate", challenge.as_str())];
                return Some(Fault::Answer(reply(401, &challenge, b"")));
            }
            asked.blob()?;
            // The first token is good for the first blob only, whatever it was promised to be.
            let first = good.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst);
            first.ok().map(|_| CUT)
        });
        Between {
            proxy,
            other: None,
            _tokens: Some(tokens),
            auth: None,
        }
    };
    Case {
        name: "401 in mid-transfer: the token has run out",
        expect: Right,
        between: Box::new(between),
    }
}

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
