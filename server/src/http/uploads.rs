//! Uploads: `POST /v2/NAME/blobs/uploads/`, then `PATCH`, `PUT`, `GET` and `DELETE` of the session.

use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use strata_oci::{Algorithm, Digest, Repository};

use super::error::{BadRequest, Refusal};
use super::headers::{CONTENT_DIGEST, UPLOAD_UUID, single, text, value};
use super::query;
use crate::app::App;
use crate::auth::Grant;
use crate::blob::ByteStream;
use crate::error::Error;
use crate::push;
use crate::upload::UploadId;

pub(super) async fn start(
    app: &Arc<App>,
    grant: &Grant,
    repository: Repository,
    parts: &Parts,
    body: ByteStream,
) -> Result<Response, Refusal> {
    if let Some(mount) = query::first(parts, "mount") {
        let digest: Digest = mount.parse().map_err(BadRequest::Digest)?;
        let from = query::first(parts, "from").filter(|from| !from.is_empty());
        let from = from.map(|from| from.parse().map_err(BadRequest::From));
        let from: Option<Repository> = from.transpose()?;
        if push::mount(app, grant, &repository, from, &digest).await? {
            return Ok(created(&repository, &digest));
        }
    } else if let Some(digest) = query::first(parts, "digest") {
        let digest: Digest = digest.parse().map_err(BadRequest::Digest)?;
        let stored = push::put_blob(Arc::clone(app), grant, repository.clone(), digest, body);
        return Ok(created(&repository, &stored.await?));
    }
    let algorithm = match query::first(parts, "digest-algorithm") {
        Some(name) => name.parse().map_err(BadRequest::Digest)?,
        None => Algorithm::Sha256,
    };
    let id = push::start(app, grant, repository.clone(), algorithm).await?;
    let headers = session(&repository, &id, 0);
    Ok((StatusCode::ACCEPTED, headers).into_response())
}

pub(super) async fn status(
    app: &App,
    grant: &Grant,
    repository: &Repository,
    id: &UploadId,
) -> Result<Response, Refusal> {
    let received = push::status(app, grant, repository, id).await?;
    let headers = session(repository, id, received);
    Ok((StatusCode::NO_CONTENT, headers).into_response())
}

pub(super) async fn append(
    app: &Arc<App>,
    grant: &Grant,
    repository: &Repository,
    id: &UploadId,
    parts: &Parts,
    body: ByteStream,
) -> Result<Response, Refusal> {
    let range = chunk(parts)?;
    let received = push::append(Arc::clone(app), grant, repository, id, range, body).await;
    let received = received.map_err(|error| refused(error, repository, id))?;
    let headers = session(repository, id, received);
    Ok((StatusCode::ACCEPTED, headers).into_response())
}

pub(super) async fn finish(
    app: &Arc<App>,
    grant: &Grant,
    repository: &Repository,
    id: &UploadId,
    parts: &Parts,
    body: ByteStream,
) -> Result<Response, Refusal> {
    let digest = query::first(parts, "digest").ok_or(BadRequest::DigestMissing)?;
    let digest: Digest = digest.parse().map_err(BadRequest::Digest)?;
    let range = chunk(parts)?;
    let stored = push::finish(Arc::clone(app), grant, repository, id, digest, range, body).await;
    let digest = stored.map_err(|error| refused(error, repository, id))?;
    Ok(created(repository, &digest))
}

pub(super) async fn cancel(
    app: &App,
    grant: &Grant,
    repository: &Repository,
    id: &UploadId,
) -> Result<Response, Refusal> {
    push::cancel(app, grant, repository, id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Where the client says that its chunk belongs, if it says so.
fn chunk(parts: &Parts) -> Result<Option<RangeInclusive<u64>>, BadRequest> {
    let Some(header) = single(parts, CONTENT_RANGE)? else {
        return Ok(None);
    };
    let invalid = || BadRequest::ContentRange(header.chars().take(80).collect());
    let range = super::range::of_chunk(header).ok_or_else(invalid)?;
    let size = range.end() - range.start() + 1;
    let length = text(parts, CONTENT_LENGTH).and_then(|l| l.parse().ok());
    match length {
        Some(length) if length != size => Err(BadRequest::Length {
            length,
            range: size,
        }),
        _ => Ok(Some(range)),
    }
}

/// A chunk that comes out of order is told where the upload is.
fn refused(error: Error, repository: &Repository, id: &UploadId) -> Refusal {
    let at = match &error {
        Error::OutOfOrder { expected, .. } => Some(*expected),
        _ => None,
    };
    let refusal = Refusal::from(error);
    match at {
        Some(at) => session(repository, id, at)
            .into_iter()
            .filter_map(|(name, value)| Some((name?, value)))
            .fold(refusal, |refusal, (name, value)| refusal.with(name, value)),
        None => refusal,
    }
}

/// The session and how far it is. The range ends with the last byte that was received; the protocol
/// has no form for none, `0-0` is what registries say and clients read.
fn session(repository: &Repository, id: &UploadId, received: u64) -> HeaderMap {
    let location = format!("/v2/{repository}/blobs/uploads/{id}");
    let range = format!("0-{}", received.saturating_sub(1));
    HeaderMap::from_iter([
        (LOCATION, value(&location)),
        (RANGE, value(&range)),
        (UPLOAD_UUID, value(id.as_str())),
    ])
}

fn created(repository: &Repository, digest: &Digest) -> Response {
    let location = format!("/v2/{repository}/blobs/{digest}");
    let headers = [
        (LOCATION, value(&location)),
        (CONTENT_DIGEST, value(&digest.to_string())),
    ];
    (StatusCode::CREATED, headers).into_response()
}
