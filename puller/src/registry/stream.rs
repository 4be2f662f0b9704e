//! A blob as one unbroken stream: what a connection did not bring, the next one goes on with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use strata_oci::Descriptor;
use strata_oci::verify::VerifyError;

use super::{BlobBody, OpenBlobError, Registry, RegistryError};

/// A try that brings less counts as one that brought nothing.
const WORTH_A_TRY: u64 = 4096;
/// Below this rate, over this time, a connection is stalled, even if it is not silent.
const STALLED: (u64, Duration) = (1024, Duration::from_secs(30));

/// The bytes of a blob in order, each once, exactly as many as its descriptor says. What they are is for
/// the reader to prove.
pub struct BlobStream {
    registry: Arc<Registry>,
    repository: String,
    blob: Descriptor,
    body: Option<BlobBody>,
    /// Bytes given out, those that the reader had before included.
    at: u64,
    /// Bytes of this answer to pass over: of servers that ignore ranges.
    skip: u64,
    /// Where this try began.
    began: u64,
    ranges: bool,
    failures: u32,
    window: (Instant, u64),
    travelled: u64,
}

impl BlobStream {
    /// A stream of the blob from the byte `from`. Nothing is sent before the first [`BlobStream::next`].
    pub fn new(registry: Arc<Registry>, repository: &str, blob: &Descriptor, from: u64) -> Self {
        Self {
            registry,
            repository: repository.to_owned(),
            blob: blob.clone(),
            body: None,
            at: from,
            skip: 0,
            began: from,
            ranges: true,
            failures: 0,
            window: (Instant::now(), 0),
            travelled: 0,
        }
    }

    /// Bytes that came over the network, those that had to be passed over included.
    pub fn travelled(&self) -> u64 {
        self.travelled
    }

    /// The next bytes; `None` after the last.
    ///
    /// # Errors
    /// The registry cannot be reached after all tries, has no such blob, or sends more than it promised.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            if self.body.is_none() {
                if self.at >= self.blob.size {
                    return Ok(None);
                }
                self.open().await?;
            }
            let Some(body) = &mut self.body else {
                continue;
            };
            match body.next().await {
                Ok(Some(chunk)) => {
                    if let Some(fresh) = self.take(chunk)? {
                        return Ok(Some(fresh));
                    }
                }
                Ok(None) => {
                    self.body = None;
                    if self.at < self.blob.size {
                        let error = self.broken("the answer ended before the blob");
                        self.again(error).await?;
                    }
                }
                Err(error) => {
                    self.body = None;
                    self.again(error).await?;
                }
            }
        }
    }

    async fn open(&mut self) -> Result<(), RegistryError> {
        loop {
            let from = if self.ranges { self.at } else { 0 };
            let opened = self.registry.open_blob(&self.repository, &self.blob, from);
            match opened.await {
                Ok(body) => {
                    self.skip = self.at.saturating_sub(body.start);
                    self.began = self.at;
                    self.window = (Instant::now(), 0);
                    self.body = Some(body);
                    return Ok(());
                }
                Err(OpenBlobError::Range(error)) if self.ranges => {
                    tracing::debug!(%error, "no ranges: fetching the whole");
                    self.ranges = false;
                }
                Err(OpenBlobError::Range(error) | OpenBlobError::Other(error)) => {
                    return Err(error);
                }
            }
        }
    }

    /// What of a chunk is new.
    fn take(&mut self, mut chunk: Bytes) -> Result<Option<Bytes>, RegistryError> {
        let count = chunk.len() as u64;
        self.travelled += count;
        self.window.1 += count;
        let (rate, time) = STALLED;
        if self.window.0.elapsed() >= time {
            if self.window.1 < rate * time.as_secs() {
                // The next call opens another connection.
                self.body = None;
                return Ok(None);
            }
            self.window = (Instant::now(), 0);
        }
        let passed = self.skip.min(count);
        self.skip -= passed;
        let fresh = chunk.split_off(usize::try_from(passed).unwrap_or(chunk.len()));
        self.at += fresh.len() as u64;
        if self.at > self.blob.size {
            return Err(RegistryError::Content {
                what: format!("blob {}", self.blob.digest),
                source: VerifyError::Size {
                    expected: self.blob.size,
                    actual: self.at,
                },
            });
        }
        Ok((!fresh.is_empty()).then_some(fresh))
    }

    /// Waits before another try, or gives up.
    async fn again(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        if self.at - self.began >= WORTH_A_TRY {
            self.failures = 0;
        }
        self.failures += 1;
        if self.failures > 1 {
            self.registry
                .distrust(&self.blob.digest, &error.to_string());
        }
        let Some(wait) = self.registry.retry().wait(self.failures, None) else {
            return Err(error);
        };
        tracing::debug!(%error, at = self.at, ?wait, "resuming");
        tokio::time::sleep(wait).await;
        Ok(())
    }

    fn broken(&self, reason: &str) -> RegistryError {
        RegistryError::Unreachable {
            host: self.registry.name().to_owned(),
            reason: reason.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{RegistryOptions, RetryPolicy};
    use crate::testing::{Reply, Server, noise};
    use strata_oci::Digest;

    fn stream(server: &Server, bytes: &[u8], from: u64) -> BlobStream {
        let retry = RetryPolicy {
            first: Duration::from_millis(1),
            ..RetryPolicy::default()
        };
        let options = RegistryOptions {
            retry,
            ..RegistryOptions::default()
        };
        let registry = Registry::new(&server.host(), &options).expect("a registry");
        let blob = Descriptor::new("x", Digest::of(bytes), bytes.len() as u64);
        BlobStream::new(Arc::new(registry), "app", &blob, from)
    }

    async fn collect(stream: &mut BlobStream) -> Result<Vec<u8>, RegistryError> {
        let mut all = Vec::new();
        while let Some(chunk) = stream.next().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn a_broken_stream_goes_on_with_the_missing_bytes_alone() {
        let bytes = noise(1, 100_000);
        let served = bytes.clone();
        let server = Server::start(move |request, _| match request.range_from() {
            None => Reply::new(200, served.clone()).cut(40_000),
            Some(from) => {
                let range = format!("bytes {from}-{}/{}", served.len() - 1, served.len());
                let reply = Reply::new(206, &served[from..]).with("Content-Range", range);
                reply.cut(if from == 40_000 { 30_000 } else { usize::MAX })
            }
        });
        let mut whole = stream(&server, &bytes, 0);
        assert_eq!(collect(&mut whole).await.expect("whole"), bytes);
        assert_eq!(whole.travelled(), 100_000);
        let mut rest = stream(&server, &bytes, 70_000);
        assert_eq!(collect(&mut rest).await.expect("rest"), &bytes[70_000..]);
    }

    #[tokio::test]
    async fn servers_without_ranges_are_passed_over_until_level() {
        let bytes = noise(2, 50_000);
        let served = bytes.clone();
        let server = Server::start(move |_, before| {
            let reply = Reply::new(200, served.clone());
            if before == 0 {
                reply.cut(20_000)
            } else {
                reply
            }
        });
        let mut whole = stream(&server, &bytes, 0);
        assert_eq!(collect(&mut whole).await.expect("whole"), bytes);
        assert_eq!(whole.travelled(), 70_000);
    }

    #[tokio::test]
    async fn a_stream_that_brings_nothing_is_given_up() {
        let bytes = noise(3, 50_000);
        let served = bytes.clone();
        let server = Server::start(move |_, _| Reply::new(200, served.clone()).cut(100));
        assert!(collect(&mut stream(&server, &bytes, 0)).await.is_err());
    }
}
