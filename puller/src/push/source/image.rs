//! An image of the store: its blobs were dropped when it was unpacked, unless they were to be kept.
//!
//! What the target does not have, cannot mount and is not kept passes through from a registry that has it. What no
//! registry has is compressed here. A layer that was not compressed, or that Strata itself compressed, gets
//! its old bytes by that, so its digest stays; any other gets a new one and the image with it, which is said,
//! or refused, before a byte travels.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use strata_oci::media;
use strata_oci::{Descriptor, Digest};

use super::super::compress::Compression;
use super::super::content::Content;
use super::super::error::PushError;
use super::super::repack::{self, Packed};
use super::super::{Document, Plan};
use super::manifest::{format_of, layer_type, with_layers};
use super::{Origins, Packing, blocking};
use crate::layer;
use crate::progress::Event;
use crate::registry::Purpose;
use crate::store::Image;

/// Layers whose places are asked for at once.
const ASKED_AT_ONCE: usize = 8;

pub(crate) async fn of_image(
    origins: &Origins,
    image: &Image,
    packing: &Packing,
    workplace: &Path,
) -> Result<Plan, PushError> {
    let mut blobs = Vec::new();
    if let Some(config) = &image.manifest.config {
        let bytes = Bytes::from(image.config_bytes.clone());
        blobs.push((config.clone(), Content::Memory(bytes)));
    }
    if packing.plain {
        return plain(origins, image, blobs);
    }
    let layers = image.manifest.layers.iter().enumerate();
    let sent = layers.filter(|(_, blob)| !media::is_nondistributable(&blob.media_type));
    let sent: Vec<(usize, Descriptor)> = sent.map(|(n, blob)| (n, blob.clone())).collect();
    let place = |(number, blob): (usize, Descriptor)| async move {
        let found = if packing.is_otherwise(&blob) {
            None
        } else {
            let diff_id = image.config.rootfs.diff_ids.get(number);
            let kept = diff_id.and_then(|diff_id| origins.store.kept_blob(diff_id, &blob));
            find(origins, &blob, kept).await?
        };
        Ok::<_, PushError>((number, blob, found))
    };
    let places: Vec<_> = futures_util::stream::iter(sent.into_iter().map(place))
        .buffered(ASKED_AT_ONCE)
        .try_collect()
        .await?;
    let mut replaced: Vec<(usize, Descriptor)> = Vec::new();
    for (number, blob, found) in places {
        if let Some(content) = found {
            blobs.push((blob, content));
            continue;
        }
        let (new, content) = packed(origins, image, number, packing, workplace).await?;
        if new.digest != blob.digest {
            replaced.push((number, new.clone()));
            blobs.push((new, content));
        } else {
            blobs.push((blob, content));
        }
    }
    let document = if replaced.is_empty() {
        Document {
            digest: image.digest.clone(),
            media_type: image.manifest.media_type.clone(),
            bytes: Bytes::from(image.manifest_bytes.clone()),
        }
    } else {
        changed(origins, image, packing, &replaced)?
    };
    Ok(Plan {
        blobs,
        manifests: vec![document],
    })
}

/// The image with its layers as plain archives, as they come out of their records: what docker saves.
fn plain(
    origins: &Origins,
    image: &Image,
    mut blobs: Vec<(Descriptor, Content)>,
) -> Result<Plan, PushError> {
    let mut layers = Vec::new();
    for (number, layer) in image.layers.iter().enumerate() {
        let blob = Descriptor::new(media::OCI_LAYER, layer.diff_id.clone(), layer.tar_size);
        let dir = origins.store.layer_dir(&layer.diff_id);
        blobs.push((blob.clone(), Content::Layer { dir }));
        layers.push((number, blob));
    }
    let same = |(number, blob): &(usize, Descriptor)| {
        let old = image.manifest.layers.get(*number);
        old.is_some_and(|old| old.digest == blob.digest)
    };
    let document = if layers.iter().all(same) {
        Document {
            digest: image.digest.clone(),
            media_type: image.manifest.media_type.clone(),
            bytes: Bytes::from(image.manifest_bytes.clone()),
        }
    } else {
        with_layers(&image.manifest_bytes, &image.manifest.media_type, &layers)?
    };
    Ok(Plan {
        blobs,
        manifests: vec![document],
    })
}

