//! Headers of the protocol, and those of HTTP that are read more than once.

use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::request::Parts;
use http::{HeaderName, HeaderValue};
use strata_oci::Digest;

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
/// Which filters a referrers list has been through.
pub(super) const OCI_FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

/// What is asked for by digest never changes, but who may read it can.
pub(super) const FOREVER: HeaderValue =
    HeaderValue::from_static("private, max-age=31536000, immutable");

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
