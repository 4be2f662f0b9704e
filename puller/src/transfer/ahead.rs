//! Parts of a blob that are fetched before their turn, on connections of their own, each into a file
//! of its own. They only make it faster: what one of them does not bring, the stream that fetches the
//! blob in its order does. Pieces that an earlier try left are used in the same way.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use strata_oci::Descriptor;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

use super::partial::{Partial, Piece};
use crate::registry::{Registry, Retrying, Watch};

/// Bytes that are read from a piece at a time.
const CHUNK: u64 = 256 * 1024;

/// Where a blob is fetched from.
#[derive(Clone)]
pub(super) struct From {
    pub(super) registry: Arc<Registry>,
    pub(super) repository: String,
    pub(super) blob: Descriptor,
    /// Counts the bytes that come over the network.
    pub(super) travelled: Arc<AtomicU64>,
    pub(super) retrying: Option<Retrying>,
}

/// The pieces of one blob, by their first bytes.
#[derive(Default)]
pub(super) struct Ahead {
    pieces: BTreeMap<u64, Part>,
    running: JoinSet<()>,
    changed: Arc<Notify>,
    /// One of them failed: the host does not like it.
    failed: Arc<AtomicBool>,
}

struct Part {
    /// Where it ends, if it comes to its end.
    end: u64,
    path: PathBuf,
    file: Arc<File>,
    state: Arc<State>,
    /// Ends its connection.
    task: Option<AbortHandle>,
}

#[derive(Default)]
struct State {
    len: AtomicU64,
    /// The server has agreed to send it.
    coming: AtomicBool,
    over: AtomicBool,
}

/// What there is at some byte of the blob.
pub(super) enum Here {
    /// These bytes.
    Bytes(Bytes),
    /// Bytes that are on their way.
    Coming,
    /// Nothing before this byte.
    Gap(u64),
}

impl Ahead {
    /// Takes over the pieces that an earlier try left.
    pub(super) fn of(partial: &Partial, size: u64) -> io::Result<Self> {
        let mut ahead = Self::default();
        let mut found = partial.pieces()?;
        found.sort_by_key(|piece| piece.start);
        let mut free = partial.kept();
        for piece in found {
            let end = piece.start.saturating_add(piece.len);
            // One that is not needed, or no part of the blob.
            if piece.len == 0 || end <= free || end > size {
                let _ = fs::remove_file(&piece.path);
                continue;
            }
            free = end;
            ahead.add(piece, end, true);
        }
        Ok(ahead)
    }

    fn add(&mut self, piece: Piece, end: u64, over: bool) -> Arc<State> {
        let state = Arc::new(State {
            len: AtomicU64::new(piece.len),
            coming: AtomicBool::new(over),
            over: AtomicBool::new(over),
        });
        let part = Part {
            end,
            path: piece.path,
            file: Arc::new(piece.file),
            state: state.clone(),
            task: None,
        };
        self.pieces.insert(piece.start, part);
        state
    }

    /// Bytes from `at` on that are here already, in whatever pieces.
    pub(super) fn bytes_from(&self, at: u64) -> u64 {
        let parts = self.pieces.iter();
        let here = parts.map(|(start, part)| {
            let end = start + part.state.len.load(Ordering::Acquire);
            end.saturating_sub(at.max(*start))
        });
        here.sum()
    }

    /// How many connections are at work.
    pub(super) fn running(&mut self) -> usize {
        while self.running.try_join_next().is_some() {}
        self.running.len()
    }

    /// Whether one has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// What there is at byte `at`; pieces before it are removed. One that no server has agreed to send is
    /// nothing yet, and given up when it should be there.
    pub(super) fn at(&mut self, at: u64, size: u64) -> io::Result<Here> {
        while let Some(first) = self.pieces.first_entry() {
            let (start, part) = (*first.key(), first.get());
            if start > at {
                let mut later = self.pieces.iter();
                let next = later.find(|(_, part)| part.state.coming.load(Ordering::Acquire));
                return Ok(Here::Gap(next.map_or(size, |(start, _)| *start)));
            }
            // In this order: what it had when it was over is all that it has.
            let over = part.state.over.load(Ordering::Acquire);
            let end = start + part.state.len.load(Ordering::Acquire);
            if at < end {
                let count = (end - at).min(CHUNK);
                let mut buffer = BytesMut::zeroed(usize::try_from(count).unwrap_or(0));
                part.file.read_exact_at(&mut buffer, at - start)?;
                return Ok(Here::Bytes(buffer.freeze()));
            }
            if !over && at < part.end && part.state.coming.load(Ordering::Acquire) {
                return Ok(Here::Coming);
            }
            let part = first.remove();
            if let Some(task) = part.task {
                task.abort();
            }
            // What stays is removed with the whole.
            let _ = fs::remove_file(part.path);
        }
        Ok(Here::Gap(size))
    }

