//! Blobs over the wire: existence, ranged GET, mount (distribution-spec, "Pulling blobs", "Mounting a
//! blob from another repository").

use std::ops::Range;

use bytes::Bytes;
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, Response};
use strata_oci::verify::VerifyError;
use strata_oci::{Descriptor, Digest};
use tokio::sync::OwnedSemaphorePermit;

use super::error::chain;
use super::http::{Call, authority};
use super::routes::Want;
use super::{Registry, RegistryError, Scope, Timeouts};

/// The bytes of a blob as they arrive. Nothing is proved yet.
pub struct BlobBody {
    /// The offset of the first byte: what was asked for, or 0 of a server that ignores ranges.
    pub start: u64,
    response: Response,
    timeouts: Timeouts,
    /// One of the connections that the host is asked on at once.
    _permit: Option<OwnedSemaphorePermit>,
}

impl BlobBody {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// The connection broke or has been silent for too long: worth another try.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let idle = self.timeouts.idle;
        let reason = match tokio::time::timeout(idle, self.response.chunk()).await {
            Ok(Ok(chunk)) => return Ok(chunk),
            Ok(Err(error)) => chain(&error.without_url()),
            Err(_) => format!("no data for {idle:?}"),
        };
        let host = authority(self.response.url());
        Err(RegistryError::Unreachable { host, reason })
    }
}

/// Why a blob does not begin to flow.
#[derive(Debug)]
pub enum OpenBlobError {
    /// The server answered a request for a range with another one.
    Range(RegistryError),
    /// Anything else.
    Other(RegistryError),
}

/// What a blob is looked for: the Authorization that is asked for allows no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To read it.
    Pull,
    /// To know whether it has to be sent.
    Push,
}

impl Registry {
    /// Asks whether the repository has a blob.
    pub async fn has_blob(
        &self,
        repository: &str,
        digest: &Digest,
        purpose: Purpose,
    ) -> Result<bool, RegistryError> {
        if purpose == Purpose::Push {
            return self.has_here(repository, digest, purpose).await;
        }
        let mut steps = self.steps(repository, Want::Blob)?;
        loop {
            let step = steps.take();
            let asked = step
                .site(self)
                .has_here(&step.repository, digest, purpose)
                .await;
            match asked {
                Ok(false) if !steps.is_last() => steps.absent(&step),
                Ok(found) => return Ok(found),
                Err(error) => steps.failed(&step, error)?,
            }
        }
    }

    async fn has_here(
        &self,
        repository: &str,
        digest: &Digest,
        purpose: Purpose,
    ) -> Result<bool, RegistryError> {
        let url = self.url(repository, &format!("blobs/{digest}"));
        let call = Call::new(Method::HEAD, url, format!("blob {digest}"));
        let scope = match purpose {
            Purpose::Pull => Scope::pull(repository),
            Purpose::Push => Scope::push(repository),
        };
        let response = self.send(&call, &scope).await?;
        match response.status().as_u16() {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(self.http.status_error(&call, response).await),
        }
    }

