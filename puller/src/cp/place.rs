//! A file system to copy from or to: the machine's, as whoever copies sees it, or a container's, of which no path leads out.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::error::CpError;

/// How often a path is looked up again while somebody renames what is on it (openat2(2), EAGAIN).
const TRIES: u32 = 1000;

/// A file system.
#[derive(Debug)]
pub struct Place {
    /// What a container's paths start at; `None`: paths are the machine's.
    root: Option<OwnedFd>,
    name: String,
}

impl Place {
    /// The machine's.
    pub fn machine() -> Self {
        Self {
            root: None,
            name: "this machine".to_owned(),
        }
    }

    /// That of a container, by its root directory.
    pub fn container(root: OwnedFd, name: &str) -> Self {
        Self {
            root: Some(root),
            name: format!("container {name}"),
        }
    }

    /// Whether paths are a container's.
    pub(super) fn is_container(&self) -> bool {
        self.root.is_some()
    }

    /// Opens a path, following links unless the last part is not to be; in a container, a link leads to where a program in
    /// it would get, and never through a link of the kernel's own (/proc/self/root).
    pub(super) fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = Path::new(OsStr::from_bytes(path));
        let flags = flags | OFlags::CLOEXEC;
        let Some(root) = &self.root else {
            return rustix::fs::openat(CWD, path, flags, Mode::empty());
        };
        let path = if path.as_os_str().is_empty() {
            Path::new("/")
        } else {
            path
        };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let mut last = Errno::AGAIN;
        for _ in 0..TRIES {
            match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
                Err(error @ (Errno::AGAIN | Errno::INTR)) => last = error,
                opened => return opened,
            }
        }
        Err(last)
    }

    /// What is at a path, links followed or not; `None`: nothing.
    pub(super) fn look(&self, path: &[u8], follow: bool) -> Result<Option<Stat>, CpError> {
        let mut flags = OFlags::PATH;
        if !follow {
            flags |= OFlags::NOFOLLOW;
        }
        match self.open(path, flags) {
            Ok(found) => {
                let stat = rustix::fs::fstat(&found);
                Ok(Some(stat.map_err(self.failed("look at", path))?))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTDIR) => Err(self.refused(path, "a part of the path is not a directory")),
            Err(Errno::LOOP | Errno::XDEV) => Err(self.refused(
                path,
                "there are too many links on the way, or one that leads out",
            )),
            Err(error) => Err(self.failed("look at", path)(error)),
        }
    }

    /// A path as it is told.
    fn shown(path: &[u8]) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(path))
    }

    pub(super) fn missing(&self, path: &[u8]) -> CpError {
        CpError::Missing {
            path: Self::shown(path),
            place: self.name.clone(),
        }
    }

    pub(super) fn refused(&self, path: &[u8], why: &'static str) -> CpError {
        CpError::Refused {
            path: Self::shown(path),
            place: self.name.clone(),
            why,
        }
    }

    pub(super) fn failed<E: Into<io::Error>>(
        &self,
        action: &'static str,
        path: &[u8],
    ) -> impl FnOnce(E) -> CpError + use<E> {
        let (path, place) = (Self::shown(path), self.name.clone());
        move |source| {
            let source: io::Error = source.into();
            if source.kind() == io::ErrorKind::ReadOnlyFilesystem {
                let why = "the volume, or the container's root file system, is marked read-only";
                return CpError::Refused { path, place, why };
            }
            CpError::Io {
                action,
                path,
                place,
                source,
            }
        }
    }
}

pub(super) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}
