//! A command that is connected to the monitor.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::super::protocol::{self, Packet, Received, Sealed};

/// Bytes that wait for a command that does not read; then what it is attached to has to wait, too.
const MAX_QUEUED: usize = 1024 * 1024;

/// The command's connection, and what it has asked for.
pub(super) struct Client {
    socket: OwnedFd,
    outgoing: VecDeque<Sealed>,
    queued: usize,
    /// The program whose output it wants.
    pub(super) attached: Option<usize>,
    /// Whether what it sends is that program's input.
    pub(super) input: bool,
    /// Whether it has started that program.
    pub(super) owns: bool,
    /// The program of whose end it is to be told.
    pub(super) watches: Option<usize>,
    /// Whether the connection is closed, or of no more use.
    pub(super) gone: bool,
}

impl Client {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            outgoing: VecDeque::new(),
            queued: 0,
            attached: None,
            input: false,
            owns: false,
            watches: None,
            gone: false,
        }
    }

    /// Says something, now or when it is listened to.
    pub(super) fn say(&mut self, packet: Packet) {
        if self.gone {
            return;
        }
        let sealed = Sealed::new(packet);
        self.queued += sealed.len();
        self.outgoing.push_back(sealed);
        self.flush();
    }

    /// Says what is listened to now.
    pub(super) fn flush(&mut self) {
        while let Some(packet) = self.outgoing.front() {
            match packet.send(&self.socket, false) {
                Ok(()) => {
                    self.queued -= packet.len();
                    self.outgoing.pop_front();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.gone = true;
                    self.outgoing.clear();
                }
            }
        }
    }

    /// Whether something waits to be said.
    pub(super) fn is_behind(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether no more should be said before it listens.
    pub(super) fn is_full(&self) -> bool {
        self.queued >= MAX_QUEUED
    }

    /// The next thing that it says.
    pub(super) fn hear(&mut self, buffer: &mut [u8]) -> Option<Packet> {
        match protocol::receive(&self.socket, buffer, false) {
            Ok(Received::Packet(packet)) => Some(packet),
            Ok(Received::Nothing) => None,
            // What is not understood is not guessed at.
            Ok(Received::Unknown | Received::Closed) | Err(_) => {
                self.gone = true;
                None
            }
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
