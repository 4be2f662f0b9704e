//! `strata image prune`: remove images that nobody needs.

use std::process::ExitCode;

use anyhow::Result;

use crate::command::prune::PruneArgs;
use crate::settings::Settings;

/// Remove images that have no name
///
/// Images that a container stands on stay.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// All images that no container stands on
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    prune: PruneArgs,
}

pub(super) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    // docker lets the filter decide.
    let all = args.prune.dangling().map_or(args.all, |dangling| !dangling);
    let warning = match all {
        true => "This will remove all images without at least one container associated to them.",
        false => "This will remove all dangling images.",
    };
    args.prune.confirm("image prune", warning)?;
    let store = settings.open_store()?;
    let removed = store.prune_images(&args.prune.options_of_images(all))?;
    args.prune.images(&removed);
    args.prune.total(removed.freed);
    Ok(ExitCode::SUCCESS)
}
