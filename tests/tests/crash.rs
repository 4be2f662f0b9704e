//! kill -9 at random instants: of the server under pushes, deletes and moved tags from several clients, and of
//! a pull.
//!
//! The server collects garbage meanwhile, and what no manifest names goes after [`GRACE`] seconds.
//!
//! STRATA_ROUNDS says how many times each is killed (30; hundreds take minutes), STRATA_SEED repeats
//! the choices, though not the instants, of a run: a failure prints it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use strata_oci::digest::Digest;
use strata_tests::binaries::binary;
use strata_tests::chance::{number, seed};
use strata_tests::command::Running;
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::place::{Place, remove_tree};
use strata_tests::strata::Strata;
use strata_tests::stratad::{Stratad, serve};
use strata_tests::traffic::audit::{copy_of_database, names, strings, unsound};
use strata_tests::traffic::{Client, audit, unswept};
use strata_tests::tree::Tree;

const CLIENTS: u64 = 4;

/// Long enough for a push on a slow machine, short enough for much to be collected in a run.
const GRACE: u64 = 3;

/// Lets a server begin on `data` and kills it, perhaps before it has begun.
fn begin_and_kill(data: &Path, wait: Duration) {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut command = serve(&binary("stratad"), data, any);
    let mut process = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start");
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
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|number| Client::of_collecting(number, seed, Duration::from_secs(GRACE)))
        .collect();
    let rounds = number("STRATA_ROUNDS", 30);
    let (mut uploads, mut orphans, mut known) = (0, BTreeSet::new(), BTreeSet::new());
    for round in 0..rounds {
        if random.random_ratio(1, 4) {
            begin_and_kill(&data, Duration::from_micros(random.random_range(0..15_000)));
        }
        let mut server =
            Stratad::launch_collecting(&binary("stratad"), &data, GRACE).expect("start");
        let (address, killed) = (server.address(), &AtomicBool::new(false));
        thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(move || {
                    let error = client.run(address);
                    assert!(
                        killed.load(Ordering::SeqCst),
                        "the server lives, and yet: {error}"
                    );
                });
            }
            thread::sleep(Duration::from_micros(random.random_range(100..120_000)));
            killed.store(true, Ordering::SeqCst);
            server.kill();
        });
        uploads += clients.iter().map(Client::uploads).sum::<usize>();
        let audit = audit(&data).expect("a database");
        let mut wrong = audit.wrong;
        orphans.extend(audit.orphan_blobs);
        known.extend(audit.blobs);
        server.start_again();
        let verified = thread::scope(|scope| {
            let verify = |client| scope.spawn(move || Client::verify(client, address));
            let threads: Vec<_> = clients.iter_mut().map(verify).collect();
            let verified = threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"));
            verified.collect::<Vec<_>>()
        });
        for found in verified {
            wrong.extend(found.expect("the server answers"));
        }
        assert!(
            wrong.is_empty(),
            "STRATA_SEED={seed}, round {round}:\n{}",
            wrong.join("\n")
        );
    }
    let swept = until_swept(&data);
    let audit = audit(&data).expect("a database");
    assert_eq!(audit.wrong, [""; 0]);
    let collected = known.len() - known.intersection(&audit.blobs).count();
    let acknowledged: u64 = clients.iter().map(Client::acknowledged).sum();
    println!(
        "{rounds} kills, {acknowledged} changes acknowledged, all there; {uploads} uploads went on; \
         {} blobs had no row, all swept within {swept:?}; {collected} blobs of {} collected",
        orphans.len(),
        known.len()
    );
    assert!(
        acknowledged > rounds && uploads > 0 && collected > 0,
        "hardly anything was tried"
    );
}

/// Lets a server sweep what the kills have left; how long that took.
fn until_swept(data: &Path) -> Duration {
    let server = Stratad::launch_collecting(&binary("stratad"), data, GRACE).expect("start");
    let begun = Instant::now();
    loop {
        let left = unswept(data).expect("a database");
        if left.is_empty() {
            return begun.elapsed();
        }
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "not swept: {left:?}\n{}",
            server.log()
        );
        thread::sleep(Duration::from_millis(50));
    }
}

