//! Containers: namespaces, the root switch, the process.
//!
//! A command that starts a container starts its monitor (`monitor`) first: our own program again, which goes on without
//! the command. That starts our own program once more (`init`), in new mount, pid, uts and ipc namespaces, where it is
//! alone: it mounts the layers where only it can see them, so that nothing stays mounted whatever dies, makes itself at
//! home and becomes the user's program, which is pid 1. Further programs come in the same way (`join`). Whoever is
//! attached, to the first program or another, talks to the monitor (`attach`, `protocol`).

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::MemfdFlags;

mod attach;
pub mod cgroup;
pub mod command;
pub mod config;
mod connection;
mod devices;
mod exe;
mod fill;
mod freeze;
mod hostfiles;
mod init;
mod inroot;
mod join;
pub mod keys;
mod limits;
pub mod log;
pub mod membership;
mod monitor;
mod mounts;
pub mod names;
mod network;
pub mod options;
mod privileges;
mod propagation;
mod protocol;
mod reaper;
mod rootfs;
mod runtime;
pub mod seccomp;
pub mod signals;
mod spec;
mod start;
pub(crate) mod sys;
mod sysctl;
mod terminal;
mod trees;
pub mod usage;
pub mod user;
mod view;

pub use attach::{Attachment, Outcome, Signals, on_terminal, relay, terminal_size};
pub use connection::{Connection, attach, exec, freeze, root, signal, wait};
pub(crate) use devices::found_at as host_devices;
pub(crate) use hostfiles::write as write_host_files;
pub use init::become_container;
pub use monitor::{Launch, is_monitor, launch};
pub use protocol::Exec;
pub(crate) use rootfs::{HIDDEN, READ_ONLY};
pub use runtime::find as find_runtime;
pub use view::view;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this exit code.
    Code(u8),
    /// Killed by this signal.
    Signal(u8),
}

impl Exit {
    /// The exit code that a shell shows: 128 and the signal's number for a death by signal.
    pub fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128u8.saturating_add(signal),
        }
    }
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
    /// The container does not run.
    #[error("the container is not running")]
    Gone,
    /// The container's monitor has not answered in the time that it has for that.
    #[error("the container's monitor does not answer (it may be stopped or hang); rm -f ends it")]
    Silent,
    /// A terminal was asked for, and standard input is none.
    #[error(
        "the input device is not a TTY: -t with -i needs a terminal; leave -t out to feed a pipe"
    )]
    NoTerminal,
}

impl RunError {
    fn host(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Host { what, source }
    }

    /// The exit code that stands for it, as docker has them.
    pub fn code(&self) -> u8 {
        match self {
            Self::Start { code, .. } => *code,
            Self::Gone | Self::Silent => 1,
            _ => 125,
        }
    }
}

/// A file in memory that holds `content`, to be read from its beginning.
fn memory_file(content: &[u8]) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("container", MemfdFlags::CLOEXEC)?;
    let mut writer = std::fs::File::from(file);
    io::Write::write_all(&mut writer, content)?;
    io::Seek::rewind(&mut writer)?;
    Ok(writer.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_by_signal_is_128_and_its_number() {
        assert_eq!(Exit::Code(3).code(), 3);
        assert_eq!(Exit::Signal(9).code(), 137);
        assert_eq!(Exit::Signal(255).code(), 255);
    }
}
