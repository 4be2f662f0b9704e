//! A further process of a running container, before it is the user's program: it enters the container and becomes
//! the program there, with the same rights as the first one.
//!
//! The container may be hostile by now. Nothing of the host is open when its root is entered but what was made
//! for this program, the process cannot be looked into (PR_SET_DUMPABLE(2const)), our own program is a read-only view
//! ([`exe`](super::exe)), and paths are resolved in the root without links of /proc (CVE-2019-5736, CVE-2024-21626).

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::process::DumpableBehavior;
use serde::{Deserialize, Serialize};

use super::spec::{self, Failure, Report, Spec};
use super::user::User;
use super::{init, inroot, runtime, sys};

/// The name under which our own program is started to join a container.
pub(super) const NAME: &str = "strata: exec";

/// What is to be joined, and what to do there.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// The container, with the program, user and terminal of this process in place of its own.
    pub(super) spec: Spec,
    /// The namespaces to enter (setns(2)); that of processes is entered by being born into it.
    pub(super) namespaces: i32,
    /// Which further process this is.
    pub(super) number: usize,
}

/// Is a further process of a container; gives the exit code in case of failure.
pub(super) fn become_further() -> ExitCode {
    let (Some(reports), Some(order), Some(first)) = (
        sys::inherited(spec::REPORTS),
        sys::inherited(spec::SPEC),
        sys::inherited(spec::LAYERS),
    ) else {
        return ExitCode::from(126);
    };
    let mut failure = join(&reports, order, first);
    // What `run` would call its own failure.
    if failure.code == 125 {
        failure.code = 126;
    }
    let code = failure.code;
    let _ = spec::send(&reports, Report::Failed(failure));
    ExitCode::from(code)
}

fn join(reports: &OwnedFd, order: OwnedFd, first: OwnedFd) -> Failure {
    let joined = || -> Result<Failure, Failure> {
        let order = read(reports, order)?;
        if let Some(name) = &order.spec.config.runtime {
            enter(&order, first)?;
            return Ok(runtime::exec(reports, &order, name));
        }
        for group in &order.spec.cgroups {
            // 0 is whoever writes (cgroups(7)).
            fs::write(group, "0")
                .map_err(|e| Failure::new(format!("joining {}", group.display()), e))?;
        }
        enter(&order, first)?;
        let (user, directory) = settle(reports, &order.spec)?;
        Ok(init::finish(&order.spec, &user, &directory))
    };
    joined().unwrap_or_else(|failure| failure)
}

fn read(reports: &OwnedFd, order: OwnedFd) -> Result<Order, Failure> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|e| Failure::new("hiding from the container", e))?;
    init::die_with_parent(reports).map_err(|e| Failure::new("watching the parent", e))?;
    serde_json::from_reader(io::BufReader::new(fs::File::from(order)))
        .map_err(|e| Failure::new("reading what to do", e))
}

/// Enters the namespaces of the container; of one that another runtime runs, those of that.
fn enter(order: &Order, first: OwnedFd) -> Result<(), Failure> {
    sys::set_namespaces(&first, order.namespaces).map_err(not_entered)?;
    rustix::process::umask(Mode::empty());
    rustix::process::setsid().map_err(|e| Failure::new("setsid", e))?;
    Ok(())
}

/// Why a container's namespaces could not be entered. A process that ends lets go of them before it is seen to have ended
/// (setns(2), ESRCH).
pub(super) fn not_entered(error: io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::ESRCH) => Failure::gone(),
        _ => Failure::new("entering the container", error),
    }
}

/// What the program begins with: its user, its directory, and its standard input and output.
fn settle(reports: &OwnedFd, spec: &Spec) -> Result<(User, OwnedFd), Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty())
        .map_err(|e| Failure::new("opening the container's root", e))?;
    let user = init::find_user(spec, &root)?;
    super::privileges::check(spec, &user)?;
    let path = Path::new("/").join(&spec.config.working_directory);
    let directory = inroot::open_dir(&root, &path).map_err(|e| {
        Failure::new(
            format!("working directory {:?}", spec.config.working_directory),
            e,
        )
    })?;
    match spec.terminal {
        Some(size) => {
            let made = open_master(&root).and_then(|master| {
                init::take_terminal(&master, &user, size)?;
                spec::send(reports, Report::Terminal(master))
            });
            made.map_err(|e| Failure::new("making a terminal", e))?;
        }
        None => init::own_pipes(&user),
    }
    Ok((user, directory))
}

/// A new terminal of the container's devpts. The container may have put something else in its place.
fn open_master(root: &OwnedFd) -> io::Result<OwnedFd> {
    /// DEVPTS_SUPER_MAGIC of linux/magic.h.
    const DEVPTS: u64 = 0x1cd1;
    let found = inroot::open_path(root, Path::new("/dev/pts/ptmx"))?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode);
    let genuine = rustix::fs::fstatfs(&found)?.f_type as u64 == DEVPTS;
    if kind != FileType::CharacterDevice || !genuine {
        return Err(io::Error::other("/dev/pts/ptmx of the container is none"));
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::openat(
        inroot::open_dir(root, Path::new("/dev/pts"))?,
        "ptmx",
        flags | OFlags::NOFOLLOW | OFlags::NONBLOCK,
        Mode::empty(),
    )?;
    // What was looked at may have been replaced since.
    match rustix::fs::fstatfs(&master)?.f_type as u64 {
        DEVPTS => Ok(master),
        _ => Err(io::Error::other("/dev/pts/ptmx of the container is none")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_is_ending_is_one_that_does_not_run() {
        let of = |number| not_entered(io::Error::from_raw_os_error(number));
        assert_eq!(of(libc::ESRCH).code, 1);
        let other = of(libc::EPERM);
        assert_eq!(other.code, 125);
        assert!(other.message.contains("entering"), "{}", other.message);
    }
}
