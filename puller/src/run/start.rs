//! Starting processes in a container: the first one, in new namespaces, and further ones, in those of the first.
//! Both are our own program, which becomes the user's ([`init`](super::init), [`join`](super::join)).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::config::{Config, Network};
use super::spec::{self, Failure, Spec};
use super::sys::{self, StringList};
use super::{exe, hostfiles, init, join, memory_file};
use crate::driver::Writable;

/// A process that was started.
pub(super) struct Started {
    /// Its id.
    pub(super) pid: i32,
    /// A descriptor for it.
    pub(super) process: OwnedFd,
    /// The socket that it reports over.
    pub(super) reports: OwnedFd,
}

/// Makes a container's directories and files, and says what is to happen. `mounted`: somebody else has mounted
/// the layers.
pub(super) fn describe(
    directory: &Path,
    lowers: &[PathBuf],
    config: &Config,
    volumes: PathBuf,
    rootless: bool,
    mounted: bool,
    size: (u16, u16),
) -> Result<Spec, Failure> {
    let writable = Writable::of(directory);
    writable
        .make(lowers)
        .map_err(|e| Failure::new("making the container's directories", e))?;
    let files = hostfiles::write(directory, config)
        .map_err(|e| Failure::new("writing the container's resolv.conf, hosts and hostname", e))?;
    Ok(Spec {
        mounted,
        lowers: lowers.to_vec(),
        upper: writable.upper,
        work: writable.work,
        merged: writable.merged,
        rootless,
        files,
        terminal: config.terminal.then_some(size),
        config: config.clone(),
        volumes,
        cgroups: Vec::new(),
    })
}

/// Starts a container's first process. `layers` are mounted already, and attached nowhere.
pub(super) fn first(
    spec: &Spec,
    layers: Option<&OwnedFd>,
    stdio: &[OwnedFd; 3],
) -> Result<Started, Failure> {
    let mut namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWPID;
    // Another runtime makes the others.
    if spec.config.runtime.is_none() {
        if !spec.config.shares_name {
            namespaces |= libc::CLONE_NEWUTS;
        }
        if !spec.config.shares_ipc {
            namespaces |= libc::CLONE_NEWIPC;
        }
        if spec.config.network == Network::None {
            namespaces |= libc::CLONE_NEWNET;
        }
    }
    let text = serde_json::to_vec(spec).map_err(|e| Failure::new("describing the container", e))?;
    let extra = layers.map(|layers| (layers, spec::LAYERS));
    ours(spec, init::NAME, namespaces as u64, &text, extra, stdio)
        .map_err(|e| Failure::new("starting a process in new namespaces", e))
}

/// Starts a further process in a running container. This process's children must begin in the container's
/// pid namespace already.
pub(super) fn further(
    order: &join::Order,
    first: &OwnedFd,
    stdio: &[OwnedFd; 3],
) -> Result<Started, Failure> {
    let text = serde_json::to_vec(order).map_err(|e| Failure::new("describing the program", e))?;
    let extra = Some((first, spec::LAYERS));
    ours(&order.spec, join::NAME, 0, &text, extra, stdio)
        .map_err(|e| Failure::new("starting a process in the container", e))
}

/// Our own program under another name, with nothing of ours but what it needs: nothing of the environment is the
/// container's business, nor may it steer the loader.
fn ours(
    spec: &Spec,
    name: &str,
    namespaces: u64,
    text: &[u8],
    extra: Option<(&OwnedFd, RawFd)>,
    stdio: &[OwnedFd; 3],
) -> io::Result<Started> {
    let kind = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    let (reports, theirs) = socketpair(AddressFamily::UNIX, kind.0, kind.1, None)?;
    let specification = memory_file(text)?;
    let program = exe::open(&spec.merged, spec.rootless)?;
    let arguments = StringList::new(vec![CString::new(name).unwrap_or_default()]);
    let environment = StringList::new(Vec::new());
    let mut sources: Vec<(OwnedFd, RawFd)> = Vec::new();
    let mut add = |fd: BorrowedFd, number| -> io::Result<()> {
        sources.push((rustix::io::fcntl_dupfd_cloexec(fd, 10)?, number));
        Ok(())
    };
    for (number, fd) in stdio.iter().enumerate() {
        add(fd.as_fd(), number as RawFd)?;
    }
    add(theirs.as_fd(), spec::REPORTS)?;
    add(specification.as_fd(), spec::SPEC)?;
    if let Some((fd, number)) = extra {
        add(fd.as_fd(), number)?;
    }
    let descriptors: Vec<_> = sources.iter().map(|(fd, n)| (fd.as_fd(), *n)).collect();
    let (pid, process) = sys::spawn(
        namespaces,
        program.as_fd(),
        &arguments,
        &environment,
        &descriptors,
    )?;
    Ok(Started {
        pid,
        process,
        reports,
    })
}
