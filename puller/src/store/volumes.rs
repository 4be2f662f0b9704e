//! Volumes: directories that outlive containers, `volumes/<name>/{_data,volume.json}`.
//!
//! A volume is there once its `volume.json` is. Who makes or removes one holds a lock; a container's configuration
//! is written before its volumes are made, so that whoever looks for the users of a volume finds it.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::lock::FileLock;
use super::{Store, StoreError};
use crate::run::config::{Config, Source};
use crate::run::options::is_volume_name;

/// The lock of those who make and remove volumes.
const LOCK: &str = "volumes";
const RECORD: &str = "volume.json";

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Unique in the store.
    pub name: String,
    /// Where its files are.
    pub path: PathBuf,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Free text by key.
    pub labels: BTreeMap<String, String>,
    /// Whether it was made for one container, which named it by no name.
    pub anonymous: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    created: i64,
    labels: BTreeMap<String, String>,
    anonymous: bool,
}

/// Why a volume could not be made, found or removed.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A name that no volume may have.
    #[error(
        "{0:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed, and \
         at least two of them"
    )]
    Name(String),
    /// Nothing is called that.
    #[error("no such volume: {0}; `strata volume ls` lists them")]
    NoSuch(String),
    /// Containers have it.
    #[error("remove {name}: volume is in use - [{}]", containers.join(", "))]
    InUse {
        /// Its name.
        name: String,
        /// Their ids.
        containers: Vec<String>,
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
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl VolumeError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

impl Store {
    /// Where volumes are.
    pub fn volumes_dir(&self) -> PathBuf {
        self.root().join("volumes")
    }

    /// Makes a volume unless it is there; what is there stays as it is.
    ///
    /// # Errors
    /// A name that no volume may have; files that cannot be made.
    pub fn create_volume(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
        anonymous: bool,
    ) -> Result<Volume, VolumeError> {
        check_name(name)?;
        let _lock = self.lock_volumes()?;
        if let Some(volume) = self.read_volume(name)? {
            return Ok(volume);
        }
        let directory = self.volumes_dir().join(name);
        for (path, mode) in [(directory.clone(), 0o700), (directory.join("_data"), 0o755)] {
            match DirBuilder::new().mode(mode).create(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(VolumeError::io("cannot make", &path)(error));
                }
                _ => {}
            }
        }
        let created = SystemTime::now().duration_since(UNIX_EPOCH);
        let record = Record {
            created: created.map_or(0, |elapsed| elapsed.as_secs() as i64),
            labels: labels.clone(),
            anonymous,
        };
        let path = directory.join(RECORD);
        let new = directory.join("volume.json.new");
        serde_json::to_vec(&record)
            .map_err(io::Error::from)
            .and_then(|text| fs::write(&new, text))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(VolumeError::io("cannot write", &path))?;
        self.read_volume(name)?
            .ok_or_else(|| VolumeError::NoSuch(name.to_owned()))
    }

    /// A volume by its name.
    ///
    /// # Errors
    /// There is none.
    pub fn volume(&self, name: &str) -> Result<Volume, VolumeError> {
        let found = match is_volume_name(name) {
            true => self.read_volume(name)?,
            false => None,
        };
        found.ok_or_else(|| VolumeError::NoSuch(name.chars().take(200).collect()))
    }

    /// All volumes, by name.
    ///
    /// # Errors
    /// Their directory cannot be read.
    pub fn volumes(&self) -> Result<Vec<Volume>, VolumeError> {
        let directory = self.volumes_dir();
        let read = || -> io::Result<Vec<String>> {
            let names = fs::read_dir(&directory)?.map(|entry| Ok(entry?.file_name()));
            let names = names.collect::<io::Result<Vec<_>>>()?;
            Ok(names
                .into_iter()
                .filter_map(|n| n.into_string().ok())
                .collect())
        };
        let mut names = read().map_err(VolumeError::io("cannot read", &directory))?;
        names.sort_unstable();
        let mut volumes = Vec::new();
        for name in names.iter().filter(|name| is_volume_name(name)) {
            volumes.extend(self.read_volume(name)?);
        }
        Ok(volumes)
    }

    /// The ids of the containers that each volume is mounted in, running or not.
    ///
    /// # Errors
    /// The containers' directory cannot be read.
    pub fn volume_users(&self) -> Result<BTreeMap<String, Vec<String>>, VolumeError> {
        let directory = self.root().join("containers");
        let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let entries =
            fs::read_dir(&directory).map_err(VolumeError::io("cannot read", &directory))?;
        for entry in entries {
            let entry = entry.map_err(VolumeError::io("cannot read", &directory))?;
            let path = entry.path();
            // One that is removed meanwhile uses nothing any more.
            let config = Config::read(&path).map_err(VolumeError::io("cannot read", &path))?;
            for name in config.iter().flat_map(volume_names) {
                let id = entry.file_name().to_string_lossy().into_owned();
                users.entry(name.0.to_owned()).or_default().push(id);
            }
        }
        Ok(users)
    }

    /// Removes a volume with all that is in it.
    ///
    /// # Errors
    /// There is none, or a container has it.
    pub fn remove_volume(&self, name: &str) -> Result<(), VolumeError> {
        let _lock = self.lock_volumes()?;
        self.volume(name)?;
        if let Some(containers) = self.volume_users()?.remove(name) {
            return Err(VolumeError::InUse {
                name: name.to_owned(),
                containers,
            });
        }
        let directory = self.volumes_dir().join(name);
        self.trash
            .remove_if_small(&directory)
            .map_err(VolumeError::io("cannot remove", &directory))
    }

    /// Makes the volumes of a container whose configuration is written already.
    ///
    /// # Errors
    /// As [`create_volume`](Self::create_volume).
    pub fn make_volumes(&self, config: &Config) -> Result<(), VolumeError> {
        for (name, anonymous) in volume_names(config) {
            self.create_volume(name, &BTreeMap::new(), anonymous)?;
        }
        Ok(())
    }

    /// Removes the volumes that were made for a container alone, once the container itself is gone.
    ///
    /// # Errors
    /// One cannot be removed. That another container has it is none: it stays then.
    pub fn remove_anonymous_volumes(&self, config: &Config) -> Result<(), VolumeError> {
        for (name, anonymous) in volume_names(config) {
            if !anonymous {
                continue;
            }
            match self.remove_volume(name) {
                Ok(()) | Err(VolumeError::NoSuch(_) | VolumeError::InUse { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn lock_volumes(&self) -> Result<FileLock, VolumeError> {
        let path = self.lock_path(LOCK);
        Ok(FileLock::exclusive(&path).map_err(StoreError::io("lock", &path))?)
    }

    fn read_volume(&self, name: &str) -> Result<Option<Volume>, VolumeError> {
        let directory = self.volumes_dir().join(name);
        let path = directory.join(RECORD);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(VolumeError::io("cannot read", &path))?,
        };
        let record: Record = serde_json::from_slice(&text)
            .map_err(|error| VolumeError::io("cannot read", &path)(error.into()))?;
        Ok(Some(Volume {
            name: name.to_owned(),
            path: directory.join("_data"),
            created: record.created,
            labels: record.labels,
            anonymous: record.anonymous,
        }))
    }
}

/// The volumes that a container has: (name, whether it is anonymous).
fn volume_names(config: &Config) -> impl Iterator<Item = (&str, bool)> {
    config
        .mounts
        .iter()
        .filter_map(|mount| match &mount.source {
            Source::Volume {
                name, anonymous, ..
            } => Some((name.as_str(), *anonymous)),
            _ => None,
        })
}

fn check_name(name: &str) -> Result<(), VolumeError> {
    match is_volume_name(name) {
        true => Ok(()),
        false => Err(VolumeError::Name(name.chars().take(200).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::config::Mount;
    use crate::userns::Privilege;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(&dir.path().join("store"), Privilege::Root).expect("opens");
        (dir, store)
    }

    fn with_volume(name: &str, anonymous: bool) -> Config {
        Config {
            mounts: vec![Mount {
                target: "/x".into(),
                source: Source::Volume {
                    name: name.into(),
                    anonymous,
                    no_copy: false,
                },
                read_only: false,
                options: Vec::new(),
            }],
            ..Config::default()
        }
    }

    #[test]
    fn a_volume_is_made_once_and_keeps_what_it_has() {
        let (_dir, store) = store();
        let labels = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let made = store.create_volume("data", &labels, false).expect("made");
        fs::write(made.path.join("file"), "x").expect("write");
        let again = store
            .create_volume("data", &BTreeMap::new(), true)
            .expect("there");
        assert_eq!(again, made);
        assert_eq!(store.volumes().expect("listed"), [made]);
        store.remove_volume("data").expect("removed");
        assert!(matches!(store.volume("data"), Err(VolumeError::NoSuch(_))));
        assert!(store.volumes().expect("listed").is_empty());
        for bad in ["", "a", "../x", "a/b", ".x"] {
            assert!(
                matches!(
                    store.create_volume(bad, &labels, false),
                    Err(VolumeError::Name(_))
                ),
                "{bad}"
            );
            assert!(
                matches!(store.remove_volume(bad), Err(VolumeError::NoSuch(_))),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_volume_stays_while_a_container_has_it() {
        let (_dir, store) = store();
        let container = store.root().join("containers/one");
        fs::create_dir(&container).expect("mkdir");
        let config = with_volume("data", false);
        config.write(&container).expect("written");
        store.make_volumes(&config).expect("made");
        let refused = store.remove_volume("data").expect_err("in use");
        assert!(refused.to_string().contains("[one]"), "{refused}");
        fs::remove_dir_all(container).expect("removed");
        store
            .remove_anonymous_volumes(&config)
            .expect("nothing to do");
        assert!(
            store.volume("data").is_ok(),
            "a named volume outlives the container"
        );
        let config = with_volume("ab12", true);
        store.make_volumes(&config).expect("made");
        store.remove_anonymous_volumes(&config).expect("removed");
        assert!(store.volume("ab12").is_err());
    }
}
