//! What a command and a container's monitor say to each other over the socket in the container's directory:
//! one packet each (SOCK_SEQPACKET, unix(7)), a letter and what belongs to it.

use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};

/// Bytes of a stream in one packet, at most.
pub(super) const MAX_DATA: usize = 32 * 1024;
/// Bytes of a packet, at most: a command line with its environment fits (the kernel's limit for one string is
/// 128 KiB, and a socket's buffer is 208 KiB by default).
pub(super) const MAX_PACKET: usize = 160 * 1024;

/// One of a program's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// Standard output; a terminal's too.
    Output,
    /// Standard error.
    Error,
}

/// A further program in a running container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Program and arguments.
    pub arguments: Vec<OsString>,
    /// Variables beside the container's, `K=V`.
    pub environment: Vec<OsString>,
    /// Where it starts; the container's directory when empty.
    pub working_directory: String,
    /// `user[:group]`; the container's when not given.
    pub user: Option<String>,
    /// Keep standard input open.
    pub interactive: bool,
    /// Rows and columns of a terminal, if it is to have one.
    pub terminal: Option<(u16, u16)>,
    /// All capabilities.
    pub privileged: bool,
    /// Nobody waits for it, and nobody reads what it prints.
    pub detached: bool,
}

/// What is said.
#[derive(Debug)]
pub(super) enum Packet {
    /// To the monitor: show me the program's output, and take my input if `input`.
    Attach { input: bool },
    /// Tell me when the program ends.
    Watch,
    /// Start another program.
    Exec(Box<Exec>),
    /// Bytes for the program's standard input.
    Input(Vec<u8>),
    /// There will be no more of them.
    EndOfInput,
    /// Nobody reads this output any more.
    Closed(Stream),
    /// The size of the person's terminal: rows, columns.
    Resize(u16, u16),
    /// Send the container's first process this signal.
    Signal(i32),
    /// Freeze (or thaw) all processes of the container.
    Freeze(bool),
    /// Give me the container's root directory.
    Root,
    /// To the command: the program runs, its process has this id.
    Started(i32),
    /// The program was not started, with the exit code that says so.
    Failed { code: u8, message: String },
    /// Something for the person to know.
    Message(String),
    /// Bytes that the program printed.
    Output(Stream, Vec<u8>),
    /// The program has ended.
    Exited(u8),
    /// What was asked for is done.
    Done,
    /// The directory that was asked for.
    Directory(OwnedFd),
}

impl Packet {
    fn encode(self) -> (Vec<u8>, Option<OwnedFd>) {
        let with = |letter: u8, rest: &[u8]| [&[letter], rest].concat();
        let stream = |stream| match stream {
            Stream::Output => 1,
            Stream::Error => 2,
        };
        let bytes = match self {
            Self::Attach { input } => vec![b'a', u8::from(input)],
            Self::Watch => vec![b'w'],
            Self::Exec(exec) => with(b'x', &serde_json::to_vec(&exec).unwrap_or_default()),
            Self::Input(bytes) => with(b'i', &bytes),
            Self::EndOfInput => vec![b'e'],
            Self::Closed(which) => vec![b'c', stream(which)],
            Self::Resize(rows, columns) => {
                with(b'r', &[rows.to_le_bytes(), columns.to_le_bytes()].concat())
            }
            Self::Signal(number) => with(b's', &number.to_le_bytes()),
            Self::Freeze(freeze) => vec![b'f', u8::from(freeze)],
            Self::Root => vec![b'd'],
            Self::Started(pid) => with(b'S', &pid.to_le_bytes()),
            Self::Failed { code, message } => {
                let length = message.len().min(MAX_DATA);
                [&[b'F', code], &message.as_bytes()[..length]].concat()
            }
            Self::Message(text) => with(b'M', &text.as_bytes()[..text.len().min(MAX_DATA)]),
            Self::Output(which, bytes) => [&[b'O', stream(which)], bytes.as_slice()].concat(),
            Self::Exited(code) => vec![b'Z', code],
            Self::Done => vec![b'D'],
            Self::Directory(directory) => return (vec![b'R'], Some(directory)),
        };
        (bytes, None)
    }

