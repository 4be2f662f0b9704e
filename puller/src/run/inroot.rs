//! Paths of a container, resolved inside its root: a symbolic link of the image, even an absolute
//! one, leads to a place in the image, and links of /proc that jump elsewhere are refused
//! (openat2(2), RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS; CVE-2024-21626 was such a jump).

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::path::Arg;

use super::sys::mode;

fn resolve() -> ResolveFlags {
    ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS
}

/// openat2(2), again when something was mounted or renamed anywhere while a `..` was resolved: the
/// kernel then cannot tell whether the path stayed inside and answers EAGAIN.
fn open(
    root: impl AsFd,
    path: impl Arg + Copy,
    flags: OFlags,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    for _ in 0..1000 {
        match openat2(&root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => std::thread::yield_now(),
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens what is there, without reading it.
pub(super) fn open_path(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(open(root, path, flags, resolve())?)
}

/// Opens a directory that is there.
pub(super) fn open_dir(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(open(root, path, flags, resolve())?)
}

/// As many links as the kernel follows in a path.
const MOST_LINKS: usize = 40;

/// Opens a directory, and makes it and its parents (mode 0755) as far as they are missing; what links inside the root lead
/// to, too.
pub(super) fn make_dir_all(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let root = root.as_fd();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match open(root, &path, flags, resolve()) {
            Err(Errno::NOENT) => {}
            result => return Ok(result?),
        }
        match make_dirs(root, &path)? {
            Made::All(directory) => return Ok(directory),
            Made::Link(behind) => path = behind,
        }
    }
    Err(Errno::LOOP.into())
}

/// What became of directories that were to be made.
enum Made {
    /// They are there.
    All(OwnedFd),
    /// A link leads to what is missing, too: where the whole path goes on.
    Link(PathBuf),
}

fn make_dirs(root: BorrowedFd, path: &Path) -> io::Result<Made> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |path: &Path| open(root, path, flags, resolve());
    let mut walked = PathBuf::from("/");
    let mut parent = open(&walked)?;
    let mut left = path.components();
    while let Some(component) = left.next() {
        match component {
            Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
            Component::ParentDir => walked.push(".."),
            Component::Normal(name) => {
                walked.push(name);
                match rustix::fs::mkdirat(&parent, name, mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        parent = match (open(&walked), component) {
            (Err(Errno::NOENT), Component::Normal(name)) => {
                let target = rustix::fs::readlinkat(&parent, name, Vec::new())?;
                let above = walked.parent().unwrap_or(Path::new("/"));
                let behind = above.join(OsString::from_vec(target.into_bytes()));
                return Ok(Made::Link(behind.join(left.as_path())));
            }
            (opened, _) => opened?,
        };
    }
    Ok(Made::All(parent))
}

/// Opens a directory to mount a kernel file system on, made when missing. An image that has a link
/// there is refused: what is meant to be /proc must be at /proc.
pub(super) fn mount_point(root: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let strict = resolve() | ResolveFlags::NO_SYMLINKS;
    let root = root.as_fd();
    match open(root, name, flags, strict) {
        Err(Errno::NOENT) => {
            rustix::fs::mkdirat(root, name, mode(0o755))?;
            Ok(open(root, name, flags, strict)?)
        }
        Err(Errno::LOOP | Errno::NOTDIR) => Err(io::Error::other(
            "the image has something else than a directory there",
        )),
        result => Ok(result?),
    }
}

/// Opens the file to mount another file on, made (empty, 0644, parents too) when missing; links are
/// followed inside the root, to a missing target too.
pub(super) fn make_file(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let root = root.as_fd();
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match open_path(root, &path) {
            Ok(found) => return Ok(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let name = path.file_name().ok_or(Errno::INVAL)?.to_owned();
        let above = path.parent().unwrap_or(Path::new("/")).to_owned();
        let parent = make_dir_all(root, &above)?;
        match rustix::fs::readlinkat(&parent, &name, Vec::new()) {
            Ok(target) => {
                path = above.join(OsString::from_vec(target.into_bytes()));
            }
            Err(_) => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let flags = flags | OFlags::NOFOLLOW;
                rustix::fs::openat(&parent, &name, flags, mode(0o644))?;
            }
        }
    }
    Err(Errno::LOOP.into())
}

/// Reads a regular file of at most `limit` bytes; `None` when there is none. Nothing else is opened:
/// a FIFO would wait for ever, and some devices do something when they are opened (a watchdog starts to count).
pub(super) fn read_file(root: impl AsFd, path: &Path, limit: u64) -> io::Result<Option<String>> {
    let root = root.as_fd();
    let is_regular = |file: &OwnedFd| -> io::Result<()> {
        match FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode) {
            FileType::RegularFile => Ok(()),
            _ => Err(io::Error::other("not a regular file")),
        }
    };
    let path_only = OFlags::PATH | OFlags::CLOEXEC;
    match open(root, path, path_only, resolve()) {
        Ok(found) => is_regular(&found)?,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = open(root, path, flags, resolve())?;
    // Another one may be there by now.
    is_regular(&file)?;
    let mut bytes = Vec::new();
    io::Read::read_to_end(
        &mut io::Read::take(std::fs::File::from(file), limit + 1),
        &mut bytes,
    )?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("larger than {limit} bytes")));
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::create_dir_all(dir.path().join("root/etc")).expect("mkdir");
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let fd = rustix::fs::open(dir.path().join("root"), flags, Mode::empty()).expect("open");
        (dir, fd)
    }

    #[test]
    fn links_lead_nowhere_outside() {
        let (dir, fd) = root();
        let root = dir.path().join("root");
        fs::write(dir.path().join("secret"), "host").expect("write");
        symlink(dir.path().join("secret"), root.join("etc/absolute")).expect("link");
        symlink("../../secret", root.join("etc/dotdot")).expect("link");
        symlink("/run/x/resolv.conf", root.join("etc/dangling")).expect("link");
        symlink("loop", root.join("etc/loop")).expect("link");
        for name in ["absolute", "dotdot", "dangling"] {
            let path = Path::new("/etc").join(name);
            make_file(&fd, &path).expect("made inside");
            assert!(
                fs::symlink_metadata(root.join("etc").join(name))
                    .expect("there")
                    .is_symlink()
            );
        }
        assert_eq!(fs::read(dir.path().join("secret")).expect("read"), b"host");
        let inside = root.join(
            dir.path()
                .join("secret")
                .strip_prefix("/")
                .expect("absolute"),
        );
        assert_eq!(fs::read(inside).expect("made in the root"), b"");
        assert!(root.join("secret").is_file() && root.join("run/x/resolv.conf").is_file());
        assert!(make_file(&fd, Path::new("/etc/loop")).is_err());
    }

    #[test]
    fn directories_are_made_inside_whatever_the_path_says() {
        let (dir, fd) = root();
        symlink("/data", dir.path().join("root/app")).expect("link");
        fs::create_dir(dir.path().join("root/data")).expect("mkdir");
        make_dir_all(&fd, Path::new("/app/a/../b/../../../../c")).expect("made");
        assert!(dir.path().join("root/data/a").is_dir());
        assert!(dir.path().join("root/c").is_dir() && !dir.path().join("c").exists());
        fs::write(dir.path().join("root/file"), "").expect("write");
        assert!(make_dir_all(&fd, Path::new("/file/x")).is_err());
        // What links lead to is made, too, in the root.
        symlink("/mnt/none", dir.path().join("root/dangling")).expect("link");
        symlink("../../../up/here", dir.path().join("root/data/over")).expect("link");
        symlink("/round", dir.path().join("root/round")).expect("link");
        make_dir_all(&fd, Path::new("/dangling/deep")).expect("made");
        make_dir_all(&fd, Path::new("/app/over")).expect("made");
        assert!(dir.path().join("root/mnt/none/deep").is_dir());
        assert!(dir.path().join("root/up/here").is_dir() && !dir.path().join("up").exists());
        assert!(make_dir_all(&fd, Path::new("/round/x")).is_err());
    }

    #[test]
    fn magic_links_are_refused() {
        let root = rustix::fs::open("/", OFlags::PATH, Mode::empty()).expect("open");
        let open = fs::File::open("/").expect("open");
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
        assert!(make_dir_all(&root, Path::new(&path)).is_err());
        assert!(make_dir_all(&root, Path::new("/proc/self/cwd")).is_err());
    }

    #[test]
    fn only_small_regular_files_are_read() {
        let (dir, fd) = root();
        let root = dir.path().join("root");
        fs::write(root.join("etc/passwd"), "x".repeat(10)).expect("write");
        let read = |path: &str, limit| read_file(&fd, Path::new(path), limit);
        assert_eq!(
            read("/etc/passwd", 10)
                .expect("reads")
                .expect("there")
                .len(),
            10
        );
        assert!(read("/etc/passwd", 9).is_err());
        assert!(read("/etc/none", 9).expect("fine").is_none());
        assert!(read("/etc", 9).is_err());
        rustix::fs::mkfifoat(rustix::fs::CWD, root.join("etc/fifo"), mode(0o600)).expect("fifo");
        assert!(read("/etc/fifo", 9).is_err());
        symlink("passwd", root.join("proc")).expect("link");
        assert!(mount_point(&fd, "proc").is_err());
        assert!(mount_point(&fd, "sys").is_ok());
    }
}
