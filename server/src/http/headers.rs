//! Headers of the protocol, and those of HTTP that are read more than once.

use http::header::{ACCEPT, IF_MATCH, IF_NONE_MATCH, LINK, LOCATION};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use strata_oci::{Digest, media};

use super::error::BadRequest;
use crate::condition::Condition;
use crate::error::Error;

/// The digest of what is sent or was stored.
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// The upload's id; older than the specification, which leaves it out.
pub(super) const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
/// That a manifest's subject was understood, so that the client need not keep a list of its own.
pub(super) const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// A tag that was set by a parameter.
pub(super) const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
/// A note for a person. No longer part of HTTP itself, but of the protocol.
pub(super) const WARNING: HeaderName = HeaderName::from_static("warning");
/// Which filters a referrers list has been through.
pub(super) const OCI_FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

/// What is asked for by digest never changes, but who may read it can.
pub(super) const FOREVER: HeaderValue =
    HeaderValue::from_static("private, max-age=31536000, immutable");

/// What may change at any time: ask again, with If-None-Match where there is an entity tag.
pub(super) const ASK_AGAIN: HeaderValue = HeaderValue::from_static("private, no-cache");

/// A value made of checked names, digests and numbers, which are all visible ASCII.
pub(super) fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

/// The entity tag of content: its digest.
pub(super) fn etag(digest: &Digest) -> HeaderValue {
    value(&format!("\"{digest}\""))
}

/// The conditions of a request (RFC 9110, 13.1).
pub(super) fn condition(parts: &Parts) -> Result<Condition, BadRequest> {
    let lines = |name| {
        parts
            .headers
            .get_all(name)
            .iter()
            .map(HeaderValue::as_bytes)
    };
    Ok(Condition::parse(lines(IF_MATCH), lines(IF_NONE_MATCH))?)
}

/// Whether a client that reads content has it already. What it says in a wrong way is as if it were not said.
///
/// # Errors
/// When it expects other content than this.
pub(super) fn has_already(parts: &Parts, digest: &Digest) -> Result<bool, Error> {
    let condition = condition(parts).unwrap_or_default();
    let current = Some(digest);
    if !condition.is_expected(current) {
        let (of, current) = (digest.to_string(), Some(digest.clone()));
        return Err(Error::Condition { of, current });
    }
    Ok(condition.is_known(current))
}

/// A header's text, if it is there and is text.
pub(super) fn text(parts: &Parts, name: HeaderName) -> Option<&str> {
    parts.headers.get(name)?.to_str().ok()
}

/// The text of a header that two readers must not read in two ways: it is there once, and is text.
pub(super) fn single(parts: &Parts, name: HeaderName) -> Result<Option<&str>, BadRequest> {
    let mut lines = parts.headers.get_all(&name).iter();
    let Some(line) = lines.next() else {
        return Ok(None);
    };
    match (line.to_str(), lines.next()) {
        (Ok(text), None) => Ok(Some(text)),
        _ => Err(BadRequest::Header(name)),
    }
}

/// Whether a client that says what it reads (Accept) reads this type. Content is served all the same, as it was
/// pushed: what else there could be would have another digest.
pub(super) fn accepts(parts: &Parts, media_type: &str) -> bool {
    let lines = parts.headers.get_all(ACCEPT).iter();
    let mut types = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(media::essence)
        .filter(|named| !named.is_empty())
        .peekable();
    types.peek().is_none()
        || types.any(|named| matches!(&*named, "*/*" | "application/*") || named == media_type)
}

/// A note for the person who reads the client's output (distribution-spec, "Warnings").
pub(super) fn warning(text: &str) -> HeaderValue {
    value(&format!("299 - \"{text}\""))
}

/// Puts what an answer refers to under the registry's public URL, or behind the prefix that a proxy takes away.
pub(super) fn refer(headers: &mut HeaderMap, base: &str) {
    for (name, before) in [(LOCATION, ""), (LINK, "<")] {
        let Some(header) = headers.get_mut(&name) else {
            continue;
        };
        let referred = header.to_str().ok().and_then(|h| h.strip_prefix(before));
        if let Some(path) = referred.filter(|path| path.starts_with('/')) {
            *header = value(&format!("{before}{base}{path}"));
        }
    }
}
