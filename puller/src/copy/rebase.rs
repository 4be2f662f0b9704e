//! An image's own layers on a newer base, in registries: manifests and configurations are read here, layers are at the
//! target already, or mounted there from where they are, and travel only between registries.

use oci_distribution::Reference;
use strata_oci::{Descriptor, Digest, Manifest, Platform};

use super::sink::Sink;
use super::target::put;
use super::{Copier, CopyError, CopyReport};
use crate::commit::Rebased;
use crate::fetch::{self, Described, PullError};
use crate::push::Document;
use crate::push::content::Content;

impl Copier {
    /// What an image of a registry is, without its layers.
    ///
    /// # Errors
    /// See [`CopyError`].
    pub async fn describe(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Described, CopyError> {
        let registry = self.registry(reference.registry(), false)?;
        let selector = reference.digest().or(reference.tag()).unwrap_or("latest");
        Ok(fetch::describe(&registry, reference.repository(), selector, platform).await?)
    }

    /// Puts a rebased image at `target`. Its layers are those of an image of each of `sources`, of which the first that
    /// has a layer gives it.
    ///
    /// # Errors
    /// See [`CopyError`]; then the target's name stands for what it stood for.
    pub async fn put_rebased(
        &self,
        rebased: Rebased,
        sources: &[(Reference, Vec<Descriptor>)],
        target: &Reference,
    ) -> Result<CopyReport, CopyError> {
        let digest = Digest::of(&rebased.manifest);
        let manifest = Manifest::parse(&rebased.manifest, Some(rebased.media_type));
        let manifest = manifest.map_err(|source| PullError::Manifest {
            digest: digest.clone(),
            source,
        })?;
        let config = Digest::of(&rebased.config);
        let mut blobs: Vec<(Descriptor, Content)> = Vec::new();
        for blob in manifest.required_blobs() {
            if blobs.iter().any(|(known, _)| known.digest == blob.digest) {
                continue;
            }
            let has = |(_, layers): &&(Reference, Vec<Descriptor>)| {
                layers.iter().any(|layer| layer.digest == blob.digest)
            };
            let content = match sources.iter().find(has) {
                Some((from, _)) => Content::Registry {
                    registry: self.registry(from.registry(), false)?,
                    repository: from.repository().to_owned(),
                },
                None if blob.digest == config => Content::Memory(rebased.config.clone().into()),
                None => Content::Absent,
            };
            blobs.push((blob.clone(), content));
        }
        let registry = self.registry(target.registry(), true)?;
        let sink = Sink::Registry {
            registry: registry.clone(),
            repository: target.repository().to_owned(),
            known: &self.shared.known,
        };
        let (blobs, bytes) = self.send_all(&sink, &blobs).await?;
        let document = Document {
            digest: digest.clone(),
            media_type: rebased.media_type.to_owned(),
            bytes: rebased.manifest.into(),
        };
        let own = digest.to_string();
        let name = match target.digest() {
            Some(_) => &own,
            None => target.tag().unwrap_or("latest"),
        };
        put(&registry, target.repository(), name, &document).await?;
        Ok(CopyReport {
            digest: Some(digest),
            manifests: 1,
            blobs,
            bytes,
            ..CopyReport::default()
        })
    }
}
