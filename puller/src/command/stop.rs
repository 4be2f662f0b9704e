//! `strata stop`: ask containers to end, and kill those that do not.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use strata::run::{self, RunError, signals};
use strata::store::Store;
use strata::store::containers::{Container, State};

use super::containers::{config, find};
use crate::printer;
use crate::settings::Settings;

/// How a container is stopped.
#[derive(clap::Args, Clone)]
pub(crate) struct StopArgs {
    /// Seconds to wait before killing it; -1 waits for ever [default: the container's, else 10]
    #[arg(
        short,
        long = "timeout",
        visible_alias = "time",
        value_name = "SECONDS",
        allow_negative_numbers = true
    )]
    time: Option<i64>,
    /// Signal to send [default: the container's, else TERM]
    #[arg(short, long, value_name = "SIGNAL", value_parser = signals::parse)]
    signal: Option<i32>,
}

/// Stop running containers
///
/// Sends a signal, waits, and kills what still runs then.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    how: StopArgs,
    /// Name or id
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    let store = settings.open_store()?;
    // Each may take ten seconds; nobody wants to wait for one after the other.
    let failed = std::thread::scope(|scope| {
        let stops: Vec<_> = args
            .containers
            .iter()
            .map(|name| {
                let store = &*store;
                let how = &args.how;
                scope.spawn(move || find(store, name).and_then(|c| stop(store, &c, how)))
            })
            .collect();
        let mut failed = false;
        for (name, stopped) in args.containers.iter().zip(stops) {
            match stopped.join() {
                Ok(Ok(())) => printer::line(name),
                Ok(Err(error)) => {
                    printer::failed(&error);
                    failed = true;
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        failed
    });
    Ok(ExitCode::from(u8::from(failed)))
}

/// After KILL a process ends unless it hangs in the kernel.
const KILLED: Duration = Duration::from_secs(10);

/// Stops a container; one that does not run is stopped already.
pub(super) fn stop(store: &Store, container: &Container, how: &StopArgs) -> Result<()> {
    if container.state != State::Running {
        return Ok(());
    }
    // One of an older version has none.
    let config = config(store, container).unwrap_or_default();
    let signal = how.signal.or(config.stop_signal).unwrap_or(libc::SIGTERM);
    let seconds = how.time.unwrap_or_else(|| i64::from(config.stop_after()));
    let limit = u64::try_from(seconds).ok().map(Duration::from_secs);
    let directory = store.container_dir(&container.id);
    for (signal, limit) in [(signal, limit), (libc::SIGKILL, Some(KILLED))] {
        match run::signal(&directory, signal) {
            Err(RunError::Gone) => return Ok(()),
            sent => sent?,
        }
        if container.paused {
            // What is held still does not even notice.
            match run::freeze(&directory, false) {
                Err(RunError::Gone) => return Ok(()),
                thawed => thawed?,
            }
        }
        match run::wait(&directory, limit) {
            Err(RunError::Gone) | Ok(Some(_)) => return Ok(()),
            Ok(None) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!(
        "container {} does not end, although it was killed: its process may hang in the kernel",
        container.name
    )
}
