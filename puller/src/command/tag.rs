//! `strata tag`: give an image another name.

use std::process::ExitCode;

use anyhow::Result;

use crate::settings::Settings;

/// Give an image another name
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_settings: &Settings, _args: Args) -> Result<ExitCode> {
    anyhow::bail!("not built yet")
}
