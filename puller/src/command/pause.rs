//! `strata pause` and `strata unpause`: hold a container's processes still, and let them go on.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use strata::run;
use strata::store::containers::State;

use super::containers::{each, find};
use crate::settings::Settings;

/// Hold all processes of running containers still
#[derive(clap::Args)]
pub(crate) struct PauseArgs {
    /// Name or id
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Let the processes of paused containers go on
#[derive(clap::Args)]
pub(crate) struct UnpauseArgs {
    /// Name or id
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) fn pause(settings: &Settings, args: &PauseArgs) -> Result<ExitCode> {
    set(settings, &args.containers, true)
}

pub(crate) fn unpause(settings: &Settings, args: &UnpauseArgs) -> Result<ExitCode> {
    set(settings, &args.containers, false)
}

fn set(settings: &Settings, names: &[String], paused: bool) -> Result<ExitCode> {
    each(settings, names, |store, name| {
        let container = find(store, name)?;
        let running = container.state == State::Running;
        match paused {
            true => {
                ensure!(running, "container {name} is not running");
                ensure!(!container.paused, "container {name} is already paused");
            }
            false => ensure!(
                running && container.paused,
                "container {name} is not paused"
            ),
        }
        run::freeze(&store.container_dir(&container.id), paused)?;
        let recorded = store.container_paused(&container.id, paused)?;
        ensure!(recorded, "container {name} is not running");
        Ok(())
    })
}
