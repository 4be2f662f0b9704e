//! Single errors of the disk, at any change or sync of the server's: the client is told in the protocol's words, nothing
//! acknowledged is lost, and the server goes on without a restart.
//!
//! STRATA_ROUNDS says how many errors there are (60), STRATA_SEED repeats a run: a failure prints it.

use std::io::Error;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::io::Errno;
use strata_tests::binaries::binary;
use strata_tests::chance::{number, seed};
use strata_tests::forgetful::{Forgetful, Loss};
use strata_tests::place::Place;
use strata_tests::stratad::Stratad;
use strata_tests::traffic::{Client, audit};

/// Steps of a client, one of which may meet the error. `Some` is what it was told.
fn meet(client: &mut Client, server: &Stratad) -> Option<Error> {
    (0..8).find_map(|_| client.step(server.address()).err())
}

#[test]
fn an_error_at_any_step_is_told_and_costs_nothing() {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let place = Place::new();
    let mut disk = Forgetful::mount(&place.dir("disk")).expect("the disk");
    let data = disk.path().join("data");
    let start = || Stratad::launch(&binary("stratad"), &data).expect("start");
    let mut server = start();
    let mut client = Client::new(0, seed);
    let rounds = number("STRATA_ROUNDS", 60);
    let errors = [Errno::NOSPC, Errno::IO, Errno::ROFS];
    let (mut failed, mut told) = (0, 0);
    for round in 0..rounds {
        let error = errors[random.random_range(0..errors.len())];
        let operation = random.random_range(1..60);
        let story = format!("STRATA_SEED={seed}, round {round}, {error:?} at {operation}");
        disk.fail_at(disk.operations() + operation, error);
        let met = meet(&mut client, &server);
        failed += u64::from(disk.heal());
        if let Some(met) = met {
            let said = met.to_string();
            let server_error = ["500 ", "503 ", "507 "].iter().any(|s| said.starts_with(s));
            assert!(
                server_error && said.contains(r#"{"errors":[{"#),
                "{story}: {said}\n{}",
                server.log()
            );
            told += 1;
        }
        // What a restart would show is shown only by every tenth.
        if round % 10 == 9 {
            disk.cut();
            server.kill();
            disk.power_cut(Loss::All).expect("power");
            assert_eq!(audit(&data).expect("a database").wrong, [""; 0], "{story}");
            server = start();
        }
        let wrong = client.verify(server.address()).expect("it answers");
        assert_eq!(wrong, [""; 0], "{story}\n{}", server.log());
        let next = client.step(server.address());
        assert!(next.is_ok(), "{story}: {next:?}\n{}", server.log());
    }
    let acknowledged = client.acknowledged();
    println!("{failed} errors, {told} told, {acknowledged} changes acknowledged, all there");
    assert!(
        failed > rounds / 2 && told > rounds / 4,
        "hardly anything failed"
    );
}
