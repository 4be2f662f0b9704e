//! A program that runs in the container, the first one or a further one: its process, and the ends of its pipes
//! or its terminal that are ours.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::super::log;
use super::super::protocol::{MAX_DATA, Stream};

/// Input that waits for the program; then its sender waits, too.
const MAX_PENDING: usize = 256 * 1024;

/// What a program begins with as standard input, output and error.
pub(super) struct Stdio {
    pub(super) theirs: [OwnedFd; 3],
    input: Option<OwnedFd>,
    outputs: [Option<OwnedFd>; 2],
}

impl Stdio {
    /// Pipes, of which the other ends are ours.
    pub(super) fn pipes(interactive: bool) -> io::Result<Self> {
        let (input_theirs, input) = match interactive {
            true => {
                let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
                (theirs, Some(unblocked(ours)?))
            }
            false => (null()?, None),
        };
        let (output, output_theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        let (error, error_theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok(Self {
            theirs: [input_theirs, output_theirs, error_theirs],
            input,
            outputs: [Some(unblocked(output)?), Some(unblocked(error)?)],
        })
    }

    /// Nothing: until the program has a terminal, or for good.
    pub(super) fn nothing() -> io::Result<Self> {
        Ok(Self {
            theirs: [null()?, null()?, null()?],
            input: None,
            outputs: [None, None],
        })
    }
}

fn null() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/dev/null", flags, Mode::empty())?)
}

fn unblocked(end: OwnedFd) -> io::Result<OwnedFd> {
    rustix::io::ioctl_fionbio(&end, true)?;
    Ok(end)
}

/// A program and our ends.
pub(super) struct Program {
    /// Which one: 0 is the container's first.
    pub(super) number: usize,
    /// Its process.
    pub(super) process: OwnedFd,
    /// Over which its process reports, until the program runs.
    pub(super) reports: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    input: Option<OwnedFd>,
    outputs: [Option<OwnedFd>; 2],
    pending: VecDeque<u8>,
    input_ends: bool,
    /// Whether its input ends with that of the client that has started it.
    pub(super) input_once: bool,
    /// Where what it prints is kept.
    pub(super) log: Option<log::Writer>,
    /// What is to be said when part of that was lost.
    pub(super) lost: Option<String>,
}

impl Program {
    /// A program that has just been started with the other ends of `stdio`.
    pub(super) fn new(number: usize, process: OwnedFd, reports: OwnedFd, stdio: Stdio) -> Self {
        Self {
            number,
            process,
            reports: Some(reports),
            terminal: None,
            input: stdio.input,
            outputs: stdio.outputs,
            pending: VecDeque::new(),
            input_ends: false,
            input_once: false,
            log: None,
            lost: None,
        }
    }

    /// It has made itself a terminal.
    pub(super) fn on_terminal(&mut self, master: OwnedFd) -> io::Result<()> {
        self.terminal = Some(unblocked(master)?);
        Ok(())
    }

    /// Its terminal takes over the size of a person's.
    pub(super) fn resize(&self, rows: u16, columns: u16) {
        if let Some(master) = &self.terminal {
            let size = rustix::termios::Winsize {
                ws_row: rows,
                ws_col: columns,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            let _ = rustix::termios::tcsetwinsize(master, size);
        }
    }

    /// What it prints to.
    pub(super) fn printing(&self) -> impl Iterator<Item = (Stream, BorrowedFd<'_>)> {
        let terminal = self.terminal.iter().map(|fd| (Stream::Output, fd.as_fd()));
        let streams = [Stream::Output, Stream::Error];
        let outputs = streams.into_iter().zip(&self.outputs);
        terminal.chain(outputs.filter_map(|(stream, fd)| Some((stream, fd.as_ref()?.as_fd()))))
    }

    /// Where input waits to be written to.
    pub(super) fn reading(&self) -> Option<BorrowedFd<'_>> {
        let to = self.terminal.as_ref().or(self.input.as_ref())?;
        (!self.pending.is_empty()).then(|| to.as_fd())
    }

    /// Whether more input can be taken.
    pub(super) fn takes_input(&self) -> bool {
        self.pending.len() < MAX_PENDING
    }

    /// Passes input on, now or when the program reads.
    pub(super) fn give(&mut self, bytes: &[u8]) {
        if self.terminal.is_some() || self.input.is_some() || self.reports.is_some() {
            self.pending.extend(bytes);
            self.give_pending();
        }
    }

    /// There will be no more input. A terminal stays open for who attaches later.
    pub(super) fn end_input(&mut self) {
        self.input_ends = true;
        self.give_pending();
    }

    /// Writes as much of the input as the program takes now.
    pub(super) fn give_pending(&mut self) {
        let mut closed = false;
        if let Some(to) = self.terminal.as_ref().or(self.input.as_ref()) {
            while !closed && !self.pending.is_empty() {
                match rustix::io::write(to, self.pending.as_slices().0) {
                    Ok(length) => drop(self.pending.drain(..length)),
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return,
                    Err(_) => closed = true,
                }
            }
        }
        if closed {
            // The program reads no more.
            self.pending.clear();
            self.input = None;
        }
        if self.input_ends && self.pending.is_empty() && self.reports.is_none() {
            self.input = None;
        }
    }

    /// Nobody reads this output: who writes to it gets SIGPIPE, or SIGHUP at a terminal.
    pub(super) fn close(&mut self, stream: Stream) {
        match (self.terminal.take(), stream) {
            (Some(_), _) => {}
            (None, Stream::Output) => self.outputs[0] = None,
            (None, Stream::Error) => self.outputs[1] = None,
        }
    }

    /// Takes what it has printed to a stream and notes it; empty when there is nothing now.
    pub(super) fn take(&mut self, stream: Stream) -> Printed {
        let slot = match (&self.terminal, stream) {
            (Some(_), _) => &mut self.terminal,
            (None, Stream::Output) => &mut self.outputs[0],
            (None, Stream::Error) => &mut self.outputs[1],
        };
        let Some(from) = slot else {
            return Printed::Nothing;
        };
        let mut buffer = vec![0u8; MAX_DATA];
        match rustix::io::read(from.as_fd(), &mut buffer) {
            Ok(length) if length > 0 => {
                buffer.truncate(length);
                if let Some(log) = &mut self.log {
                    log.write(stream, &buffer);
                }
                Printed::Bytes(buffer)
            }
            Err(Errno::INTR | Errno::AGAIN) => Printed::Nothing,
            // No program has the terminal open for now; one may open it again, as getty does.
            Err(Errno::IO) => Printed::Nobody,
            _ => {
                *slot = None;
                Printed::Nothing
            }
        }
    }

    /// Everything that it has printed and that was not taken, when it has ended.
    pub(super) fn rest(&mut self) -> Vec<(Stream, Vec<u8>)> {
        let mut rest = Vec::new();
        for stream in [Stream::Output, Stream::Error] {
            while let Printed::Bytes(bytes) = self.take(stream) {
                rest.push((stream, bytes));
            }
        }
        if let Some(log) = self.log.take() {
            self.lost = log.finish();
        }
        rest
    }
}

/// What was found in an output.
pub(super) enum Printed {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Nothing now.
    Nothing,
    /// Nothing, and nobody who could print.
    Nobody,
}
