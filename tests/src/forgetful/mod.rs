//! A file system that forgets what was not synced, to try what a power cut leaves.
//!
//! It lives in memory and is mounted through /dev/fuse, so the real programs run on it. A kill alone cannot
//! show a missing fsync: the kernel writes the pages of a dead process all the same.
//!
//! The model is the strictest that POSIX allows: a file's bytes and size become durable by a sync of that file, a
//! directory's names by a sync of that directory, nothing by anything else. syncfs(2) makes nothing
//! durable here: the kernel does not pass it on to such a file system.

mod content;
mod disk;
mod driver;
#[cfg(test)]
mod tests;

use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuser::{BackgroundSession, Config, MountOption, SessionACL};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use disk::Disk;
use driver::Driver;

/// How much a disk holds, in bytes.
const CAPACITY: u64 = 512 << 20;

/// What a power cut takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing: only the programs ended. What was not synced may still be lost in the next one.
    Nothing,
    /// All that was not synced.
    All,
    /// By chance any part of it, as disks and kernels write when they like: of a file any blocks and perhaps the
    /// size, of a directory the first changes up to any one.
    Some {
        /// The same seed over the same operations takes the same.
        seed: u64,
    },
}

/// A request to make something durable, with the name that the file or directory was last given.
#[derive(Debug, Clone, Copy)]
pub enum Sync<'a> {
    /// Of a file.
    File(&'a str),
    /// Of a directory; `/` is the root.
    Directory(&'a str),
}

/// Which syncs are answered without being done: a disk that lies, or a program that forgot.
pub type Deaf = fn(Sync<'_>) -> bool;

/// The file system, mounted; unmounted on drop.
pub struct Forgetful {
    path: PathBuf,
    disk: Arc<Mutex<Disk>>,
    session: Option<BackgroundSession>,
}

impl Forgetful {
    /// Mounts an empty one at an existing directory. Needs root and /dev/fuse.
    pub fn mount(path: &Path) -> Result<Self> {
        let mut forgetful = Self {
            path: path.to_owned(),
            disk: Arc::new(Mutex::new(Disk::new(CAPACITY))),
            session: None,
        };
        forgetful.session = Some(forgetful.start()?);
        Ok(forgetful)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets it ignore some syncs until the next start.
    pub fn ignore(&self, deaf: Deaf) {
        self.disk().set_deaf(Some(deaf));
    }

    /// How many changes and syncs there have been.
    pub fn operations(&self) -> u64 {
        self.disk().operations()
    }

    /// Cuts the power at the moment of the change or sync of this number, see [`Forgetful::operations`].
    pub fn cut_at(&self, operation: u64) {
        self.disk().cut_at(operation);
    }

    /// Lets the change or sync of this number fail, alone. Of a sync that fails the file's bytes are lost: a second one
    /// says that all is well, and it is not (<https://lwn.net/Articles/752063/>).
    pub fn fail_at(&self, operation: u64, error: Errno) {
        self.disk().fail_at(operation, error);
    }

    /// Lets nothing fail any more; whether anything has.
    pub fn heal(&self) -> bool {
        self.disk().heal()
    }

    /// Cuts the power now: from here on nothing becomes durable and everything fails with EIO, so that a
    /// program which is still running cannot make anyone believe otherwise.
    pub fn cut(&self) {
        self.disk().cut();
    }

    /// Whether the power was cut.
    pub fn is_cut(&self) -> bool {
        self.disk().is_cut()
    }

    /// Cuts the power if that was not done, and mounts what is left. No program may use it meanwhile.
    pub fn power_cut(&mut self, loss: Loss) -> Result<()> {
        self.cut();
        self.stop();
        self.disk().power_up(loss);
        self.session = Some(self.start()?);
        Ok(())
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) -> Result<BackgroundSession> {
        if !Path::new("/dev/fuse").exists() {
            return Err(Error::other(
                "this test mounts a FUSE file system and there is no /dev/fuse: load the fuse module, or give the device to the container",
            ));
        }
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::FSName("forgetful".into()),
            MountOption::DefaultPermissions,
        ];
        config.acl = SessionACL::All;
        let session = fuser::Session::new(Driver(self.disk.clone()), &self.path, &config);
        let explain =
            |error| Error::other(format!("cannot mount a FUSE file system (root?): {error}"));
        session.and_then(|session| session.spawn()).map_err(explain)
    }

    fn stop(&mut self) {
        if let Some(session) = self.session.take() {
            // Also when a file is still open; the session ends when the last one is closed.
            let gone = unmount(&self.path, UnmountFlags::DETACH);
            if gone.is_ok() {
                let _ = session.join();
            }
        }
    }
}

impl Drop for Forgetful {
    fn drop(&mut self) {
        self.stop();
    }
}
