//! `strata system prune`: remove what nobody needs.

use std::process::ExitCode;

use anyhow::Result;

use crate::command::prune::PruneArgs;
use crate::printer;
use crate::settings::Settings;

/// Remove containers that have ended, images without names and downloads that broke off more than a day ago
///
/// What is in use stays.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// All images that no container stands on, all downloads that broke off, and kept blobs
    #[arg(short, long)]
    all: bool,
    /// Also volumes: there are none
    #[arg(long)]
    volumes: bool,
    #[command(flatten)]
    prune: PruneArgs,
}

pub(super) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    let mut options = args.prune.options(args.all)?;
    let warning = match args.all {
        true => {
            "This will remove:\n  - all stopped containers\n  - all images without at least one container \
             associated to them\n  - all partial downloads\n  - all kept blobs\n"
        }
        false => {
            "This will remove:\n  - all stopped containers\n  - all dangling images\n  - partial downloads that nobody \
             has gone on with for a day\n"
        }
    };
    args.prune.confirm("system prune", warning)?;
    if args.volumes {
        printer::message("there are no volumes to remove");
    }
    let store = settings.open_store()?;
    let containers = store.prune_containers(&options)?;
    let mut bytes = args.prune.containers(&containers);
    options
        .without
        .extend(containers.into_iter().map(|(container, _)| container.id));
    let removed = store.prune_images(&options)?;
    args.prune.images(&removed);
    bytes += removed.freed;
    bytes += args.prune.downloads(&store.prune_downloads(&options)?);
    if args.all && options.filters.is_empty() {
        bytes += store.drop_kept_blobs(options.dry_run)?.1;
    }
    args.prune.total(bytes);
    Ok(ExitCode::SUCCESS)
}
