//! Containers on disk: a directory with the writable layer, and a row that says what it is.
//!
//! Whoever runs a container holds flock(2) on its directory. The kernel lets go of the lock however
//! the holder dies, so what a crash left is recognised at once and put right by the next who looks.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use rustix::fs::FlockOperation;
use strata_oci::Digest;

mod error;
mod life;
mod records;
mod users;

pub use error::ContainerError;

use super::lock::FileLock;
use super::{Image, Store, StoreError, reserve};
use crate::driver::{self, Writable};
use crate::run::cgroup::Cgroup;
use crate::run::names;
use crate::userns::Privilege;

/// The lock that is shared by those who make a container's directory.
const MAKING: &str = "containers";
/// What a command takes at most to look at a container that it does not go on with.
const MOMENT: Duration = Duration::from_secs(2);

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It runs a program.
    Container,
    /// An image mounted with a writable layer of its own.
    Mount,
    /// An image mounted as it is.
    ReadOnlyMount,
}

impl Kind {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Mount => "mount",
            Self::ReadOnlyMount => "read-only mount",
        }
    }
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Made, its program never started.
    Created,
    /// The program runs.
    Running,
    /// The program has ended.
    Exited,
}

impl State {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Exited => "exited",
        }
    }
}

/// A container as the store knows it. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Unique in the store.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// Where it is in its life.
    pub state: State,
    /// The image's manifest.
    pub manifest_digest: Digest,
    /// What the image was called then.
    pub image: String,
    /// Whether it goes when its program ends.
    pub ephemeral: bool,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The first process, as seen by the one who started it.
    pub pid: Option<i32>,
    /// Its start time, in clock ticks since boot.
    pub pid_started: Option<u64>,
    /// How it ended; `None` while it has not.
    pub exit_code: Option<u8>,
    /// When it was made.
    pub created: i64,
    /// When the program started.
    pub started: Option<i64>,
    /// When the program ended.
    pub finished: Option<i64>,
    /// Whether its processes are held still.
    pub paused: bool,
    /// Whether the kernel has killed its program for want of memory.
    pub oom_killed: bool,
    /// Why its program could not be started the last time; empty if it could.
    pub error: String,
}

impl Container {
    /// The word for where it is in its life, docker's.
    pub fn status(&self) -> &'static str {
        match (self.state, self.paused) {
            (State::Running, true) => "paused",
            (state, _) => state.name(),
        }
    }

    /// The first twelve digits of the id, as people see them.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

/// What a new container is to be.
#[derive(Debug)]
pub struct NewContainer<'a> {
    /// A name; without one it gets a made-up one.
    pub name: Option<&'a str>,
    /// What it is for.
    pub kind: Kind,
    /// Its image.
    pub image: &'a Image,
    /// What the image was called.
    pub image_name: &'a str,
    /// Whether it goes when its program ends.
    pub ephemeral: bool,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Whether who makes it starts it right away. If that does not come to pass because somebody kills the command, one
    /// that was to go with its end goes; nobody knows of it.
    pub starting: bool,
}

/// Held by whoever runs or mounts a container, or takes it away; dropping it lets go.
#[derive(Debug)]
pub struct ContainerLock(File);

impl AsFd for ContainerLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl ContainerLock {
    /// A lock that another process has handed over.
    pub(crate) fn inherited(file: OwnedFd) -> Self {
        Self(file.into())
    }

