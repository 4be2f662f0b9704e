//! What there is to copy: the manifests of an image or index, children before parents, and their blobs.
//!
//! A hostile source may list anything, so there is a bound to everything that is kept: depth, manifests,
//! their bytes, blobs.

use std::collections::{HashMap, HashSet};

use futures_util::{StreamExt as _, TryStreamExt as _};
use strata_oci::media::{self, ManifestKind};
use strata_oci::{Descriptor, Digest, Platform};

use super::CopyError;
use super::choice::{Choice, Platforms};
use super::reader::{Read, Reader, cosign_tags};
use crate::fetch::PullError;
use crate::push::content::Content;
use crate::push::{Document, Plan};

/// Builders make indexes of images; some wrap one index in another. None goes deeper.
const MAX_DEPTH: usize = 3;
/// Manifests of one copy, signatures and all.
const MAX_MANIFESTS: usize = 4096;
/// Bytes of manifests that are held.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// Layers of one manifest. Container images have at most 127 (overlayfs and the docker daemon), artifacts
/// some more.
const MAX_LAYERS: usize = 4096;
/// Manifests that are asked for at once.
const AT_ONCE: usize = 6;

/// All that belongs to one name of the source.
pub(super) struct Found {
    /// Children before parents, the root last.
    pub(super) plan: Plan,
    /// The root.
    pub(super) root: Descriptor,
    /// What refers to manifests of the plan: each is a manifest of the plan, too.
    pub(super) companions: Vec<Companion>,
}

/// A signature, an SBOM or another artifact that belongs to an image.
#[derive(Debug, Clone)]
pub(super) struct Companion {
    pub(super) descriptor: Descriptor,
    /// What it refers to.
    pub(super) subject: Digest,
    /// The tag it is kept under; none: it is found by its subject.
    pub(super) tag: Option<String>,
}

/// What is wanted of what a name stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Which images of an index.
    pub(super) platforms: &'a Platforms,
    /// Signatures and SBOMs too.
    pub(super) referrers: bool,
    /// Layers that are not to be passed on, too: whoever unpacks the image needs them.
    pub(super) nondistributable: bool,
}

/// Reads everything that the copy will need but the blobs. `present` says which manifests the target
/// has, whole, so that nothing below them has to be looked at.
pub(super) async fn find(
    reader: &Reader,
    name: Option<&str>,
    wanted: Wanted<'_>,
    present: impl AsyncFn(&Digest) -> Result<bool, CopyError>,
) -> Result<Found, CopyError> {
    let mut walk = Walk::new(reader, wanted.platforms);
    let mut root = reader.root(name).await?;
    if let Platforms::One(platform) = wanted.platforms {
        root = select(reader, root, platform).await?;
    }
    let descriptor = root.descriptor.clone();
    if present(&descriptor.digest).await? {
        walk.there.insert(descriptor.digest.clone());
    }
    walk.tree(vec![root], &present).await?;
    walk.chosen()?;
    walk.emit(&descriptor.digest);
    let mut companions = Vec::new();
    if wanted.referrers {
        let mut subjects: Vec<Digest> = walk.reached.iter().cloned().collect();
        subjects.sort();
        // What refers to a signature is another signature at most.
        for _ in 0..MAX_DEPTH {
            let found = walk.companions(&subjects, name, &present).await?;
            subjects = found.iter().map(|c| c.descriptor.digest.clone()).collect();
            companions.extend(found);
        }
        // The image goes last: whoever sees it sees what belongs to it.
        walk.last(&descriptor.digest);
    }
    Ok(Found {
        plan: walk.finish(wanted.nondistributable)?,
        root: descriptor,
        companions,
    })
}

/// The image of an index that suits the platform best.
async fn select(reader: &Reader, mut read: Read, platform: &Platform) -> Result<Read, CopyError> {
    let root = read.descriptor.digest.clone();
    for _ in 0..MAX_DEPTH {
        if read.manifest.kind == ManifestKind::Image {
            return Ok(read);
        }
        // One child that names no platform says: whatever the machine.
        let only = match read.manifest.manifests.as_slice() {
            [only] if only.platform.is_none() => Some(only),
            _ => None,
        };
        let child = read.manifest.select(platform).or(only).ok_or_else(|| {
            let children = read.manifest.manifests.iter();
            let offered = children.filter_map(|m| m.platform.clone());
            PullError::Platform {
                wanted: platform.clone(),
                offered: offered.filter(|p| p.os != "unknown").collect(),
            }
        })?;
        read = reader.read(child).await?;
    }
    Err(CopyError::Nested(root))
}

struct Walk<'a> {
    reader: &'a Reader,
    /// The manifests that have been read.
    read: HashMap<Digest, Read>,
    /// All that have been met, those that the target has included.
    reached: HashSet<Digest>,
    /// Those of the read ones that the target has, so that it has their blobs too.
    there: HashSet<Digest>,
    bytes: usize,
    order: Vec<Digest>,
    emitted: HashSet<Digest>,
    choice: Choice<'a>,
}

impl<'a> Walk<'a> {
    fn new(reader: &'a Reader, platforms: &'a Platforms) -> Self {
        Self {
            reader,
            read: HashMap::new(),
            reached: HashSet::new(),
            there: HashSet::new(),
            bytes: 0,
            order: Vec::new(),
            emitted: HashSet::new(),
            choice: Choice::new(platforms),
        }
    }

