//! `strata umount`: unmount what mount has mounted.

use std::process::ExitCode;

use anyhow::Result;

use crate::settings::Settings;

/// Unmount what mount has mounted
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_settings: &Settings, _args: Args) -> Result<ExitCode> {
    anyhow::bail!("not built yet")
}
