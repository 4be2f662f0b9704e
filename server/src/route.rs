//! The protocol's paths (distribution-spec, "Endpoints").
//!
//! A repository name holds slashes and may itself contain words such as `blobs` or `tags`, so a path
//! is read from its end: `/v2/a/tags/list/tags/list` lists the tags of `a/tags/list`. The path is
//! percent-decoded once, before it is read, so that what is checked is what is used.

use std::fmt;

use http::Method;
use percent_encoding::percent_decode_str;
use strata_oci::name::ParseNameError;
use strata_oci::{Digest, Repository, Tag};

use strata_oci::digest::ParseDigestError;

use crate::upload::UploadId;

/// What names a manifest in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A name that can move.
    Tag(Tag),
    /// The manifest's own digest.
    Digest(Digest),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// A request that the protocol knows. `head` marks HEAD, which answers as GET does, without a body.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Route {
    Base,
    /// What a path can be asked for, as in the Allow header.
    Options(&'static str),
    Catalog,
    Tags(Repository),
    Referrers(Repository, Digest),
    GetBlob {
        repository: Repository,
        digest: Digest,
        head: bool,
    },
    DeleteBlob(Repository, Digest),
    StartUpload(Repository),
    UploadStatus(Repository, UploadId),
    AppendUpload(Repository, UploadId),
    FinishUpload(Repository, UploadId),
    CancelUpload(Repository, UploadId),
    GetManifest {
        repository: Repository,
        reference: Reference,
        head: bool,
    },
    PutManifest(Repository, Reference),
    DeleteManifest(Repository, Reference),
}

/// Why a request is none of the protocol's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No such path.
    #[error("there is nothing at this path: the registry's API begins at /v2/")]
    NotFound,
    /// A known path that does not do this.
    #[error("this path answers {allow} only")]
    Method {
        /// The methods that it knows, as in the Allow header.
        allow: &'static str,
    },
    /// A malformed repository name.
    #[error(transparent)]
    Name(ParseNameError),
    /// A malformed digest.
    #[error(transparent)]
    Digest(ParseDigestError),
    /// A malformed tag in a request that would make it.
    #[error(transparent)]
    Tag(ParseNameError),
    /// A tag that cannot exist.
    #[error("there is no manifest of that name: {0}")]
    NoSuchTag(ParseNameError),
    /// An upload id that cannot exist.
    #[error("there is no such upload: start a new one")]
    NoSuchUpload,
}

/// Reads a request line; `path` is still percent-encoded.
pub fn parse(method: &Method, path: &str) -> Result<Route, RouteError> {
    match read(method, path) {
        Err(RouteError::Method { allow }) if *method == Method::OPTIONS => {
            Ok(Route::Options(allow))
        }
        route => route,
    }
}

fn read(method: &Method, path: &str) -> Result<Route, RouteError> {
    let decoded = percent_decode_str(path)
        .decode_utf8()
        .map_err(|_| RouteError::NotFound)?;
    let rest = match decoded.strip_prefix("/v2") {
        Some("" | "/") => return read_only(method, Route::Base),
        Some(rest) => rest.strip_prefix('/').ok_or(RouteError::NotFound)?,
        None => return Err(RouteError::NotFound),
    };
    if rest == "_catalog" {
        return read_only(method, Route::Catalog);
    }
    if let Some(name) = rest.strip_suffix("/tags/list") {
        return read_only(method, Route::Tags(repository(name)?));
    }
    let starts = rest
        .strip_suffix("/blobs/uploads/")
        .or_else(|| rest.strip_suffix("/blobs/uploads"));
    if let Some(name) = starts {
        return match *method {
            Method::POST => Ok(Route::StartUpload(repository(name)?)),
            _ => Err(RouteError::Method {
                allow: "POST, OPTIONS",
            }),
        };
    }
    let (front, last) = rest.rsplit_once('/').ok_or(RouteError::NotFound)?;
    if let Some(name) = front.strip_suffix("/blobs/uploads") {
        return upload(method, name, last);
    }
    if let Some(name) = front.strip_suffix("/blobs") {
        return blob(method, name, last);
    }
    if let Some(name) = front.strip_suffix("/manifests") {
        return manifest(method, name, last);
    }
    if let Some(name) = front.strip_suffix("/referrers") {
        let (name, subject) = (repository(name)?, digest(last)?);
        return read_only(method, Route::Referrers(name, subject));
    }
    Err(RouteError::NotFound)
}

fn upload(method: &Method, name: &str, id: &str) -> Result<Route, RouteError> {
    let make = match *method {
        Method::GET | Method::HEAD => Route::UploadStatus,
        Method::PATCH => Route::AppendUpload,
        Method::PUT => Route::FinishUpload,
        Method::DELETE => Route::CancelUpload,
        _ => {
            let allow = "GET, HEAD, PATCH, PUT, DELETE, OPTIONS";
            return Err(RouteError::Method { allow });
        }
    };
    let id = id.parse().map_err(|_| RouteError::NoSuchUpload)?;
    Ok(make(repository(name)?, id))
}

fn blob(method: &Method, name: &str, last: &str) -> Result<Route, RouteError> {
    if !matches!(*method, Method::GET | Method::HEAD | Method::DELETE) {
        let allow = "GET, HEAD, DELETE, OPTIONS";
        return Err(RouteError::Method { allow });
    }
    let (repository, digest) = (repository(name)?, digest(last)?);
    Ok(match *method {
        Method::DELETE => Route::DeleteBlob(repository, digest),
        _ => Route::GetBlob {
            repository,
            digest,
            head: *method == Method::HEAD,
        },
    })
}

