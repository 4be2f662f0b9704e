//! `strata mount`: mount an image and print where.

use std::process::ExitCode;

use anyhow::Result;

use crate::settings::Settings;

/// Mount an image and print where
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_settings: &Settings, _args: Args) -> Result<ExitCode> {
    anyhow::bail!("not built yet")
}
