//! Containers: namespaces, the root switch, the process.
//!
//! A container is started by running our own program again (`init`), in new mount, pid, uts and ipc
//! namespaces. There it is alone: it mounts the layers where only it can see them, so that nothing stays mounted whatever
//! dies, makes itself at home and becomes the user's program, which is pid 1. The parent stays to relay
//! signals and the terminal; if it is killed, the kernel kills the container.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use rustix::fs::MemfdFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::driver::Writable;
use crate::userns::Privilege;

pub mod cgroup;
pub mod command;
pub mod config;
mod devices;
mod exe;
mod fill;
mod hostfiles;
mod init;
mod inroot;
mod limits;
mod mounts;
pub mod names;
mod network;
pub mod options;
mod privileges;
mod reaper;
mod rootfs;
pub mod seccomp;
pub mod signals;
mod spec;
mod supervise;
pub(crate) mod sys;
mod terminal;
mod trees;
pub mod user;

pub use init::become_container;
pub(crate) use rootfs::{HIDDEN, READ_ONLY};
pub use supervise::Exit;

use cgroup::Cgroup;
use config::{Config, Network};
use spec::{Report, Spec};
use sys::StringList;

/// What to run, in which root.
#[derive(Debug)]
pub struct Container {
    /// The container's own directory: has (or gets) `upper`, `work` and `merged`.
    pub directory: PathBuf,
    /// The layers, the topmost first.
    pub lowers: Vec<PathBuf>,
    /// The layers and the writable one mounted already, and attached nowhere (see
    /// [`mount_detached`](crate::driver::mount_detached)); without it the container mounts an overlay itself.
    pub mounted: Option<OwnedFd>,
    /// Root or rootless.
    pub privilege: Privilege,
    /// What it is to be.
    pub config: Config,
    /// Where the store keeps volumes; those that `config` names are there.
    pub volumes: PathBuf,
    /// Its control groups, which may be none.
    pub cgroup: Cgroup,
}

/// Why a container did not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Something of the host failed.
    #[error("{what}: {source}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// What failed.
        source: io::Error,
    },
    /// The container's first process could not start the program.
    #[error("{message}")]
    Start {
        /// 125: our own failure; 126: not executable; 127: not found.
        code: u8,
        /// What it said.
        message: String,
    },
    /// A terminal was asked for, and standard input is none.
    #[error(
        "the input device is not a TTY: -t with -i needs a terminal; leave -t out to feed a pipe"
    )]
    NoTerminal,
}

impl RunError {
    /// The exit code that stands for it, as docker has them.
    pub fn code(&self) -> u8 {
        match self {
            Self::Start { code, .. } => *code,
            _ => 125,
        }
    }
}

fn host(what: &'static str) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::Host { what, source }
}

/// Runs a container to its end. `started` is told the pid as soon as the program runs.
pub fn run(container: &Container, started: impl FnOnce(i32)) -> Result<Exit, RunError> {
    let on_terminal = rustix::termios::isatty(io::stdin());
    if container.config.terminal && container.config.interactive && !on_terminal {
        return Err(RunError::NoTerminal);
    }
    let spec = prepare(container)?;
    let blocked = sys::block_signals(&supervise::FORWARDED);
    let (_mask, signals) = blocked.map_err(host("blocking signals"))?;
    let (pid, process, reports) = start(container, &spec)?;
    let mut relay = None;
    loop {
        match spec::receive(&reports).map_err(host("hearing from the container"))? {
            Some(Report::Terminal(master)) => {
                let made = terminal::Relay::new(master, container.config.interactive);
                relay = Some(made.map_err(host("preparing the terminal"))?);
            }
            Some(Report::Failed(failure)) => {
                supervise::reap(&process).map_err(host("waiting for the container"))?;
                return Err(RunError::Start {
                    code: failure.code,
                    message: failure.message,
                });
            }
            None => break,
        }
    }
    started(pid);
    supervise::supervise(&process, &signals, relay).map_err(host("watching the container"))
}

/// Makes the container's directories and files, and writes down what is to happen.
fn prepare(container: &Container) -> Result<Spec, RunError> {
    let directory = &container.directory;
    let writable = Writable::of(directory);
    writable
        .make(&container.lowers)
        .map_err(host("making the container's directories"))?;
    let files = hostfiles::write(directory, &container.config);
    Ok(Spec {
        mounted: container.mounted.is_some(),
        lowers: container.lowers.clone(),
        upper: writable.upper,
        work: writable.work,
        merged: writable.merged,
        rootless: container.privilege == Privilege::UserNamespace,
        files: files.map_err(host(
            "writing the container's resolv.conf, hosts and hostname",
        ))?,
        config: container.config.clone(),
        volumes: container.volumes.clone(),
        cgroups: container.cgroup.entrances(),
        terminal: container.config.terminal.then(terminal::size),
    })
}

/// Starts the first process: its pid, a descriptor for it, and the socket it reports over.
fn start(container: &Container, spec: &Spec) -> Result<(i32, OwnedFd, OwnedFd), RunError> {
    let kind = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    let (ours, theirs) = socketpair(AddressFamily::UNIX, kind.0, kind.1, None)
        .map_err(|e| host("making a socket")(e.into()))?;
    let text = serde_json::to_vec(spec).map_err(|e| host("describing the container")(e.into()))?;
    let specification = memory_file(&text).map_err(host("describing the container"))?;
    let stdin = match container.config.interactive {
        true => io::stdin().as_fd().try_clone_to_owned(),
        false => std::fs::File::open("/dev/null").map(OwnedFd::from),
    };
    let stdin = stdin.map_err(host("opening standard input"))?;
    let program =
        exe::open(&spec.merged, spec.rootless).map_err(host("opening our own program"))?;
    let arguments = StringList::new(vec![CString::new(init::NAME).unwrap_or_default()]);
    // Nothing of the person's environment is the container's business, nor may it steer the loader.
    let environment = StringList::new(Vec::new());
    let mut namespaces =
        libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
    if container.config.network == Network::None {
        namespaces |= libc::CLONE_NEWNET;
    }
    let up = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 10).map_err(io::Error::from);
    let above = || -> io::Result<_> { Ok((up(&stdin)?, up(&theirs)?, up(&specification)?)) };
    let (stdin, theirs_up, specification) = above().map_err(host("copying descriptors"))?;
    let layers = container.mounted.as_ref().map(up).transpose();
    let layers = layers.map_err(host("copying descriptors"))?;
    let mut descriptors = vec![
        (stdin.as_fd(), 0),
        (theirs_up.as_fd(), spec::REPORTS),
        (specification.as_fd(), spec::SPEC),
    ];
    descriptors.extend(layers.iter().map(|fd| (fd.as_fd(), spec::LAYERS)));
    let (pid, process) = sys::spawn(
        namespaces as u64,
        program.as_fd(),
        &arguments,
        &environment,
        &descriptors,
    )
    .map_err(host("starting a process in new namespaces"))?;
    Ok((pid, process, ours))
}

/// A file in memory that holds `content`, to be read from its beginning.
fn memory_file(content: &[u8]) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("container", MemfdFlags::CLOEXEC)?;
    let mut writer = std::fs::File::from(file);
    io::Write::write_all(&mut writer, content)?;
    io::Seek::rewind(&mut writer)?;
    Ok(writer.into())
}
