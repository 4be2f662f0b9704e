//! What of a try is under way: counted, and watched for a standstill.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};

use super::Chunks;
use crate::registry::Timeouts;

/// Counts the bytes of one try.
pub(super) struct Meter {
    /// Where in the blob this try begins.
    from: u64,
    sent: AtomicU64,
    /// The network waits for the bytes, and not they for it.
    starved: AtomicBool,
    /// Why the bytes ended before their time.
    broken: Mutex<Option<io::Error>>,
    progress: Arc<dyn Fn(u64) + Send + Sync>,
}

impl Meter {
    pub(super) fn new(from: u64, progress: Arc<dyn Fn(u64) + Send + Sync>) -> Arc<Self> {
        Arc::new(Self {
            from,
            sent: AtomicU64::new(0),
            starved: AtomicBool::new(false),
            broken: Mutex::default(),
            progress,
        })
    }

    /// Bytes that have gone out.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// The failure of the source, if that is what ended the try.
    pub(super) fn broken(&self) -> Option<io::Error> {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.take()
    }

    /// The first `length` bytes of `chunks`, counted from zero.
    pub(super) fn count(
        self: Arc<Self>,
        mut chunks: Chunks,
        length: u64,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        self.sent.store(0, Ordering::Relaxed);
        let mut left = length;
        futures_util::stream::poll_fn(move |context| {
            if left == 0 {
                return Poll::Ready(None);
            }
            let polled = chunks.poll_next_unpin(context);
            self.starved.store(polled.is_pending(), Ordering::Relaxed);
            let Poll::Ready(next) = polled else {
                return Poll::Pending;
            };
            Poll::Ready(next.map(|chunk| {
                let mut bytes = chunk.inspect_err(|error| {
                    let copy = io::Error::new(error.kind(), error.to_string());
                    let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
                    *broken = Some(copy);
                })?;
                bytes.truncate(usize::try_from(left).unwrap_or(bytes.len()));
                let count = bytes.len() as u64;
                left -= count;
                let sent = self.sent.fetch_add(count, Ordering::Relaxed) + count;
                (self.progress)(self.from + sent);
                Ok(bytes)
            }))
        })
    }

    /// Ends, with how long it has waited, when the network takes nothing, or after all `length` bytes no
    /// answer comes. A slow source is no standstill: it has its own limits.
    pub(super) async fn stalled(&self, length: u64, timeouts: Timeouts) -> Duration {
        let (mut last, mut since) = (0, Instant::now());
        loop {
            tokio::time::sleep(Duration::from_secs(1).min(timeouts.idle / 4)).await;
            let now = self.sent();
            let starved = now < length && self.starved.load(Ordering::Relaxed);
            if now != last || starved {
                (last, since) = (now, Instant::now());
            }
            let limit = if now >= length {
                timeouts.commit
            } else {
                timeouts.idle
            };
            if since.elapsed() > limit {
                return limit;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_millis(80);
    const COMMIT: Duration = Duration::from_millis(240);

    fn chunks(count: usize) -> Chunks {
        let ready = std::iter::repeat_with(|| Ok(Bytes::from_static(b"0123456789"))).take(count);
        let never = futures_util::stream::pending();
        futures_util::stream::iter(ready).chain(never).boxed()
    }

    async fn ended(meter: &Meter, length: u64) -> Option<Duration> {
        let limit = Duration::from_millis(800);
        let timeouts = Timeouts {
            idle: IDLE,
            commit: COMMIT,
            ..Timeouts::default()
        };
        let stalled = meter.stalled(length, timeouts);
        tokio::time::timeout(limit, stalled).await.ok()
    }

    #[tokio::test]
    async fn a_network_that_takes_nothing_is_a_standstill_and_a_slow_source_is_none() {
        let meter = Meter::new(0, Arc::new(|_| ()));
        let mut stream = Box::pin(meter.clone().count(chunks(2), 100));
        assert_eq!(ended(&meter, 100).await, Some(IDLE));
        for _ in 0..2 {
            stream.next().await.expect("ready").expect("bytes");
        }
        // Now it is asked for more than there is.
        let soon = Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, stream.next()).await.is_err());
        assert_eq!(ended(&meter, 100).await, None);
    }

    #[tokio::test]
    async fn an_answer_to_the_whole_may_take_longer() {
        let seen = Arc::new(AtomicU64::new(0));
        let told = seen.clone();
        let progress = move |bytes| told.store(bytes, Ordering::Relaxed);
        let meter = Meter::new(1000, Arc::new(progress));
        let stream = meter.clone().count(chunks(9), 25);
        let sizes: Vec<usize> = stream
            .map(|chunk| chunk.expect("bytes").len())
            .collect()
            .await;
        assert_eq!(sizes, [10, 10, 5], "no more than was promised");
        assert_eq!(seen.load(Ordering::Relaxed), 1025);
        assert_eq!(ended(&meter, 25).await, Some(COMMIT));
    }
}
