//! `strata run`: run a command in a new container.

use std::process::ExitCode;

use anyhow::Result;

use crate::settings::Settings;

/// Run a command in a new container
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_settings: &Settings, _args: Args) -> Result<ExitCode> {
    anyhow::bail!("not built yet")
}
