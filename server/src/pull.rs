//! What a pull means: everything is looked up through the repository that is asked.

use strata_oci::{Digest, Repository};

use crate::app::App;
use crate::blob::BlobContent;
use crate::error::Error;
use crate::meta::{Listed, Page, Referrer, StoredManifest};
use crate::route::Reference;

/// The size of a blob of this repository. Whoever asks may take it as sent, so it stays for now.
pub async fn blob_size(app: &App, repository: &Repository, digest: &Digest) -> Result<u64, Error> {
    let found = app.meta.hold_blob(repository, digest).await?;
    found.ok_or_else(|| Error::BlobUnknown(digest.clone()))
}

/// A blob of this repository.
pub async fn blob(
    app: &App,
    repository: &Repository,
    digest: &Digest,
) -> Result<BlobContent, Error> {
    let unknown = || Error::BlobUnknown(digest.clone());
    // Between the two questions it may be collected, and come back.
    for _ in 0..3 {
        let known = app.meta.blob(repository, digest).await?;
        known.ok_or_else(unknown)?;
        if let Some(content) = app.blobs.read(digest).await? {
            return Ok(content);
        }
    }
    tracing::error!(%repository, %digest, "the database names a blob that is not on the disk");
    Err(unknown())
}

/// A manifest of this repository; without its bytes when only the head is wanted.
pub async fn manifest(
    app: &App,
    repository: &Repository,
    reference: &Reference,
    head: bool,
) -> Result<StoredManifest, Error> {
    let found = if head {
        app.meta.manifest_head(repository, reference).await?
    } else {
        app.meta.manifest(repository, reference).await?
    };
    found.ok_or_else(|| unknown(reference))
}

/// That there is no such manifest.
pub fn unknown(reference: &Reference) -> Error {
    Error::ManifestUnknown(reference.to_string())
}

/// A page of a repository's tags.
pub async fn tags(
    app: &App,
    repository: &Repository,
    page: &Page,
) -> Result<Listed<String>, Error> {
    let found = app.meta.tags(repository, page).await?;
    found.ok_or_else(|| Error::RepositoryUnknown(repository.to_string()))
}

/// A page of the repositories' names.
pub async fn repositories(app: &App, page: &Page) -> Result<Listed<String>, Error> {
    Ok(app.meta.repositories(page).await?)
}

/// A page of the manifests that refer to `subject`; of a subject or a repository that does not exist,
/// none (distribution-spec, "Listing Referrers").
pub async fn referrers(
    app: &App,
    repository: &Repository,
    subject: &Digest,
    artifact_type: Option<&str>,
    page: &Page,
) -> Result<Listed<Referrer>, Error> {
    let meta = &app.meta;
    Ok(meta
        .referrers(repository, subject, artifact_type, page)
        .await?)
}
