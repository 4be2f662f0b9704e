//! From a reference to the manifest of one image: through an index, by platform.

use oci_distribution::Reference;
use strata_oci::media::{self, ManifestKind};
use strata_oci::{Digest, Manifest, Platform};

use super::error::PullError;
use crate::registry::{RawManifest, Registry};

/// Builders make indexes of images; some wrap one index in another. None goes deeper.
const MAX_DEPTH: usize = 3;

/// The image that a reference leads to.
pub(super) struct Resolved {
    /// What the reference itself names: an index or a manifest.
    pub(super) digest: Digest,
    /// The image's manifest, proved.
    pub(super) raw: RawManifest,
    /// Its parsed view.
    pub(super) manifest: Manifest,
}

/// What stands behind the repository's name: the digest, else the tag.
pub(super) fn selector(reference: &Reference) -> &str {
    reference.digest().or(reference.tag()).unwrap_or("latest")
}

/// The manifest that `reference` names, or of an index the one that suits `platform` best, if one is given.
///
/// # Errors
/// See [`PullError`]: the registry's answer is proved and read as it is for a pull.
pub async fn manifest(
    registry: &Registry,
    repository: &str,
    reference: &str,
    platform: Option<&Platform>,
) -> Result<RawManifest, PullError> {
    match platform {
        Some(platform) => Ok(descend(registry, repository, reference, platform)
            .await?
            .raw),
        None => Ok(registry.get_manifest(repository, reference).await?),
    }
}

/// Fetches and reads the manifest, and of an index the one that suits the platform best.
pub(super) async fn resolve(
    registry: &Registry,
    reference: &Reference,
    platform: &Platform,
) -> Result<Resolved, PullError> {
    descend(
        registry,
        reference.repository(),
        selector(reference),
        platform,
    )
    .await
}

pub(super) async fn descend(
    registry: &Registry,
    repository: &str,
    reference: &str,
    platform: &Platform,
) -> Result<Resolved, PullError> {
    let mut raw = registry.get_manifest(repository, reference).await?;
    let digest = raw.digest.clone();
    let mut manifest = parse(&raw)?;
    for _ in 0..MAX_DEPTH {
        if manifest.kind == ManifestKind::Image {
            return Ok(Resolved {
                digest,
                raw,
                manifest,
            });
        }
        let child = manifest.select(platform).or(only_child(&manifest));
        let child = child.ok_or_else(|| PullError::Platform {
            wanted: platform.clone(),
            offered: offered(&manifest),
        })?;
        let wanted = child.digest.to_string();
        let fetched = registry.get_manifest(repository, &wanted).await?;
        let parsed = parse(&fetched)?;
        let differs = |why| PullError::Child {
            digest: child.digest.clone(),
            why,
        };
        if fetched.bytes.len() as u64 != child.size {
            let why = format!("{} bytes instead of {}", fetched.bytes.len(), child.size);
            return Err(differs(why));
        }
        if parsed.media_type != media::essence(&child.media_type) {
            let why = format!("type {} instead of {}", parsed.media_type, child.media_type);
            return Err(differs(why));
        }
        (raw, manifest) = (fetched, parsed);
    }
    Err(PullError::Nested(digest))
}

/// Reads a manifest; its Content-Type has a say only if it is a precise one.
pub(crate) fn parse(raw: &RawManifest) -> Result<Manifest, PullError> {
    // A server that says nothing more precise says nothing.
    let header = raw.media_type.as_deref().filter(|text| {
        let kind = media::essence(text);
        kind != "application/json" && kind != "text/plain" && kind != "application/octet-stream"
    });
    Manifest::parse(&raw.bytes, header).map_err(|source| PullError::Manifest {
        digest: raw.digest.clone(),
        source,
    })
}

/// An index with one child that names no platform says: whatever the machine.
fn only_child(index: &Manifest) -> Option<&strata_oci::Descriptor> {
    match index.manifests.as_slice() {
        [only] if only.platform.is_none() => Some(only),
        _ => None,
    }
}

/// The platforms of an index, without the attestations that builders list as `unknown/unknown`.
fn offered(index: &Manifest) -> Vec<Platform> {
    let platforms = index.manifests.iter().filter_map(|m| m.platform.clone());
    platforms.filter(|p| p.os != "unknown").collect()
}
