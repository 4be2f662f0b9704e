//! A command's part while a container runs: the person's input and signals go to the container's monitor, what the
//! program prints comes back, and its end becomes ours. The container does not depend on it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::RunError;
use super::connection::{self, Connection};
use super::keys::Keys;
use super::protocol::{MAX_DATA, Packet, Received, Sealed, Stream};
use super::sys::{self, BlockedSignals};
use super::terminal::{self, Raw};

/// What is passed on. KILL and STOP cannot be; CHLD, PIPE, TTIN, TTOU and TSTP are the command's own.
const FORWARDED: [i32; 10] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGCONT,
    libc::SIGWINCH,
    libc::SIGPWR,
];

/// How a person is attached.
#[derive(Debug)]
pub struct Attachment {
    /// Whether standard input is passed on.
    pub input: bool,
    /// Whether the program has a terminal: then ours is made raw, and its size told.
    pub terminal: bool,
    /// What is typed to leave; only at a terminal.
    pub keys: Option<Keys>,
    /// The directory of the container to whose first process our signals go; none go otherwise.
    pub signals_to: Option<PathBuf>,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The program has ended with this exit code.
    Exited(u8),
    /// The person left; the program goes on.
    Detached,
}

/// The signals that are taken from now on; to be made before the program starts, so that none is lost.
#[derive(Debug)]
pub struct Signals {
    descriptor: OwnedFd,
    _blocked: BlockedSignals,
}

impl Signals {
    /// All that can be passed on, or only the one that tells of the terminal's new size.
    pub fn take(forwarded: bool) -> Result<Self, RunError> {
        let signals: &[i32] = match forwarded {
            true => &FORWARDED,
            false => &[libc::SIGWINCH],
        };
        let taken = sys::block_signals(signals).map_err(RunError::host("blocking signals"))?;
        let (blocked, descriptor) = taken;
        Ok(Self {
            descriptor,
            _blocked: blocked,
        })
    }
}

/// Whether standard input is a terminal, which `-t` with `-i` needs.
pub fn on_terminal() -> bool {
    rustix::termios::isatty(io::stdin())
}

/// Relays until the program ends or the person leaves.
pub fn relay(
    connection: &mut Connection,
    attachment: Attachment,
    signals: &Signals,
) -> Result<Outcome, RunError> {
    let mut relay = Relay::new(attachment).map_err(RunError::host("preparing the terminal"))?;
    let outcome = relay.run(connection, signals);
    outcome.map_err(RunError::host("relaying to the container"))
}

struct Relay {
    attachment: Attachment,
    /// Whether there may be more input.
    reading: bool,
    /// What the monitor could not take yet. Never waited for: it may be waiting for us to read.
    outgoing: VecDeque<Sealed>,
    _raw: Raw,
}

impl Relay {
    fn new(attachment: Attachment) -> io::Result<Self> {
        Ok(Self {
            reading: attachment.input,
            outgoing: VecDeque::new(),
            _raw: Raw::enter(attachment.terminal && attachment.input)?,
            attachment,
        })
    }

    fn run(&mut self, connection: &mut Connection, signals: &Signals) -> io::Result<Outcome> {
        if self.attachment.terminal {
            self.resize();
        }
        let stdin = io::stdin();
        loop {
            self.send(connection);
            let mut wanted = PollFlags::IN;
            if !self.outgoing.is_empty() {
                wanted |= PollFlags::OUT;
            }
            let mut watched = vec![
                PollFd::new(&*connection, wanted),
                PollFd::new(&signals.descriptor, PollFlags::IN),
            ];
            if self.reading && self.outgoing.is_empty() {
                watched.push(PollFd::new(&stdin, PollFlags::IN));
            }
            match poll(&mut watched, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let ready = |at: usize| watched.get(at).map_or(PollFlags::empty(), PollFd::revents);
            let heard = ready(0).intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
            let (signalled, typed) = (!ready(1).is_empty(), !ready(2).is_empty());
            if heard && let Some(outcome) = self.hear(connection)? {
                return Ok(outcome);
            }
            if signalled {
                while let Some(signal) = sys::next_signal(&signals.descriptor) {
                    self.pass_on(signal);
                }
            }
            if typed && self.take_input() {
                self.send(connection);
                return Ok(Outcome::Detached);
            }
        }
    }

    /// Says what the monitor takes now.
    fn send(&mut self, connection: &Connection) {
        while let Some(packet) = self.outgoing.front() {
            match packet.send(connection, false) {
                Ok(()) => drop(self.outgoing.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // It has ended, and has said so before, which is heard next.
                Err(_) => {
                    self.outgoing.clear();
                    self.reading = false;
                }
            }
        }
    }

    fn say(&mut self, packet: Packet) {
        self.outgoing.push_back(Sealed::new(packet));
    }

    /// Prints. As in a pipeline, who prints for nobody is told so by a signal.
    fn show(&mut self, stream: Stream, bytes: &[u8]) {
        if !terminal::print(stream, bytes) {
            self.say(Packet::Closed(stream));
        }
    }

    /// Takes what the monitor says.
    fn hear(&mut self, connection: &mut Connection) -> io::Result<Option<Outcome>> {
        match connection.receive(false)? {
            Received::Packet(Packet::Output(stream, bytes)) => self.show(stream, &bytes),
            Received::Packet(Packet::Message(text)) => tracing::warn!("{text}"),
            Received::Packet(Packet::Exited(code)) => return Ok(Some(Outcome::Exited(code))),
            // Killed, and with it the container.
            Received::Closed => return Ok(Some(Outcome::Exited(137))),
            _ => {}
        }
        Ok(None)
    }

    fn pass_on(&mut self, signal: i32) {
        if signal == libc::SIGWINCH && self.attachment.terminal {
            return self.resize();
        }
        if let Some(directory) = &self.attachment.signals_to {
            // Past what waits on our own connection. It may have ended in between; then there is nobody to tell.
            let _ = connection::signal(directory, signal);
        }
    }

    /// Passes on what the person typed; whether it was the sequence to leave.
    fn take_input(&mut self) -> bool {
        let mut buffer = [0u8; MAX_DATA];
        let (bytes, leave) = match rustix::io::read(io::stdin().as_fd(), &mut buffer) {
            Err(Errno::INTR | Errno::AGAIN) => return false,
            // Its end, or the terminal has gone away.
            Ok(0) | Err(_) => {
                self.reading = false;
                self.say(Packet::EndOfInput);
                return false;
            }
            Ok(length) => match self.attachment.keys.as_mut() {
                Some(keys) => keys.take(&buffer[..length]),
                None => (buffer[..length].to_vec(), false),
            },
        };
        if !bytes.is_empty() {
            self.say(Packet::Input(bytes));
        }
        leave
    }

    fn resize(&mut self) {
        let (rows, columns) = terminal::size();
        if rows > 0 && columns > 0 {
            self.say(Packet::Resize(rows, columns));
        }
    }
}

/// Rows and columns of the person's terminal; (0, 0) when there is none.
pub fn terminal_size() -> (u16, u16) {
    terminal::size()
}
