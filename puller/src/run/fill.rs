//! An empty volume gets what the image has where it is mounted, as with docker: an image's data directory keeps
//! its first content, mode and owner.
//!
//! Both trees belong to the container and are hostile: nothing is opened by more than one name at a time, no link is
//! followed, and depth costs memory, not descriptors.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps,
    XattrFlags, openat2,
};
use rustix::io::Errno;

use super::sys::mode;
use crate::layer::is_of_the_machine;

/// xattr(7): neither a list of names nor a value can be longer.
const MAX_XATTR: usize = 1 << 16;

/// Fills the volume that is mounted as `volume` from the directory `from`, unless something is in it already. Who
/// fills it holds its lock meanwhile.
pub(super) fn fill(from: &OwnedFd, volume: &OwnedFd) -> io::Result<()> {
    let from = open_directory(from.as_fd(), Path::here())?;
    let to = open_directory(volume.as_fd(), Path::here())?;
    rustix::fs::flock(&to, FlockOperation::LockExclusive)?;
    if !is_empty(&to)? {
        return Ok(());
    }
    Copy {
        from: &from,
        to: &to,
        links: HashMap::new(),
    }
    .all()
}

fn is_empty(directory: &OwnedFd) -> io::Result<bool> {
    for entry in Dir::read_from(directory)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A path below one of the two roots.
#[derive(Debug, Clone)]
struct Path(Vec<u8>);

impl Path {
    fn here() -> Self {
        Self(b".".to_vec())
    }

    fn join(&self, name: &CStr) -> Self {
        Self([&self.0, b"/".as_slice(), name.to_bytes()].concat())
    }
}

fn open(root: impl AsFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(openat2(
        root,
        path.0.as_slice(),
        flags,
        Mode::empty(),
        inside,
    )?)
}

fn open_directory(root: impl AsFd, path: Path) -> io::Result<OwnedFd> {
    open(root, &path, OFlags::RDONLY | OFlags::DIRECTORY)
}

struct Copy<'a> {
    from: &'a OwnedFd,
    to: &'a OwnedFd,
    /// Inodes with several names, by where they were copied to first.
    links: HashMap<(u64, u64), Path>,
}

