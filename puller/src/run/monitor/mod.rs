//! The monitor: a small process beside each running container, without which nothing of it depends on the command
//! that has started it.
//!
//! It is the parent of the container's first process, which dies with it, and holds the container's lock, so that
//! whatever is killed, the next command sees what is the case. It keeps what the program prints, shows it to whoever
//! is attached, takes input and signals, starts further programs, and records the end. There is one thread, which waits
//! for all of that at once and for nothing else.

mod client;
mod exec;
mod launch;
mod life;
mod program;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::sys;

pub use launch::{Launch, launch};

/// The name under which our own program is started to be a monitor.
pub(super) const NAME: &str = "strata: monitor";

/// Where the connection to the command that starts the container is.
const STARTER: i32 = 3;
/// Where the orders are.
const ORDERS: i32 = 4;
/// Where the container's lock is.
const LOCK: i32 = 5;

/// Which container to start, and how.
#[derive(Debug, Serialize, Deserialize)]
struct Orders {
    /// The store's directory.
    store: PathBuf,
    /// The container's id.
    id: String,
    /// Whether this happens in a user namespace.
    rootless: bool,
    /// The layers, top first.
    lowers: Vec<PathBuf>,
    /// The only driver to be used.
    driver: Option<String>,
    /// What the container is to be.
    config: Config,
    /// Whether the command wants to be shown what the program prints.
    attached: bool,
    /// Whether the program's input is the command's.
    input: bool,
    /// Rows and columns of the person's terminal.
    size: (u16, u16),
}

/// Whether process `pid` is the monitor of the container with this id.
pub fn is_monitor(pid: i32, id: &str) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line == format!("{NAME}\0{id}\0").into_bytes()
}

/// Is the monitor of a container, to its end.
pub(super) fn become_monitor() -> ExitCode {
    let (Some(starter), Some(orders), Some(lock)) = (
        sys::inherited(STARTER),
        sys::inherited(ORDERS),
        sys::inherited(LOCK),
    ) else {
        return ExitCode::from(125);
    };
    life::live(starter, orders, lock);
    ExitCode::SUCCESS
}
