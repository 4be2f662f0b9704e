//! `strata wait`: wait until containers end.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use strata::run::{self, RunError};
use strata::store::Store;
use strata::store::containers::{ContainerError, State};

use super::containers::find;
use crate::printer;
use crate::settings::Settings;

/// Wait until containers end, and print their exit codes
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Name or id
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    let store = settings.open_store()?;
    let mut code = ExitCode::SUCCESS;
    for name in &args.containers {
        match wait(&store, name) {
            Ok(code) => printer::line(code),
            Err(error) => {
                printer::failed(&error);
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// How often a container is looked at that was never started.
const PERIOD: Duration = Duration::from_millis(100);

fn wait(store: &Store, name: &str) -> Result<u8> {
    let id = find(store, name)?.id;
    loop {
        // Killed with its monitor and meant to go with its end: it is no more.
        let container = match store.container(&id) {
            Err(ContainerError::NoSuch(_)) => return Ok(137),
            found => found?,
        };
        match container.state {
            State::Exited => return Ok(container.exit_code.unwrap_or_default()),
            State::Created => std::thread::sleep(PERIOD),
            State::Running => match run::wait(&store.container_dir(&id), None) {
                Ok(Some(code)) => return Ok(code),
                Ok(None) | Err(RunError::Gone) => std::thread::sleep(PERIOD / 10),
                Err(error) => return Err(error.into()),
            },
        }
    }
}
