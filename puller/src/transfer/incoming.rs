//! A blob's bytes in their order, from wherever they are: kept pieces, parts that are fetched ahead, the network.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;

use super::ahead::{Ahead, From, Here};
use super::partial::Partial;
use super::width::Width;
use super::{Transfer, TransferError};
use crate::registry::BlobStream;

/// With less left to come, another connection is not worth what the one in front has on its way when it is told to
/// end earlier.
const WORTH: u64 = 6 << 20;
/// The least that a connection of its own is opened for.
const LEAST: u64 = 1 << 20;
/// The most that one request ahead asks for.
const MOST: u64 = 16 << 20;
/// Seconds that one request ahead takes.
const SECONDS: f64 = 2.0;

/// The bytes that follow those a [`Partial`] has.
pub(crate) struct Incoming<'a> {
    partial: &'a Partial,
    from: From,
    at: u64,
    /// What fetches the gap that is next.
    stream: Option<BlobStream>,
    ahead: Ahead,
    width: Width,
}

impl<'a> Incoming<'a> {
    /// Nothing is sent yet.
    pub(super) fn new(transfer: &Transfer, partial: &'a Partial) -> io::Result<Self> {
        let Transfer {
            registry,
            repository,
            blob,
            ranges,
            retrying,
        } = transfer;
        Ok(Self {
            from: From {
                registry: registry.clone(),
                repository: repository.clone(),
                blob: blob.clone(),
                travelled: Arc::new(AtomicU64::new(0)),
                retrying: retrying.clone(),
            },
            at: partial.kept(),
            stream: None,
            ahead: Ahead::of(partial, blob.size)?,
            width: Width::new(*ranges, Instant::now()),
            partial,
        })
    }

    /// Bytes that came over the network.
    pub(crate) fn travelled(&self) -> u64 {
        self.from.travelled.load(Ordering::Relaxed)
    }

    /// Bytes of the blob that are here, those ahead of their turn included.
    pub(crate) fn here(&self) -> u64 {
        self.at + self.ahead.bytes_from(self.at)
    }

    /// The next bytes; `None` after the last.
    ///
    /// # Errors
    /// The registry cannot be reached after all tries, has no such blob, or sends more than it promised; or a
    /// file cannot be read or written.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, TransferError> {
        let size = self.from.blob.size;
        loop {
            if self.at >= size {
                return Ok(None);
            }
            let here = self.ahead.at(self.at, size)?;
            self.tend(matches!(here, Here::Gap(_)))?;
            let bytes = match here {
                Here::Bytes(bytes) => Some(bytes),
                Here::Coming => {
                    let began = Instant::now();
                    self.ahead.changed().await;
                    self.width.waited(began.elapsed());
                    None
                }
                Here::Gap(end) => self.receive(end).await?,
            };
            if let Some(bytes) = bytes {
                self.at += bytes.len() as u64;
                return Ok(Some(bytes));
            }
        }
    }

    /// The next bytes of a gap that ends at `end`.
    async fn receive(&mut self, end: u64) -> Result<Option<Bytes>, TransferError> {
        let From {
            registry,
            repository,
            blob,
            travelled,
            retrying,
        } = &self.from;
        let stream = self.stream.get_or_insert_with(|| {
            let span = self.at..end;
            BlobStream::of_part(registry.clone(), repository, blob, span)
                .counted(travelled)
                .telling(retrying.clone())
        });
        // Since it began, its end may have been given to another connection.
        stream.end_at(end);
        let began = Instant::now();
        let bytes = stream.next().await?;
        self.width.waited(began.elapsed());
        if stream.at() >= end {
            self.stream = None;
        }
        Ok(bytes)
    }

    /// Sees to it that as many connections are at work as are worth it, of which one fetches the gap in front
    /// if there is one.
    fn tend(&mut self, gap: bool) -> Result<(), TransferError> {
        let size = self.from.blob.size;
        let left = size - self.at - self.ahead.bytes_from(self.at);
        let spare = left >= WORTH && self.from.registry.spare_connections() > 0;
        if self.ahead.has_failed() {
            self.width.give_up();
        }
        self.width
            .look(self.travelled(), left, spare, Instant::now());
        let own = usize::from(gap);
        while self.width.wanted() > 1 && self.ahead.running() + own < self.width.wanted() {
            let step = (self.width.rate() / self.width.wanted() as f64 * SECONDS) as u64;
            let step = step.clamp(LEAST, MOST);
            // What the stream in front will have fetched by then.
            let begin = self.at + if own > 0 { step } else { 0 };
            let Some(span) = self.ahead.free(begin, size, step) else {
                break;
            };
            self.ahead.begin(self.partial, &self.from, span)?;
        }
        Ok(())
    }
}
