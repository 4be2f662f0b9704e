//! Manifests: kept as the bytes that came, under their digest, with the media type that they came with.

use bytes::Bytes;
use strata_oci::{Digest, Digester, Manifest, Repository, Tag};

use crate::app::App;
use crate::condition::Condition;
use crate::error::Error;
use crate::meta::{DeleteManifest, NewManifest, PutManifest};
use crate::pull;
use crate::route::Reference;

/// A manifest that was kept.
pub struct Kept {
    /// Its digest.
    pub digest: Digest,
    /// The digest that it refers to.
    pub subject: Option<Digest>,
    /// How many of the things that it names the repository lacks; 100 stand for more.
    pub lacking: usize,
}

/// Keeps a manifest under its digest, and under the tags, if the condition holds.
pub async fn put_manifest(
    app: &App,
    repository: Repository,
    reference: Reference,
    mut tags: Vec<Tag>,
    condition: Condition,
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
    let mut kept = Kept {
        digest: digest.clone(),
        subject: manifest.subject.as_ref().map(|s| s.digest.clone()),
        lacking: 0,
    };
    let new = NewManifest {
        repository,
        digest,
        bytes,
        manifest,
        tags,
        sparse: app.config.now().storage.sparse,
        condition,
    };
    match app.meta.put_manifest(new).await? {
        PutManifest::Stored => Ok(kept),
        PutManifest::Sparse(count) => {
            kept.lacking = count;
            Ok(kept)
        }
        PutManifest::Refused { of, current } => Err(Error::Condition { of, current }),
        PutManifest::Missing(digests) => Err(Error::MissingContent(digests)),
    }
}

/// Takes a tag away, or a manifest with all tags that point at it, if the condition holds.
pub async fn delete_manifest(
    app: &App,
    repository: &Repository,
    reference: &Reference,
    condition: &Condition,
) -> Result<(), Error> {
    let deleted = app.meta.delete_manifest(repository, reference, condition);
    match deleted.await? {
        DeleteManifest::Deleted => Ok(()),
        DeleteManifest::Unknown => Err(pull::unknown(reference)),
        DeleteManifest::Refused(current) => Err(Error::Condition {
            of: reference.to_string(),
            current: Some(current),
        }),
    }
}
