//! Transfers that are killed at any instant and begun again, and transfers beside each other: the result is right,
//! nothing is left, and each byte travels once but for what was in flight.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use strata_oci::digest::Digest;
use strata_tests::api::Api;
use strata_tests::command::{Ran, Running, run};
use strata_tests::distribution::Distribution;
use strata_tests::faulty::Faulty;
use strata_tests::place::Place;
use strata_tests::stratad::Stratad;
use strata_tests::trial::{Sample, Trial, Way, all, api, show};

/// Bytes a second on each connection: the largest layer takes most of a second.
const RATE: u64 = 4_000_000;
/// How often each transfer is killed before it may end.
const KILLS: usize = 5;

/// Ours and Debian's.
struct Registries {
    ours: Stratad,
    theirs: Distribution,
    _place: Place,
}

impl Registries {
    fn start() -> Self {
        let place = Place::new();
        Self {
            ours: Stratad::start(&place.join("data")),
            theirs: Distribution::start(&place, "theirs"),
            _place: place,
        }
    }

    fn address(&self, seed: u64) -> SocketAddr {
        [self.ours.address(), self.theirs.address()][seed as usize % 2]
    }
}

fn sample() -> Sample {
    Sample::new(3, &[2_500_000, 1_200_000, 300_000])
}

/// When to kill: mostly in the transfer, now and then before or behind it.
fn instants(seed: u64) -> impl Iterator<Item = Duration> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..KILLS).map(move |_| Duration::from_millis(rng.random_range(20..500)))
}

fn failures<R>(came: &[Result<R, String>]) -> Vec<&String> {
    came.iter().filter_map(|came| came.as_ref().err()).collect()
}

#[test]
fn a_download_that_is_killed_again_and_again_costs_what_was_in_flight() {
    let registries = Registries::start();
    let sample = sample();
    for address in [registries.address(0), registries.address(1)] {
        api(address).push(&sample.image, "app", "v1");
    }
    let seeds: Vec<u64> = (0..12).collect();
    let came = all(&seeds, 6, |seed| {
        let way = [Way::Pull, Way::Copy][(*seed as usize / 2) % 2];
        let trial = Trial::new(way);
        let proxy = Faulty::slow(registries.address(*seed), RATE);
        let reference = proxy.reference("app", "v1");
        let mut kills = 0;
        for instant in instants(*seed) {
            let running = Running::start(&mut trial.command(&reference));
            std::thread::sleep(instant);
            running.signal(Signal::KILL);
            kills += usize::from(running.wait().code() == 137);
            if proxy.tally().blob_bytes() < sample.bytes() {
                trial.assert_nothing_visible();
            }
        }
        trial.run(&reference).ok();
        trial.assert_right(&sample);
        let tally = proxy.tally();
        let bound = tally.clone().with_kills(kills);
        bound.assert_bound(sample.bytes(), &format!("seed {seed}"));
        (kills, tally)
    });
    assert!(failures(&came).is_empty(), "{:#?}", failures(&came));
    let came: Vec<_> = came.into_iter().flatten().collect();
    let kills: usize = came.iter().map(|(kills, _)| kills).sum();
    let left: u64 = came.iter().map(|(_, tally)| tally.left).sum();
    let sent: u64 = came.iter().map(|(_, tally)| tally.blob_bytes()).sum();
    assert!(kills >= seeds.len(), "{kills} kills");
    let size = sample.bytes() * came.len() as u64;
    let rows = [
        ("transfers", came.len() as u64),
        ("kills", kills as u64),
        ("connections that broke", left),
        ("bytes of blobs sent", sent),
        ("their size", size),
        (
            "sent twice for each broken connection",
            (sent - size) / left.max(1),
        ),
    ];
    let rows = rows.map(|(name, value)| vec![name.to_owned(), value.to_string()]);
    show("downloads killed with SIGKILL", &rows);
}

#[test]
fn signals_end_a_download_at_once_and_tidily() {
    let registries = Registries::start();
    let sample = sample();
    registries.ours.api().push(&sample.image, "app", "v1");
    let cases: Vec<(Way, Signal, i32)> = [Way::Pull, Way::Copy]
        .into_iter()
        .flat_map(|way| [(way, Signal::INT, 130), (way, Signal::TERM, 143)])
        .collect();
    let came = all(&cases, 4, |(way, signal, code)| {
        let trial = Trial::new(*way);
        let proxy = Faulty::slow(registries.ours.address(), RATE);
        let reference = proxy.reference("app", "v1");
        let running = Running::start(&mut trial.command(&reference));
        while proxy.tally().blob_bytes() < sample.bytes() / 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        running.signal(*signal);
        let told = std::time::Instant::now();
        let ran = running.wait();
        assert!(
            told.elapsed() < Duration::from_secs(15),
            "{:?}",
            told.elapsed()
        );
        assert_eq!(ran.code(), *code, "{}", ran.story());
        trial.assert_nothing_visible();
        trial.assert_tidy();
        trial.run(&reference).ok();
        trial.assert_right(&sample);
        let tally = proxy.tally().with_kills(1);
        tally.assert_bound(sample.bytes(), "after a signal");
    });
    assert!(failures(&came).is_empty(), "{:#?}", failures(&came));
}

