//! Files that somebody names to have something written there.
//!
//! A file is replaced when the new one is whole, so what is replaced must be one: a device or a pipe takes bytes and
//! stays, and of a symbolic link it is the file that is meant.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What is at a path that is to be written.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// A regular file or nothing, by a path that is no symbolic link to a file.
    File(PathBuf),
    /// A device, a pipe or a socket.
    Stream,
}

impl Output {
    /// Looks at `path`.
    ///
    /// # Errors
    /// It is a directory, or cannot be looked at.
    pub fn at(path: &Path) -> io::Result<Self> {
        match fs::metadata(path) {
            Ok(found) if found.is_file() => Ok(Self::File(fs::canonicalize(path)?)),
            Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Ok(_) => Ok(Self::Stream),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Self::File(path.to_owned()))
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn files_are_told_from_what_must_not_be_replaced() {
        let dir = tempfile::tempdir().expect("tempdir");
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "x").expect("write");
        symlink("file", at("link")).expect("link");
        symlink("nothing", at("dangling")).expect("link");
        let real = fs::canonicalize(at("file")).expect("a path");
        for name in ["file", "link"] {
            assert_eq!(
                Output::at(&at(name)).expect("looks"),
                Output::File(real.clone())
            );
        }
        for name in ["new", "dangling"] {
            assert_eq!(
                Output::at(&at(name)).expect("looks"),
                Output::File(at(name))
            );
        }
        assert_eq!(
            Output::at(Path::new("/dev/null")).expect("looks"),
            Output::Stream
        );
        let error = Output::at(dir.path()).expect_err("a directory");
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }
}