impl Copy<'_> {
    fn all(mut self) -> io::Result<()> {
        let mut left = vec![Path::here()];
        let mut directories = Vec::new();
        while let Some(path) = left.pop() {
            self.directory(&path, &mut left)?;
            directories.push(path);
        }
        // Modes and times last: what is made in a directory needs the first and changes the others.
        for path in directories.iter().rev() {
            let from = open(self.from, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            let to = open(self.to, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            dress(&from, &to, &rustix::fs::fstat(&from)?)?;
        }
        Ok(())
    }

    fn directory(&mut self, path: &Path, left: &mut Vec<Path>) -> io::Result<()> {
        let from = open(self.from, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let to = open(self.to, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        for entry in Dir::read_from(&from)? {
            let name = entry?.file_name().to_owned();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = rustix::fs::statat(&from, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                rustix::fs::mkdirat(&to, &name, mode(0o700))?;
                left.push(path.join(&name));
            } else {
                self.one(path, &from, &to, &name, &stat)?;
            }
        }
        Ok(())
    }

    fn one(
        &mut self,
        path: &Path,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CString,
        stat: &Stat,
    ) -> io::Result<()> {
        if stat.st_nlink > 1 {
            let inode = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&inode) {
                let first = open(self.to, first, OFlags::PATH)?;
                let by_descriptor = format!("/proc/self/fd/{}", first.as_raw_fd());
                let followed = AtFlags::SYMLINK_FOLLOW;
                return Ok(rustix::fs::linkat(
                    rustix::fs::CWD,
                    by_descriptor,
                    to,
                    name,
                    followed,
                )?);
            }
            self.links.insert(inode, path.join(name));
        }
        let private = mode(0o600);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let target = rustix::fs::openat(to, name, flags, private)?;
                let mut copy = std::fs::File::from(target.try_clone()?);
                io::copy(&mut std::fs::File::from(source.try_clone()?), &mut copy)?;
                dress(&source, &target, stat)?;
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(target.as_c_str(), to, name)?;
                let (uid, gid) = owner(stat);
                let followed = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::chownat(to, name, uid, gid, followed)?;
                rustix::fs::utimensat(to, name, &times(stat), followed)?;
            }
            FileType::Fifo => {
                rustix::fs::mknodat(to, name, FileType::Fifo, private, 0)?;
                let (uid, gid) = owner(stat);
                rustix::fs::chownat(to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
                let bits = mode(stat.st_mode & 0o7777);
                rustix::fs::chmodat(to, name, bits, AtFlags::empty())?;
            }
            // Devices could not be opened there, and nobody listens behind a socket's name.
            _ => {}
        }
        Ok(())
    }
}

fn owner(stat: &Stat) -> (Option<rustix::fs::Uid>, Option<rustix::fs::Gid>) {
    let uid = rustix::fs::Uid::from_raw(stat.st_uid);
    (Some(uid), Some(rustix::fs::Gid::from_raw(stat.st_gid)))
}

fn times(stat: &Stat) -> Timestamps {
    let at = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds as _,
    };
    Timestamps {
        last_access: at(stat.st_atime, stat.st_atime_nsec),
        last_modification: at(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Owner, attributes, mode and times, in the order in which none undoes another.
fn dress(from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = owner(stat);
    rustix::fs::fchown(to, uid, gid)?;
    let mut names = vec![0u8; MAX_XATTR];
    let length = match rustix::fs::flistxattr(from, &mut names) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(error) => return Err(error.into()),
    };
    let mut value = vec![0u8; MAX_XATTR];
    for name in names[..length].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let Ok(length) = rustix::fs::fgetxattr(from, name, &mut value) else {
            continue;
        };
        if is_of_the_machine(name) {
            continue;
        }
        match rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            // What the volume's file system or a user namespace has no place for.
            Ok(()) | Err(Errno::NOTSUP | Errno::PERM | Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    rustix::fs::fchmod(to, mode(stat.st_mode & 0o7777))?;
    Ok(rustix::fs::futimens(to, &times(stat))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    #[test]
    fn an_empty_volume_becomes_a_copy_and_another_stays() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (image, volume) = (dir.path().join("image"), dir.path().join("volume"));
        fs::create_dir_all(image.join("deep/er")).expect("mkdir");
        fs::create_dir(&volume).expect("mkdir");
        fs::write(image.join("deep/er/file"), "content").expect("write");
        fs::hard_link(image.join("deep/er/file"), image.join("second")).expect("link");
        symlink("/etc/passwd", image.join("out")).expect("link");
        rustix::fs::mkfifoat(rustix::fs::CWD, image.join("fifo"), mode(0o640)).expect("fifo");
        fs::set_permissions(image.join("deep"), fs::Permissions::from_mode(0o1751)).expect("chmod");
        fs::set_permissions(&image, fs::Permissions::from_mode(0o750)).expect("chmod");
        let open = |path: &std::path::Path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            rustix::fs::open(path, flags, Mode::empty()).expect("open")
        };
        fill(&open(&image), &open(&volume)).expect("filled");
        let read = |name: &str| fs::read_to_string(volume.join(name)).expect("there");
        assert_eq!(read("deep/er/file"), "content");
        let meta = |name: &str| fs::symlink_metadata(volume.join(name)).expect("there");
        assert_eq!(meta("second").ino(), meta("deep/er/file").ino());
        assert_eq!(meta("deep").mode() & 0o7777, 0o1751);
        assert_eq!(meta("").mode() & 0o7777, 0o750);
        assert_eq!(meta("fifo").mode() & 0o7777, 0o640);
        assert_eq!(
            fs::read_link(volume.join("out")).expect("a link"),
            std::path::Path::new("/etc/passwd")
        );
        let then = fs::metadata(image.join("deep")).expect("there").mtime();
        assert_eq!(meta("deep").mtime(), then);
        fs::write(volume.join("deep/er/file"), "mine").expect("write");
        fill(&open(&image), &open(&volume)).expect("left alone");
        assert_eq!(read("deep/er/file"), "mine");
    }
}
