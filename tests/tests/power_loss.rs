//! Power cuts: what was acknowledged stays, on a file system that forgets whatever was not synced.
//!
//! The power is cut at the moment of one change or sync of the server's, counted and chosen at random, so that cuts fall
//! between any two steps of a push. STRATA_ROUNDS says how many times (30), STRATA_SEED repeats a run: a
//! failure prints it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use strata_tests::binaries::binary;
use strata_tests::chance::{number, seed};
use strata_tests::forgetful::{Deaf, Forgetful, Loss, Sync};
use strata_tests::place::Place;
use strata_tests::stratad::Stratad;
use strata_tests::traffic::{Client, audit, unswept};

const CLIENTS: u64 = 3;

/// What no manifest names is collected after so many seconds.
const GRACE: u64 = 3;

/// Cuts of a normal run.
const ROUNDS: u64 = 30;

/// A server on a disk that forgets, and its clients.
struct Scene {
    disk: Forgetful,
    data: PathBuf,
    clients: Vec<Client>,
    orphan_blobs: BTreeSet<String>,
    _place: Place,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let place = Place::new();
        let disk = Forgetful::mount(&place.dir("disk")).expect("the disk");
        Self {
            data: disk.path().join("data"),
            disk,
            clients: (0..CLIENTS)
                .map(|number| Client::of_collecting(number, seed, Duration::from_secs(GRACE)))
                .collect(),
            orphan_blobs: BTreeSet::new(),
            _place: place,
        }
    }

    fn start(&self) -> Result<Stratad, String> {
        let server = Stratad::launch_collecting(&binary("stratad"), &self.data, GRACE);
        server.map_err(|error| format!("{error:#}"))
    }

    /// All clients at once until the power is gone; what they were refused before that. A loss of an earlier round
    /// may show in that: an upload that was acknowledged is not known, for example.
    fn traffic(&mut self, server: SocketAddr) -> Vec<String> {
        let disk = &self.disk;
        std::thread::scope(|scope| {
            let clients = self.clients.iter_mut().map(|client| {
                scope.spawn(move || {
                    let error = client.run(server);
                    (!disk.is_cut()).then(|| format!("there is power, and yet: {error}"))
                })
            });
            let clients: Vec<_> = clients.collect();
            let ended = clients.into_iter().map(|client| client.join());
            ended.filter_map(|said| said.expect("a client")).collect()
        })
    }

    /// The power goes after `operations` more changes and syncs, and comes back. What is not so then?
    fn round(
        &mut self,
        operations: u64,
        loss: Loss,
        deaf: Option<Deaf>,
        restart: bool,
    ) -> Vec<String> {
        if let Some(deaf) = deaf {
            self.disk.ignore(deaf);
        }
        // Some cuts come while the server recovers from the one before.
        let cut = |disk: &Forgetful| disk.cut_at(disk.operations() + operations);
        if restart {
            cut(&self.disk);
        }
        let mut refused = Vec::new();
        match self.start() {
            Ok(mut server) => {
                if !restart {
                    cut(&self.disk);
                }
                refused = self.traffic(server.address());
                server.kill();
            }
            Err(error) => assert!(self.disk.is_cut(), "{error}"),
        }
        self.disk.power_cut(loss).expect("power");
        refused.extend(self.check());
        refused
    }

    fn check(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        // Cut off in its very first start, there is no database yet.
        if self.data.join("stratad.db").exists() {
            match audit(&self.data) {
                Ok(audit) => {
                    wrong.extend(audit.wrong);
                    self.orphan_blobs.extend(audit.orphan_blobs);
                }
                Err(error) => wrong.push(format!("{error:#}")),
            }
        }
        let server = match self.start() {
            Ok(server) => server,
            Err(error) => return vec![error],
        };
        for client in &mut self.clients {
            match client.verify(server.address()) {
                Ok(found) => wrong.extend(found),
                Err(error) => wrong.push(format!("the server does not answer: {error}")),
            }
            if let Err(error) = client.step(server.address()) {
                wrong.push(format!("it takes no new pushes: {error}"));
            }
        }
        wrong
    }
}