    fn decode(bytes: &[u8], descriptor: Option<OwnedFd>) -> Option<Self> {
        let stream = |number| match number {
            1 => Some(Stream::Output),
            2 => Some(Stream::Error),
            _ => None,
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let number = |bytes: &[u8]| Some(i32::from_le_bytes(bytes.try_into().ok()?));
        let (letter, rest) = bytes.split_first()?;
        Some(match (letter, rest) {
            (b'a', [input]) => Self::Attach { input: *input != 0 },
            (b'w', []) => Self::Watch,
            (b'x', json) => Self::Exec(serde_json::from_slice(json).ok()?),
            (b'i', bytes) => Self::Input(bytes.to_vec()),
            (b'e', []) => Self::EndOfInput,
            (b'c', [which]) => Self::Closed(stream(*which)?),
            (b'r', [a, b, c, d]) => {
                Self::Resize(u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d]))
            }
            (b's', bytes) => Self::Signal(number(bytes)?),
            (b'f', [freeze]) => Self::Freeze(*freeze != 0),
            (b'd', []) => Self::Root,
            (b'S', bytes) => Self::Started(number(bytes)?),
            (b'F', [code, message @ ..]) => Self::Failed {
                code: *code,
                message: text(message),
            },
            (b'M', message) => Self::Message(text(message)),
            (b'O', [which, bytes @ ..]) => Self::Output(stream(*which)?, bytes.to_vec()),
            (b'Z', [code]) => Self::Exited(*code),
            (b'D', []) => Self::Done,
            (b'R', []) => Self::Directory(descriptor?),
            _ => return None,
        })
    }
}

/// Sends one packet; with [`SendFlags::DONTWAIT`] it may have to be tried again, so it is kept in its form for the wire.
#[derive(Debug)]
pub(super) struct Sealed {
    bytes: Vec<u8>,
    descriptor: Option<OwnedFd>,
}

impl Sealed {
    /// The packet, ready to be sent.
    pub(super) fn new(packet: Packet) -> Self {
        let (bytes, descriptor) = packet.encode();
        Self { bytes, descriptor }
    }

    /// How many bytes it takes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Sends it, all or nothing.
    pub(super) fn send(&self, socket: impl AsFd, wait: bool) -> io::Result<()> {
        let mut flags = SendFlags::NOSIGNAL;
        if !wait {
            flags |= SendFlags::DONTWAIT;
        }
        let descriptors: Vec<BorrowedFd> = self.descriptor.iter().map(AsFd::as_fd).collect();
        rustix::io::retry_on_intr(|| {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() {
                ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
            }
            let bytes = [io::IoSlice::new(&self.bytes)];
            rustix::net::sendmsg(&socket, &bytes, &mut ancillary, flags)
        })?;
        Ok(())
    }
}

/// Sends one packet.
pub(super) fn send(socket: impl AsFd, packet: Packet) -> io::Result<()> {
    Sealed::new(packet).send(socket, true)
}

/// What was received.
#[derive(Debug)]
pub(super) enum Received {
    /// A packet.
    Packet(Packet),
    /// Something that is none of ours: of another version, or cut.
    Unknown,
    /// Nothing now.
    Nothing,
    /// The other side is gone.
    Closed,
}