/// The image with other layers, after saying so.
fn changed(
    origins: &Origins,
    image: &Image,
    packing: &Packing,
    replaced: &[(usize, Descriptor)],
) -> Result<Document, PushError> {
    let old = |(number, _): &(usize, Descriptor)| image.manifest.layers[*number].digest.clone();
    let layers: Vec<Digest> = replaced.iter().map(old).collect();
    if packing.preserve_digests {
        return Err(PushError::Changed { layers });
    }
    let media_type = &image.manifest.media_type;
    let document = with_layers(&image.manifest_bytes, media_type, replaced)?;
    let names: Vec<String> = layers.iter().map(Digest::to_string).collect();
    let (names, digest) = (names.join(", "), &document.digest);
    let why = if packing.force {
        "compressed anew"
    } else {
        "in no registry that can be reached: compressed anew"
    };
    let text = match layers.len() {
        1 => format!("layer {names} is {why}, so the image gets the new digest {digest}"),
        _ => format!("layers {names} are {why}, so the image gets the new digest {digest}"),
    };
    origins.progress.event(Event::Message(text));
    Ok(document)
}

/// Where a blob's exact bytes are to be had: at the target already, kept here, or in another registry.
async fn find(
    origins: &Origins,
    blob: &Descriptor,
    kept: Option<PathBuf>,
) -> Result<Option<Content>, PushError> {
    if let Some((registry, repository)) = &origins.target {
        let there = registry.has_blob(repository, &blob.digest, Purpose::Push);
        if there.await? {
            let (registry, repository) = (registry.clone(), repository.clone());
            return Ok(Some(Content::Registry {
                registry,
                repository,
            }));
        }
    }
    if let Some(path) = kept {
        return Ok(Some(file(path)));
    }
    for (name, repository) in origins.store.origins(&blob.digest)? {
        if origins.silent().contains(&name) {
            continue;
        }
        let registry = origins.client(&name)?;
        match registry
            .has_blob(&repository, &blob.digest, Purpose::Pull)
            .await
        {
            Ok(true) => {
                return Ok(Some(Content::Registry {
                    registry,
                    repository,
                }));
            }
            Ok(false) => origins
                .store
                .remove_origin(&blob.digest, &name, &repository)?,
            // One that cannot be asked now is no reason to fail: there are others, and the layer itself.
            Err(error) => {
                tracing::debug!(%error, registry = name, "asking for a blob");
                origins.silent().insert(name);
            }
        }
    }
    Ok(None)
}

impl Packing {
    /// Whether a layer is not compressed as all are to be.
    fn is_otherwise(&self, blob: &Descriptor) -> bool {
        self.force && format_of(blob) != Some(self.compression.format())
    }
}

/// Writes a layer's blob anew from what was unpacked: if that can be, the very one that it was.
async fn packed(
    origins: &Origins,
    image: &Image,
    number: usize,
    packing: &Packing,
    workplace: &Path,
) -> Result<(Descriptor, Content), PushError> {
    let blob = image.manifest.layers[number].clone();
    let gone = |why: String| PushError::Gone {
        digest: blob.digest.clone(),
        asked: "no registry that had it has it now".to_owned(),
        why,
    };
    let Some(diff_id) = image.config.rootfs.diff_ids.get(number).cloned() else {
        return Err(gone(
            "the image's configuration does not name it".to_owned(),
        ));
    };
    let own = format_of(&blob).unwrap_or(packing.compression.format());
    let mut forms = match diff_id == blob.digest {
        _ if packing.is_otherwise(&blob) => Vec::new(),
        true => vec![None],
        // Those that were made here, and those that were compressed here before.
        false => vec![Some(Compression::quick(own)), Some(Compression::of(own))],
    };
    let wanted = Some(packing.compression);
    forms.retain(|form| *form != wanted);
    forms.push(wanted);
    forms.dedup();
    let mut last = None;
    for (attempt, form) in forms.into_iter().enumerate() {
        let path = workplace.join(format!("layer-{number}-{attempt}"));
        let directory = origins.store.layer_dir(&diff_id);
        let packed = rebuild(directory, path.clone(), form)
            .await?
            .map_err(|error| gone(error.to_string()))?;
        if packed.diff_id != diff_id {
            let why = format!(
                "it is damaged: its digest is {}, not {diff_id}",
                packed.diff_id
            );
            return Err(gone(why));
        }
        let same = packed.digest == blob.digest;
        if let Some((_, Content::File { path, .. })) = last.replace((packed, file(path)))
            && let Err(error) = std::fs::remove_file(&path)
        {
            tracing::debug!(%error, path = %path.display(), "removing a try");
        }
        if same {
            break;
        }
    }
    let Some((packed, content)) = last else {
        return Err(PushError::Interrupted);
    };
    let new = Descriptor::new(
        layer_type(&image.manifest.media_type, packed.format),
        packed.digest,
        packed.size,
    );
    Ok((new, content))
}

fn file(path: PathBuf) -> Content {
    Content::File { path, offset: 0 }
}

async fn rebuild(
    directory: PathBuf,
    path: PathBuf,
    form: Option<Compression>,
) -> Result<std::io::Result<Packed>, PushError> {
    blocking(move || {
        Ok(repack::pack(&path, form, |out| {
            layer::rebuild(&directory, out).map_err(std::io::Error::other)
        }))
    })
    .await
}