#[test]
fn signals_end_a_push_at_once_and_the_next_one_sends_the_rest() {
    let registries = Registries::start();
    for (n, (signal, code)) in [(Signal::INT, 130), (Signal::TERM, 143)]
        .into_iter()
        .enumerate()
    {
        let trial = Trial::new(Way::Copy);
        let sample = Sample::new(50 + n as u64, &[2_500_000, 300_000]);
        let layout = trial.place.dir("source");
        sample.image.write_layout(&layout, "v1").expect("write");
        let source = format!("oci:{}:v1", layout.display());
        let proxy = Faulty::slow(registries.ours.address(), RATE);
        let args = ["push", "-q", &source, &proxy.reference("app", "v1")];
        let running = Running::start(&mut trial.strata.command(&args));
        while proxy.tally().uploaded < sample.bytes() / 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        running.signal(signal);
        let told = std::time::Instant::now();
        let ran = running.wait();
        assert!(
            told.elapsed() < Duration::from_secs(15),
            "{:?}",
            told.elapsed()
        );
        assert_eq!(ran.code(), code, "{}", ran.story());
        let api = registries.ours.api();
        let known = api.manifest("app", "v1");
        assert_ne!(known.body, sample.image.manifest);
        run(&mut trial.strata.command(&args)).ok();
        let manifest = api.manifest("app", "v1").expect(200);
        assert_eq!(manifest.body, sample.image.manifest);
        assert_eq!(trial.strata.leftovers(), [""; 0]);
    }
}

/// Blobs of the image that a registry has in `app`.
fn there(api: &Api, sample: &Sample) -> BTreeSet<String> {
    let digests = sample.image.blobs().map(Digest::of);
    let here = digests.filter(|digest| {
        let target = format!("/v2/app/blobs/{digest}");
        answered(api, "HEAD", &target) == 200
    });
    here.map(|digest| digest.to_string()).collect()
}

