//! `strata push`: send an image to a registry, only what it lacks.

use std::process::ExitCode;

use anyhow::Result;

use crate::settings::Settings;

/// Send an image to a registry, only what it lacks
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_settings: &Settings, _args: Args) -> Result<ExitCode> {
    anyhow::bail!("not built yet")
}
