//! Mirrors: repositories kept in step with others, image by image.
//!
//! A round lists the tags of each source, chooses, and copies what differs: an image that is the same on both
//! sides costs two questions. What one image brought to the destination is mounted for the next. An image that
//! fails stops no other.

mod config;
mod filter;
mod place;

use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt as _;
use strata_oci::layout::Layout;

pub use config::{ConfigError, MirrorConfig, parse_rate};
pub use filter::{Glob, TagFilter, whole_tag};
pub use place::{Destination, PlaceError, Repository};

use crate::copy::{Copier, CopyError, CopyOptions, CopyReport, Platforms, Source, Target};
use crate::progress::{How, Progress};
use crate::registry::RegistryError;

/// A repository that is kept in step with another.
#[derive(Debug, Clone)]
pub struct Sync {
    /// Where the images come from.
    pub source: Repository,
    /// One tag alone; none: those that the filter chooses.
    pub tag: Option<String>,
    /// Where they go.
    pub destination: Destination,
    /// Which of the source's tags.
    pub filter: TagFilter,
    /// Which images of each index.
    pub platforms: Platforms,
    /// Signatures and SBOMs too.
    pub referrers: bool,
    /// Remove the destination's tags that are not chosen at the source; not after a failure, and not when
    /// nothing is chosen.
    pub delete: bool,
}

/// How a round is run.
#[derive(Debug, Clone)]
pub struct MirrorOptions {
    /// How to copy; platform and referrers are each sync's own.
    pub copy: CopyOptions,
    /// How many images at once.
    pub images: usize,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
}

/// What a round did about one image.
#[derive(Debug)]
pub struct ImageReport {
    /// Its name at the source; of a tag that is removed, at the destination.
    pub source: String,
    /// Its name at the destination.
    pub target: String,
    /// How it went.
    pub outcome: Outcome,
}

/// How it went with one image.
#[derive(Debug)]
pub enum Outcome {
    /// It is there now.
    Copied(CopyReport),
    /// It would be copied.
    WouldCopy,
    /// The tag was removed from the destination.
    Deleted,
    /// It would be removed.
    WouldDelete,
    /// It failed, and is what it was.
    Failed(CopyError),
}

/// What a round did in all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MirrorReport {
    /// Images that were looked at.
    pub images: usize,
    /// Of them, those that were copied.
    pub copied: usize,
    /// Those that were the same on both sides.
    pub unchanged: usize,
    /// Those that failed, and repositories whose tags could not be listed.
    pub failed: usize,
    /// Tags that were removed.
    pub deleted: usize,
    /// Blobs that travelled, and the bytes that did.
    pub travelled: (usize, u64),
    /// Blobs that were mounted from another repository of the destination, and their bytes.
    pub mounted: (usize, u64),
    /// Blobs that were there, and their bytes; those of unchanged images are not counted.
    pub shared: (usize, u64),
}

impl MirrorReport {
    fn add(&mut self, outcome: &Outcome) {
        let sum = |a: (usize, u64), b: (usize, u64)| (a.0 + b.0, a.1 + b.1);
        match outcome {
            Outcome::Copied(report) => {
                self.images += 1;
                if report.unchanged {
                    self.unchanged += 1;
                } else {
                    self.copied += 1;
                }
                let travelled = report.total(&[How::Uploaded, How::Fetched]);
                self.travelled = sum(self.travelled, (travelled.0, report.bytes));
                self.mounted = sum(self.mounted, report.total(&[How::Mounted]));
                self.shared = sum(self.shared, report.total(&[How::Reused]));
            }
            Outcome::WouldCopy => self.images += 1,
            Outcome::Deleted | Outcome::WouldDelete => self.deleted += 1,
            Outcome::Failed(_) => self.failed += 1,
        }
    }
}

/// Runs one round: all syncs, one after another, several images of each at once. `tell` is given each
/// image's report when it is done.
pub async fn run(
    syncs: &[Sync],
    options: &MirrorOptions,
    progress: Arc<dyn Progress>,
    tell: &(dyn Fn(&ImageReport) + Send + std::marker::Sync),
) -> MirrorReport {
    let copier = Copier::new(options.copy.clone(), progress);
    let mut total = MirrorReport::default();
    for sync in syncs {
        let round = Round {
            sync,
            copier: copier.with(sync.platforms.clone(), sync.referrers),
            dry_run: options.dry_run,
        };
        let before = total.failed;
        let note = |total: &mut MirrorReport, report: ImageReport| {
            total.add(&report.outcome);
            tell(&report);
        };
        let tags = match round.tags().await {
            Ok(tags) => tags,
            Err(error) => {
                let report = ImageReport {
                    source: sync.source.to_string(),
                    target: sync.destination.to_string(),
                    outcome: Outcome::Failed(error),
                };
                note(&mut total, report);
                continue;
            }
        };
        let images = tags.iter().map(|tag| round.image(tag));
        let mut running =
            futures_util::stream::iter(images).buffer_unordered(options.images.max(1));
        while let Some(report) = running.next().await {
            note(&mut total, report);
        }
        drop(running);
        if sync.delete && total.failed == before && !tags.is_empty() {
            for report in round.delete(&tags).await {
                note(&mut total, report);
            }
        }
    }
    total
}