/// All that was acknowledged is there, after every cut, and the server goes on.
#[test]
fn nothing_acknowledged_is_lost_in_a_power_cut() {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut scene = Scene::new(seed);
    let rounds = number("STRATA_ROUNDS", ROUNDS);
    for round in 0..rounds {
        let operations = random.random_range(1..1500);
        let restart = round > 0 && random.random_ratio(1, 4);
        let loss = if random.random() {
            Loss::All
        } else {
            Loss::Some {
                seed: random.next_u64(),
            }
        };
        let wrong = scene.round(operations, loss, None, restart);
        assert!(
            wrong.is_empty(),
            "STRATA_SEED={seed}, round {round} ({loss:?}, cut after {operations}, restart {restart}):\n{}",
            wrong.join("\n")
        );
    }
    let acknowledged: u64 = scene.clients.iter().map(Client::acknowledged).sum();
    let orphans = scene.orphan_blobs.len();
    let server = scene.start().expect("start");
    let begun = Instant::now();
    while let Some(left) = unswept(&scene.data).expect("a database").first() {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{left} is not swept\n{}",
            server.log()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    println!(
        "{rounds} cuts, {acknowledged} changes acknowledged, all there; {orphans} blobs without a row, all swept"
    );
    assert!(acknowledged > rounds, "hardly anything was tried");
}

/// A server that was cut off in its very first start starts again. What only a kill has interrupted is durable
/// before anything is acknowledged.
#[test]
fn a_cut_in_the_first_start_does_no_harm() {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let whole = {
        let scene = Scene::new(seed);
        drop(scene.start().expect("start"));
        scene.disk.operations()
    };
    let losses = [
        Loss::Nothing,
        Loss::All,
        Loss::Some {
            seed: random.next_u64(),
        },
    ];
    // The database comes first, and every few steps of it are tried; then come the shards, all alike.
    let database = whole.saturating_sub(512).max(1);
    let step = if number("STRATA_ROUNDS", ROUNDS) > ROUNDS {
        1
    } else {
        4
    };
    let cuts = (random.random_range(1..=step)..database).step_by(step as usize);
    let shards = (0..10).map(|_| random.random_range(database..=whole));
    let cuts: Vec<u64> = cuts.chain(shards).collect();
    for (number, operations) in cuts.into_iter().enumerate() {
        let loss = losses[number % losses.len()];
        let mut scene = Scene::new(seed);
        let mut wrong = scene.round(operations, loss, None, true);
        if wrong.is_empty() && operations >= database {
            wrong = scene.round(200, Loss::All, None, false);
        }
        assert!(
            wrong.is_empty(),
            "STRATA_SEED={seed}, {loss:?}, cut after {operations} of {whole}:\n{}",
            wrong.join("\n")
        );
    }
}

/// What a disk that ignores these syncs loses, after the first of some power cuts after which anything is missing.
fn lost(deaf: Deaf, from_the_start: bool) -> Vec<String> {
    let seed = seed();
    let mut scene = Scene::new(seed);
    if !from_the_start {
        assert_eq!(scene.round(300, Loss::All, None, false), [""; 0]);
    }
    for _ in 0..5 {
        let wrong = scene.round(1500, Loss::All, Some(deaf), false);
        if !wrong.is_empty() {
            return wrong;
        }
    }
    Vec::new()
}

/// The test can fail: each sync of the server's is needed, and that it is missing would be seen.
#[test]
fn without_the_syncs_this_test_sees_the_loss() {
    let always: [(&str, Deaf); 5] = [
        ("of anything", |_| true),
        (
            "of uploads' files",
            |s| matches!(s, Sync::File(name) if name.len() == 32),
        ),
        ("of uploads' names", |s| {
            matches!(s, Sync::Directory("uploads"))
        }),
        (
            "of blobs' names",
            |s| matches!(s, Sync::Directory(name) if name.len() == 2),
        ),
        (
            "of the database",
            |s| matches!(s, Sync::File(name) if name.starts_with("stratad.db")),
        ),
    ];
    let first_start: [(&str, Deaf); 4] = [
        ("of the data directory's name", |s| {
            matches!(s, Sync::Directory("/"))
        }),
        ("of the names in it", |s| {
            matches!(s, Sync::Directory("data"))
        }),
        ("of the algorithms' names", |s| {
            matches!(s, Sync::Directory("blobs"))
        }),
        ("of the shards' names", |s| {
            matches!(s, Sync::Directory("sha256"))
        }),
    ];
    let always = always.map(|(what, deaf)| (what, deaf, false));
    let first_start = first_start.map(|(what, deaf)| (what, deaf, true));
    for (what, deaf, from_the_start) in always.into_iter().chain(first_start) {
        let lost = lost(deaf, from_the_start);
        let first = lost
            .first()
            .unwrap_or_else(|| panic!("no loss without the sync {what}"));
        println!(
            "without the sync {what}: {} things are wrong, the first: {first}",
            lost.len()
        );
    }
}
