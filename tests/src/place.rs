//! Temporary directories that can always be removed: what is mounted inside goes first, then
//! directories that forbid their owner to write.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A directory of one test's own, open to other users, removed when dropped.
pub struct Place {
    path: PathBuf,
}

impl Place {
    /// Makes an empty directory under the system's directory for temporary files.
    pub fn new() -> Self {
        Self::try_new().expect("make a temporary directory")
    }

    /// [`Place::new`] for those who handle the error.
    pub fn try_new() -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("strata-").tempdir()?;
        // Real paths only: mount tables have no symbolic links.
        let path = directory.keep().canonicalize()?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Self { path })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Makes a directory inside it.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(&path).expect("make a directory");
        path
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for mount in mounts_under(&self.path) {
            let _ = rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::DETACH);
        }
        if let Err(error) = remove_tree(&self.path) {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Mount points below `directory` that this process sees, the last mounted first (proc_pid_mountinfo(5)).
pub fn mounts_under(directory: &Path) -> Vec<PathBuf> {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<PathBuf> = table
        .split(|&b| b == b'\n')
        .filter_map(|line| line.split(|&b| b == b' ').nth(4))
        .map(|field| PathBuf::from(std::ffi::OsStr::from_bytes(&unescape(field))))
        .filter(|point| point.starts_with(directory))
        .collect();
    found.reverse();
    found
}

/// Blanks and backslashes stand as three octal digits in the mount table.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        let code = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) if first == b'\\' => {
                out.push(code);
                rest = &tail[3..];
            }
            _ => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}

/// Removes a tree, directories without permissions included. Links are never followed.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        done => return done,
    }
    open_up(path)?;
    fs::remove_dir_all(path)
}

fn open_up(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_without_permissions_is_removed() {
        let place = Place::new();
        let path = place.path().to_owned();
        fs::create_dir_all(place.join("a/b")).expect("make");
        fs::set_permissions(place.join("a/b"), fs::Permissions::from_mode(0o000)).expect("chmod");
        fs::set_permissions(place.join("a"), fs::Permissions::from_mode(0o555)).expect("chmod");
        drop(place);
        assert!(!path.exists());
    }

    #[test]
    fn octal_escapes_are_read() {
        assert_eq!(unescape(br"/a\040b\134"), b"/a b\\");
    }
}
