//! An upload session: where it is, how far it is, and its end.

use bytes::Bytes;
use reqwest::header::{HeaderMap, RANGE};
use reqwest::{Method, Response, Url};

use super::super::http::{Body, Call, location};
use super::super::{Registry, RegistryError, Scope};

/// An upload that the registry has begun and waits to be filled.
#[derive(Debug, Clone)]
pub struct Session {
    /// Where the next request goes.
    pub(super) url: Url,
    /// The registry takes no smaller PATCH, the last excepted (`OCI-Chunk-Min-Length`).
    pub(super) min_chunk: u64,
}

impl Session {
    /// What the answer to a POST begins.
    pub(super) fn of(response: &Response, call: &Call<'_>) -> Result<Self, RegistryError> {
        let header = response.headers().get("oci-chunk-min-length");
        let length = header.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        Ok(Self {
            url: location(response, call)?,
            min_chunk: length.unwrap_or(0),
        })
    }

    /// Goes where the answer says that the session is now; stays where it is silent.
    pub(super) fn follow(&mut self, response: &Response, call: &Call<'_>) {
        if let Ok(url) = location(response, call) {
            self.url = url;
        }
    }

    /// Where the blob is closed.
    pub(super) fn closing(&self, digest: &strata_oci::Digest) -> Url {
        let mut url = self.url.clone();
        url.query_pairs_mut()
            .append_pair("digest", &digest.to_string());
        url
    }
}

/// How many bytes a `Range: 0-LAST` says that the registry has. `0-0` stands for none: that is what
/// registries answer to an upload that has just begun, and blobs of one byte are sent at once.
pub(super) fn received(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(RANGE)?.to_str().ok()?.trim();
    let range = text.strip_prefix("bytes=").unwrap_or(text);
    let (first, last) = range.split_once('-')?;
    let last: u64 = last.parse().ok()?;
    match (first, last) {
        ("0", 0) => Some(0),
        ("0", last) => last.checked_add(1),
        _ => None,
    }
}

impl Registry {
    pub(super) async fn begin_upload(
        &self,
        repository: &str,
        what: &str,
        scope: &Scope,
    ) -> Result<Session, RegistryError> {
        let begin = Call::new(Method::POST, self.url(repository, "blobs/uploads/"), what);
        let response = self.expect(&begin, scope).await?;
        Session::of(&response, &begin)
    }

    /// How many bytes the registry has of a session; `None` when it does not know, or not tell.
    pub(super) async fn upload_status(
        &self,
        session: &mut Session,
        what: &str,
        scope: &Scope,
    ) -> Result<Option<u64>, RegistryError> {
        let ask = Call::new(Method::GET, session.url.clone(), what);
        let response = self.send(&ask, scope).await?;
        if !response.status().is_success() {
            return Ok(None);
        }
        session.follow(&response, &ask);
        Ok(received(response.headers()))
    }

    /// Ends a session that is not needed. That it could not be ended is no harm: registries end those that
    /// nobody fills by themselves.
    pub async fn cancel_upload(&self, repository: &str, session: Session) {
        let mut call = Call::new(Method::DELETE, session.url, "an upload");
        call.body = Body::Bytes(Bytes::new());
        if let Err(error) = self.send(&call, &Scope::push(repository)).await {
            tracing::debug!(%error, "ending an upload that is not needed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_tells_what_the_registry_has() {
        let told = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, text.parse().expect("a header"));
            received(&headers)
        };
        assert_eq!(told("0-0"), Some(0));
        assert_eq!(told("0-99"), Some(100));
        assert_eq!(told("bytes=0-99"), Some(100));
        for nonsense in [
            "",
            "0",
            "1-5",
            "0-",
            "-5",
            "0-x",
            "0-18446744073709551615",
            "0-99999999999999999999",
        ] {
            assert_eq!(told(nonsense), None, "{nonsense}");
        }
        assert_eq!(received(&HeaderMap::new()), None);
    }
}
