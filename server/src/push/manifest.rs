//! Manifests: kept as the bytes that came, under their digest, with the media type that they came with.

use bytes::Bytes;
use strata_oci::{Digest, Digester, Manifest, Repository, Tag};

use crate::app::App;
use crate::error::Error;
use crate::meta::{NewManifest, PutManifest};
use crate::pull;
use crate::route::Reference;

/// A manifest that was kept.
pub struct Kept {
    /// Its digest.
    pub digest: Digest,
    /// The digest that it refers to.
    pub subject: Option<Digest>,
}

/// Keeps a manifest under its digest, and under the tags.
pub async fn put_manifest(
    app: &App,
    repository: Repository,
    reference: Reference,
    mut tags: Vec<Tag>,
    content_type: Option<&str>,
    bytes: Bytes,
) -> Result<Kept, Error> {
    let manifest = Manifest::parse(&bytes, content_type)?;
    let digest = match reference {
        Reference::Tag(tag) => {
            tags.push(tag);
            Digest::of(&bytes)
        }
        Reference::Digest(expected) => {
            let mut digester = Digester::new(expected.algorithm());
            digester.update(&bytes);
            let actual = digester.finish();
            if actual != expected {
                return Err(Error::DigestMismatch { expected, actual });
            }
            expected
        }
    };
    let kept = Kept {
        digest: digest.clone(),
        subject: manifest.subject.as_ref().map(|s| s.digest.clone()),
    };
    let new = NewManifest {
        repository,
        digest,
        bytes,
        manifest,
        tags,
        sparse: app.config.now().storage.sparse,
    };
    match app.meta.put_manifest(new).await? {
        PutManifest::Stored => Ok(kept),
        PutManifest::Missing(digests) => Err(Error::MissingContent(digests)),
    }
}

/// Takes a tag away, or a manifest with all tags that point at it.
pub async fn delete_manifest(
    app: &App,
    repository: &Repository,
    reference: &Reference,
) -> Result<(), Error> {
    if app.meta.delete_manifest(repository, reference).await? {
        Ok(())
    } else {
        Err(pull::unknown(reference))
    }
}
