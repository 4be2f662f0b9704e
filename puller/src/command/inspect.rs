//! `strata inspect`: show everything about an image or a container, as JSON.

use std::process::ExitCode;

use anyhow::Result;

use crate::settings::Settings;

/// Show everything about an image or a container, as JSON
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_settings: &Settings, _args: Args) -> Result<ExitCode> {
    anyhow::bail!("not built yet")
}
