//! `strata restart`: stop containers and start them again.

use std::process::ExitCode;

use anyhow::Result;

use super::containers::{each, find};
use super::start::start_again;
use super::stop::{StopArgs, stop};
use crate::settings::Settings;

/// Stop containers that run, and start them again
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    how: StopArgs,
    /// Name or id
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    each(settings, &args.containers, |store, name| {
        let container = find(store, name)?;
        stop(store, &container, &args.how)?;
        start_again(settings, store, &find(store, &container.id)?, None).map(drop)
    })
}
