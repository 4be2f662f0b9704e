//! Removing trees: out of sight first, by one rename, and then entry by entry, when nobody waits for it.
//!
//! What was removed from the store lies in the trash until somebody has time: deleting a large tree takes long, and
//! an ext4 without a journal makes files slowly for minutes after (it passes over inodes that were just freed), so it
//! does not happen while layers are being unpacked. Nothing is lost when who deletes is killed: the next one goes on.
//!
//! A layer's tree may be deeper than a process may have open files, and its paths longer than
//! PATH_MAX, so a tree is walked by descriptors to a bounded depth; what is deeper is moved up into
//! the trash and is removed as a tree of its own.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

/// Levels of a tree that are open at once.
const DEPTH: usize = 64;
/// Entries that are removed at once: that takes a few milliseconds.
const SMALL: usize = 200;

/// A directory on the store's file system whose content is rubbish.
#[derive(Debug)]
pub(super) struct Trash {
    path: PathBuf,
}

impl Trash {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Takes `path` out of sight and gives its name in the trash; `None` when there is nothing.
    pub(super) fn take(&self, path: &Path) -> io::Result<Option<String>> {
        let name = random_name();
        match fs::rename(path, self.path.join(&name)) {
            Ok(()) => Ok(Some(name)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes what was taken, as long as `go_on` says so before each entry; whether all of it is gone.
    /// Two processes may remove the same thing at once.
    fn delete(&self, name: &str, go_on: &mut dyn FnMut() -> bool) -> io::Result<bool> {
        let trash = File::open(&self.path)?;
        let mut left = vec![name.to_owned()];
        while let Some(name) = left.pop() {
            let mut walk = Walk {
                trash: trash.as_fd(),
                spilled: &mut left,
                go_on,
                stopped: false,
            };
            walk.remove(trash.as_fd(), name.as_bytes(), 0)?;
            if walk.stopped {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes `path` out of sight and removes it.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        match self.take(path)? {
            Some(name) => self.delete(&name, &mut || true).map(drop),
            None => Ok(()),
        }
    }

    /// Takes `path` out of sight and removes it if it is small: what is more stays in the trash.
    pub(super) fn remove_if_small(&self, path: &Path) -> io::Result<()> {
        let mut left = SMALL;
        let mut go_on = || {
            left -= 1;
            left > 0
        };
        match self.take(path)? {
            Some(name) => self.delete(&name, &mut go_on).map(drop),
            None => Ok(()),
        }
    }

    /// Removes all that has ever been taken, as long as `go_on` says so.
    pub(super) fn empty(&self, go_on: &mut dyn FnMut() -> bool) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            if let Some(name) = entry?.file_name().to_str()
                && !self.delete(name, go_on)?
            {
                break;
            }
        }
        Ok(())
    }
}

/// A name that no other process uses.
pub(super) fn random_name() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}

struct Walk<'a> {
    trash: BorrowedFd<'a>,
    /// Names in the trash of what was too deep.
    spilled: &'a mut Vec<String>,
    go_on: &'a mut dyn FnMut() -> bool,
    stopped: bool,
}

impl Walk<'_> {
    /// Removes `name` in `parent` with all that is below.
    fn remove(&mut self, parent: BorrowedFd, name: &[u8], depth: usize) -> io::Result<()> {
        self.stopped = self.stopped || !(self.go_on)();
        if self.stopped {
            return Ok(());
        }
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR) => {}
            Err(error) => return Err(error.into()),
        }
        if depth == DEPTH {
            let aside = random_name();
            ok_if_gone(rustix::fs::renameat(
                parent,
                name,
                self.trash,
                aside.as_str(),
            ))?;
            self.spilled.push(aside);
            return Ok(());
        }
        match open_directory(parent, name) {
            Ok(directory) => self.remove_content(directory.as_fd(), depth)?,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if self.stopped {
            return Ok(());
        }
        ok_if_gone(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR))
    }

    fn remove_content(&mut self, directory: BorrowedFd, depth: usize) -> io::Result<()> {
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if self.stopped {
                break;
            }
            if name != b"." && name != b".." {
                self.remove(directory, name, depth + 1)?;
            }
        }
        Ok(())
    }
}

fn open_directory(parent: BorrowedFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(parent, name, flags, Mode::empty());
    match open() {
        Err(Errno::ACCESS) => {
            // Without privilege a directory's own mode may lock its owner out.
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            open()
        }
        other => other,
    }
}

fn ok_if_gone(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::CWD;

    #[test]
    fn trees_deeper_than_paths_and_descriptors_go() {
        let dir = tempfile::tempdir().expect("tempdir");
        let trash = Trash::new(dir.path().join("trash"));
        fs::create_dir(dir.path().join("trash")).expect("trash");
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).expect("tree");
        let name = "d".repeat(200);
        let mut at =
            rustix::fs::openat(CWD, &tree, OFlags::DIRECTORY, Mode::empty()).expect("open");
        for _ in 0..1500 {
            rustix::fs::mkdirat(&at, name.as_str(), Mode::RWXU).expect("mkdir");
            at = rustix::fs::openat(&at, name.as_str(), OFlags::DIRECTORY, Mode::empty())
                .expect("open");
        }
        std::os::unix::fs::symlink("/etc", tree.join("link")).expect("symlink");
        trash.remove(&tree).expect("remove");
        assert!(!tree.exists());
        assert_eq!(
            fs::read_dir(dir.path().join("trash"))
                .expect("read")
                .count(),
            0
        );
        assert!(Path::new("/etc/passwd").exists());
    }
}
