//! `strata system sweep`: delete what was removed.

use std::process::ExitCode;

use anyhow::Result;
use strata::store::{Urgency, empty_trash};

use crate::settings::Settings;

/// Delete now what was removed, instead of when nobody pulls
///
/// rmi, rm and prune only take things out of sight; a process in the background deletes them when it disturbs nobody. This waits until
/// they are gone.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// As the process in the background does it: out of the way of everything else
    #[arg(long, hide = true)]
    when_quiet: bool,
}

pub(super) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    if !args.when_quiet {
        let store = settings.open_store()?;
        store.empty_trash(Urgency::Now)?;
        return Ok(ExitCode::SUCCESS);
    }
    // A session of its own, so that a terminal that is closed does not end it; it is not the leader of a group.
    // Neither can fail in a way that keeps it from its work.
    let _ = rustix::process::setsid();
    let _ = rustix::process::nice(10);
    empty_trash(settings.root(), Urgency::WhenQuiet)?;
    Ok(ExitCode::SUCCESS)
}
