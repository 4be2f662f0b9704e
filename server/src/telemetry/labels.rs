//! What requests are counted by. Each label has few values that are known beforehand: a client
//! cannot make new ones, and a counter is found without a lookup.

use http::Method;

use crate::route::{Route, RouteError};

/// The kind of thing that a request's path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noun {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/{name}/tags/list`
    Tags,
    /// `/v2/{name}/referrers/{digest}`
    Referrers,
    /// `/v2/{name}/blobs/{digest}`
    Blob,
    /// `/v2/{name}/blobs/uploads/` and a session there
    Upload,
    /// `/v2/{name}/manifests/{reference}`
    Manifest,
    /// `/livez` and `/readyz`
    Health,
    /// Anything else, and paths of the protocol with malformed names in them.
    Unknown,
}

impl Noun {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Base,
        Self::Catalog,
        Self::Tags,
        Self::Referrers,
        Self::Blob,
        Self::Upload,
        Self::Manifest,
        Self::Health,
        Self::Unknown,
    ];

    /// What a route is about.
    pub fn of(route: &Result<Route, RouteError>) -> Self {
        match route {
            Ok(Route::Base | Route::Options(_)) => Self::Base,
            Ok(Route::Catalog) => Self::Catalog,
            Ok(Route::Tags(_)) => Self::Tags,
            Ok(Route::Referrers(..)) => Self::Referrers,
            Ok(Route::GetBlob { .. } | Route::DeleteBlob(..)) => Self::Blob,
            Ok(
                Route::StartUpload(_)
                | Route::UploadStatus(..)
                | Route::AppendUpload(..)
                | Route::FinishUpload(..)
                | Route::CancelUpload(..),
            ) => Self::Upload,
            Ok(Route::GetManifest { .. } | Route::PutManifest(..) | Route::DeleteManifest(..)) => {
                Self::Manifest
            }
            Err(_) => Self::Unknown,
        }
    }

    /// The value of the label `route`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Catalog => "catalog",
            Self::Tags => "tags",
            Self::Referrers => "referrers",
            Self::Blob => "blob",
            Self::Upload => "upload",
            Self::Manifest => "manifest",
            Self::Health => "health",
            Self::Unknown => "unknown",
        }
    }
}

/// The values of the label `method`; the last stands for all others.
pub(super) const METHODS: [&str; 7] = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "other"];

pub(super) fn method(method: &Method) -> usize {
    let last = METHODS.len() - 1;
    let known = METHODS[..last].iter().position(|m| *m == method.as_str());
    known.unwrap_or(last)
}

/// The status of a request whose client went away before there was an answer; no client ever sees
/// it. The number is nginx's, which operators know.
pub(super) const CLIENT_GONE: u16 = 499;

/// The values of the label `status`, in order; the last stands for all others.
pub(super) const STATUSES: [u16; 30] = [
    200,
    201,
    202,
    204,
    206,
    301,
    302,
    304,
    307,
    308,
    400,
    401,
    403,
    404,
    405,
    406,
    408,
    409,
    411,
    412,
    413,
    415,
    416,
    429,
    CLIENT_GONE,
    500,
    501,
    503,
    507,
    OTHER_STATUS,
];
const OTHER_STATUS: u16 = u16::MAX;

pub(super) fn status(status: u16) -> usize {
    let found = STATUSES.binary_search(&status);
    found.unwrap_or(STATUSES.len() - 1)
}

pub(super) fn status_text(slot: usize) -> String {
    match STATUSES[slot] {
        OTHER_STATUS => "other".to_owned(),
        status => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_its_own_place() {
        for (slot, noun) in Noun::ALL.into_iter().enumerate() {
            assert_eq!(noun as usize, slot);
        }
        assert!(STATUSES.is_sorted());
        for code in 100..1000 {
            let slot = status(code);
            let text = status_text(slot);
            assert!(
                text == code.to_string() || text == "other",
                "{code}: {text}"
            );
        }
        assert_eq!(METHODS[method(&Method::PATCH)], "PATCH");
        let own = Method::from_bytes(b"SURPRISE").expect("a method");
        assert_eq!(METHODS[method(&own)], "other");
    }
}