    /// Waits until a piece has grown or is over.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The first span of at most `most` bytes from `from` on that nobody has or brings.
    pub(super) fn free(&self, from: u64, size: u64, most: u64) -> Option<Range<u64>> {
        let mut begin = from;
        for (start, part) in &self.pieces {
            if *start > begin {
                let end = (*start).min(begin.saturating_add(most));
                return Some(begin..end);
            }
            begin = begin.max(part.reach(*start));
        }
        (begin < size).then(|| begin..size.min(begin.saturating_add(most)))
    }

    /// Begins to fetch a span that is free.
    pub(super) fn begin(
        &mut self,
        partial: &Partial,
        from: &From,
        span: Range<u64>,
    ) -> io::Result<()> {
        let piece = partial.piece(span.start)?;
        let file = piece.file.try_clone()?;
        let begin = span.start;
        let state = self.add(piece, span.end, false);
        let (from, changed, failed) = (from.clone(), self.changed.clone(), self.failed.clone());
        let task = self.running.spawn(async move {
            if let Err(why) = bring(&from, span.clone(), file, &state, &changed).await {
                tracing::debug!(blob = %from.blob.digest, ?span, why, "a part ahead of its turn failed");
                failed.store(true, Ordering::Relaxed);
            }
            state.over.store(true, Ordering::Release);
            changed.notify_one();
        });
        if let Some(part) = self.pieces.get_mut(&begin) {
            part.task = Some(task);
        }
        Ok(())
    }
}

impl Part {
    /// The end of what it has or will have.
    fn reach(&self, start: u64) -> u64 {
        match self.state.over.load(Ordering::Acquire) {
            true => start + self.state.len.load(Ordering::Acquire),
            false => self.end,
        }
    }
}

/// Fetches a span, in one try.
async fn bring(
    from: &From,
    span: Range<u64>,
    mut file: File,
    state: &State,
    changed: &Notify,
) -> Result<(), String> {
    let opened = from
        .registry
        .open_blob(&from.repository, &from.blob, span.clone());
    let mut body = opened.await.map_err(|error| format!("{error:?}"))?;
    if body.start != span.start {
        return Err("the server ignores ranges".to_owned());
    }
    state.coming.store(true, Ordering::Release);
    let size = span.end - span.start;
    let mut watch = Watch::new(from.registry.pace(), Instant::now());
    while let Some(chunk) = body.next().await.map_err(|error| error.to_string())? {
        let count = chunk.len() as u64;
        from.travelled.fetch_add(count, Ordering::Relaxed);
        let len = state.len.load(Ordering::Relaxed) + count;
        if len > size {
            return Err("more came than was asked for".to_owned());
        }
        file.write_all(&chunk).map_err(|error| error.to_string())?;
        state.len.store(len, Ordering::Release);
        changed.notify_one();
        if watch.stalled(count, Instant::now()) {
            return Err("it has all but stopped".to_owned());
        }
    }
    match state.len.load(Ordering::Relaxed) == size {
        true => Ok(()),
        false => Err("the answer ended before its end".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead(dir: &std::path::Path, pieces: &[(u64, &[u8])]) -> (Partial, Ahead) {
        let path = dir.join("blob");
        fs::write(&path, b"0123").expect("write");
        let partial = Partial::open(&path, 20, 0o600).expect("open");
        for (start, bytes) in pieces {
            let mut piece = partial.piece(*start).expect("a piece");
            piece.file.write_all(bytes).expect("write");
        }
        let ahead = Ahead::of(&partial, 20).expect("read");
        (partial, ahead)
    }

    fn bytes(ahead: &mut Ahead, at: u64) -> Option<Bytes> {
        match ahead.at(at, 20).expect("read") {
            Here::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    #[test]
    fn what_was_kept_is_used_in_its_place_and_gaps_are_free() {
        let dir = tempfile::tempdir().expect("tempdir");
        let kept: [(u64, &[u8]); 3] = [(2, b"2345"), (10, b"abc"), (18, b"too long")];
        let (_partial, mut ahead) = ahead(dir.path(), &kept);
        // The second has bytes that the beginning has not; the last is no part of the blob.
        assert_eq!(ahead.bytes_from(4), 2 + 3);
        assert_eq!(bytes(&mut ahead, 4).as_deref(), Some(b"45".as_slice()));
        assert!(matches!(ahead.at(6, 20).expect("read"), Here::Gap(10)));
        assert_eq!(ahead.free(6, 20, 100), Some(6..10));
        assert_eq!(ahead.free(6, 20, 3), Some(6..9));
        assert_eq!(ahead.free(10, 20, 100), Some(13..20));
        assert_eq!(bytes(&mut ahead, 11).as_deref(), Some(b"bc".as_slice()));
        assert!(matches!(ahead.at(13, 20).expect("read"), Here::Gap(20)));
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1);
        assert_eq!(ahead.free(20, 20, 5), None);
    }
}
