//! `strata rmi`: remove images.

use std::process::ExitCode;

use anyhow::Result;

use crate::settings::Settings;

/// Remove images
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_settings: &Settings, _args: Args) -> Result<ExitCode> {
    anyhow::bail!("not built yet")
}
