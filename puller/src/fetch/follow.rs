//! A file that is read while it is still being written: the download appends, the unpacker follows.
//! Neither waits for the other beyond what has arrived, nothing is held in memory, and what is on
//! disk when the transfer breaks is where the next one resumes.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// What the two sides share.
pub(super) struct Growing {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    len: u64,
    end: Option<End>,
    /// The reader has gone: nobody needs the rest.
    abandoned: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    /// All bytes are there and proved.
    Whole,
    /// No more will come.
    Broken,
}

/// The writing side; when it is dropped before [`Writer::whole`], the reader fails.
pub(super) struct Writer(Arc<Growing>);

/// The reading side; when it is dropped, the writer can see it.
pub(super) struct Follower {
    growing: Arc<Growing>,
    file: File,
    at: u64,
}

/// Two sides of a file that is empty, or as long as the writer's first [`Writer::reached`] says.
pub(super) fn follow(file: File) -> (Writer, Follower) {
    let state = State {
        len: 0,
        end: None,
        abandoned: false,
    };
    let growing = Arc::new(Growing {
        state: Mutex::new(state),
        changed: Condvar::new(),
    });
    let follower = Follower {
        growing: growing.clone(),
        file,
        at: 0,
    };
    (Writer(growing), follower)
}

impl Growing {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is two numbers and two flags: whole at every instant.
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn end(&self, end: End) {
        let mut state = self.lock();
        if state.end.is_none() {
            state.end = Some(end);
        }
        drop(state);
        self.changed.notify_all();
    }
}

impl Writer {
    /// The file's first `len` bytes can be read.
    pub(super) fn reached(&self, len: u64) {
        self.0.lock().len = len;
        self.0.changed.notify_all();
    }

    /// The content is complete and proved: only now does the reader see an end.
    pub(super) fn whole(&self) {
        self.0.end(End::Whole);
    }

    /// Whether the reader has gone.
    pub(super) fn abandoned(&self) -> bool {
        self.0.lock().abandoned
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.end(End::Broken);
    }
}

impl Read for Follower {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.growing.lock();
        let available = loop {
            if state.len > self.at {
                break state.len - self.at;
            }
            match state.end {
                Some(End::Whole) => return Ok(0),
                Some(End::Broken) => {
                    let kind = io::ErrorKind::ConnectionAborted;
                    return Err(io::Error::new(kind, "the transfer broke off"));
                }
                None => {
                    state = match self.growing.changed.wait(state) {
                        Ok(state) => state,
                        Err(poisoned) => poisoned.into_inner(),
                    }
                }
            }
        };
        drop(state);
        let wanted = usize::try_from(available)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = self.file.read_at(&mut buffer[..wanted], self.at)?;
        if count == 0 && wanted > 0 {
            let kind = io::ErrorKind::UnexpectedEof;
            return Err(io::Error::new(kind, "the downloaded file became shorter"));
        }
        self.at += count as u64;
        Ok(count)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.growing.lock().abandoned = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn pair() -> (File, Writer, Follower) {
        let file = tempfile::tempfile().expect("a file");
        let (writer, follower) = follow(file.try_clone().expect("a descriptor"));
        (file, writer, follower)
    }

    #[test]
    fn the_reader_sees_all_bytes_and_then_the_end() {
        let (mut file, writer, mut follower) = pair();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            follower.read_to_end(&mut all).map(|_| all)
        });
        let mut len = 0;
        for part in [b"one".as_slice(), b"two", b"three"] {
            file.write_all(part).expect("write");
            len += part.len() as u64;
            writer.reached(len);
        }
        writer.whole();
        drop(writer);
        let all = reader.join().expect("thread").expect("read");
        assert_eq!(all, b"onetwothree");
    }

    #[test]
    fn a_broken_transfer_is_never_an_end() {
        let (mut file, writer, mut follower) = pair();
        file.write_all(b"one").expect("write");
        writer.reached(3);
        assert!(!writer.abandoned());
        drop(writer);
        let mut all = Vec::new();
        assert!(follower.read_to_end(&mut all).is_err());
        assert_eq!(all, b"one");
    }

    #[test]
    fn the_writer_sees_that_nobody_reads() {
        let (_file, writer, follower) = pair();
        drop(follower);
        assert!(writer.abandoned());
    }
}
