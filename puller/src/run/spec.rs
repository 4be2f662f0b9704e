//! What the parent tells the container's first process, and what that says back.
//!
//! The specification travels in a memory file at descriptor 4, reports in single packets over the socket at
//! descriptor 3. The socket closes by itself when the user's program takes over, which is how the
//! parent learns of it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};

use super::config::Config;

/// Where the socket is in the first process.
pub(super) const REPORTS: RawFd = 3;
/// Where the specification is.
pub(super) const SPEC: RawFd = 4;
/// Where the mounted layers are, if the parent has mounted them; for a further process of a running container, a
/// descriptor for the first.
pub(super) const LAYERS: RawFd = 5;
/// A longer message is cut.
const MAX_REPORT: usize = 8192;

/// Everything that the first process needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Spec {
    /// Whether the parent has mounted the layers; otherwise they are an overlay to be mounted.
    pub(super) mounted: bool,
    /// The layers, top first.
    pub(super) lowers: Vec<PathBuf>,
    /// The container's writable layer, the kernel's scratch directory and the mount point.
    pub(super) upper: PathBuf,
    pub(super) work: PathBuf,
    pub(super) merged: PathBuf,
    /// Whether this happens in a user namespace.
    pub(super) rootless: bool,
    /// Files of the host that are mounted into the container: (host's, container's).
    pub(super) files: Vec<(PathBuf, String)>,
    /// What the container is to be.
    pub(super) config: Config,
    /// Where the store keeps volumes.
    pub(super) volumes: PathBuf,
    /// Where the process moves itself into the container's control groups.
    pub(super) cgroups: Vec<PathBuf>,
    /// Rows and columns of the terminal to make, if there is to be one.
    pub(super) terminal: Option<(u16, u16)>,
}

impl Spec {
    /// Whether what tells too much of the host or steers it is hidden.
    pub(super) fn is_masked(&self) -> bool {
        !self.config.security.privileged && !self.config.security.unmasked
    }
}

/// What the first process says.
#[derive(Debug)]
pub(super) enum Report {
    /// The terminal's master side.
    Terminal(OwnedFd),
    /// It could not start the program.
    Failed(Failure),
}

/// Why the program was not started, with the exit code that says so (docker's 125, 126, 127).
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: u8,
    pub(super) message: String,
}

impl Failure {
    /// The container is over, or is ending: docker's 1.
    pub(super) fn gone() -> Self {
        Self {
            code: 1,
            message: "the container is not running".to_owned(),
        }
    }

    /// Our own failure: 125.
    pub(super) fn new(what: impl AsRef<str>, error: impl std::fmt::Display) -> Self {
        Self {
            code: 125,
            message: format!("{}: {error}", what.as_ref()),
        }
    }
}

/// Sends one report.
pub(super) fn send(socket: impl AsFd, report: Report) -> io::Result<()> {
    let (bytes, terminal) = match report {
        Report::Terminal(terminal) => (vec![0], Some(terminal)),
        Report::Failed(failure) => {
            let mut bytes = vec![failure.code];
            bytes.extend(failure.message.bytes().take(MAX_REPORT - 1));
            (bytes, None)
        }
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<BorrowedFd> = terminal.iter().map(|t| t.as_fd()).collect();
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let bytes = [io::IoSlice::new(&bytes)];
    rustix::net::sendmsg(socket, &bytes, &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for the next report; `None` when the socket was closed: the program runs, or all is over.
pub(super) fn receive(socket: impl AsFd) -> io::Result<Option<Report>> {
    let mut bytes = [0u8; MAX_REPORT];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let mut slices = [io::IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        rustix::net::recvmsg(&socket, &mut slices, &mut ancillary, flags)
    })?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok(match (&bytes[..received.bytes], descriptors.pop()) {
        ([], _) => None,
        ([0], Some(terminal)) => Some(Report::Terminal(terminal)),
        ([code, message @ ..], _) => Some(Report::Failed(Failure {
            code: *code,
            message: String::from_utf8_lossy(message).into_owned(),
        })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    #[test]
    fn reports_arrive_whole_and_the_end_is_seen() {
        let kind = SocketType::SEQPACKET;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).expect("socketpair");
        let file = std::fs::File::open("/dev/null").expect("open");
        send(&theirs, Report::Terminal(file.into())).expect("send");
        let long = Failure::new("x".repeat(9000), "y");
        send(&theirs, Report::Failed(long)).expect("send");
        drop(theirs);
        assert!(matches!(receive(&ours), Ok(Some(Report::Terminal(_)))));
        match receive(&ours) {
            Ok(Some(Report::Failed(failure))) => {
                assert_eq!((failure.code, failure.message.len()), (125, MAX_REPORT - 1));
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(receive(&ours), Ok(None)));
    }

    #[test]
    fn a_specification_keeps_bytes_that_are_not_utf8() {
        use std::ffi::OsString;
        use std::os::unix::ffi::OsStringExt as _;
        let odd = OsString::from_vec(vec![b'a', 0xff]);
        let text = serde_json::to_vec(&vec![odd.clone()]).expect("serialises");
        let back: Vec<OsString> = serde_json::from_slice(&text).expect("parses");
        assert_eq!(back, [odd]);
    }
}
