//! Manifests: `GET`, `HEAD`, `PUT` and `DELETE /v2/NAME/manifests/REFERENCE`.
//!
//! The bytes that were pushed are served with the type that they were pushed with, whatever Accept
//! says: a conversion would change the digest.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, LOCATION};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use strata_oci::{Repository, Tag};

use super::error::{BadRequest, Refusal};
use super::headers::{
    ASK_AGAIN, CONTENT_DIGEST, FOREVER, OCI_SUBJECT, OCI_TAG, WARNING, accepts, condition, etag,
    has_already, single, text, value, warning,
};
use super::{body, query};
use crate::app::App;
use crate::blob::ByteStream;
use crate::route::Reference;
use crate::{pull, push};

/// A push sets so many tags at most; the specification asks for 10.
const TAGS: usize = 100;

/// The type of what is served is not among those that the client reads.
const NOT_ACCEPTED: &str =
    "the Accept header leaves out the type of this manifest: it is served as it was pushed";

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
    if !accepts(parts, &found.media_type) {
        headers.insert(WARNING, warning(NOT_ACCEPTED));
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
            let tag = tag.parse().map_err(BadRequest::Tag)?;
            if !tags.contains(&tag) {
                tags.push(tag);
            }
            if tags.len() > TAGS {
                return Err(BadRequest::Tags(TAGS).into());
            }
        }
    }
    let condition = condition(parts)?;
    let content_type = single(parts, CONTENT_TYPE)?;
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
    if kept.lacking > 0 {
        let lacking = "this registry does not hold all that the manifest names: pulls can fail";
        headers.insert(WARNING, warning(lacking));
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
