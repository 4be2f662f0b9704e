//! Refusals: which status and which of the protocol's codes say what went wrong
//! (distribution-spec, "Error Codes"). Nowhere else is this decided.

use std::io::ErrorKind;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CACHE_CONTROL, ETAG};
use http::{HeaderName, HeaderValue, StatusCode};
use strata_oci::digest::ParseDigestError;
use strata_oci::error::{Envelope, ErrorCode};
use strata_oci::manifest::ManifestError;
use strata_oci::name::ParseNameError;

use crate::blob::{BlobError, is_full};
use crate::condition::ParseConditionError;
use crate::error::Error;
use crate::meta::MetaError;
use crate::route::RouteError;
use crate::telemetry::Refused;

use super::headers::etag;

/// A request that is not served.
#[derive(Debug)]
pub(super) struct Refusal {
    cause: Cause,
    headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Route(RouteError),
    #[error("this is not allowed")]
    Denied,
    #[error(transparent)]
    Request(BadRequest),
    #[error(transparent)]
    Registry(Error),
}

/// A header or a parameter that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadRequest {
    #[error("the parameter digest is missing: PUT needs ?digest=sha256:…")]
    DigestMissing,
    #[error(transparent)]
    Digest(#[from] ParseDigestError),
    #[error("the repository to mount from is invalid: {0}")]
    From(ParseNameError),
    #[error("the parameter tag is invalid: {0}")]
    Tag(ParseNameError),
    #[error("more than {0} tags at once: push the others in requests of their own")]
    Tags(usize),
    #[error("the header {0} is there twice, or is not text")]
    Header(HeaderName),
    #[error("the parameter n is {0:?}: it must be a number")]
    PageSize(String),
    #[error("the range {0:?} is invalid: a chunk's Content-Range is first-last, such as 0-1023")]
    ContentRange(String),
    #[error("Content-Length is {length}, Content-Range has {range} bytes")]
    Length { length: u64, range: u64 },
    #[error(transparent)]
    Condition(#[from] ParseConditionError),
    #[error("the request's target has {0} bytes: at most {max} are taken", max = super::MAX_TARGET)]
    TargetTooLong(usize),
    #[error("the range cannot be satisfied: the blob has {0} bytes")]
    Unsatisfiable(u64),
}

impl Refusal {
    pub(super) fn denied() -> Self {
        Cause::Denied.into()
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl From<Cause> for Refusal {
    fn from(cause: Cause) -> Self {
        let headers = Vec::new();
        Self { cause, headers }
    }
}

impl From<RouteError> for Refusal {
    fn from(error: RouteError) -> Self {
        Cause::Route(error).into()
    }
}

impl From<BadRequest> for Refusal {
    fn from(error: BadRequest) -> Self {
        Cause::Request(error).into()
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let tag = match &error {
            Error::Condition { current, .. } => current.as_ref().map(etag),
            _ => None,
        };
        let refusal = Self::from(Cause::Registry(error));
        match tag {
            Some(tag) => refusal.with(ETAG, tag),
            None => refusal,
        }
    }
}

/// The one mapping.
fn status_and_code(cause: &Cause) -> (StatusCode, ErrorCode) {
    use StatusCode as S;
    match cause {
        Cause::Denied => (S::FORBIDDEN, ErrorCode::Denied),
        Cause::Route(error) => match error {
            RouteError::NotFound => (S::NOT_FOUND, ErrorCode::Unsupported),
            RouteError::Method { .. } => (S::METHOD_NOT_ALLOWED, ErrorCode::Unsupported),
            RouteError::Name(_) => (S::BAD_REQUEST, ErrorCode::NameInvalid),
            RouteError::Digest(_) => (S::BAD_REQUEST, ErrorCode::DigestInvalid),
            RouteError::Tag(_) => (S::BAD_REQUEST, ErrorCode::NameInvalid),
            RouteError::NoSuchTag(_) => (S::NOT_FOUND, ErrorCode::ManifestUnknown),
            RouteError::NoSuchUpload => (S::NOT_FOUND, ErrorCode::BlobUploadUnknown),
        },
        Cause::Request(error) => match error {
            BadRequest::DigestMissing | BadRequest::Digest(_) => {
                (S::BAD_REQUEST, ErrorCode::DigestInvalid)
            }
            BadRequest::From(_) | BadRequest::Tag(_) => (S::BAD_REQUEST, ErrorCode::NameInvalid),
            BadRequest::Tags(_) => (S::URI_TOO_LONG, ErrorCode::Unsupported),
            BadRequest::Header(_) | BadRequest::PageSize(_) => {
                (S::BAD_REQUEST, ErrorCode::Unsupported)
            }
            BadRequest::ContentRange(_) => (S::BAD_REQUEST, ErrorCode::BlobUploadInvalid),
            BadRequest::Condition(_) => (S::BAD_REQUEST, ErrorCode::Unsupported),
            BadRequest::Length { .. } => (S::BAD_REQUEST, ErrorCode::SizeInvalid),
            BadRequest::TargetTooLong(_) => (S::URI_TOO_LONG, ErrorCode::Unsupported),
            BadRequest::Unsatisfiable(_) => (S::RANGE_NOT_SATISFIABLE, ErrorCode::SizeInvalid),
        },
        Cause::Registry(error) => match error {
            Error::BlobUnknown(_) => (S::NOT_FOUND, ErrorCode::BlobUnknown),
            Error::ManifestUnknown(_) => (S::NOT_FOUND, ErrorCode::ManifestUnknown),
            Error::RepositoryUnknown(_) => (S::NOT_FOUND, ErrorCode::NameUnknown),
            Error::UploadUnknown => (S::NOT_FOUND, ErrorCode::BlobUploadUnknown),
            Error::UploadBusy => (S::CONFLICT, ErrorCode::BlobUploadInvalid),
            Error::OutOfOrder { .. } => (S::RANGE_NOT_SATISFIABLE, ErrorCode::BlobUploadInvalid),
            Error::ChunkSize { .. } => (S::BAD_REQUEST, ErrorCode::SizeInvalid),
            Error::Interrupted(_) => (S::BAD_REQUEST, ErrorCode::BlobUploadInvalid),
            Error::DigestMismatch { .. } => (S::BAD_REQUEST, ErrorCode::DigestInvalid),
            Error::Manifest(ManifestError::TooLarge(_)) => {
                (S::PAYLOAD_TOO_LARGE, ErrorCode::SizeInvalid)
            }
            Error::Manifest(ManifestError::Schema1) => (S::BAD_REQUEST, ErrorCode::Unsupported),
            Error::Manifest(
                ManifestError::Json(_)
                | ManifestError::MediaType(_)
                | ManifestError::Ambiguous
                | ManifestError::Missing(_),
            ) => (S::BAD_REQUEST, ErrorCode::ManifestInvalid),
            Error::Condition { .. } => (S::PRECONDITION_FAILED, ErrorCode::Denied),
            Error::MissingContent(_) => (S::NOT_FOUND, ErrorCode::ManifestBlobUnknown),
            Error::Meta(MetaError::Full(_)) | Error::Blob(BlobError::Full(_)) => {
                (S::INSUFFICIENT_STORAGE, ErrorCode::Unknown)
            }
            Error::Blob(BlobError::Unsynced { source, .. }) if is_full(source) => {
                (S::INSUFFICIENT_STORAGE, ErrorCode::Unknown)
            }
            Error::Meta(MetaError::Closed | MetaError::ReadOnly(_)) => {
                (S::SERVICE_UNAVAILABLE, ErrorCode::Unknown)
            }
            Error::Blob(BlobError::Io { source, .. } | BlobError::Unsynced { source, .. })
                if source.kind() == ErrorKind::ReadOnlyFilesystem =>
            {
                (S::SERVICE_UNAVAILABLE, ErrorCode::Unknown)
            }
            Error::Meta(MetaError::Newer { .. } | MetaError::Damaged(_) | MetaError::Failed(_))
            | Error::Blob(BlobError::Lost(_) | BlobError::Unsynced { .. } | BlobError::Io { .. }) => {
                (S::INTERNAL_SERVER_ERROR, ErrorCode::Unknown)
            }
        },
    }
}

/// What a client is told. What failed inside is in the log, not in the answer.
fn envelope(cause: &Cause, status: StatusCode, code: ErrorCode) -> Envelope {
    if let Cause::Registry(Error::MissingContent(digests)) = cause {
        let mut envelope = Envelope { errors: Vec::new() };
        for digest in digests {
            let message = format!("the manifest names {digest}, which is not in this repository");
            envelope.errors.extend(Envelope::new(code, message).errors);
        }
        return envelope;
    }
    if status.is_server_error() {
        let message = match status {
            StatusCode::INSUFFICIENT_STORAGE => "the registry's disk is full",
            StatusCode::SERVICE_UNAVAILABLE => match cause {
                Cause::Registry(Error::Meta(MetaError::Closed)) => "the registry is stopping",
                _ => "the registry's disk can only be read",
            },
            _ => "the registry failed; its log says why",
        };
        return Envelope::new(code, message);
    }
    Envelope::new(code, cause.to_string())
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code) = status_and_code(&self.cause);
        let mut response = (status, Json(envelope(&self.cause, status, code))).into_response();
        // What is refused now may be granted in a moment: no cache may keep it.
        let once = HeaderValue::from_static("no-store");
        response.headers_mut().insert(CACHE_CONTROL, once);
        let failed = status.is_server_error();
        response.extensions_mut().insert(Refused {
            code: code.as_str(),
            failure: failed.then(|| with_sources(&self.cause)),
        });
        if let Cause::Route(RouteError::Method { allow }) = self.cause {
            let allow = HeaderValue::from_static(allow);
            response.headers_mut().insert(ALLOW, allow);
        }
        response.headers_mut().extend(self.headers);
        response
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = source.source();
    }
    text
}
