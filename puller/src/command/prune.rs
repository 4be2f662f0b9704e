//! What the commands that prune share: their words, the question before, and what they print.

use anyhow::{Result, ensure};
use strata::store::containers::Container;
use strata::store::{Filter, PruneOptions, Removed};

use super::images::familiar;
use crate::{printer, prompt};

/// How to prune.
#[derive(clap::Args, Clone)]
pub(crate) struct PruneArgs {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only what this lets through: until=TIME, label=KEY[=VALUE] or label!=KEY[=VALUE]
    #[arg(long, value_name = "FILTER")]
    filter: Vec<Filter>,
    /// Only tell what would go
    #[arg(long)]
    dry_run: bool,
}

impl PruneArgs {
    /// The same for the library.
    pub(crate) fn options(&self, all: bool) -> PruneOptions {
        PruneOptions {
            all,
            filters: self.filter.clone(),
            dry_run: self.dry_run,
        }
    }

    /// Asks whether to go on, unless that was said already.
    pub(crate) fn confirm(&self, command: &str, warning: &str) -> Result<()> {
        if self.force || self.dry_run {
            return Ok(());
        }
        let question = format!("WARNING! {warning}\nAre you sure you want to continue? [y/N] ");
        let answer = prompt::line(&question)?.to_lowercase();
        ensure!(
            matches!(&*answer, "y" | "yes"),
            "{command} has been cancelled: nothing was removed"
        );
        Ok(())
    }

    /// The last line.
    pub(crate) fn total(&self, bytes: u64) {
        let words = match self.dry_run {
            true => "Total reclaimable space",
            false => "Total reclaimed space",
        };
        printer::line(format_args!("{words}: {}", printer::size(bytes)));
    }

    fn heading(&self, of: &str) {
        match self.dry_run {
            true => printer::line(format_args!("Would delete {of}:")),
            false => printer::line(format_args!("Deleted {of}:")),
        }
    }

    /// Which images went, in docker's words.
    pub(crate) fn images(&self, removed: &Removed) {
        if removed.images.is_empty() && removed.layers.is_empty() {
            return;
        }
        self.heading("Images");
        for name in familiar(&removed.untagged) {
            printer::line(format_args!("untagged: {name}"));
        }
        for digest in removed.images.iter().chain(&removed.layers) {
            printer::line(format_args!("deleted: {digest}"));
        }
        printer::line("");
    }

    /// Which containers went; their bytes.
    pub(crate) fn containers(&self, pruned: &[(Container, u64)]) -> u64 {
        if !pruned.is_empty() {
            self.heading("Containers");
            for (container, _) in pruned {
                printer::line(&container.id);
            }
            printer::line("");
        }
        pruned.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Which downloads went; their bytes.
    pub(crate) fn downloads(&self, pruned: &[strata::store::BrokenDownload]) -> u64 {
        if !pruned.is_empty() {
            self.heading("Partial Downloads");
            for download in pruned {
                printer::line(&download.name);
            }
            printer::line("");
        }
        pruned.iter().map(|download| download.bytes).sum()
    }
}
