//! A layer's way through three threads: inflate, hash, write.
//!
//! Inflating is what takes longest, so hashing and writing run beside it. All three share the same
//! few buffers, so memory is bounded whatever the layer says, and a stage that stops early closes
//! its channel: the others notice at their next buffer and end too.

use std::io::{self, BufRead, Read};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use strata_oci::digest::{Algorithm, Digest, Digester};

use super::error::LayerError;
use super::inflate::{Inflater, Seen};
use super::options::Limits;

/// Bytes in one buffer: few exchanges between the threads, and still within a core's cache.
const BUFFER: usize = 256 << 10;
/// How many buffers a layer has at most.
const BUFFERS: usize = 8;
/// What a layer needs to have all three stages busy, however many others are under way.
const LEAST: usize = 3;
/// How many buffers all layers together have at most, those that each needs aside.
const TOGETHER: usize = 32;
/// How much lower the priority of a layer that others wait less for is (setpriority(2); a thread's own, on Linux).
const BACK: i32 = 10;
/// The ratio is looked at beyond this part of the byte limit: a small layer does no harm by it.
const RATIO_FROM: u64 = 256;

/// A filled buffer, shared by the stages; it goes back to the pool with the last of them.
struct Chunk {
    bytes: Vec<u8>,
    filled: usize,
    pool: Sender<Vec<u8>>,
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // At the end of the pipeline nobody collects buffers any more.
        let _ = self.pool.send(std::mem::take(&mut self.bytes));
    }
}

/// Buffers that layers of this process have.
static OUT: AtomicUsize = AtomicUsize::new(0);

/// The buffers that one layer has, until it is done.
#[derive(Default)]
struct Share(usize);

impl Share {
    /// Whether there may be one more.
    fn grow(&mut self) -> bool {
        let before = OUT.fetch_add(1, Ordering::Relaxed);
        if self.0 < LEAST || (self.0 < BUFFERS && before < TOGETHER) {
            self.0 += 1;
            return true;
        }
        OUT.fetch_sub(1, Ordering::Relaxed);
        false
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        OUT.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// The uncompressed archive, as the stage that writes sees it.
pub(super) struct Source {
    chunks: Receiver<Arc<Chunk>>,
    current: Option<Arc<Chunk>>,
    position: usize,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Source {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let used_up = |chunk: &Arc<Chunk>| self.position >= chunk.filled;
        if self.current.as_ref().is_none_or(used_up) {
            // The old buffer goes back before the next one is waited for.
            self.current = None;
            self.current = self.chunks.recv().ok();
            self.position = 0;
        }
        let chunk = self.current.as_ref();
        Ok(chunk.map_or(&[][..], |chunk| &chunk.bytes[self.position..chunk.filled]))
    }

    fn consume(&mut self, count: usize) {
        self.position += count;
    }
}

/// What the pipeline found out.
pub(super) struct Done<T> {
    pub(super) diff_id: Digest,
    pub(super) tar_size: u64,
    pub(super) written: T,
}

/// Sends a layer through: inflates, hashes and runs `write` on three threads of their own, which let others go
/// first if they are `yielding`. `progress` is told the bytes of the archive so far.
pub(super) fn run<R, T>(
    compressed: R,
    limits: &Limits,
    yielding: bool,
    progress: &(dyn Fn(u64) + Sync),
    write: impl FnOnce(Source) -> Result<T, LayerError> + Send,
) -> Result<Done<T>, LayerError>
where
    R: Read + Send,
    T: Send,
{
    let (hash_to, hash_from) = sync_channel::<Arc<Chunk>>(BUFFERS);
    let (write_to, write_from) = sync_channel::<Arc<Chunk>>(BUFFERS);
    let source = Source {
        chunks: write_from,
        current: None,
        position: 0,
    };
    let step_back = move || {
        if yielding {
            // A help and no promise: without it all layers get equal turns.
            let _ = rustix::process::setpriority_process(None, BACK);
        }
    };
    thread::scope(|scope| {
        let hashing = scope.spawn(move || {
            step_back();
            let mut digester = Digester::new(Algorithm::Sha256);
            for chunk in hash_from {
                digester.update(&chunk.bytes[..chunk.filled]);
            }
            digester.finish()
        });
        let writing = scope.spawn(move || {
            step_back();
            write(source)
        });
        // Not here: this thread has other work afterwards, and an ordinary user cannot raise a priority again.
        let inflating = scope.spawn(move || {
            step_back();
            inflate(compressed, limits, progress, [hash_to, write_to])
        });
        let inflated = inflating
            .join()
            .unwrap_or_else(|panic| resume_unwind(panic));
        let written = writing.join().unwrap_or_else(|panic| resume_unwind(panic));
        let diff_id = hashing.join().unwrap_or_else(|panic| resume_unwind(panic));
        // Bytes that stopped coming look like a truncated archive to the writer: the cause first.
        let tar_size = inflated?;
        Ok(Done {
            diff_id,
            tar_size,
            written: written?,
        })
    })
}

/// Fills buffers and hands each to both stages, until the end or until a stage has stopped.
/// Gives the bytes that came out.
fn inflate<R: Read>(
    compressed: R,
    limits: &Limits,
    progress: &(dyn Fn(u64) + Sync),
    stages: [SyncSender<Arc<Chunk>>; 2],
) -> Result<u64, LayerError> {
    let seen = Seen::default();
    let mut inflater = Inflater::new(compressed, &seen)?;
    let (pool, empty) = channel();
    let mut share = Share::default();
    let mut total = 0;
    loop {
        let mut bytes = match empty.try_recv() {
            Ok(bytes) => bytes,
            Err(_) if share.grow() => Vec::new(),
            // One comes back: this side keeps a sender.
            Err(_) => match empty.recv() {
                Ok(bytes) => bytes,
                Err(_) => break,
            },
        };
        bytes.resize(BUFFER, 0);
        let filled = inflater.fill(&mut bytes)?;
        if filled == 0 {
            break;
        }
        total += filled as u64;
        within(limits, total, seen.bytes())?;
        let pool = pool.clone();
        let chunk = Arc::new(Chunk {
            bytes,
            filled,
            pool,
        });
        let stopped = |stage: &SyncSender<_>| stage.send(Arc::clone(&chunk)).is_err();
        if stages.iter().any(stopped) {
            break;
        }
        progress(total);
    }
    Ok(total)
}

fn within(limits: &Limits, total: u64, compressed: u64) -> Result<(), LayerError> {
    if total > limits.bytes {
        let (what, limit) = ("uncompressed bytes", limits.bytes);
        return Err(LayerError::Limit { what, limit });
    }
    if total > limits.bytes / RATIO_FROM && total / limits.ratio.max(1) > compressed {
        let what = "uncompressed bytes for each compressed one";
        let limit = limits.ratio;
        return Err(LayerError::Limit { what, limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_layers_at_once_have_what_they_need_and_little_more() {
        let mut shares: Vec<Share> = (0..40).map(|_| Share::default()).collect();
        for share in &mut shares {
            while share.grow() {}
        }
        assert!(
            shares
                .iter()
                .all(|share| (LEAST..=BUFFERS).contains(&share.0))
        );
        let all: usize = shares.iter().map(|share| share.0).sum();
        assert!(all <= TOGETHER + shares.len() * LEAST, "{all}");
        drop(shares);
        let mut alone = Share::default();
        assert!(alone.grow());
    }
}
