//! A command's part in starting a container: it starts the monitor, which does the rest.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::super::config::Config;
use super::super::connection::Connection;
use super::super::sys::{self, StringList};
use super::super::{RunError, memory_file, terminal};
use super::{LOCK, NAME, ORDERS, Orders, STARTER};
use crate::driver::Name;
use crate::store::Store;
use crate::store::containers::ContainerLock;
use crate::userns::Privilege;

/// A container to be started.
#[derive(Debug)]
pub struct Launch<'a> {
    /// Where it is.
    pub store: &'a Store,
    /// Its id.
    pub id: &'a str,
    /// What it is to be.
    pub config: &'a Config,
    /// Its layers, top first.
    pub lowers: Vec<PathBuf>,
    /// The only driver to be used.
    pub driver: Option<Name>,
    /// Whether what it prints is to come over the connection from the beginning.
    pub attached: bool,
    /// Whether its input comes over the connection, and ends with it.
    pub input: bool,
}

/// Starts the container's monitor, which takes the lock over. The connection tells first whether the program runs
/// ([`Connection::started`]).
pub fn launch(launch: Launch, lock: ContainerLock) -> Result<Connection, RunError> {
    let orders = Orders {
        store: launch.store.root().to_owned(),
        id: launch.id.to_owned(),
        rootless: launch.store.privilege() == Privilege::UserNamespace,
        lowers: launch.lowers,
        driver: launch.driver.map(|name| name.to_string()),
        config: launch.config.clone(),
        attached: launch.attached,
        input: launch.input,
        size: terminal::size(),
    };
    let text = serde_json::to_vec(&orders).map_err(io::Error::from);
    let orders = text.and_then(|text| memory_file(&text));
    let orders = orders.map_err(RunError::host("describing the container"))?;
    let started = start(&orders, launch.id, &lock);
    started.map_err(RunError::host("starting the container's monitor"))
}

fn start(orders: &OwnedFd, id: &str, lock: &ContainerLock) -> io::Result<Connection> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let open = |path, flags| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty());
    let program = open("/proc/self/exe", OFlags::PATH)?;
    let null = open("/dev/null", OFlags::RDWR)?;
    let arguments = [NAME, id].map(|word| CString::new(word).unwrap_or_default());
    // It goes on after us, and looks for programs as we would.
    let environment = std::env::vars_os().filter_map(|(name, value)| {
        let pair: OsString = [name.as_os_str(), "=".as_ref(), value.as_os_str()]
            .into_iter()
            .collect();
        CString::new(pair.as_bytes()).ok()
    });
    let up = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 10);
    let (null, theirs, orders) = (up(&null)?, up(&theirs)?, up(orders)?);
    let lock = rustix::io::fcntl_dupfd_cloexec(lock, 10)?;
    let descriptors = [
        (null.as_fd(), 0),
        (null.as_fd(), 1),
        (null.as_fd(), 2),
        (theirs.as_fd(), STARTER),
        (orders.as_fd(), ORDERS),
        (lock.as_fd(), LOCK),
    ];
    sys::spawn(
        0,
        program.as_fd(),
        &StringList::new(arguments.to_vec()),
        &StringList::new(environment.collect()),
        &descriptors,
    )?;
    Ok(Connection::of(ours))
}