/// Takes the next packet into `buffer`, of [`MAX_PACKET`] bytes.
pub(super) fn receive(socket: impl AsFd, buffer: &mut [u8], wait: bool) -> io::Result<Received> {
    let mut flags = RecvFlags::CMSG_CLOEXEC;
    if !wait {
        flags |= RecvFlags::DONTWAIT;
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut attempt = || {
        rustix::io::retry_on_intr(|| {
            let mut slices = [io::IoSliceMut::new(&mut *buffer)];
            rustix::net::recvmsg(&socket, &mut slices, &mut ancillary, flags)
        })
    };
    let received = match attempt() {
        // The other side has closed with something of ours unread. That is told once, and before what it said last.
        Err(rustix::io::Errno::CONNRESET) => attempt(),
        received => received,
    };
    let received = match received {
        Ok(received) => received,
        Err(rustix::io::Errno::AGAIN) => return Ok(Received::Nothing),
        Err(rustix::io::Errno::CONNRESET) => return Ok(Received::Closed),
        Err(error) => return Err(error.into()),
    };
    let mut descriptor = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptor = rights.last();
        }
    }
    if received.bytes == 0 {
        return Ok(Received::Closed);
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Ok(Received::Unknown);
    }
    let packet = Packet::decode(&buffer[..received.bytes], descriptor);
    Ok(packet.map_or(Received::Unknown, Received::Packet))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        let kind = SocketType::SEQPACKET;
        socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).expect("socketpair")
    }

    #[test]
    fn packets_arrive_as_they_were_sent() {
        let (one, other) = pair();
        let mut buffer = vec![0; MAX_PACKET];
        let exec = Exec {
            arguments: vec!["sh".into(), "-c".into()],
            terminal: Some((24, 80)),
            ..Exec::default()
        };
        let file = std::fs::File::open("/").expect("open");
        let all = [
            Packet::Attach { input: true },
            Packet::Watch,
            Packet::Exec(Box::new(exec)),
            Packet::Input(vec![0, 255, b'x']),
            Packet::EndOfInput,
            Packet::Closed(Stream::Error),
            Packet::Resize(24, 80),
            Packet::Signal(15),
            Packet::Freeze(true),
            Packet::Root,
            Packet::Started(77),
            Packet::Failed {
                code: 127,
                message: "no such file".into(),
            },
            Packet::Message("using vfs".into()),
            Packet::Output(Stream::Output, vec![7; MAX_DATA]),
            Packet::Output(Stream::Error, Vec::new()),
            Packet::Exited(3),
            Packet::Done,
            Packet::Directory(file.into()),
        ];
        for packet in all {
            let said = format!("{packet:?}");
            send(&one, packet).expect("sent");
            match receive(&other, &mut buffer, true).expect("received") {
                // A descriptor arrives under another number.
                Received::Packet(Packet::Directory(_)) => assert!(said.starts_with("Directory")),
                Received::Packet(packet) => assert_eq!(format!("{packet:?}"), said),
                other => panic!("{said}: {other:?}"),
            }
        }
        assert!(matches!(
            receive(&other, &mut buffer, false),
            Ok(Received::Nothing)
        ));
        drop(one);
        assert!(matches!(
            receive(&other, &mut buffer, true),
            Ok(Received::Closed)
        ));
    }

    #[test]
    fn what_was_said_last_is_heard_although_something_was_not_read() {
        let (one, other) = pair();
        send(&one, Packet::Input(b"typed ahead".to_vec())).expect("sent");
        send(&other, Packet::Exited(3)).expect("sent");
        drop(other);
        let mut buffer = vec![0; MAX_PACKET];
        let heard = receive(&one, &mut buffer, false).expect("received");
        assert!(
            matches!(heard, Received::Packet(Packet::Exited(3))),
            "{heard:?}"
        );
        assert!(matches!(
            receive(&one, &mut buffer, false),
            Ok(Received::Closed)
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_packet_or_unknown(bytes in proptest::collection::vec(any::<u8>(), 1..40)) {
            let (one, other) = pair();
            rustix::io::write(&one, &bytes).expect("sent");
            let mut buffer = vec![0; MAX_PACKET];
            let received = receive(&other, &mut buffer, true).expect("received");
            prop_assert!(matches!(received, Received::Packet(_) | Received::Unknown));
        }
    }
}
