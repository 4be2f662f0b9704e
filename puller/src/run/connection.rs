//! A command's side of the socket behind which a container's monitor listens.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::RunError;
use super::protocol::{self, Exec, MAX_PACKET, Packet, Received};

/// In the container's directory.
const SOCKET: &str = "monitor";

/// A monitor does at once what it is asked for, but for freezing, which takes as long as a system call of the container.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// A socket of the kind that is spoken over.
pub(super) fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let kind = SocketType::SEQPACKET;
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        kind,
        flags,
        None,
    )?)
}

/// Opens a container's directory to name its socket by: a path to it may be longer than an address (108 bytes).
pub(super) fn open_directory(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(directory, flags, Mode::empty())?)
}

/// The socket's address, while the directory is open.
pub(super) fn address(directory: &OwnedFd) -> io::Result<SocketAddrUnix> {
    let path = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd());
    Ok(SocketAddrUnix::new(path)?)
}

/// Takes the socket's name away: one that a killed monitor left, or one's own.
pub(super) fn unlink(directory: &OwnedFd) -> io::Result<()> {
    match rustix::fs::unlinkat(directory, SOCKET, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A connection to the monitor of a running container.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects to the monitor of the container that has this directory; `None` when it has none.
    pub fn open(directory: &Path) -> io::Result<Option<Self>> {
        let directory = match open_directory(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let socket = socket()?;
        match rustix::io::retry_on_intr(|| rustix::net::connect(&socket, &address_of(&directory)?))
        {
            Ok(()) => Ok(Some(Self::of(socket))),
            Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn of(socket: OwnedFd) -> Self {
        Self {
            socket,
            buffer: vec![0; MAX_PACKET],
        }
    }

    pub(super) fn send(&self, packet: Packet) -> io::Result<()> {
        protocol::send(&self.socket, packet)
    }

    pub(super) fn receive(&mut self, wait: bool) -> io::Result<Received> {
        protocol::receive(&self.socket, &mut self.buffer, wait)
    }

    /// Waits until the program runs: its process id. `tell` gets what the person should know.
    pub fn started(&mut self, tell: impl FnMut(&str)) -> Result<i32, RunError> {
        self.running(tell, || RunError::Start {
            code: 125,
            message: "the container's monitor has died".to_owned(),
        })
    }

    /// Waits until a further program runs; who asked for it just when the container ended hears no more.
    pub fn joined(&mut self, tell: impl FnMut(&str)) -> Result<(), RunError> {
        self.running(tell, || RunError::Gone).map(drop)
    }

    fn running(
        &mut self,
        mut tell: impl FnMut(&str),
        closed: impl Fn() -> RunError,
    ) -> Result<i32, RunError> {
        loop {
            match self
                .receive(true)
                .map_err(RunError::host("hearing from the container's monitor"))?
            {
                Received::Packet(Packet::Started(pid)) => return Ok(pid),
                Received::Packet(Packet::Message(text)) => tell(&text),
                Received::Packet(Packet::Failed { code, message }) => {
                    return Err(RunError::Start { code, message });
                }
                Received::Closed => return Err(closed()),
                _ => {}
            }
        }
    }

    /// Asks for something that is answered by [`Packet::Done`] or a refusal, within the limit if there is one.
    fn ask(self, packet: Packet, limit: Option<Duration>) -> Result<Packet, RunError> {
        self.send(packet).map_err(unasked)?;
        match limit {
            Some(limit) if !self.answers(limit)? => Err(RunError::Silent),
            _ => self.answer(),
        }
    }

    /// Whether something is said before the limit has passed.
    fn answers(&self, limit: Duration) -> Result<bool, RunError> {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).unwrap_or_default();
            let mut waiting = [PollFd::new(self, PollFlags::IN)];
            match poll(&mut waiting, Some(&left)) {
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::INTR) => {}
                Err(error) => {
                    return Err(RunError::host("waiting for the container")(error.into()));
                }
            }
        }
    }

    fn answer(mut self) -> Result<Packet, RunError> {
        loop {
            match self
                .receive(true)
                .map_err(RunError::host("hearing from the container's monitor"))?
            {
                Received::Packet(Packet::Failed { code, message }) => {
                    return Err(RunError::Start { code, message });
                }
                Received::Packet(
                    answer @ (Packet::Done | Packet::Directory(_) | Packet::Exited(_)),
                ) => {
                    return Ok(answer);
                }
                Received::Closed => return Err(RunError::Gone),
                _ => {}
            }
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn address_of(directory: &OwnedFd) -> rustix::io::Result<SocketAddrUnix> {
    address(directory).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))
}

fn connected(directory: &Path) -> Result<Connection, RunError> {
    let connection = Connection::open(directory);
    connection
        .map_err(RunError::host("connecting to the container's monitor"))?
        .ok_or(RunError::Gone)
}

/// Sends the first process of the running container in this directory a signal.
///
/// # Errors
/// [`RunError::Gone`]: it does not run (any more).
pub fn signal(directory: &Path, number: i32) -> Result<(), RunError> {
    connected(directory)?
        .ask(Packet::Signal(number), Some(PATIENCE))
        .map(drop)
}

/// Freezes or thaws all processes of a container.
pub fn freeze(directory: &Path, freeze: bool) -> Result<(), RunError> {
    connected(directory)?
        .ask(Packet::Freeze(freeze), Some(PATIENCE))
        .map(drop)
}

/// Waits until a container's program ends: its exit code; `None` when `limit` has passed before.
///
/// # Errors
/// [`RunError::Gone`]: it does not run, or was killed with its monitor.
pub fn wait(directory: &Path, limit: Option<Duration>) -> Result<Option<u8>, RunError> {
    let connection = connected(directory)?;
    if let Some(limit) = limit {
        connection.send(Packet::Watch).map_err(unasked)?;
        return match connection.answers(limit)? {
            true => connection.answer().map(code),
            false => Ok(None),
        };
    }
    connection.ask(Packet::Watch, None).map(code)
}

fn code(answer: Packet) -> Option<u8> {
    match answer {
        Packet::Exited(code) => Some(code),
        _ => None,
    }
}

/// The root directory of a running container as it sees it, for openat2(2) with RESOLVE_IN_ROOT. It works from any
/// user namespace with the same ids.
pub fn root(directory: &Path) -> Result<OwnedFd, RunError> {
    match connected(directory)?.ask(Packet::Root, Some(PATIENCE))? {
        Packet::Directory(root) => Ok(root),
        _ => Err(RunError::Gone),
    }
}

/// Shows what a container prints from now on, and takes input if `input`.
pub fn attach(directory: &Path, input: bool) -> Result<Connection, RunError> {
    let connection = connected(directory)?;
    let sent = connection.send(Packet::Attach { input });
    sent.map_err(unasked)?;
    Ok(connection)
}

/// Starts a further program in a running container; [`Connection::started`] tells whether it runs.
pub fn exec(directory: &Path, exec: Exec) -> Result<Connection, RunError> {
    let connection = connected(directory)?;
    match connection.send(Packet::Exec(Box::new(exec))) {
        Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => Err(RunError::Start {
            code: 126,
            message: "argument list too long".to_owned(),
        }),
        sent => sent.map(|()| connection).map_err(unasked),
    }
}

/// Why a monitor could not be asked. One that ends, because the container has, hears no more.
fn unasked(error: io::Error) -> RunError {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => RunError::Gone,
        _ => RunError::host("asking the container's monitor")(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monitor_that_has_ended_is_a_container_that_does_not_run() {
        let pair = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        );
        let (ours, theirs) = pair.expect("socketpair");
        drop(theirs);
        let mut connection = Connection::of(ours);
        let error = connection.send(Packet::Watch).expect_err("nobody listens");
        assert!(matches!(unasked(error), RunError::Gone));
        assert!(matches!(connection.joined(|_| ()), Err(RunError::Gone)));
        assert_eq!(
            connection.started(|_| ()).expect_err("nor starts").code(),
            125
        );
        let other = io::Error::from_raw_os_error(libc::EACCES);
        assert!(matches!(unasked(other), RunError::Host { .. }));
    }
}