    /// A blob's size in bytes as the registry tells it; `None` when it has no such blob.
    pub async fn blob_size(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> Result<Option<u64>, RegistryError> {
        let url = self.url(repository, &format!("blobs/{digest}"));
        let call = Call::new(Method::HEAD, url, format!("blob {digest}"));
        let response = self.send(&call, &Scope::pull(repository)).await?;
        match response.status().as_u16() {
            200 => {
                let header = response.headers().get(CONTENT_LENGTH);
                let size = header.and_then(|value| value.to_str().ok()?.parse().ok());
                let size = size.ok_or_else(|| protocol(&call.what, "no length".to_owned()))?;
                Ok(Some(size))
            }
            404 => Ok(None),
            _ => Err(self.http.status_error(&call, response).await),
        }
    }

    /// Begins to fetch the bytes of a blob from the one at `span.start` on, of which there is one, to the one
    /// before `span.end` (RFC 9110, 14.2); waits while as many connections as are allowed are in use.
    pub async fn open_blob(
        &self,
        repository: &str,
        blob: &Descriptor,
        span: Range<u64>,
    ) -> Result<BlobBody, OpenBlobError> {
        self.open_in_turn(repository, blob, span, false).await
    }

    /// [`Registry::open_blob`]; `has_turn`: whoever asks holds a [`Registry::turn`].
    pub(super) async fn open_in_turn(
        &self,
        repository: &str,
        blob: &Descriptor,
        span: Range<u64>,
        has_turn: bool,
    ) -> Result<BlobBody, OpenBlobError> {
        let steps = self.steps(repository, Want::Blob);
        let mut steps = steps.map_err(OpenBlobError::Other)?;
        loop {
            let step = steps.take();
            match step
                .site(self)
                .open_here(&step.repository, blob, span.clone(), has_turn)
                .await
            {
                Ok(body) => {
                    steps.served(&step, Some(&blob.digest));
                    return Ok(body);
                }
                Err(OpenBlobError::Range(error)) => return Err(OpenBlobError::Range(error)),
                Err(OpenBlobError::Other(error)) => {
                    steps.failed(&step, error).map_err(OpenBlobError::Other)?;
                }
            }
        }
    }

    async fn open_here(
        &self,
        repository: &str,
        blob: &Descriptor,
        span: Range<u64>,
        has_turn: bool,
    ) -> Result<BlobBody, OpenBlobError> {
        let what = format!("blob {}", blob.digest);
        let url = self.url(repository, &format!("blobs/{}", blob.digest));
        let mut call = Call::new(Method::GET, url, what.clone());
        let whole = span == (0..blob.size);
        if !whole {
            let last = match span.end {
                end if end < blob.size => (end - 1).to_string(),
                _ => String::new(),
            };
            let range = HeaderValue::try_from(format!("bytes={}-{last}", span.start));
            let range = range.map_err(|e| OpenBlobError::Other(protocol(&what, e.to_string())))?;
            call.headers.insert(RANGE, range);
        }
        let permit = match has_turn {
            true => None,
            false => self.turn().await,
        };
        let response = self.expect(&call, &Scope::pull(repository)).await;
        let response = response.map_err(|error| match error {
            RegistryError::Status { status: 416, .. } => OpenBlobError::Range(error),
            error => OpenBlobError::Other(error),
        })?;
        let (start, end) = match response.status().as_u16() {
            200 => (0, blob.size),
            206 if !whole => {
                check_range(&response, &span, blob.size)
                    .map_err(|why| OpenBlobError::Range(protocol(&what, why)))?;
                (span.start, span.end)
            }
            other => {
                let why = format!("status {other} to a request for the whole");
                return Err(OpenBlobError::Other(protocol(&what, why)));
            }
        };
        check_body(&what, &response, start, end).map_err(OpenBlobError::Other)?;
        Ok(BlobBody {
            start,
            response,
            timeouts: self.http.timeouts,
            _permit: permit,
        })
    }

    /// Waits until one connection more is allowed; it counts as used until this is dropped. For what is passed on while
    /// it comes: once an upload has begun, it must not wait for its source.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // Never closed.
        self.http.downloads.clone().acquire_owned().await.ok()
    }

    /// How many more connections the host may be asked on at once.
    pub(crate) fn spare_connections(&self) -> usize {
        self.http.downloads.available_permits()
    }

