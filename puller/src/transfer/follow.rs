//! A blob that is read while it still arrives: batches go to the file and to the reader at once, so a reader
//! that keeps up costs the file system nothing but the writing. One that falls behind holds the
//! transfer up: what follows would only wait in memory instead of in the network.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use strata_oci::direct::Batch;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Batches that the reader may be behind, the one that it reads aside.
const BEHIND: usize = 2;

/// The writing side; when it is dropped before [`Writer::whole`], the reader fails.
pub(crate) struct Writer {
    batches: Sender<Arc<Batch>>,
    whole: Arc<AtomicBool>,
}

/// The reading side; when it is dropped, the writer fails.
pub(crate) struct Follower {
    /// What an earlier try kept: it is read first.
    file: File,
    kept: u64,
    at: u64,
    batches: Receiver<Arc<Batch>>,
    current: Option<(Arc<Batch>, usize)>,
    whole: Arc<AtomicBool>,
}

/// The reader has gone: nobody needs the rest.
#[derive(Debug)]
pub(crate) struct Gone;

/// Two sides of a blob, of which `file` has the first `kept` bytes.
pub(crate) fn follow(file: File, kept: u64) -> (Writer, Follower) {
    let (sender, receiver) = channel(BEHIND);
    let whole = Arc::new(AtomicBool::new(false));
    let writer = Writer {
        batches: sender,
        whole: whole.clone(),
    };
    let follower = Follower {
        file,
        kept,
        at: 0,
        batches: receiver,
        current: None,
        whole,
    };
    (writer, follower)
}

impl Writer {
    /// Gives the reader the bytes that follow those before; waits while it is too far behind.
    pub(super) async fn take(&self, batch: Arc<Batch>) -> Result<(), Gone> {
        self.batches.send(batch).await.map_err(|_| Gone)
    }

    /// The content is complete and proved: only now does the reader see an end.
    pub(super) fn whole(self) {
        self.whole.store(true, Ordering::Release);
    }
}

impl Read for Follower {
    /// Blocking: not for a thread that runs futures.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at < self.kept {
            return self.read_kept(buffer);
        }
        loop {
            if let Some((batch, used)) = &mut self.current {
                let rest = &batch.bytes()[*used..];
                if !rest.is_empty() {
                    let count = rest.len().min(buffer.len());
                    buffer[..count].copy_from_slice(&rest[..count]);
                    *used += count;
                    return Ok(count);
                }
            }
            // The old one goes back before the next is waited for.
            self.current = None;
            match self.batches.blocking_recv() {
                Some(batch) => self.current = Some((batch, 0)),
                None if self.whole.load(Ordering::Acquire) => return Ok(0),
                None => {
                    let kind = io::ErrorKind::ConnectionAborted;
                    return Err(io::Error::new(kind, "the transfer broke off"));
                }
            }
        }
    }
}

impl Follower {
    fn read_kept(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.kept - self.at).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        let count = self.file.read_at(&mut buffer[..wanted], self.at)?;
        if count == 0 && wanted > 0 {
            let kind = io::ErrorKind::UnexpectedEof;
            return Err(io::Error::new(kind, "the downloaded file became shorter"));
        }
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use strata_oci::direct::ALIGN;

    fn batch(bytes: &[u8]) -> Arc<Batch> {
        let mut batch = Batch::new(ALIGN, 0);
        assert_eq!(batch.take(bytes), bytes.len());
        Arc::new(batch)
    }

    fn pair(kept: &[u8]) -> (Writer, Follower) {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(kept).expect("write");
        follow(file, kept.len() as u64)
    }

    #[test]
    fn the_reader_sees_what_was_kept_then_all_batches_and_then_the_end() {
        let (writer, mut follower) = pair(b"zero");
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            follower.read_to_end(&mut all).map(|_| all)
        });
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.build().expect("a runtime");
        runtime.block_on(async {
            for part in [b"one".as_slice(), b"two", b"three", b"four", b"five"] {
                writer.take(batch(part)).await.expect("taken");
            }
        });
        writer.whole();
        let all = reader.join().expect("thread").expect("read");
        assert_eq!(all, b"zeroonetwothreefourfive");
    }

    #[tokio::test]
    async fn a_broken_transfer_is_never_an_end() {
        let (writer, mut follower) = pair(b"");
        writer.take(batch(b"one")).await.expect("taken");
        drop(writer);
        let reading = move || {
            let mut all = Vec::new();
            (follower.read_to_end(&mut all).is_err(), all)
        };
        let read = tokio::task::spawn_blocking(reading).await.expect("thread");
        assert_eq!(read, (true, b"one".to_vec()));
    }

    #[tokio::test]
    async fn the_writer_waits_for_the_reader_and_sees_that_it_has_gone() {
        let (writer, follower) = pair(b"");
        for _ in 0..BEHIND {
            writer.take(batch(b"x")).await.expect("taken");
        }
        let brief = std::time::Duration::from_millis(30);
        let waiting = tokio::time::timeout(brief, writer.take(batch(b"y"))).await;
        assert!(waiting.is_err(), "it did not wait");
        drop(follower);
        writer.take(batch(b"z")).await.expect_err("nobody reads");
    }
}