/// One sync of a round.
struct Round<'a> {
    sync: &'a Sync,
    copier: Copier,
    dry_run: bool,
}

impl Round<'_> {
    async fn tags(&self) -> Result<Vec<String>, CopyError> {
        if let Some(tag) = &self.sync.tag {
            return Ok(vec![tag.clone()]);
        }
        let source = &self.sync.source;
        let registry = self.copier.registry(&source.registry, false)?;
        let tags = registry.tags(&source.name).await?;
        Ok(self.sync.filter.select(&tags))
    }

    fn target(&self, tag: &str) -> (String, Target) {
        match &self.sync.destination {
            Destination::Repository(repository) => {
                let reference = repository.tagged(tag);
                (reference.whole(), Target::Registry(reference))
            }
            Destination::Layout(dir) => {
                let name = self.sync.source.tagged(tag).whole();
                let dir = dir.clone();
                let shown = format!("oci:{}:{name}", dir.display());
                let name = Some(name);
                (shown, Target::Layout { dir, name })
            }
        }
    }

    async fn image(&self, tag: &str) -> ImageReport {
        let source = self.sync.source.tagged(tag);
        let (shown, target) = self.target(tag);
        let outcome = if self.dry_run {
            self.compare(tag, &target).await
        } else {
            let from = Source::Registry(source.clone());
            self.copier.copy(&from, &target).await.map(Outcome::Copied)
        };
        ImageReport {
            source: source.whole(),
            target: shown,
            outcome: outcome.unwrap_or_else(Outcome::Failed),
        }
    }

    /// Whether both sides have the same, without copying anything.
    async fn compare(&self, tag: &str, target: &Target) -> Result<Outcome, CopyError> {
        let source = &self.sync.source;
        let registry = self.copier.registry(&source.registry, false)?;
        let here = registry.head_manifest(&source.name, tag).await?;
        let what = format!("manifest {source}:{tag}");
        let message = String::new();
        let here = here.ok_or(RegistryError::NotFound { what, message })?;
        let there = match target {
            Target::Registry(reference) => {
                let registry = self.copier.registry(reference.registry(), true)?;
                let head = registry.head_manifest(reference.repository(), tag).await?;
                head.and_then(|head| head.digest)
            }
            Target::Layout { dir, name } => listed(dir, name.as_deref()),
        };
        Ok(match here.digest {
            Some(digest) if there.as_ref() == Some(&digest) => Outcome::Copied(CopyReport {
                digest: Some(digest),
                unchanged: true,
                ..CopyReport::default()
            }),
            _ => Outcome::WouldCopy,
        })
    }

    /// Removes what is at the destination and not in `tags`.
    async fn delete(&self, tags: &[String]) -> Vec<ImageReport> {
        let Destination::Repository(repository) = &self.sync.destination else {
            return Vec::new();
        };
        let mut reports = Vec::new();
        let report = |tag: Option<&str>, outcome| {
            let name = tag.map_or_else(|| repository.to_string(), |t| repository.tagged(t).whole());
            ImageReport {
                source: name.clone(),
                target: name,
                outcome,
            }
        };
        let listed = async {
            let registry = self.copier.registry(&repository.registry, true)?;
            let tags = registry.tags(&repository.name).await?;
            Ok::<_, CopyError>((registry, tags))
        };
        let (registry, there) = match listed.await {
            Ok(listed) => listed,
            Err(error) => return vec![report(None, Outcome::Failed(error))],
        };
        for tag in TagFilter::default().select(&there) {
            if tags.contains(&tag) {
                continue;
            }
            let outcome = if self.dry_run {
                Outcome::WouldDelete
            } else {
                match registry.delete_manifest(&repository.name, &tag).await {
                    Ok(_) => Outcome::Deleted,
                    Err(error) => Outcome::Failed(error.into()),
                }
            };
            reports.push(report(Some(&tag), outcome));
        }
        reports
    }
}

/// What a layout's name stands for, if there is such a layout and such a name.
fn listed(dir: &Path, name: Option<&str>) -> Option<strata_oci::Digest> {
    let layout = Layout::open(dir).ok()?;
    let found = layout.find(name).ok()?;
    Some(found.digest.clone())
}