    /// `None`: somebody else has it, or the directory is gone.
    fn attempt(directory: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(directory) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Store {
    /// Where a container's files are.
    pub fn container_dir(&self, id: &str) -> PathBuf {
        self.root().join("containers").join(id)
    }

    /// Makes a container's directory and row; the caller has its lock.
    pub fn create_container(
        &self,
        new: &NewContainer,
    ) -> Result<(Container, ContainerLock), ContainerError> {
        if let Some(name) = new.name.filter(|name| !names::is_valid(name)) {
            return Err(ContainerError::Name(name.chars().take(200).collect()));
        }
        let id = hex::encode(rand::random::<[u8; 32]>());
        let directory = self.container_dir(&id);
        // Between its making and its locking the directory looks like one that a crash left.
        let path = self.lock_path(MAKING);
        let making = FileLock::shared(&path).map_err(StoreError::io("lock", &path))?;
        let lock = self.claim_container(&id)?;
        drop(making);
        let lock = lock.ok_or_else(|| ContainerError::NoSuch(id.clone()))?;
        match self.insert_container(&id, new) {
            Ok(container) => Ok((container, lock)),
            Err(error) => {
                // What stays here is swept away with the next list.
                let _ = self.remove_container_dir(&directory);
                Err(error)
            }
        }
    }

    /// The row. A name may be held by what a crash left; that lets go of it.
    fn insert_container(&self, id: &str, new: &NewContainer) -> Result<Container, ContainerError> {
        let insert = || self.container_note(|index| records::insert(index, id, new));
        match insert() {
            Err(ContainerError::Conflict { id: holder, name }) => match self.container(&holder) {
                Err(ContainerError::NoSuch(_)) => insert(),
                _ => Err(ContainerError::Conflict { id: holder, name }),
            },
            inserted => inserted,
        }
    }

    /// A container by its name, its id or a beginning of the id that fits no other.
    pub fn container(&self, name_or_id: &str) -> Result<Container, ContainerError> {
        let found = self.container_index(|index| Ok(records::find(index, name_or_id)?))?;
        match found.as_slice() {
            [] => Err(ContainerError::NoSuch(
                name_or_id.chars().take(200).collect(),
            )),
            [container] => {
                let container = self.put_right(container.clone())?;
                container.ok_or_else(|| ContainerError::NoSuch(name_or_id.to_owned()))
            }
            _ => Err(ContainerError::Ambiguous(name_or_id.to_owned())),
        }
    }

    /// All containers and mounts, the newest first. What crashes left is put right on the way.
    pub fn containers(&self) -> Result<Vec<Container>, ContainerError> {
        let containers = self.container_index(|index| Ok(records::all(index)?))?;
        self.sweep_unrecorded(&containers)?;
        let right = containers.into_iter().map(|c| self.put_right(c));
        right.filter_map(Result::transpose).collect()
    }

    /// Takes the lock of a container whose row is there; its directory is made if it is gone.
    fn claim_container(&self, id: &str) -> Result<Option<ContainerLock>, ContainerError> {
        let directory = self.container_dir(id);
        // Not with its parents: that fails when the directory goes right after it was found there.
        match fs::DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => ContainerLock::attempt(&directory),
        }
        .map_err(ContainerError::io("cannot lock", &directory))
    }

    /// Takes a container's lock; [`ContainerError::Running`] when it runs, or another command works on it for longer than
    /// a moment; [`ContainerError::NoSuch`] when it has been removed since it was found.
    pub fn lock_container(&self, container: &Container) -> Result<ContainerLock, ContainerError> {
        let limit = Instant::now() + MOMENT;
        loop {
            let busy = match self.try_lock_container(container) {
                Err(busy @ ContainerError::Running { .. }) => busy,
                other => return other,
            };
            // Another command may have started it since it was found.
            let found = self.container_index(|index| Ok(records::find(index, &container.id)?))?;
            if Instant::now() > limit || found.iter().any(Container::is_alive) {
                return Err(busy);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// [`Store::lock_container`] for those who do not wait even for a moment.
    pub fn try_lock_container(
        &self,
        container: &Container,
    ) -> Result<ContainerLock, ContainerError> {
        let claimed = self.claim_container(&container.id)?;
        let there = self.container_index(|index| Ok(records::find(index, &container.id)?))?;
        if there.is_empty() {
            if claimed.is_some() {
                self.remove_container_dir(&self.container_dir(&container.id))?;
            }
            return Err(ContainerError::NoSuch(container.name.clone()));
        }
        let lock = claimed.filter(|_| !container.is_alive());
        lock.ok_or_else(|| ContainerError::Running {
            name: container.name.clone(),
        })
    }

    /// Removes a container with its writable layer; never a layer of the image. Nothing is mounted there
    /// any more.
    pub fn remove_container(
        &self,
        container: &Container,
        lock: ContainerLock,
    ) -> Result<(), ContainerError> {
        if container.ephemeral {
            return self.remove_container_by_id(&container.id, lock);
        }
        // A power cut must not bring back what was removed.
        let row = || self.container_index(|index| Ok(records::remove(index, &container.id)?));
        self.remove_row_and_dir(&container.id, row)?;
        drop(lock);
        Ok(())
    }

    /// [`Store::remove_container`] for one that goes with its end, by its whole id. If a power cut brings the row back
    /// it is one of a container that does not run, and goes again.
    pub(crate) fn remove_container_by_id(
        &self,
        id: &str,
        lock: ContainerLock,
    ) -> Result<(), ContainerError> {
        let row = || self.container_note(|index| Ok(records::remove(index, id)?));
        self.remove_row_and_dir(id, row)?;
        drop(lock);
        Ok(())
    }

    /// The row goes first, so that no row is left without its directory, unless the disk is full: then only what the
    /// container wrote makes room for the change of the index.
    fn remove_row_and_dir(
        &self,
        id: &str,
        row: impl Fn() -> Result<(), ContainerError>,
    ) -> Result<(), ContainerError> {
        let directory = self.container_dir(id);
        match row() {
            Ok(()) => self.remove_container_dir(&directory),
            Err(error) if error.is_of_a_full_disk() => {
                self.remove_container_dir(&directory)?;
                self.with_room_for_containers(row)
            }
            Err(error) => Err(error),
        }
    }

    /// A row that says that a program runs, or is about to, while nobody holds the lock: its monitor was killed, or the
    /// command that was to start it. `None`: the container was to go with its program, and has gone now.
    fn put_right(&self, container: Container) -> Result<Option<Container>, ContainerError> {
        if !container.needs_somebody() {
            return Ok(Some(container));
        }
        let claimed = self.claim_container(&container.id)?;
        let Some(lock) = claimed.filter(|_| !container.is_alive()) else {
            return Ok(Some(container));
        };
        // Its monitor may have recorded the end and let go since the row was read.
        let now = self.container_index(|index| Ok(records::find(index, &container.id)?))?;
        let Some(now) = now.into_iter().find(|c| c.id == container.id) else {
            // Its monitor has removed it, and the claim has made the directory again.
            self.remove_container_dir(&self.container_dir(&container.id))?;
            return Ok(None);
        };
        if !now.needs_somebody() {
            return Ok(Some(now));
        }
        Cgroup::find(&now.id, self.privilege() == Privilege::UserNamespace).remove();
        if now.ephemeral {
            self.remove_container(&now, lock)?;
            return Ok(None);
        }
        // 137: killed, which is what happens to a program whose monitor dies.
        let found = self.container_note(|index| {
            let error = "its monitor was killed, or the machine went down";
            records::exited(index, &now.id, 137, false, error)?;
            Ok(records::find(index, &now.id)?)
        })?;
        Ok(found.into_iter().next())
    }

    /// Directories without a row: made or removed halfway when the power went.
    fn sweep_unrecorded(&self, known: &[Container]) -> Result<(), ContainerError> {
        let path = self.lock_path(MAKING);
        let making = FileLock::try_exclusive(&path).map_err(StoreError::io("lock", &path))?;
        // Somebody is making one now; what a crash left can wait.
        let Some(_making) = making else {
            return Ok(());
        };
        let Ok(entries) = fs::read_dir(self.root().join("containers")) else {
            return Ok(());
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if known.iter().any(|c| name == c.id.as_str()) {
                continue;
            }
            // A container that is being made holds its lock before it has a row.
            let Ok(Some(_lock)) = ContainerLock::attempt(&entry.path()) else {
                continue;
            };
            let name = name.to_string_lossy();
            let still_unknown =
                self.container_index(|index| Ok(records::find(index, &name)?.is_empty()))?;
            if still_unknown {
                self.remove_container_dir(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Out of sight first, and then entry by entry: what a container wrote may be as deep as it likes.
    fn remove_container_dir(&self, directory: &Path) -> Result<(), ContainerError> {
        // A crash may have left a mount, through which things would be removed that are not the container's.
        let merged = Writable::of(directory).merged;
        if driver::is_mounted(&merged) {
            let unmounted = driver::unmount(&merged, true).map_err(io::Error::other);
            unmounted.map_err(ContainerError::io("cannot unmount", &merged))?;
        }
        self.trash
            .remove_if_small(directory)
            .map_err(ContainerError::io("cannot remove", directory))
    }

    /// What has to work on a full disk.
    fn with_room_for_containers<T>(
        &self,
        work: impl FnMut() -> Result<T, ContainerError>,
    ) -> Result<T, ContainerError> {
        reserve::with_room(self.root(), ContainerError::is_of_a_full_disk, work)
    }

    fn container_index<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, ContainerError>,
    ) -> Result<T, ContainerError> {
        work(&self.db())
    }

    /// The same for a change that a power cut may take back. It comes to the disk with the next one that may not be lost,
    /// or when the kernel writes, within half a minute. A container that is forgotten leaves a directory, which is swept
    /// away; one that is said to run does not hold its lock.
    fn container_note<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, ContainerError>,
    ) -> Result<T, ContainerError> {
        let index = self.db();
        index.pragma_update(None, "synchronous", "NORMAL")?;
        let done = work(&index);
        index.pragma_update(None, "synchronous", "FULL")?;
        done
    }
}

impl Container {
    /// Whether somebody holds its lock, if nothing was killed.
    fn needs_somebody(&self) -> bool {
        let unstarted = self.ephemeral && self.error == records::UNSTARTED;
        let needs = match self.state {
            State::Running => true,
            State::Created => unstarted,
            State::Exited => false,
        };
        needs && self.kind == Kind::Container
    }

    /// Whether the first process is there: the pid is in use by a process of the same start time.
    pub fn is_alive(&self) -> bool {
        match (self.pid, self.pid_started) {
            (Some(pid), Some(started)) if self.state == State::Running => {
                start_time(pid) == Some(started)
            }
            _ => false,
        }
    }
}

/// When a process started, in clock ticks since boot; `None` when there is none.
fn start_time(pid: i32) -> Option<u64> {
    parse_start_time(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 22 of proc_pid_stat(5). The second, the program's name, may contain anything.
fn parse_start_time(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    // A zombie is no running process.
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.map_or(0, |e| e.as_secs() as i64)
}

#[cfg(test)]
mod tests;
