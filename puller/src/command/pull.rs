//! `strata pull`: fetch an image, only the layers that are missing here.

use std::process::ExitCode;

use anyhow::Result;

use crate::settings::Settings;

/// Fetch an image, only the layers that are missing here
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_settings: &Settings, _args: Args) -> Result<ExitCode> {
    anyhow::bail!("not built yet")
}
