//! What an image of a registry is, without its layers: only the manifest and the configuration are fetched.

use strata_oci::config::{ImageConfig, MAX_CONFIG};
use strata_oci::{Digest, Manifest, Platform};

use super::error::PullError;
use super::plan;
use super::resolve::descend;
use crate::registry::Registry;

/// An image of a registry.
#[derive(Debug, Clone)]
pub struct Described {
    /// What the reference itself names: an index's digest or the manifest's own.
    pub resolved: Digest,
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest, proved and read.
    pub manifest: Manifest,
    /// The configuration's exact bytes.
    pub config_bytes: Vec<u8>,
    /// Its parsed view: one diffID for each layer of the manifest.
    pub config: ImageConfig,
}

impl Described {
    /// Whether the reference names an index of several images, of which this is one.
    pub fn is_of_index(&self) -> bool {
        self.resolved != self.digest
    }
}

/// The image that `reference` names, or of an index the one that suits `platform` best.
///
/// # Errors
/// See [`PullError`].
pub async fn describe(
    registry: &Registry,
    repository: &str,
    reference: &str,
    platform: &Platform,
) -> Result<Described, PullError> {
    let found = descend(registry, repository, reference, platform).await?;
    let wanted = plan::config_of(&found.manifest, &found.raw.digest)?;
    let bytes = registry.get_blob(repository, &wanted, MAX_CONFIG).await?;
    let config = plan::read_config(&wanted.digest, &bytes)?;
    plan::layers(&found.manifest, &wanted.digest, &config)?;
    Ok(Described {
        resolved: found.digest,
        digest: found.raw.digest,
        manifest: found.manifest,
        config_bytes: bytes.to_vec(),
        config,
    })
}
