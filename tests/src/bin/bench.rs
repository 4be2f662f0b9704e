//! `cargo bench-registry`: measures the registry beside its peers and prints one table.

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    strata_tests::bench::main(&words)
}
