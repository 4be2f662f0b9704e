//! Chance for tests that try what nobody thought of: a failure says the seed that brings it about again.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A number from the environment.
#[track_caller]
pub fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// `STRATA_SEED`, or another number each time. It is printed.
#[track_caller]
pub fn seed() -> u64 {
    let seed = number("STRATA_SEED", rand::rng().next_u64() >> 16);
    println!("STRATA_SEED={seed}");
    seed
}

/// What goes by [`seed`].
#[track_caller]
pub fn random() -> StdRng {
    StdRng::seed_from_u64(seed())
}
