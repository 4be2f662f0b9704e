//! Where manifests and blobs come from: a registry, or a layout in a directory or a file.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use strata_oci::layout::{self, Layout};
use strata_oci::media::{self, ManifestKind};
use strata_oci::verify::VerifyError;
use strata_oci::{Descriptor, Digest, Manifest};

use super::CopyError;
use crate::fetch;
use crate::push::content::Content;
use crate::registry::{Registry, RegistryError, referrers_tag};

/// A manifest, proved and read.
#[derive(Debug, Clone)]
pub(super) struct Read {
    pub(super) descriptor: Descriptor,
    pub(super) bytes: Bytes,
    pub(super) manifest: Manifest,
}

/// The source of a copy.
#[derive(Clone)]
pub(super) enum Reader {
    Registry {
        registry: Arc<Registry>,
        repository: String,
    },
    Layout(Arc<Opened>),
}

/// A layout, and what in it refers to what; found out when it is first asked for.
pub(super) struct Opened {
    layout: Layout,
    referrers: OnceLock<HashMap<Digest, Vec<Descriptor>>>,
}

impl Opened {
    pub(super) fn new(layout: Layout) -> Arc<Self> {
        Arc::new(Self {
            layout,
            referrers: OnceLock::new(),
        })
    }
}

impl Reader {
    /// The manifest that a tag or digest stands for; of a layout, that a name stands for.
    pub(super) async fn root(&self, name: Option<&str>) -> Result<Read, CopyError> {
        match self {
            Self::Registry {
                registry,
                repository,
            } => {
                let name = name.unwrap_or("latest");
                let raw = registry.get_manifest(repository, name).await?;
                let manifest = fetch::parse(&raw)?;
                let size = raw.bytes.len() as u64;
                Ok(Read {
                    descriptor: Descriptor::new(&manifest.media_type, raw.digest, size),
                    bytes: raw.bytes,
                    manifest,
                })
            }
            Self::Layout(opened) => {
                let found = opened.layout.find(name)?.clone();
                self.read(&found).await
            }
        }
    }

    /// The manifest that a descriptor names: it has to be what the descriptor says.
    pub(super) async fn read(&self, descriptor: &Descriptor) -> Result<Read, CopyError> {
        let plain = Descriptor {
            platform: descriptor.platform.clone(),
            artifact_type: descriptor.artifact_type.clone(),
            ..Descriptor::new(
                media::essence(&descriptor.media_type),
                descriptor.digest.clone(),
                descriptor.size,
            )
        };
        match self {
            Self::Registry {
                registry,
                repository,
            } => {
                let digest = descriptor.digest.to_string();
                let raw = registry.get_manifest(repository, &digest).await?;
                let manifest = fetch::parse(&raw)?;
                let actual = raw.bytes.len() as u64;
                if actual != descriptor.size {
                    return Err(CopyError::Content {
                        digest: raw.digest,
                        source: VerifyError::Size {
                            expected: descriptor.size,
                            actual,
                        },
                    });
                }
                if manifest.media_type != plain.media_type {
                    let why = format!(
                        "type {} instead of {}",
                        manifest.media_type, plain.media_type
                    );
                    let digest = raw.digest;
                    return Err(fetch::PullError::Child { digest, why }.into());
                }
                Ok(Read {
                    descriptor: plain,
                    bytes: raw.bytes,
                    manifest,
                })
            }
            Self::Layout(opened) => {
                let (bytes, manifest) = opened.layout.manifest(descriptor)?;
                Ok(Read {
                    descriptor: plain,
                    bytes: bytes.into(),
                    manifest,
                })
            }
        }
    }

    /// Where a blob's bytes are to be had.
    pub(super) fn content(&self, blob: &Descriptor) -> Result<Content, CopyError> {
        match self {
            Self::Registry {
                registry,
                repository,
            } => Ok(Content::Registry {
                registry: registry.clone(),
                repository: repository.clone(),
            }),
            Self::Layout(opened) => Ok(match opened.layout.find_blob(blob)? {
                Some(place) => Content::File {
                    path: place.path,
                    offset: place.offset,
                },
                None => Content::Absent,
            }),
        }
    }

    /// The signatures, SBOMs and other artifacts that name `subject` as theirs.
    pub(super) async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, CopyError> {
        match self {
            Self::Registry {
                registry,
                repository,
            } => Ok(registry
                .referrers(repository, subject, None)
                .await?
                .manifests),
            Self::Layout(opened) => {
                let all = match opened.referrers.get() {
                    Some(all) => all,
                    None => {
                        let found = subjects(&opened.layout)?;
                        opened.referrers.get_or_init(|| found)
                    }
                };
                Ok(all.get(subject).cloned().unwrap_or_default())
            }
        }
    }

    /// What is kept under a tag beside the image called `name`: cosign's signatures.
    pub(super) async fn companion(
        &self,
        name: Option<&str>,
        tag: &str,
    ) -> Result<Option<Read>, CopyError> {
        match self {
            Self::Registry { .. } => match self.root(Some(tag)).await {
                Ok(read) => Ok(Some(read)),
                Err(CopyError::Registry(RegistryError::NotFound { .. })) => Ok(None),
                Err(error) => Err(error),
            },
            Self::Layout(opened) => {
                let beside = companion_name(name, tag);
                let mut entries = opened.layout.entries().iter();
                let found = entries.find(|e| layout::ref_name(e) == Some(&beside));
                match found {
                    Some(found) => Ok(Some(self.read(found).await?)),
                    None => Ok(None),
                }
            }
        }
    }
}

/// The name in a layout of what belongs to the image called `name` under another tag:
/// `host/app:v1` and `sha256-….sig` give `host/app:sha256-….sig`.
pub(super) fn companion_name(name: Option<&str>, tag: &str) -> String {
    match name.and_then(|name| name.rsplit_once(':')) {
        Some((repository, _)) => format!("{repository}:{tag}"),
        None => tag.to_owned(),
    }
}

/// Which manifests of a layout's index have a subject, by subject: those that stand in it themselves,
/// and those that an index under a fallback tag lists.
fn subjects(layout: &Layout) -> Result<HashMap<Digest, Vec<Descriptor>>, CopyError> {
    let mut all: HashMap<Digest, Vec<Descriptor>> = HashMap::new();
    for entry in layout.entries().iter().filter(|e| layout::is_companion(e)) {
        let (_, manifest) = layout.manifest(entry)?;
        let children = match manifest.kind {
            ManifestKind::Image => vec![(entry.clone(), manifest)],
            ManifestKind::Index => {
                let children = manifest.manifests.into_iter();
                let read = children.map(|child| {
                    let (_, manifest) = layout.manifest(&child)?;
                    Ok((child, manifest))
                });
                read.collect::<Result<_, CopyError>>()?
            }
        };
        for (mut entry, manifest) in children {
            if let Some(subject) = manifest.subject {
                entry.annotations = None;
                let listed = all.entry(subject.digest).or_default();
                if listed.iter().all(|other| other.digest != entry.digest) {
                    listed.push(entry);
                }
            }
        }
    }
    Ok(all)
}

/// The tags under which cosign keeps an image's signature, attestation and SBOM.
pub(super) fn cosign_tags(digest: &Digest) -> [String; 3] {
    [".sig", ".att", ".sbom"].map(|suffix| format!("{}{suffix}", referrers_tag(digest)))
}
