//! `strata container prune`: remove containers that have ended.

use std::process::ExitCode;

use anyhow::Result;

use crate::command::prune::PruneArgs;
use crate::settings::Settings;

/// Remove all containers that have ended
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    prune: PruneArgs,
}

pub(super) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    let options = args.prune.options(false)?;
    let warning = "This will remove all stopped containers.";
    args.prune.confirm("container prune", warning)?;
    let store = settings.open_store()?;
    let pruned = store.prune_containers(&options)?;
    let bytes = args.prune.containers(&pruned);
    args.prune.total(bytes);
    Ok(ExitCode::SUCCESS)
}
