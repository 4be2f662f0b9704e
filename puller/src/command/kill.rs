//! `strata kill`: send containers a signal.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use strata::run::{self, signals};
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
        run::signal(&directory, args.signal)?;
        if args.signal == libc::SIGKILL {
            if container.paused {
                // The signal is taken when it goes on.
                let _ = run::freeze(&directory, false);
            }
            // The end of a killed one is recorded before anybody looks.
            let _ = run::wait(&directory, Some(std::time::Duration::from_secs(10)));
        }
        Ok(())
    })
}
