//! `strata unshare`: run a command in the user namespace of a rootless store.

use std::process::ExitCode;

use anyhow::Result;

use crate::settings::Settings;

/// Run a command in the user namespace of a rootless store
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_settings: &Settings, _args: Args) -> Result<ExitCode> {
    anyhow::bail!("not built yet")
}
