//! Containers on disk: a directory with the writable layer, and a row that says what it is.
//!
//! Whoever runs a container holds flock(2) on its directory. The kernel lets go of the lock however
//! the holder dies, so what a crash left is recognised at once and put right by the next who looks.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension as _, Row, named_params};
use rustix::fs::FlockOperation;
use strata_oci::Digest;

use super::{Image, Store, StoreError};
use crate::run::names;

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
    fn name(self) -> &'static str {
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
    /// Made, its program not started.
    Created,
    /// The program runs.
    Running,
    /// The program has ended, or was never started and never will be.
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
}

impl Container {
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
    /// Program and arguments.
    pub command: Vec<String>,
}

/// Why a container could not be made, found or removed.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// A name that no container may have.
    #[error(
        "invalid container name {0:?}: 2 to 128 characters of a-z A-Z 0-9 _ . -, the first a letter or digit"
    )]
    Name(String),
    /// The name is taken.
    #[error(
        "conflict: the container name {name:?} is already in use by container {id:?}: remove (strata rm) or rename that container, or choose another name"
    )]
    Conflict {
        /// The name.
        name: String,
        /// Who has it.
        id: String,
    },
    /// Nothing is called that.
    #[error("no such container: {0}; `strata ps -a` lists them")]
    NoSuch(String),
    /// The beginning of several ids.
    #[error("{0:?} is the beginning of several containers' ids: give more digits")]
    Ambiguous(String),
    /// It is in use.
    #[error("container {name} is running: stop it first, or remove it with -f")]
    Running {
        /// Its name.
        name: String,
    },
    /// A file operation failed.
    #[error("{what} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The index failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ContainerError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

impl From<rusqlite::Error> for ContainerError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Held by whoever runs or mounts a container, or takes it away; dropping it lets go.
#[derive(Debug)]
pub struct ContainerLock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl ContainerLock {
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
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700).recursive(true);
        builder
            .create(&directory)
            .map_err(ContainerError::io("cannot make", &directory))?;
        let locked = ContainerLock::attempt(&directory)
            .map_err(ContainerError::io("cannot lock", &directory))?;
        let lock = locked.ok_or_else(|| ContainerError::NoSuch(id.clone()))?;
        match self.container_index(|index| insert(index, &id, new)) {
            Ok(container) => Ok((container, lock)),
            Err(error) => {
                let _ = fs::remove_dir_all(&directory);
                Err(error)
            }
        }
    }

    /// A container by its name, its id or a beginning of the id that fits no other.
    pub fn container(&self, name_or_id: &str) -> Result<Container, ContainerError> {
        let found = self.container_index(|index| Ok(find(index, name_or_id)?))?;
        match found.as_slice() {
            [] => Err(ContainerError::NoSuch(
                name_or_id.chars().take(200).collect(),
            )),
            [container] => self.put_right(container.clone()),
            _ => Err(ContainerError::Ambiguous(name_or_id.to_owned())),
        }
    }

    /// All containers and mounts, the newest first. What crashes left is put right on the way.
    pub fn containers(&self) -> Result<Vec<Container>, ContainerError> {
        let containers = self.container_index(|index| Ok(all(index)?))?;
        self.sweep_orphans(&containers)?;
        containers.into_iter().map(|c| self.put_right(c)).collect()
    }

    /// Records that the program runs as `pid`.
    pub fn container_started(&self, id: &str, pid: i32) -> Result<(), ContainerError> {
        let started = start_time(pid).and_then(|t| i64::try_from(t).ok());
        self.container_index(|index| {
            let mut update = index.prepare_cached(
                "UPDATE containers SET state = 'running', pid = ?2, pid_started = ?3, started = ?4 WHERE id = ?1",
            )?;
            update.execute((id, pid, started, now()))?;
            Ok(())
        })
    }

    /// Records that the program has ended.
    pub fn container_exited(&self, id: &str, code: u8) -> Result<(), ContainerError> {
        self.container_index(|index| Ok(exited(index, id, code)?))
    }

    /// Takes a container's lock; [`ContainerError::Running`] when somebody has it.
    pub fn lock_container(&self, container: &Container) -> Result<ContainerLock, ContainerError> {
        let directory = self.container_dir(&container.id);
        let running = || ContainerError::Running {
            name: container.name.clone(),
        };
        match ContainerLock::attempt(&directory) {
            Ok(Some(_)) if container.is_alive() => Err(running()),
            Ok(Some(lock)) => Ok(lock),
            Ok(None) if directory.exists() => Err(running()),
            Ok(None) => Err(ContainerError::NoSuch(container.name.clone())),
            Err(error) => Err(ContainerError::io("cannot lock", &directory)(error)),
        }
    }

    /// Removes a container with its writable layer; never a layer of the image. Nothing is mounted there
    /// any more.
    pub fn remove_container(
        &self,
        container: &Container,
        lock: ContainerLock,
    ) -> Result<(), ContainerError> {
        self.container_index(|index| {
            index.execute("DELETE FROM containers WHERE id = ?1", [&container.id])?;
            Ok(())
        })?;
        let directory = self.container_dir(&container.id);
        fs::remove_dir_all(&directory).map_err(ContainerError::io("cannot remove", &directory))?;
        drop(lock);
        Ok(())
    }

    /// A row that says that a program runs, or will, while nobody holds the lock: its runner was killed.
    fn put_right(&self, container: Container) -> Result<Container, ContainerError> {
        if container.kind != Kind::Container || container.state == State::Exited {
            return Ok(container);
        }
        let directory = self.container_dir(&container.id);
        let lock = ContainerLock::attempt(&directory)
            .map_err(ContainerError::io("cannot lock", &directory))?;
        if lock.is_none() && directory.exists() || container.is_alive() {
            return Ok(container);
        }
        // 137: killed, which is what happens to a program whose runner dies.
        self.container_index(|index| {
            exited(index, &container.id, 137)?;
            let id = container.id.clone();
            Ok(find(index, &id)?)
        })
        .map(|found| found.into_iter().next().unwrap_or(container))
    }

    /// Directories without a row: made or removed halfway when the power went.
    fn sweep_orphans(&self, known: &[Container]) -> Result<(), ContainerError> {
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
            let still_unknown = self.container_index(|index| Ok(find(index, &name)?.is_empty()))?;
            if still_unknown {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(())
    }

    fn container_index<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, ContainerError>,
    ) -> Result<T, ContainerError> {
        let index = self.index()?;
        work(&index)
    }
}

