//! The `strata` command: what was typed -> what it means -> run -> exit code.
//!
//! Exit codes: 0 done, 1 refused (the request cannot be met and the message says why), 2 unexpected
//! (usage or an internal failure); `run` leaves with the container's.

mod args;
mod command;
mod logs;
mod printer;
mod prompt;
mod settings;
mod show;
mod template;
mod transport;

use std::process::ExitCode;

fn main() -> ExitCode {
    // A container's first process is this program too, and nothing else may happen in it before.
    strata::run::become_container().unwrap_or_else(args::parse_and_run)
}
