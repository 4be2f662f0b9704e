//! Whatever a wire or a registry does to a push, the registry has the image to the byte or the message is clear.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::json;
use strata_oci::digest::Digest;
use strata_tests::command::run;
use strata_tests::fake::{Asked, reply};
use strata_tests::faulty::{Fault, Faulty};
use strata_tests::place::Place;
use strata_tests::strata::Strata;
use strata_tests::stratad::Stratad;
use strata_tests::trial::{Sample, all, show};

/// What a request of a push is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// Is this blob there?
    Look,
    /// Begins an upload.
    Begin,
    /// Carries a blob's bytes.
    Bytes,
    /// Stores the manifest.
    Manifest,
    Other,
}

impl Kind {
    fn of(asked: &Asked) -> Self {
        let path = asked.path();
        match asked.method.as_str() {
            "HEAD" if path.contains("/blobs/") => Self::Look,
            "POST" => Self::Begin,
            "PATCH" | "PUT" if asked.is_upload() => Self::Bytes,
            "PUT" if path.contains("/manifests/") => Self::Manifest,
            _ => Self::Other,
        }
    }
}

type Decide = fn(Kind, usize) -> Option<Fault>;

struct Case {
    name: &'static str,
    /// The words of a refusal; none: it must succeed.
    refused: Option<&'static [&'static str]>,
    plan: Decide,
}

fn status(status: u16) -> Fault {
    Fault::Answer(reply(status, &[], b""))
}

fn led_to(location: &str) -> Fault {
    Fault::Answer(reply(202, &[("Location", location)], b""))
}

/// The first `count` of a kind.
fn first(kind: Kind, wanted: Kind, nth: usize, count: usize, fault: Fault) -> Option<Fault> {
    (kind == wanted && nth < count).then_some(fault)
}

#[rustfmt::skip]
fn cases() -> Vec<Case> {
    use Kind::{Begin, Bytes, Look, Manifest};
    let right = |name, plan: Decide| Case { name, refused: None, plan };
    let refused = |name, words, plan: Decide| Case { name, refused: Some(words), plan };
    vec![
        right("uploads reset behind 300 kB, six times", |k, n| first(k, Bytes, n, 6, Fault::CutRequest(300_000))),
        right("uploads reset before their first byte", |k, n| first(k, Bytes, n, 3, Fault::CutRequest(0))),
        right("answers to uploads lost", |k, n| first(k, Bytes, n, 2, Fault::LoseAnswer)),
        right("answer to the beginning of an upload lost", |k, n| first(k, Begin, n, 1, Fault::LoseAnswer)),
        right("answer to the question for a blob lost", |k, n| first(k, Look, n, 1, Fault::LoseAnswer)),
        right("answer to the manifest lost", |k, n| first(k, Manifest, n, 1, Fault::LoseAnswer)),
        right("uploads answered by 500, 502, 503", |k, n| match (k, n) {
            (Bytes, 0) => Some(status(500)),
            (Bytes, 1) => Some(status(502)),
            (Bytes, 2) => Some(status(503)),
            _ => None,
        }),
        right("429 with Retry-After: 1 at each step", |k, n| {
            (k != Kind::Other && n == 0).then(|| Fault::Answer(reply(429, &[("Retry-After", "1")], b"")))
        }),
        right("sessions lost: 404", |k, n| first(k, Bytes, n, 2, status(404))),
        right("manifest answered by 502 once", |k, n| first(k, Manifest, n, 1, status(502))),
        right("answers delayed by 300 ms", |_, _| Some(Fault::Delay(Duration::from_millis(300)))),
        refused("always 500 for uploads", &["500", "{blob}"], |k, _| (k == Bytes).then(|| status(500))),
        refused("uploads always reset", &["{host}"], |k, _| (k == Bytes).then_some(Fault::CutRequest(50))),
        refused("413 for uploads", &["413", "{blob}"], |k, _| (k == Bytes).then(|| status(413))),
        refused("403 for a beginning", &["{host}", "refuses access"], |k, _| (k == Begin).then(|| status(403))),
        refused("no Location", &["location"], |k, _| (k == Begin).then(|| status(202))),
        refused("Location file:///etc/passwd", &["file://", "neither http nor https"], |k, _| {
            (k == Begin).then(|| led_to("file:///etc/passwd"))
        }),
        refused("Location http://169.254.169.254/", &["169.254.169.254", "not public"], |k, _| {
            (k == Begin).then(|| led_to("http://169.254.169.254/latest/meta-data"))
        }),
        refused("manifest answered by 400", &["manifest"], |k, _| {
            let body = br#"{"errors":[{"code":"MANIFEST_INVALID","message":"not liked"}]}"#;
            (k == Manifest).then(|| Fault::Answer(reply(400, &[], body)))
        }),
    ]
}

/// A source to push from, a proxy in front of the registry, and what is asked for there.
struct Push {
    place: Place,
    sample: Sample,
    repository: String,
    source: String,
}

impl Push {
    fn new(number: usize) -> Self {
        let place = Place::new();
        let sample = Sample::new(1000 + number as u64, &[1_500_000, 800_000, 90_000]);
        let layout = place.dir("source");
        sample.image.write_layout(&layout, "v1").expect("write");
        Self {
            place,
            sample,
            repository: format!("case{number}/app"),
            source: format!("oci:{}:v1", layout.display()),
        }
    }

