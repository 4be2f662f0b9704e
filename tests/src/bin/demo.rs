//! `cargo demo`: shows what Strata does, and checks each thing that it shows.

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    strata_tests::demo::main(&words)
}
