//! `strata rm`: remove containers.

use std::process::ExitCode;

use anyhow::Result;

use crate::settings::Settings;

/// Remove containers
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_settings: &Settings, _args: Args) -> Result<ExitCode> {
    anyhow::bail!("not built yet")
}
