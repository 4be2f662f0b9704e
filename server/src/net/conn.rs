//! One connection's bytes: what is read goes through memory, files go from the page cache to the socket.

use std::fs::File;
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::fs::{Advice, fadvise, sendfile};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, Sleep, sleep_until};

use super::peer::Peer;
use super::region::Regions;

/// A slice of a file that is at least this long is worth a system call of its own.
const WORTH_SENDFILE: usize = 16 * 1024;

/// Bytes sent by one call.
const AT_ONCE: usize = 1024 * 1024;

/// Bytes read ahead of a file that is not in the page cache.
const AHEAD: u64 = 4 * 1024 * 1024;

/// What a client that is told "no" may still send before the connection is closed on it: closed
/// at once, the reset would destroy the answer on its way (RFC 9112, 9.6).
const LINGER_BYTES: usize = 64 * 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);

/// A connection that sends files by sendfile(2) and gives up on a client that takes nothing.
pub(super) struct Conn {
    stream: TcpStream,
    regions: Regions,
    peer: Arc<Peer>,
    write_timeout: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    fetching: Option<JoinHandle<()>>,
    lingering: Option<Linger>,
}

struct Linger {
    until: Pin<Box<Sleep>>,
    left: usize,
}

impl Conn {
    pub(super) fn new(
        stream: TcpStream,
        regions: Regions,
        peer: Arc<Peer>,
        write_timeout: Duration,
    ) -> Self {
        Self {
            stream,
            regions,
            peer,
            write_timeout,
            stalled: None,
            fetching: None,
            lingering: None,
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, slice: &[u8]) -> Poll<io::Result<usize>> {
        if slice.len() >= WORTH_SENDFILE
            && let Some((file, offset)) = self.regions.find(slice)
        {
            return self.poll_sendfile(cx, &file, offset, slice.len());
        }
        Pin::new(&mut self.stream).poll_write(cx, slice)
    }

    fn poll_sendfile(
        &mut self,
        cx: &mut Context<'_>,
        file: &Arc<File>,
        mut offset: u64,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        let length = length.min(AT_ONCE);
        if let Some(task) = &mut self.fetching {
            // Had it failed, sendfile would say why.
            let _ = ready!(Pin::new(task).poll(cx));
            self.fetching = None;
        } else if !is_cached(file, offset + length as u64 - 1) {
            // sendfile would wait for the disk, and with it every connection of this thread.
            let file = Arc::clone(file);
            let fetch = spawn_blocking(move || fetch(&file, offset, length as u64));
            let task = self.fetching.insert(fetch);
            let _ = ready!(Pin::new(task).poll(cx));
            self.fetching = None;
        }
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                sendfile(self.stream.as_fd(), file, Some(&mut offset), length).map_err(Into::into)
            });
            match sent {
                // The file is shorter than it was: the promised length cannot be kept.
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// Counts what was written, and turns a stall that lasts too long into an error.
    fn watch(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = outcome {
            self.stalled = None;
            self.peer.wrote(*written.as_ref().unwrap_or(&0));
            return Poll::Ready(written);
        }
        let until = Instant::now() + self.write_timeout;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Whether a byte of a file is in the page cache; where a file system cannot say, it is taken to be.
fn is_cached(file: &File, offset: u64) -> bool {
    let mut byte = [0];
    let slices = &mut [io::IoSliceMut::new(&mut byte)];
    preadv2(file, slices, offset, ReadWriteFlags::NOWAIT) != Err(Errno::AGAIN)
}

/// Brings part of a file into the page cache.
fn fetch(file: &File, offset: u64, length: u64) {
    let ahead = NonZeroU64::new(AHEAD);
    let mut byte = [0];
    let fetched = fadvise(file, offset, ahead, Advice::WillNeed)
        .map_err(io::Error::from)
        .and_then(|()| file.read_at(&mut byte, offset + length - 1));
    if let Err(error) = fetched {
        tracing::debug!("cannot read ahead: {error}");
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.peer.closed();
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slice: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = self.poll_send(cx, slice);
        self.watch(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let is_file = |s: &IoSlice<'_>| s.len() >= WORTH_SENDFILE && self.regions.find(s).is_some();
        // Memory in front of a file goes out by itself.
        let memory = slices.iter().position(is_file).unwrap_or(slices.len());
        let outcome = if memory > 0 {
            Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..memory])
        } else {
            self.poll_send(cx, slices.first().map_or(&[], |s| s))
        };
        self.watch(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        // hyper asks for this when its own buffer is empty, and only then.
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.peer.flushed();
        }
        flushed
    }

    /// Says that nothing more will come, then reads away what the client still sends.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        let linger = this.lingering.get_or_insert_with(|| Linger {
            until: Box::pin(sleep_until(Instant::now() + LINGER_TIME)),
            left: LINGER_BYTES,
        });
        let mut space = [0; 16 * 1024];
        while linger.left > 0 && linger.until.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut this.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    linger.left = linger.left.saturating_sub(buffer.filled().len());
                }
                // A connection that was only idle has nothing on its way.
                Poll::Pending if linger.left < LINGER_BYTES => return Poll::Pending,
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
