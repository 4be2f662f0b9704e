//! The only writer of results (stdout) and messages (stderr).

use std::process::ExitCode;

/// Prints an error with its causes and gives the exit code it stands for.
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("strata: {error:#}");
    ExitCode::from(1)
}

/// Prints one line of a result.
pub(crate) fn line(text: impl std::fmt::Display) {
    println!("{text}");
}