    /// Fetches a small blob whole, proved.
    pub async fn get_blob(
        &self,
        repository: &str,
        blob: &Descriptor,
        max: u64,
    ) -> Result<Bytes, RegistryError> {
        let what = format!("blob {}", blob.digest);
        if blob.size > max {
            let why = format!("{} bytes: at most {max} are read", blob.size);
            return Err(protocol(&what, why));
        }
        let mut failures = 0;
        loop {
            let error = match self.get_once(repository, blob).await {
                Ok(bytes) if blob.digest.matches(&bytes) => return Ok(bytes),
                Ok(bytes) => {
                    let source = VerifyError::Digest {
                        expected: blob.digest.clone(),
                        actual: Digest::of(&bytes),
                    };
                    let error = RegistryError::Content {
                        what: what.clone(),
                        source,
                    };
                    if self.distrust(&blob.digest, &error.to_string()) {
                        continue;
                    }
                    return Err(error);
                }
                Err(error @ RegistryError::Unreachable { .. }) => error,
                Err(error) => return Err(error),
            };
            failures += 1;
            if failures > 1 {
                self.distrust(&blob.digest, &error.to_string());
            }
            match self.http.policy.wait(failures, None) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(error.of(&what)),
            }
        }
    }

    async fn get_once(&self, repository: &str, blob: &Descriptor) -> Result<Bytes, RegistryError> {
        let opened = self.open_blob(repository, blob, 0..blob.size).await;
        let mut body = opened.map_err(|error| match error {
            OpenBlobError::Range(error) | OpenBlobError::Other(error) => error,
        })?;
        let mut bytes = Vec::new();
        while let Some(chunk) = body.next().await? {
            let actual = (bytes.len() + chunk.len()) as u64;
            if actual > blob.size {
                let expected = blob.size;
                return Err(RegistryError::Content {
                    what: format!("blob {}", blob.digest),
                    source: VerifyError::Size { expected, actual },
                });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.into())
    }
}

fn protocol(what: &str, why: String) -> RegistryError {
    RegistryError::Protocol {
        what: what.to_owned(),
        why,
    }
}

/// The body has to be as long as the span that it is of.
fn check_body(what: &str, response: &Response, start: u64, end: u64) -> Result<(), RegistryError> {
    if let Some(encoding) = response.headers().get(CONTENT_ENCODING)
        && encoding != "identity"
    {
        return Err(protocol(what, "the bytes are encoded once more".to_owned()));
    }
    match response.content_length() {
        Some(length) if length != end - start => {
            let expected = end - start;
            let why = format!("it announces {length} bytes, expected {expected}");
            Err(protocol(what, why))
        }
        _ => Ok(()),
    }
}

/// `Content-Range: bytes FIRST-LAST/SIZE` must be what was asked for (RFC 9110, 14.4).
fn check_range(response: &Response, span: &Range<u64>, size: u64) -> Result<(), String> {
    let header = response.headers().get(CONTENT_RANGE);
    let text = header
        .and_then(|value| value.to_str().ok())
        .ok_or("a partial answer without Content-Range")?;
    if is_range(text, span, size) {
        Ok(())
    } else {
        let shown: String = text.chars().take(80).collect();
        Err(format!(
            "Content-Range {shown:?} to a request for bytes {}-{} of {size}",
            span.start,
            span.end - 1
        ))
    }
}

fn is_range(text: &str, span: &Range<u64>, size: u64) -> bool {
    let parse = || {
        let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let number = |text: &str| text.trim().parse::<u64>().ok();
        let whole = total.trim() == "*" || number(total)? == size;
        let end = number(last)?.checked_add(1)?;
        Some(number(first)? == span.start && end == span.end && whole)
    };
    parse().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_taken() {
        assert!(is_range("bytes 5-9/10", &(5..10), 10));
        assert!(is_range("bytes 5-9/*", &(5..10), 10));
        assert!(is_range("bytes 5-7/10", &(5..8), 10));
        for wrong in [
            "bytes 0-9/10",
            "bytes 4-9/10",
            "bytes 5-8/10",
            "bytes 5-9/11",
            "bytes */10",
            "items 5-9/10",
            "bytes 5-18446744073709551615/10",
            "",
        ] {
            assert!(!is_range(wrong, &(5..10), 10), "{wrong}");
        }
    }
}
