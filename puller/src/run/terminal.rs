//! The person's terminal while a container has one of its own: raw, so that every key reaches the
//! container, and put back as it was whatever happens.

use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::protocol::Stream;

/// Rows and columns of the terminal that one of the streams is; (0, 0) when none is.
pub(super) fn size() -> (u16, u16) {
    let streams = [
        io::stdout().as_fd().try_clone_to_owned(),
        io::stdin().as_fd().try_clone_to_owned(),
    ];
    streams
        .iter()
        .flatten()
        .find_map(|stream| tcgetwinsize(stream).ok())
        .map_or((0, 0), |size| (size.ws_row, size.ws_col))
}

/// Standard input in raw mode, until dropped. Nothing is changed when it is no terminal.
pub(super) struct Raw(Option<Termios>);

impl Raw {
    pub(super) fn enter(wanted: bool) -> io::Result<Self> {
        let stdin = io::stdin();
        let Some(before) = tcgetattr(&stdin).ok().filter(|_| wanted) else {
            return Ok(Self(None));
        };
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(io::stdin(), OptionalActions::Drain, before);
        }
    }
}

/// Writes to standard output or error past Rust's buffer; `false` when nobody reads it any more.
pub(super) fn print(stream: Stream, bytes: &[u8]) -> bool {
    match stream {
        Stream::Output => write_all(io::stdout().as_fd(), bytes),
        Stream::Error => write_all(io::stderr().as_fd(), bytes),
    }
}

fn write_all(file: impl AsFd, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match rustix::io::write(&file, bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut wait = [rustix::event::PollFd::new(
                    &file,
                    rustix::event::PollFlags::OUT,
                )];
                let _ = rustix::event::poll(&mut wait, None);
            }
            Err(_) => return false,
        }
    }
    true
}
