//! `strata rename`: give a container another name.

use std::process::ExitCode;

use anyhow::Result;

use super::containers::find;
use crate::settings::Settings;

/// Give a container another name
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Name or id
    container: String,
    /// Its new name
    name: String,
}

pub(crate) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    let store = settings.open_store()?;
    let container = find(&store, &args.container)?;
    store.rename_container(&container, &args.name)?;
    Ok(ExitCode::SUCCESS)
}