/// An image of some layers with large and many small files.
fn image(random: &mut StdRng) -> Image {
    let mut bytes = |size: usize| {
        let mut bytes = vec![0; size];
        random.fill(bytes.as_mut_slice());
        bytes
    };
    let layers = (0..6).map(|number| {
        if number % 2 == 0 {
            return Layer::of(&[Entry::file(format!("large{number}"), bytes(2_000_000))]);
        }
        let small = (0..400).map(|n| Entry::file(format!("dir{number}/{n}"), bytes(700)));
        let mut entries: Vec<Entry> = small.collect();
        entries.insert(0, Entry::dir(format!("dir{number}/")));
        Layer::of(&entries)
    });
    Image::new(&layers.collect::<Vec<_>>())
}

/// What the layers of an image are, by the hex digits of their diffIDs.
type Trees = BTreeMap<String, Digest>;

/// Every layer that a store shows, by name or by row, is there and whole.
fn check_store(strata: &Strata, whole: &Trees) -> Vec<String> {
    let layers = strata.root().join("layers");
    let mut wrong = Vec::new();
    for name in names(&layers) {
        let found = Tree::try_read(&layers.join(&name).join("fs"));
        let found = found.map(|tree| tree.digest()).ok();
        if found.is_none() || found.as_ref() != whole.get(&name) {
            wrong.push(format!("the layer {name} is not whole"));
        }
    }
    let database = strata.root().join("strata.db");
    if !database.exists() {
        return wrong;
    }
    let (_copy, db) = copy_of_database(&database).expect("a database");
    wrong.extend(unsound(&db).expect("a database"));
    // Killed before there were tables, it has none.
    for digest in strings(&db, "SELECT diff_id FROM layers").unwrap_or_default() {
        let digest: Digest = digest.parse().expect("a digest");
        if !layers.join(digest.hex()).is_dir() {
            wrong.push(format!("the layer {digest} has a row and no directory"));
        }
    }
    wrong
}

#[test]
fn a_pull_that_is_killed_leaves_only_whole_layers_and_the_next_one_works() {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let image = image(&mut random);
    let reference = server.api().push(&image, "app", "v1");
    let undisturbed = Strata::at(binary("strata"), place.join("undisturbed"));
    let mut took = undisturbed.run(&["pull", &reference]).ok().took;
    let whole: Trees = undisturbed
        .layers()
        .into_iter()
        .map(|name| {
            let tree = Tree::read(&undisturbed.root().join("layers").join(&name).join("fs"));
            (name, tree.digest())
        })
        .collect();
    assert_eq!(whole.len(), image.layers.len());
    let strata = Strata::new(&place);
    let (mut finished, mut resumed) = (0, 0);
    for round in 0..number("STRATA_ROUNDS", 30) {
        let mut pull = Running::start(&mut strata.command(&["pull", &reference]));
        thread::sleep(took.mul_f64(random.random_range(0.0..1.2)));
        if pull.child.try_wait().expect("wait").is_some() {
            finished += 1;
        }
        drop(pull);
        let mut wrong = check_store(&strata, &whole);
        if random.random_ratio(1, 3) {
            let pull = strata.run(&["pull", &reference]).ok();
            let layers = strata.layers();
            if !layers.iter().eq(whole.keys()) {
                wrong.push(format!("after a pull the store shows {layers:?}"));
            }
            let left = strata.leftovers();
            wrong.extend(
                left.iter()
                    .map(|name| format!("{name} is left after a pull")),
            );
            wrong.extend(check_store(&strata, &whole));
            took = took.min(pull.took);
            resumed += 1;
            remove_tree(strata.root()).expect("remove the store");
        }
        assert!(
            wrong.is_empty(),
            "STRATA_SEED={seed}, round {round}:\n{}",
            wrong.join("\n")
        );
    }
    println!(
        "{finished} pulls were done before they were killed; {resumed} went on after some kills"
    );
}
