//! `strata images`: list images.

use std::process::ExitCode;

use anyhow::Result;

use crate::settings::Settings;

/// List images
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_settings: &Settings, _args: Args) -> Result<ExitCode> {
    anyhow::bail!("not built yet")
}