    /// Asserts that the registry has the image.
    #[track_caller]
    fn assert_there(&self, server: &Stratad) {
        let api = server.api();
        let manifest = api.manifest(&self.repository, "v1").expect(200);
        assert_eq!(manifest.body, self.sample.image.manifest);
        for blob in self.sample.image.blobs() {
            let there = api.blob(&self.repository, &Digest::of(blob)).expect(200);
            assert!(there.body == blob);
        }
    }
}

fn try_case(case: &Case, number: usize, server: &Stratad) -> Vec<String> {
    let push = Push::new(number);
    let strata = Strata::new(&push.place);
    let counts: Mutex<HashMap<Kind, usize>> = Mutex::default();
    let plan = case.plan;
    let proxy = Faulty::start(server.address(), move |asked, _| {
        let kind = Kind::of(asked);
        let mut counts = counts.lock().expect("counts");
        let count = counts.entry(kind).or_default();
        *count += 1;
        plan(kind, *count - 1)
    });
    let to = proxy.reference(&push.repository, "v1");
    let ran = strata.run(&["push", "-q", &push.source, &to]);
    let what = case.name;
    assert!(ran.took < Duration::from_secs(90), "{what}: {:?}", ran.took);
    let took = ran.took.as_secs_f64();
    let tally = proxy.tally();
    assert!(tally.faults > 0, "{what}");
    let outcome = match case.refused {
        None => {
            assert!(ran.status.success(), "{what}: {}", ran.story());
            push.assert_there(server);
            "right".to_owned()
        }
        Some(words) => {
            assert!(!ran.status.success(), "{what}: {}", ran.story());
            let ran = ran.refused();
            let host = proxy.address().to_string();
            for word in words {
                let told = match *word {
                    "{blob}" => push.sample.is_named_in(&ran.stderr),
                    "{host}" => ran.stderr.contains(&host),
                    word => ran.stderr.to_lowercase().contains(word),
                };
                assert!(told, "{what}: {word} is not told: {}", ran.stderr);
            }
            let api = server.api();
            assert_eq!(api.manifest(&push.repository, "v1").status, 404, "{what}");
            let direct = server.reference(&push.repository, "v1");
            strata.run(&["push", "-q", &push.source, &direct]).ok();
            push.assert_there(server);
            let line = ran.stderr.lines().last().unwrap_or_default();
            let line = line.replace(&host, "HOST");
            format!("refused: {}", line.chars().take(110).collect::<String>())
        }
    };
    assert_eq!(strata.leftovers(), [""; 0], "{what}");
    vec![
        what.to_owned(),
        format!("{}x", tally.faults),
        format!("{}/{}", tally.uploaded, push.sample.bytes()),
        format!("{:.2}", tally.uploaded as f64 / push.sample.bytes() as f64),
        format!("{took:.1} s"),
        outcome,
    ]
}

#[test]
fn each_fault_of_a_push_leaves_the_image_there_or_a_clear_message() {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let cases = cases();
    let numbered: Vec<(usize, &Case)> = cases.iter().enumerate().collect();
    let came = all(&numbered, 8, |(number, case)| {
        try_case(case, *number, &server)
    });
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    for line in came {
        match line {
            Ok(row) => rows.push(row),
            Err(why) => wrong.push(why),
        }
    }
    show(
        "faults of pushes: injected, bytes of blobs sent / their size, outcome",
        &rows,
    );
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}

#[test]
fn bytes_go_where_the_registry_leads_and_the_password_does_not() {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let push = Push::new(0);
    let strata = Strata::new(&push.place);
    let storage = Faulty::elsewhere("127.0.0.3", server.address(), |_, _| None);
    let there = storage.address();
    let target = server.address();
    let proxy = Faulty::start(target, move |asked, _| {
        if asked.header("authorization") != "Basic bWU6c2VjcmV0" {
            let challenge = [("WWW-Authenticate", "Basic realm=\"x\"")];
            return Some(Fault::Answer(reply(401, &challenge, b"")));
        }
        if asked.method != "POST" {
            return None;
        }
        // Begun there in the client's stead.
        let http = strata_tests::http::Http::new(target);
        let begun = http.send("POST", asked.path(), &[], b"").expect(202);
        let location = begun.header("location").expect("a Location");
        Some(led_to(&format!("http://{there}{location}")))
    });
    let auths = json!({ "auths": { proxy.address().to_string(): { "auth": "bWU6c2VjcmV0" } } });
    let file = push.place.join("auth.json");
    std::fs::write(&file, auths.to_string()).expect("write");
    let to = proxy.reference(&push.repository, "v1");
    let mut command = strata.command(&["push", "-q", &push.source, &to]);
    run(command.env("REGISTRY_AUTH_FILE", file)).ok();
    push.assert_there(&server);
    assert_eq!(proxy.tally().uploaded, 0);
    assert!(storage.tally().uploaded >= push.sample.bytes());
    for asked in storage.asked() {
        assert_eq!(asked.header("authorization"), "", "{asked:?}");
    }
}
