//! A blob as one unbroken stream: what a connection did not bring, the next one goes on with.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use strata_oci::Descriptor;
use strata_oci::verify::VerifyError;

use super::{BlobBody, OpenBlobError, Registry, RegistryError, Watch};

/// A try that brings less counts as one that brought nothing.
const WORTH_A_TRY: u64 = 4096;

/// The bytes of a blob, or of a part of it, in order, each once. What they are is for the reader to prove.
pub struct BlobStream {
    registry: Arc<Registry>,
    repository: String,
    blob: Descriptor,
    body: Option<BlobBody>,
    /// The next byte that is given out, and the first that is not.
    span: Range<u64>,
    /// Bytes of this answer to pass over: of servers that ignore ranges.
    skip: u64,
    /// Where this try began.
    began: u64,
    ranges: bool,
    failures: u32,
    watch: Watch,
    /// When the last bytes were given out.
    given: Option<Instant>,
    travelled: Arc<AtomicU64>,
    retrying: Option<Retrying>,
    has_turn: bool,
}

/// Told why a connection is given up, and how long it takes until the next is opened.
pub type Retrying = Arc<dyn Fn(&RegistryError, Duration) + Send + Sync>;

impl BlobStream {
    /// A stream of the blob from the byte `from`. Nothing is sent before the first [`BlobStream::next`].
    pub fn new(registry: Arc<Registry>, repository: &str, blob: &Descriptor, from: u64) -> Self {
        Self::of_part(registry, repository, blob, from..blob.size)
    }

    /// A stream of the bytes from `span.start` to the one before `span.end`.
    pub fn of_part(
        registry: Arc<Registry>,
        repository: &str,
        blob: &Descriptor,
        span: Range<u64>,
    ) -> Self {
        let end = span.end.min(blob.size);
        Self {
            watch: Watch::new(registry.pace(), Instant::now()),
            registry,
            repository: repository.to_owned(),
            blob: blob.clone(),
            body: None,
            began: span.start,
            span: span.start..end,
            skip: 0,
            ranges: true,
            failures: 0,
            given: None,
            travelled: Arc::default(),
            retrying: None,
            has_turn: false,
        }
    }

    /// Tells of each try that broke off.
    #[must_use]
    pub fn telling(mut self, retrying: Option<Retrying>) -> Self {
        self.retrying = retrying;
        self
    }

    /// Whoever reads holds a [`Registry::turn`].
    #[must_use]
    pub(crate) fn in_turn(mut self) -> Self {
        self.has_turn = true;
        self
    }

    /// Bytes that come over the network are added to `travelled`.
    #[must_use]
    pub(crate) fn counted(mut self, travelled: &Arc<AtomicU64>) -> Self {
        self.travelled = travelled.clone();
        self
    }

    /// Ends before the byte `end`, if that is earlier: the rest comes on another way.
    pub(crate) fn end_at(&mut self, end: u64) {
        self.span.end = self.span.end.min(end);
        if self.span.is_empty() {
            self.body = None;
        }
    }

    /// Where the next byte belongs.
    pub(crate) fn at(&self) -> u64 {
        self.span.start
    }

    /// Bytes that came over the network, those that had to be passed over included.
    pub fn travelled(&self) -> u64 {
        self.travelled.load(Ordering::Relaxed)
    }

    /// The next bytes; `None` after the last.
    ///
    /// # Errors
    /// The registry cannot be reached after all tries, has no such blob, or sends more than it promised.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        if let Some(given) = self.given.take() {
            self.watch.paused(given.elapsed());
        }
        loop {
            if self.span.is_empty() {
                self.body = None;
                return Ok(None);
            }
            if self.body.is_none() {
                self.open().await?;
            }
            let Some(body) = &mut self.body else {
                continue;
            };
            // Whoever is late is asked for what it brought, not only whether it is silent.
            let patience = self.watch.left(Instant::now());
            match tokio::time::timeout(patience, body.next()).await {
                Err(_) => self.watched(0).await?,
                Ok(Ok(Some(chunk))) => {
                    let count = chunk.len() as u64;
                    let fresh = self.take(chunk)?;
                    self.watched(count).await?;
                    if let Some(fresh) = fresh {
                        self.given = Some(Instant::now());
                        return Ok(Some(fresh));
                    }
                }
                Ok(Ok(None)) => {
                    self.body = None;
                    if !self.span.is_empty() {
                        let error = self.broken("the answer ended before the blob");
                        self.again(error, false).await?;
                    }
                }
                Ok(Err(error)) => {
                    self.body = None;
                    self.again(error, false).await?;
                }
            }
        }
    }

    async fn open(&mut self) -> Result<(), RegistryError> {
        loop {
            let span = match self.ranges {
                true => self.span.clone(),
                false => 0..self.blob.size,
            };
            let (repository, blob) = (&self.repository, &self.blob);
            let opened = self
                .registry
                .open_in_turn(repository, blob, span, self.has_turn);
            match opened.await {
                Ok(body) => {
                    self.skip = self.span.start.saturating_sub(body.start);
                    self.began = self.span.start;
                    self.watch = Watch::new(self.registry.pace(), Instant::now());
                    self.body = Some(body);
                    return Ok(());
                }
                Err(OpenBlobError::Range(error)) if self.ranges => {
                    let text = format!("{error}: fetching the whole instead");
                    self.registry.tell(text);
                    self.ranges = false;
                }
                Err(OpenBlobError::Range(error) | OpenBlobError::Other(error)) => {
                    return Err(error);
                }
            }
        }
    }

    /// What of a chunk is new, and wanted.
    fn take(&mut self, mut chunk: Bytes) -> Result<Option<Bytes>, RegistryError> {
        let count = chunk.len() as u64;
        self.travelled.fetch_add(count, Ordering::Relaxed);
        let passed = self.skip.min(count);
        self.skip -= passed;
        let mut fresh = chunk.split_off(usize::try_from(passed).unwrap_or(chunk.len()));
        let end = self.span.start + fresh.len() as u64;
        if end > self.blob.size {
            return Err(RegistryError::Content {
                what: format!("blob {}", self.blob.digest),
                source: VerifyError::Size {
                    expected: self.blob.size,
                    actual: end,
                },
            });
        }
        let wanted = self.span.end - self.span.start;
        fresh.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
        self.span.start += fresh.len() as u64;
        Ok((!fresh.is_empty()).then_some(fresh))
    }

    /// Opens another connection in the place of one that has stalled.
    async fn watched(&mut self, bytes: u64) -> Result<(), RegistryError> {
        if !self.watch.stalled(bytes, Instant::now()) || self.span.is_empty() {
            return Ok(());
        }
        self.body = None;
        let over = self.registry.pace().over;
        let error = self.broken(&format!("next to nothing came for {over:?}"));
        self.again(error, true).await
    }

    /// Waits before another try, or gives up.
    async fn again(&mut self, error: RegistryError, stalled: bool) -> Result<(), RegistryError> {
        if self.span.start - self.began >= WORTH_A_TRY && !stalled {
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
        tracing::debug!(%error, at = self.span.start, ?wait, "resuming");
        if let Some(retrying) = &self.retrying {
            retrying(&error, wait);
        }
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
                let reply = Reply::part(&served, from, served.len());
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
