//! What the commands that prune share: their words, the question before, and what they print.

use std::str::FromStr;

use anyhow::{Result, ensure};
use strata::store::containers::Container;
use strata::store::{Filter, FilterError, PruneOptions, Removed};

use super::images::familiar;
use crate::{printer, prompt};

/// How to prune.
#[derive(clap::Args, Clone)]
pub(crate) struct PruneArgs {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only what this lets through: until=TIME, label=KEY[=VALUE] or label!=KEY[=VALUE]; of images also dangling=BOOL
    #[arg(long, value_name = "FILTER")]
    filter: Vec<Only>,
    /// Only tell what would go
    #[arg(long)]
    dry_run: bool,
}

/// A filter, or docker's other word for all images or those without names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Only {
    Filter(Filter),
    Dangling(bool),
}

impl FromStr for Only {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        Ok(match text {
            "dangling=true" | "dangling=1" => Self::Dangling(true),
            "dangling=false" | "dangling=0" => Self::Dangling(false),
            _ => Self::Filter(text.parse()?),
        })
    }
}

impl PruneArgs {
    /// The same for the library.
    ///
    /// # Errors
    /// A filter that is for images alone.
    pub(crate) fn options(&self, all: bool) -> Result<PruneOptions> {
        let of_images = self.dangling().is_some();
        ensure!(!of_images, "--filter dangling= is for `strata image prune`");
        Ok(self.options_of_images(all))
    }

    /// Whether images without names alone are asked for, or all.
    pub(crate) fn dangling(&self) -> Option<bool> {
        let asked = self.filter.iter().rev();
        asked.into_iter().find_map(|only| match only {
            Only::Dangling(asked) => Some(*asked),
            Only::Filter(_) => None,
        })
    }

    /// The same where `all` says already what is asked for of images.
    pub(crate) fn options_of_images(&self, all: bool) -> PruneOptions {
        let filters = self.filter.iter().filter_map(|only| match only {
            Only::Filter(filter) => Some(filter.clone()),
            Only::Dangling(_) => None,
        });
        PruneOptions {
            all,
            filters: filters.collect(),
            dry_run: self.dry_run,
            without: Vec::new(),
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
