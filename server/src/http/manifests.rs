//! Manifests: `GET`, `HEAD`, `PUT` and `DELETE /v2/NAME/manifests/REFERENCE`.
//!
//! The bytes that were pushed are served with the type that they were pushed with, whatever Accept
//! says: a conversion would change the digest.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, LOCATION};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use strata_oci::{Repository, Tag};

use super::error::{BadRequest, Refusal};
use super::headers::{
    CONTENT_DIGEST, FOREVER, OCI_SUBJECT, OCI_TAG, condition, etag, has_already, text, value,
};
use super::{body, query};
use crate::app::App;
use crate::blob::ByteStream;
use crate::route::Reference;
use crate::{pull, push};

/// A tag may move at any time: ask again, with If-None-Match.
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("private, no-cache");

pub(super) async fn get(
    app: &App,
    repository: &Repository,
    reference: &Reference,
    head: bool,
    parts: &Parts,
) -> Result<Response, Refusal> {
    let found = pull::manifest(app, repository, reference, head).await?;
    let cache = match reference {
        Reference::Tag(_) => ASK_AGAIN,
        Reference::Digest(_) => FOREVER,
    };
    let mut headers = HeaderMap::from_iter([
        (CONTENT_TYPE, value(&found.media_type)),
        (CONTENT_DIGEST, value(&found.digest.to_string())),
        (ETAG, etag(&found.digest)),
        (CACHE_CONTROL, cache),
    ]);
    if has_already(parts, &found.digest)? {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    headers.insert(CONTENT_LENGTH, found.size.into());
    let body = if head {
        Body::empty()
    } else {
        Body::from(found.bytes)
    };
    Ok((headers, body).into_response())
}

pub(super) async fn put(
    app: &App,
    repository: Repository,
    reference: Reference,
    parts: &Parts,
    body: ByteStream,
) -> Result<Response, Refusal> {
    let mut tags: Vec<Tag> = Vec::new();
    if matches!(reference, Reference::Digest(_)) {
        for tag in query::all(parts, "tag") {
            tags.push(tag.parse().map_err(BadRequest::Tag)?);
        }
    }
    let condition = condition(parts)?;
    let content_type = text(parts, CONTENT_TYPE);
    let promised = text(parts, CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let bytes = body::manifest(body, promised).await?;
    let set = tags.clone();
    let (name, place) = (repository.to_string(), repository);
    let put = push::put_manifest(app, place, reference, tags, condition, content_type, bytes);
    let kept = put.await?;
    let digest = kept.digest;
    let mut headers = HeaderMap::from_iter([
        (LOCATION, value(&format!("/v2/{name}/manifests/{digest}"))),
        (CONTENT_DIGEST, value(&digest.to_string())),
        (ETAG, etag(&digest)),
    ]);
    if let Some(subject) = kept.subject {
        headers.insert(OCI_SUBJECT, value(&subject.to_string()));
    }
    for tag in set {
        headers.append(OCI_TAG, value(tag.as_str()));
    }
    Ok((StatusCode::CREATED, headers).into_response())
}

pub(super) async fn delete(
    app: &App,
    repository: &Repository,
    reference: &Reference,
    parts: &Parts,
) -> Result<Response, Refusal> {
    let condition = condition(parts)?;
    push::delete_manifest(app, repository, reference, &condition).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}
