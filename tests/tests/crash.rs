//! kill -9 at random instants: of the server under pushes, deletes and moved tags from several clients, and of
//! a pull.
//!
//! STRATA_ROUNDS says how many times each is killed (40; hundreds take minutes), STRATA_SEED repeats
//! the choices, though not the instants, of a run: a failure prints it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use strata_tests::binaries::binary;
use strata_tests::place::Place;
use strata_tests::stratad::{Stratad, serve};
use strata_tests::traffic::{Client, audit};

const CLIENTS: u64 = 4;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

fn seed() -> u64 {
    let seed = number("STRATA_SEED", rand::rng().next_u64() >> 16);
    println!("STRATA_SEED={seed}");
    seed
}

/// Lets a server begin on `data` and kills it, perhaps before it has begun.
fn begin_and_kill(data: &std::path::Path, wait: Duration) {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut command = serve(&binary("stratad"), data, any);
    let mut process = command.stdout(std::process::Stdio::null()).spawn().expect("start");
    thread::sleep(wait);
    process.kill().expect("kill");
    process.wait().expect("wait");
}

#[test]
fn a_server_that_is_killed_keeps_what_it_acknowledged() {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let place = Place::new();
    let data = place.join("data");
    let mut clients: Vec<Client> = (0..CLIENTS).map(|number| Client::new(number, seed)).collect();
    let rounds = number("STRATA_ROUNDS", 40);
    let (mut uploads, mut orphans) = (0, BTreeSet::new());
    for round in 0..rounds {
        if random.random_ratio(1, 4) {
            begin_and_kill(&data, Duration::from_micros(random.random_range(0..15_000)));
        }
        let mut server = Stratad::start(&data);
        let (address, killed) = (server.address(), &AtomicBool::new(false));
        thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(move || {
                    let error = client.run(address);
                    assert!(killed.load(Ordering::SeqCst), "the server lives, and yet: {error}");
                });
            }
            thread::sleep(Duration::from_micros(random.random_range(100..120_000)));
            killed.store(true, Ordering::SeqCst);
            server.kill();
        });
        uploads += clients.iter().map(Client::uploads).sum::<usize>();
        server.start_again();
        let audit = audit(&data).expect("a database");
        let mut wrong = audit.wrong;
        let unswept = audit.orphan_uploads.iter();
        wrong.extend(unswept.map(|id| format!("the upload {id} has no session and was not swept")));
        orphans.extend(audit.orphan_blobs);
        for client in &mut clients {
            wrong.extend(client.verify(address).expect("the server answers"));
        }
        assert!(wrong.is_empty(), "STRATA_SEED={seed}, round {round}:\n{}", wrong.join("\n"));
    }
    let acknowledged: u64 = clients.iter().map(Client::acknowledged).sum();
    println!(
        "{rounds} kills, {acknowledged} changes acknowledged, all there; {uploads} uploads went on; \
         {} blobs had no row",
        orphans.len()
    );
    assert!(acknowledged > rounds && uploads > 0, "hardly anything was tried");
}