fn manifest(method: &Method, name: &str, last: &str) -> Result<Route, RouteError> {
    if !matches!(
        *method,
        Method::GET | Method::HEAD | Method::PUT | Method::DELETE
    ) {
        let allow = "GET, HEAD, PUT, DELETE, OPTIONS";
        return Err(RouteError::Method { allow });
    }
    let repository = repository(name)?;
    let reference = if last.contains(':') {
        Reference::Digest(digest(last)?)
    } else {
        Reference::Tag(last.parse().map_err(|error| match *method {
            Method::PUT => RouteError::Tag(error),
            _ => RouteError::NoSuchTag(error),
        })?)
    };
    Ok(match *method {
        Method::PUT => Route::PutManifest(repository, reference),
        Method::DELETE => Route::DeleteManifest(repository, reference),
        _ => Route::GetManifest {
            repository,
            reference,
            head: *method == Method::HEAD,
        },
    })
}

fn read_only(method: &Method, route: Route) -> Result<Route, RouteError> {
    match *method {
        Method::GET | Method::HEAD => Ok(route),
        _ => Err(RouteError::Method {
            allow: "GET, HEAD, OPTIONS",
        }),
    }
}

fn repository(text: &str) -> Result<Repository, RouteError> {
    text.parse().map_err(RouteError::Name)
}

fn digest(text: &str) -> Result<Digest, RouteError> {
    text.parse().map_err(RouteError::Digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const U: &str = "0123456789abcdef0123456789abcdef";

    fn get(path: &str) -> Result<Route, RouteError> {
        parse(&Method::GET, path)
    }

    fn repo(name: &str) -> Repository {
        name.parse().expect("valid name")
    }

    #[test]
    fn the_end_of_a_path_decides() {
        assert_eq!(get("/v2/"), Ok(Route::Base));
        assert_eq!(get("/v2"), Ok(Route::Base));
        let nested = "a/blobs/uploads/manifests/tags/list";
        let path = format!("/v2/{nested}/tags/list");
        assert_eq!(get(&path), Ok(Route::Tags(repo(nested))));
        let path = format!("/v2/tags/list/manifests/{D}");
        let Ok(Route::GetManifest { repository, .. }) = get(&path) else {
            panic!("{path}")
        };
        assert_eq!(repository, repo("tags/list"));
    }

    #[test]
    fn uploads_begin_with_or_without_the_last_slash() {
        for path in ["/v2/a/b/blobs/uploads", "/v2/a/b/blobs/uploads/"] {
            let route = parse(&Method::POST, path);
            assert_eq!(route, Ok(Route::StartUpload(repo("a/b"))));
        }
        let path = format!("/v2/a/blobs/uploads/{U}");
        assert!(matches!(
            parse(&Method::PATCH, &path),
            Ok(Route::AppendUpload(..))
        ));
        let error = parse(&Method::PATCH, "/v2/a/blobs/uploads/..%2f..%2fetc");
        assert!(error.is_err());
    }

    #[test]
    fn an_encoded_colon_is_a_colon() {
        let path = format!("/v2/a/blobs/{}", D.replace(':', "%3A"));
        assert!(matches!(get(&path), Ok(Route::GetBlob { .. })));
    }

    #[test]
    fn what_is_malformed_is_named() {
        assert!(matches!(get("/v2/A/tags/list"), Err(RouteError::Name(_))));
        assert!(matches!(
            get("/v2/a/blobs/sha256:00"),
            Err(RouteError::Digest(_))
        ));
        assert!(matches!(
            get("/v2/a/manifests/.bad"),
            Err(RouteError::NoSuchTag(_))
        ));
        let put = parse(&Method::PUT, "/v2/a/manifests/.bad");
        assert!(matches!(put, Err(RouteError::Tag(_))));
        assert_eq!(get("/"), Err(RouteError::NotFound));
        assert_eq!(get("/v2x/"), Err(RouteError::NotFound));
        assert_eq!(get("/v2/a/b"), Err(RouteError::NotFound));
        assert!(matches!(
            parse(&Method::POST, "/v2/"),
            Err(RouteError::Method { .. })
        ));
    }

    proptest! {
        #[test]
        fn any_path_is_read_without_panic(path in ".{0,120}") {
            for method in [Method::GET, Method::PUT, Method::PATCH, Method::POST, Method::DELETE] {
                let _ = parse(&method, &path);
                let _ = parse(&method, &format!("/v2/{path}"));
            }
        }

        #[test]
        fn names_come_out_as_they_went_in(name in "[a-z0-9]{1,8}(/(tags|list|blobs|uploads|manifests|referrers|v2|[a-z0-9]{1,4})){0,5}") {
            let wanted = repo(&name);
            prop_assert_eq!(get(&format!("/v2/{name}/tags/list")), Ok(Route::Tags(wanted.clone())));
            prop_assert_eq!(get(&format!("/v2/{name}/referrers/{D}")), Ok(Route::Referrers(wanted.clone(), D.parse().expect("digest"))));
            let blob = Route::DeleteBlob(wanted, D.parse().expect("digest"));
            prop_assert_eq!(parse(&Method::DELETE, &format!("/v2/{name}/blobs/{D}")), Ok(blob));
        }
    }
}