    /// Reads manifests and all below them, level by level.
    async fn tree(
        &mut self,
        roots: Vec<Read>,
        present: &impl AsyncFn(&Digest) -> Result<bool, CopyError>,
    ) -> Result<(), CopyError> {
        let mut level = roots;
        for _ in 0..=MAX_DEPTH {
            let mut below: Vec<Descriptor> = Vec::new();
            for read in level {
                let digest = read.descriptor.digest.clone();
                if read.manifest.layers.len() > MAX_LAYERS {
                    return Err(CopyError::TooMany {
                        what: "layers of manifest",
                        of: digest,
                        max: MAX_LAYERS,
                    });
                }
                self.bytes += read.bytes.len();
                self.reached.insert(digest.clone());
                for child in self.choice.children(&read.manifest) {
                    if self.reached.insert(child.digest.clone()) {
                        below.push(child.clone());
                    }
                }
                if self.reached.len() > MAX_MANIFESTS || self.bytes > MAX_BYTES {
                    return Err(CopyError::TooMany {
                        what: "manifests of index",
                        of: digest,
                        max: MAX_MANIFESTS,
                    });
                }
                self.read.insert(digest, read);
            }
            if below.is_empty() {
                return Ok(());
            }
            level = self.fetch(below, present).await?;
        }
        let deepest = level.first().map(|read| read.descriptor.digest.clone());
        deepest.map_or(Ok(()), |digest| Err(CopyError::Nested(digest)))
    }

    /// All images of the first tree have been chosen; of what comes then, everything belongs to them.
    fn chosen(&mut self) -> Result<(), CopyError> {
        std::mem::replace(&mut self.choice, Choice::new(&Platforms::All)).check()
    }

    /// Reads those that the target lacks, several at once.
    async fn fetch(
        &self,
        wanted: Vec<Descriptor>,
        present: &impl AsyncFn(&Digest) -> Result<bool, CopyError>,
    ) -> Result<Vec<Read>, CopyError> {
        let reader = self.reader;
        let one = |child: Descriptor| async move {
            if present(&child.digest).await? {
                return Ok(None);
            }
            reader.read(&child).await.map(Some)
        };
        let mut coming = futures_util::stream::iter(wanted.into_iter().map(one)).buffered(AT_ONCE);
        let mut all = Vec::new();
        let mut bytes = self.bytes;
        while let Some(read) = coming.try_next().await? {
            let Some(read) = read else { continue };
            bytes += read.bytes.len();
            if bytes > MAX_BYTES {
                return Err(CopyError::TooMany {
                    what: "bytes of manifests, the last is",
                    of: read.descriptor.digest,
                    max: MAX_BYTES,
                });
            }
            all.push(read);
        }
        Ok(all)
    }

    /// What refers to `subjects`, read with all below it.
    async fn companions(
        &mut self,
        subjects: &[Digest],
        name: Option<&str>,
        present: &impl AsyncFn(&Digest) -> Result<bool, CopyError>,
    ) -> Result<Vec<Companion>, CopyError> {
        let mut found: Vec<Companion> = Vec::new();
        let mut level: Vec<Read> = Vec::new();
        for subject in subjects {
            for descriptor in self.reader.referrers(subject).await? {
                let known = self.reached.contains(&descriptor.digest);
                let companion = Companion {
                    descriptor: descriptor.clone(),
                    subject: subject.clone(),
                    tag: None,
                };
                found.push(companion);
                if !known && !present(&descriptor.digest).await? {
                    level.push(self.reader.read(&descriptor).await?);
                }
            }
            for tag in cosign_tags(subject) {
                if let Some(read) = self.reader.companion(name, &tag).await? {
                    found.push(Companion {
                        descriptor: read.descriptor.clone(),
                        subject: subject.clone(),
                        tag: Some(tag),
                    });
                    level.push(read);
                }
            }
            if found.len() > MAX_MANIFESTS {
                return Err(CopyError::TooMany {
                    what: "referrers of",
                    of: subject.clone(),
                    max: MAX_MANIFESTS,
                });
            }
        }
        let roots: Vec<Digest> = level.iter().map(|r| r.descriptor.digest.clone()).collect();
        self.tree(level, present).await?;
        for root in &roots {
            self.emit(root);
        }
        Ok(found)
    }

    /// Puts a manifest into the order, after its children.
    fn emit(&mut self, digest: &Digest) {
        let Some(read) = self.read.get(digest) else {
            return;
        };
        if !self.emitted.insert(digest.clone()) {
            return;
        }
        let children = read.manifest.manifests.iter();
        let children: Vec<Digest> = children.map(|child| child.digest.clone()).collect();
        // As deep as `tree` went, which is bounded.
        for child in &children {
            self.emit(child);
        }
        self.order.push(digest.clone());
    }

    /// Moves a manifest to the end of the order.
    fn last(&mut self, digest: &Digest) {
        self.order.retain(|other| other != digest);
        self.order.push(digest.clone());
    }

    fn finish(self, nondistributable: bool) -> Result<Plan, CopyError> {
        let mut plan = Plan {
            blobs: Vec::new(),
            manifests: Vec::new(),
        };
        let mut seen: HashSet<&Digest> = HashSet::new();
        for digest in &self.order {
            let Some(read) = self.read.get(digest) else {
                continue;
            };
            let here = self.there.contains(digest);
            let kept_back = read.manifest.layers.iter();
            let kept_back = kept_back
                .filter(|layer| nondistributable && media::is_nondistributable(&layer.media_type));
            let blobs = read.manifest.required_blobs().chain(kept_back);
            for blob in blobs.filter(|_| !here) {
                if seen.insert(&blob.digest) {
                    let content: Content = self.reader.content(blob)?;
                    plan.blobs.push((blob.clone(), content));
                }
            }
            plan.manifests.push(Document {
                digest: digest.clone(),
                media_type: read.manifest.media_type.clone(),
                bytes: read.bytes.clone(),
            });
        }
        Ok(plan)
    }
}