impl Container {
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

fn insert(index: &Connection, id: &str, new: &NewContainer) -> Result<Container, ContainerError> {
    let command = serde_json::to_string(&new.command).unwrap_or_default();
    let digest = new.image.digest.to_string();
    for attempt in 0..100 {
        let name = match new.name {
            Some(name) => name.to_owned(),
            None => names::pick(rand::random(), attempt),
        };
        let mut insert = index.prepare_cached(
            "INSERT INTO containers (id, name, kind, state, manifest_digest, image, command, created)
             VALUES (:id, :name, :kind, 'created', :digest, :image, :command, :created)
             ON CONFLICT (name) DO NOTHING",
        )?;
        let inserted = insert.execute(named_params! {
            ":id": id,
            ":name": name,
            ":kind": new.kind.name(),
            ":digest": digest,
            ":image": new.image_name,
            ":command": command,
            ":created": now(),
        })?;
        let found = find(index, if inserted == 1 { id } else { &name })?;
        match found.into_iter().next() {
            Some(container) if inserted == 1 => return Ok(container),
            Some(holder) if new.name.is_some() => {
                return Err(ContainerError::Conflict {
                    name,
                    id: holder.id,
                });
            }
            _ => {}
        }
    }
    Err(ContainerError::Name(
        "(none of a hundred made-up names is free)".to_owned(),
    ))
}

fn exited(index: &Connection, id: &str, code: u8) -> rusqlite::Result<()> {
    let mut update = index.prepare_cached(
        "UPDATE containers SET state = 'exited', pid = NULL, pid_started = NULL, exit_code = ?2, finished = ?3 WHERE id = ?1",
    )?;
    update.execute((id, code, now()))?;
    Ok(())
}

const COLUMNS: &str = "id, name, kind, state, manifest_digest, image, command, pid, pid_started, exit_code, created, started, finished";

/// By name or id; else all whose id begins with the text.
fn find(index: &Connection, name_or_id: &str) -> rusqlite::Result<Vec<Container>> {
    let exact = format!("SELECT {COLUMNS} FROM containers WHERE name = ?1 OR id = ?1");
    let mut exact = index.prepare_cached(&exact)?;
    if let Some(container) = exact.query_row([name_or_id], read).optional()? {
        return Ok(vec![container]);
    }
    if name_or_id.is_empty() || !name_or_id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(Vec::new());
    }
    let prefix =
        format!("SELECT {COLUMNS} FROM containers WHERE id >= ?1 AND id < ?1 || 'g' LIMIT 2");
    let mut prefix = index.prepare_cached(&prefix)?;
    prefix
        .query_map([name_or_id.to_ascii_lowercase()], read)?
        .collect()
}

fn all(index: &Connection) -> rusqlite::Result<Vec<Container>> {
    let all = format!("SELECT {COLUMNS} FROM containers ORDER BY created DESC, id");
    index.prepare_cached(&all)?.query_map([], read)?.collect()
}

fn read(row: &Row) -> rusqlite::Result<Container> {
    let damaged = |column: usize, text: String| {
        let kind = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(column, kind, text.into())
    };
    let kind: String = row.get(2)?;
    let state: String = row.get(3)?;
    let digest: String = row.get(4)?;
    let command: String = row.get(6)?;
    Ok(Container {
        id: row.get(0)?,
        name: row.get(1)?,
        kind: match kind.as_str() {
            "container" => Kind::Container,
            "mount" => Kind::Mount,
            "read-only mount" => Kind::ReadOnlyMount,
            _ => return Err(damaged(2, kind)),
        },
        state: match state.as_str() {
            "created" => State::Created,
            "running" => State::Running,
            "exited" => State::Exited,
            _ => return Err(damaged(3, state)),
        },
        manifest_digest: digest.parse().map_err(|_| damaged(4, digest))?,
        image: row.get(5)?,
        command: serde_json::from_str(&command).map_err(|_| damaged(6, command))?,
        pid: row.get(7)?,
        pid_started: row
            .get::<_, Option<i64>>(8)?
            .and_then(|t| u64::try_from(t).ok()),
        exit_code: row.get(9)?,
        created: row.get(10)?,
        started: row.get(11)?,
        finished: row.get(12)?,
    })
}
