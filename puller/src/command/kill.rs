//! `strata kill`: send containers a signal.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use strata::run::{self, RunError, signals};
use strata::store::containers::State;

use super::containers::{each, find};
use crate::settings::Settings;

/// Kill running containers, or send them another signal
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Signal to send
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL", value_parser = signals::parse)]
    signal: i32,
    /// Name or id
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    each(settings, &args.containers, |store, name| {
        let container = find(store, name)?;
        ensure!(
            container.state == State::Running,
            "cannot kill container {name}: it is not running"
        );
        let directory = store.container_dir(&container.id);
        let running = format!("cannot kill container {name}");
        run::signal(&directory, args.signal).with_context(|| running.clone())?;
        if args.signal == libc::SIGKILL {
            end(&directory, container.paused).context(running)?;
        }
        Ok(())
    })
}

/// A signal that cannot be caught ends a container at once, unless it hangs in the kernel.
const KILLED: Duration = Duration::from_secs(10);

/// Waits until a killed container has ended, and this is recorded before anybody looks.
fn end(directory: &Path, paused: bool) -> Result<()> {
    if paused {
        // The signal is taken when it goes on.
        match run::freeze(directory, false) {
            Err(RunError::Gone) => return Ok(()),
            thawed => thawed
                .context("it was sent the signal, but is paused and cannot be made to go on")?,
        }
    }
    match run::wait(directory, Some(KILLED)) {
        Ok(Some(_)) | Err(RunError::Gone) => Ok(()),
        Ok(None) => {
            bail!("it still runs, although it was killed: its process may hang in the kernel")
        }
        Err(error) => Err(error.into()),
    }
}
