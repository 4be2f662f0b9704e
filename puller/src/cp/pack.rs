//! A file or a tree as an archive, read by descriptors alone: what is renamed meanwhile is not followed anywhere.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::fs::{Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::error::CpError;
use super::place::Place;
use super::unpack::travels;
use crate::driver::merged::{Xattrs, join, xattrs_of};
use crate::layer::content::{self, CopyError};
use crate::layer::tar::{self, Entry, Kind, Time};

/// File systems that are no files: what the kernel shows of itself (`linux/magic.h`: proc, sysfs, cgroup, cgroup2,
/// securityfs, debugfs, tracefs, bpf).
const OF_THE_KERNEL: [u32; 8] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x7363_6673,
    0x6462_6720,
    0x7472_6163,
    0xcafe_4a11,
];

/// PATH_MAX without its NUL.
const MAX_PATH: usize = 4095;

/// What is packed.
pub(super) struct Source<'a> {
    pub(super) place: &'a Place,
    /// Where it is.
    pub(super) path: &'a [u8],
    /// What it is called in the archive; empty: it is a directory, and only what is in it is packed.
    pub(super) name: &'a [u8],
    /// Follow a link at the path.
    pub(super) follow: bool,
}

/// Writes the archive.
pub(super) fn pack(source: &Source, out: &mut dyn Write) -> Result<(), CpError> {
    let mut flags = OFlags::PATH;
    if !source.follow {
        flags |= OFlags::NOFOLLOW;
    }
    let place = source.place;
    let opened = place.open(source.path, flags);
    let opened = opened.map_err(place.failed("open", source.path))?;
    let mut packer = Packer {
        place,
        links: HashMap::new(),
        out,
    };
    packer.entry(&opened, source.path, source.name)?;
    tar::end(packer.out).map_err(CpError::Write)?;
    packer.out.flush().map_err(CpError::Write)
}

struct Packer<'a> {
    place: &'a Place,
    /// Files of several names, by device and inode, under their first name.
    links: HashMap<(u64, u64), Vec<u8>>,
    out: &'a mut dyn Write,
}

impl Packer<'_> {
    /// Packs what `opened` (O_PATH) is, under `name`.
    fn entry(&mut self, opened: &OwnedFd, path: &[u8], name: &[u8]) -> Result<(), CpError> {
        // Which also bounds how deep this goes.
        if name.len() > MAX_PATH {
            return Err(self.place.refused(path, "the path is too long"));
        }
        let failed = |action| self.place.failed::<Errno>(action, path);
        let stat = rustix::fs::fstat(opened).map_err(failed("look at"))?;
        let (major, minor) = (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return self.directory(opened, path, name, &stat),
            FileType::RegularFile => Kind::File,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => Kind::Character { major, minor },
            FileType::BlockDevice => Kind::Block { major, minor },
            // Nobody listens behind a socket's name elsewhere.
            _ => return Ok(()),
        };
        let mut entry = described(name, kind, &stat);
        if kind == Kind::File {
            entry.xattrs = self.xattrs(opened, path)?.into_iter().collect();
        }
        if stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&key) {
                entry.kind = Kind::HardLink;
                entry.link.clone_from(first);
                return self.head(&entry);
            }
            self.links.insert(key, name.to_vec());
        }
        match kind {
            Kind::Symlink => {
                let target = rustix::fs::readlinkat(opened, "", Vec::new());
                entry.link = target.map_err(failed("read the link"))?.into_bytes();
                self.head(&entry)
            }
            Kind::File => {
                // The file itself, whatever its name leads to by now.
                let again = format!("/proc/self/fd/{}", opened.as_raw_fd());
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = rustix::fs::open(again, flags, Mode::empty());
                let file = File::from(file.map_err(failed("read"))?);
                entry.size = u64::try_from(stat.st_size).unwrap_or(0);
                self.head(&entry)?;
                content::copy(&file, &stat, entry.size, self.out).map_err(|error| match error {
                    CopyError::Read(error) => self.place.failed("read", path)(error),
                    CopyError::Write(error) => CpError::Write(error),
                })?;
                tar::padding(entry.size, self.out).map_err(CpError::Write)
            }
            _ => self.head(&entry),
        }
    }

    fn directory(
        &mut self,
        opened: &OwnedFd,
        path: &[u8],
        name: &[u8],
        stat: &Stat,
    ) -> Result<(), CpError> {
        if !name.is_empty() {
            let mut entry = described(name, Kind::Directory, stat);
            entry.xattrs = self.xattrs(opened, path)?.into_iter().collect();
            self.head(&entry)?;
        }
        let failed = |action| self.place.failed::<Errno>(action, path);
        let filesystem = rustix::fs::fstatfs(opened).map_err(failed("look at"))?;
        if OF_THE_KERNEL
            .iter()
            .any(|magic| i64::from(*magic) == filesystem.f_type as i64)
        {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let listed = rustix::fs::openat(opened, ".", flags, Mode::empty());
        let listed = listed.map_err(failed("list"))?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&listed).map_err(failed("list"))? {
            let entry = entry.map_err(failed("list"))?;
            let last = entry.file_name().to_bytes();
            if last != b"." && last != b".." {
                names.push(last.to_vec());
            }
        }
        // The same tree gives the same archive.
        names.sort_unstable();
        for last in names {
            let inside = join(path, &last);
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(&listed, last.as_slice(), flags, Mode::empty()) {
                // Removed since the directory was listed.
                Err(Errno::NOENT) => {}
                opened => {
                    let opened = opened.map_err(self.place.failed("open", &inside))?;
                    self.entry(&opened, &inside, &join(name, &last))?;
                }
            }
        }
        Ok(())
    }

    /// Those that mean the same elsewhere.
    fn xattrs(&self, opened: &OwnedFd, path: &[u8]) -> Result<Xattrs, CpError> {
        let found = xattrs_of(opened, travels);
        found.map_err(self.place.failed("read the extended attributes of", path))
    }

    fn head(&mut self, entry: &Entry) -> Result<(), CpError> {
        tar::write_entry(entry, self.out).map_err(CpError::Write)
    }
}

fn described(name: &[u8], kind: Kind, stat: &Stat) -> Entry {
    Entry {
        path: name.to_vec(),
        kind,
        link: Vec::new(),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Time {
            seconds: stat.st_mtime,
            nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        },
        size: 0,
        sparse: None,
        xattrs: Vec::new(),
    }
}
