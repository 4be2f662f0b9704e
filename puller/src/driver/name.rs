//! The drivers by name, from the best to the one that works everywhere.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{Driver, FuseOverlayfs, Overlay, Vfs};
use crate::userns::Privilege;

/// Beside a container's layers: which driver made them, unless it was overlay.
const RECORD: &str = "driver";

/// Which driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// The kernel's overlayfs.
    Overlay,
    /// Overlayfs as a program behind FUSE.
    FuseOverlayfs,
    /// Copies.
    Vfs,
}

impl Name {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::Overlay, Self::FuseOverlayfs, Self::Vfs];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::FuseOverlayfs => "fuse-overlayfs",
            Self::Vfs => "vfs",
        }
    }

    /// The driver itself.
    pub fn driver(self, privilege: Privilege) -> Box<dyn Driver> {
        match self {
            Self::Overlay => Box::new(Overlay::new(privilege)),
            Self::FuseOverlayfs => Box::new(FuseOverlayfs::new()),
            Self::Vfs => Box::new(Vfs::new(privilege)),
        }
    }

    /// The driver that made the writable layer in a container's directory. What one has written,
    /// another may read differently: a copy has no marks for what was removed.
    pub fn recorded(container: &Path) -> Option<Self> {
        match std::fs::read_to_string(container.join(RECORD)) {
            Ok(name) => name.parse().ok(),
            // Most containers are overlay's; a file in each would say nothing.
            Err(_) => container.join("upper").exists().then_some(Self::Overlay),
        }
    }

    /// Records the driver in a new container's directory.
    pub fn record(self, container: &Path) -> std::io::Result<()> {
        let path: PathBuf = container.join(RECORD);
        match self {
            Self::Overlay => match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
            other => std::fs::write(path, other.as_str()),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such driver: overlay, fuse-overlayfs or vfs")]
pub struct UnknownDriver;

impl FromStr for Name {
    type Err = UnknownDriver;

    fn from_str(text: &str) -> Result<Self, UnknownDriver> {
        let named = Self::ALL.into_iter().find(|name| name.as_str() == text);
        named.ok_or(UnknownDriver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_refused() {
        for name in Name::ALL {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        for bad in ["", "Overlay", "overlay2", "vfs "] {
            assert_eq!(bad.parse::<Name>(), Err(UnknownDriver));
        }
    }

    #[test]
    fn a_container_remembers_its_driver() {
        let dir = tempfile::tempdir().expect("tempdir");
        assert_eq!(Name::recorded(dir.path()), None);
        for name in Name::ALL {
            std::fs::create_dir_all(dir.path().join("upper")).expect("mkdir");
            name.record(dir.path()).expect("recorded");
            assert_eq!(Name::recorded(dir.path()), Some(name));
        }
    }
}
