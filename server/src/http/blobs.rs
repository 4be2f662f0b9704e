//! Blobs: `GET`, `HEAD` and `DELETE /v2/NAME/blobs/DIGEST`.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE,
    RANGE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use strata_oci::{Digest, Repository};

use super::body;
use super::error::{BadRequest, Refusal};
use super::headers::{CONTENT_DIGEST, FOREVER, etag, has_already, single, value};
use super::range::{self, Part};
use crate::app::App;
use crate::blob::BlobError;
use crate::error::Error;
use crate::{pull, push};

pub(super) async fn get(
    app: &App,
    repository: &Repository,
    digest: &Digest,
    head: bool,
    parts: &Parts,
) -> Result<Response, Refusal> {
    let known = has_already(parts, digest);
    if head || !matches!(known, Ok(false)) {
        // What is not here has no conditions.
        let size = pull::blob_size(app, repository, digest).await?;
        let mut headers = headers(digest);
        if known? {
            return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
        }
        headers.insert(CONTENT_LENGTH, size.into());
        return Ok((headers, Body::empty()).into_response());
    }
    let content = pull::blob(app, repository, digest).await?;
    let size = content.size();
    let range = match part(parts, digest, size) {
        Part::Whole => None,
        Part::Bytes(range) => Some(range),
        Part::Unsatisfiable => {
            let refusal = Refusal::from(BadRequest::Unsatisfiable(size));
            return Err(refusal.with(CONTENT_RANGE, value(&format!("bytes */{size}"))));
        }
    };
    let bytes = body::outgoing(content, &app.regions);
    let mut bytes = bytes.map_err(|source| {
        let path = digest.to_string().into();
        let action = "cannot map";
        Error::Blob(BlobError::Io {
            action,
            path,
            source,
        })
    })?;
    let mut headers = headers(digest);
    let mut status = StatusCode::OK;
    if let Some(range) = range {
        status = StatusCode::PARTIAL_CONTENT;
        let said = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        headers.insert(CONTENT_RANGE, value(&said));
        let index = |n| usize::try_from(n).unwrap_or(usize::MAX).min(bytes.len());
        bytes = bytes.slice(index(range.start)..index(range.end));
    }
    Ok((status, headers, bytes).into_response())
}

/// The part that is asked for; a range of another content than this (If-Range) does not count.
fn part(parts: &Parts, digest: &Digest, size: u64) -> Part {
    let mine = etag(digest);
    if parts.headers.get(IF_RANGE).is_some_and(|tag| *tag != mine) {
        return Part::Whole;
    }
    // Several lines are several ranges, which are answered with all.
    range::of_blob(single(parts, RANGE).unwrap_or(None), size)
}

fn headers(digest: &Digest) -> HeaderMap {
    let octets = HeaderValue::from_static("application/octet-stream");
    HeaderMap::from_iter([
        (CONTENT_TYPE, octets),
        (CONTENT_DIGEST, value(&digest.to_string())),
        (ETAG, etag(digest)),
        (ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        (CACHE_CONTROL, FOREVER),
    ])
}

pub(super) async fn delete(
    app: &App,
    repository: &Repository,
    digest: &Digest,
) -> Result<Response, Refusal> {
    push::delete_blob(app, repository, digest).await?;
    let headers = [(CONTENT_DIGEST, value(&digest.to_string()))];
    Ok((StatusCode::ACCEPTED, headers).into_response())
}