/// The status of an answer. A registry that is just being left alone may reset a connection: it is asked again.
fn answered(api: &Api, method: &str, target: &str) -> u16 {
    let limit = Instant::now() + Duration::from_secs(60);
    let accept = strata_oci::media::ACCEPT_MANIFESTS.join(", ");
    loop {
        match api.0.try_send(method, target, &[("Accept", &accept)]) {
            Ok(reply) => return reply.status,
            Err(error) => assert!(Instant::now() < limit, "{method} {target}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_push_that_is_killed_again_and_again_sends_no_finished_blob_twice() {
    let sample = sample();
    let seeds: Vec<u64> = (0..6).collect();
    let came = all(&seeds, 6, |seed| {
        let registries = Registries::start();
        let trial = Trial::new(Way::Copy);
        let layout = trial.place.dir("source");
        sample.image.write_layout(&layout, "v1").expect("write");
        let source = format!("oci:{}:v1", layout.display());
        let proxy = Faulty::slow(registries.address(*seed), RATE);
        let api = api(registries.address(*seed));
        let args = ["push", "-q", &source, &proxy.reference("app", "v1")];
        let mut had = BTreeSet::new();
        let mut seen = 0;
        // Those that the registry had whole before a run began are not sent in it.
        let mut assert_not_again = |had: &BTreeSet<String>| {
            let asked = proxy.asked();
            for request in asked[seen..].iter().filter(|asked| asked.method == "PUT") {
                let again = had.iter().find(|digest| {
                    let hex = digest.trim_start_matches("sha256:");
                    request.target.contains(hex) && !request.target.contains("/manifests/")
                });
                assert_eq!(again, None, "sent again: {}", request.target);
            }
            seen = asked.len();
        };
        for instant in instants(*seed) {
            let running = Running::start(&mut trial.strata.command(&args));
            std::thread::sleep(instant);
            running.signal(Signal::KILL);
            let ended: Ran = running.wait();
            assert_not_again(&had);
            // What was on its way is taken in or thrown away by now.
            std::thread::sleep(Duration::from_millis(100));
            had = there(&api, &sample);
            let known = answered(&api, "GET", "/v2/app/manifests/v1");
            assert!(
                known == 404 || ended.code() == 0 || had.len() == 4,
                "{known}"
            );
        }
        run(&mut trial.strata.command(&args)).ok();
        assert_not_again(&had);
        assert_eq!(there(&api, &sample).len(), 4);
        let manifest = api.manifest("app", "v1").expect(200);
        assert_eq!(manifest.body, sample.image.manifest);
        assert_eq!(trial.strata.leftovers(), [""; 0]);
        (proxy.tally().uploaded, sample.bytes())
    });
    assert!(failures(&came).is_empty(), "{:#?}", failures(&came));
    let came: Vec<_> = came.into_iter().flatten().collect();
    let (sent, size) = came
        .iter()
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let row = format!(
        "{sent} bytes sent for {size} in {} kills",
        came.len() * KILLS
    );
    show("pushes killed with SIGKILL", &[vec![row]]);
}

/// Pulls or copies these at once into one place; the bytes sent of each blob.
fn at_once(trial: &Trial, proxy: &Faulty, references: &[String]) -> Vec<(String, u64)> {
    let start = |reference: &String| Running::start(&mut trial.command(reference));
    let running: Vec<Running> = references.iter().map(start).collect();
    for one in running {
        one.wait().ok();
    }
    proxy.tally().sent.into_iter().collect()
}

#[test]
fn processes_that_want_the_same_image_fetch_each_layer_once() {
    let registries = Registries::start();
    let sample = sample();
    registries.ours.api().push(&sample.image, "app", "v1");
    let cases: Vec<(Way, usize)> = [Way::Pull, Way::Copy]
        .into_iter()
        .flat_map(|way| [2, 4].map(|count| (way, count)))
        .collect();
    let came = all(&cases, 4, |(way, count)| {
        let trial = Trial::new(*way);
        let proxy = Faulty::slow(registries.ours.address(), RATE);
        let references = vec![proxy.reference("app", "v1"); *count];
        let sent = at_once(&trial, &proxy, &references);
        trial.assert_right(&sample);
        for layer in &sample.image.layers {
            let digest = layer.digest.to_string();
            let bytes = sent.iter().find(|(name, _)| *name == digest);
            let once = layer.blob.len() as u64;
            assert_eq!(
                bytes.map(|(_, bytes)| *bytes),
                Some(once),
                "{way:?} {count}"
            );
        }
        let config = sample.image.config.len() as u64;
        let all = proxy.tally().blob_bytes() - sample.image.layer_bytes();
        assert!(all <= config * *count as u64, "configurations: {all}");
        vec![
            format!("{count} x {way:?}"),
            format!("{}/{}", proxy.tally().blob_bytes(), sample.bytes()),
        ]
    });
    assert!(failures(&came).is_empty(), "{:#?}", failures(&came));
    let rows: Vec<_> = came.into_iter().flatten().collect();
    show(
        "processes that want one image: bytes of blobs sent / its size",
        &rows,
    );
}

#[test]
fn images_that_share_layers_and_are_pulled_at_once_fetch_each_layer_once() {
    let registries = Registries::start();
    let (one, two) = (sample(), Sample::new(4, &[900_000, 200_000]));
    // In another order: whoever takes them one by one waits for the other for ever.
    let first = Sample::of_layers(&[(&one, 0), (&one, 1), (&two, 0)]);
    let second = Sample::of_layers(&[(&two, 1), (&one, 1), (&one, 0)]);
    let api = registries.ours.api();
    api.push(&first.image, "first", "v1");
    api.push(&second.image, "second", "v1");
    let trial = Trial::new(Way::Pull);
    let proxy = Faulty::slow(registries.ours.address(), RATE);
    let references = ["first", "second", "first", "second"].map(|name| proxy.reference(name, "v1"));
    let sent = at_once(&trial, &proxy, &references);
    for layer in first.image.layers.iter().chain(&second.image.layers) {
        let digest = layer.digest.to_string();
        let bytes = sent.iter().find(|(name, _)| *name == digest);
        assert_eq!(
            bytes.map(|(_, bytes)| *bytes),
            Some(layer.blob.len() as u64)
        );
    }
    assert_eq!(trial.strata.layers().len(), 4);
    assert_eq!(trial.strata.leftovers(), [""; 0]);
}

#[test]
fn who_waits_for_a_process_that_is_killed_goes_on_from_its_bytes() {
    let registries = Registries::start();
    let sample = sample();
    registries.ours.api().push(&sample.image, "app", "v1");
    for way in [Way::Pull, Way::Copy] {
        let trial = Trial::new(way);
        let proxy = Faulty::slow(registries.ours.address(), RATE);
        let reference = proxy.reference("app", "v1");
        let first = Running::start(&mut trial.command(&reference));
        while proxy.tally().blob_bytes() < sample.bytes() / 4 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let second = Running::start(&mut trial.command(&reference));
        while proxy.tally().blob_bytes() < sample.bytes() / 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        first.signal(Signal::KILL);
        assert_eq!(first.wait().code(), 137);
        second.wait().ok();
        // What the killed one had begun to unpack goes with the next command.
        trial.run(&reference).ok();
        trial.assert_right(&sample);
        // The configuration is asked for by each.
        let size = sample.bytes() + sample.image.config.len() as u64;
        let tally = proxy.tally().with_kills(1);
        tally.assert_bound(size, &format!("{way:?}"));
    }
}
