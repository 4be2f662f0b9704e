//! The person's terminal while a container has one of its own: raw, so that every key reaches the
//! container, and put back as it was whatever happens.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

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
struct Raw(Option<Termios>);

impl Raw {
    fn enter(wanted: bool) -> io::Result<Self> {
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

/// Carries bytes between the person's terminal and the container's.
pub(super) struct Relay {
    master: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
    pending: VecDeque<u8>,
    _raw: Raw,
}

impl Relay {
    /// Starts to relay over `master`, input only if `interactive`.
    pub(super) fn new(master: OwnedFd, interactive: bool) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&master, true)?;
        let stdin = match interactive {
            true => Some(io::stdin().as_fd().try_clone_to_owned()?),
            false => None,
        };
        let relay = Self {
            master: Some(master),
            stdin,
            pending: VecDeque::new(),
            _raw: Raw::enter(interactive)?,
        };
        relay.resize();
        Ok(relay)
    }

    /// Takes over the size of the person's terminal.
    pub(super) fn resize(&self) {
        let (ws_row, ws_col) = size();
        if let (Some(master), true) = (&self.master, ws_row > 0 && ws_col > 0) {
            let size = rustix::termios::Winsize {
                ws_row,
                ws_col,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            let _ = tcsetwinsize(master, size);
        }
    }

    /// What to wait for: the container's terminal (and whether it should take input), the person's input.
    pub(super) fn watched(&self) -> (Option<(BorrowedFd<'_>, bool)>, Option<BorrowedFd<'_>>) {
        let master = self
            .master
            .as_ref()
            .map(|m| (m.as_fd(), !self.pending.is_empty()));
        let stdin = self.stdin.as_ref().filter(|_| self.pending.is_empty());
        (master, stdin.map(|s| s.as_fd()))
    }

    /// Reads what the person typed.
    pub(super) fn take_input(&mut self) {
        let mut buffer = [0u8; 4096];
        let Some(stdin) = &self.stdin else { return };
        match rustix::io::read(stdin, &mut buffer) {
            Ok(0) => self.stdin = None,
            Ok(length) => {
                self.pending.extend(&buffer[..length]);
                self.give_input();
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.stdin = None,
        }
    }

    /// Passes on what the container's terminal takes.
    pub(super) fn give_input(&mut self) {
        let Some(master) = &self.master else { return };
        let (first, _) = self.pending.as_slices();
        if let (false, Ok(length)) = (first.is_empty(), rustix::io::write(master, first)) {
            self.pending.drain(..length);
        }
    }

    /// Prints what the container printed, up to `limit` bytes; `false` when there is no more now.
    pub(super) fn take_output(&mut self) -> bool {
        let mut buffer = [0u8; 16384];
        let Some(master) = &self.master else {
            return false;
        };
        match rustix::io::read(master, &mut buffer) {
            Ok(length) if length > 0 => write_all(&buffer[..length]),
            Err(Errno::INTR) => true,
            Err(Errno::AGAIN) => false,
            // EIO: nobody has the other side open any more; a program may open it again later, as getty
            // does, but not when it was the first process that closed it.
            Err(Errno::IO) => false,
            _ => {
                self.master = None;
                false
            }
        }
    }

    /// Gives up the terminal, which hangs up on the container's session.
    pub(super) fn hang_up(&mut self) {
        self.master = None;
        self.stdin = None;
        self.pending.clear();
    }
}

/// Writes to standard output past Rust's buffer; `false` when nobody reads it any more.
fn write_all(mut bytes: &[u8]) -> bool {
    let stdout = io::stdout();
    while !bytes.is_empty() {
        match rustix::io::write(&stdout, bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut wait = [rustix::event::PollFd::new(
                    &stdout,
                    rustix::event::PollFlags::OUT,
                )];
                let _ = rustix::event::poll(&mut wait, None);
            }
            Err(_) => return false,
        }
    }
    true
}
