//! Trees that grow and change by chance, on disk: every type, odd names, modes, owners, times and attributes.
//!
//! What another program makes of such a change, and another one of that, has to be the tree again. Hard links are
//! made among the new files of one step alone: no layer can say more (image-spec, layer.md, "Hardlinks").

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

/// What grows, and by which chance.
pub struct Wild<'a> {
    top: PathBuf,
    random: &'a mut StdRng,
    /// Regular files that this step has made.
    fresh: Vec<PathBuf>,
}

/// A file capability (`cap_net_raw` effective and permitted), as the kernel keeps it: version 2.
const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Adds about so many things to the tree at `top`, which is a directory.
pub fn grow(top: &Path, count: u32, random: &mut StdRng) -> io::Result<()> {
    let mut wild = Wild::new(top, random);
    (0..count).try_for_each(|_| wild.add())?;
    wild.whole_seconds()
}

/// Changes so many things: new ones, other content, other metadata, something else in the place of something, nothing in
/// the place of something, a new directory of the same name.
pub fn change(top: &Path, count: u32, random: &mut StdRng) -> io::Result<()> {
    let mut wild = Wild::new(top, random);
    (0..count).try_for_each(|_| wild.alter())?;
    wild.whole_seconds()
}

/// Gives all things times with nanoseconds, which not every program keeps: others are whole seconds.
pub fn refine(top: &Path, random: &mut StdRng) -> io::Result<()> {
    let all = Wild::new(top, random).all()?;
    all.iter().try_for_each(|path| {
        let seconds = random.random_range(1..2_000_000_000);
        set_time(path, seconds, random.random_range(0..1_000_000_000))
    })
}

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) -> io::Result<()> {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::utimensat(CWD, path, &times, nofollow)?)
}

impl<'a> Wild<'a> {
    fn new(top: &Path, random: &'a mut StdRng) -> Self {
        Self {
            top: top.to_owned(),
            random,
            fresh: Vec::new(),
        }
    }

    fn whole_seconds(&self) -> io::Result<()> {
        self.all()?.iter().try_for_each(|path| {
            let seconds = fs::symlink_metadata(path)?.mtime();
            set_time(path, seconds, 0)
        })
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.random.random_ratio(1, n)
    }

    /// All paths of the tree but its top, those below before what they are in.
    fn all(&self) -> io::Result<Vec<PathBuf>> {
        fn visit(directory: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
            let mut entries: Vec<_> = fs::read_dir(directory)?.collect::<Result<_, _>>()?;
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                if entry.file_type()?.is_dir() {
                    visit(&entry.path(), found)?;
                }
                found.push(entry.path());
            }
            Ok(())
        }
        let mut found = Vec::new();
        visit(&self.top, &mut found)?;
        Ok(found)
    }

    fn directory(&mut self) -> io::Result<PathBuf> {
        let mut all = self.all()?;
        all.retain(|path| fs::symlink_metadata(path).is_ok_and(|data| data.is_dir()));
        all.push(self.top.clone());
        // Not too deep: names add up.
        all.retain(|path| path.components().count() < self.top.components().count() + 6);
        Ok(all.choose(self.random).unwrap_or(&self.top).clone())
    }

    fn name(&mut self) -> OsString {
        // No other step's names come again.
        let unique = self.random.random_range(0..u64::MAX >> 20);
        let bytes = match self.random.random_range(0..12) {
            0 => format!("blank and\ttab {unique}").into_bytes(),
            1 => [b"bytes-\xff\xfe-", unique.to_string().as_bytes()].concat(),
            2 => format!("{unique}{}", "l".repeat(200)).into_bytes(),
            3 => format!(".hidden{unique}").into_bytes(),
            4 => format!("ünï-{unique}").into_bytes(),
            5 => format!("back\\slash%20{unique}").into_bytes(),
            _ => format!("name{unique}").into_bytes(),
        };
        OsString::from_vec(bytes)
    }

    fn add(&mut self) -> io::Result<()> {
        let path = self.directory()?.join(self.name());
        self.make(&path)
    }

    fn make(&mut self, path: &Path) -> io::Result<()> {
        match self.random.random_range(0..20) {
            0..=8 => self.file(path)?,
            9..=12 => fs::create_dir(path)?,
            13 | 14 => {
                let targets = ["name", "../up", "/etc/absolute", "not/there", "../../../.."];
                let target = targets[self.random.random_range(0..targets.len())];
                symlink(target, path)?;
            }
            15 | 16 => match self.fresh.choose(self.random) {
                // Its metadata is the first one's, and stays so.
                // Something else may have taken its place.
                Some(first) if fs::symlink_metadata(first).is_ok_and(|data| data.is_file()) => {
                    return fs::hard_link(first, path);
                }
                _ => self.file(path)?,
            },
            17 => node(path, FileType::Fifo, 0, 0)?,
            18 => node(path, FileType::CharacterDevice, 1, 3)?,
            _ => node(path, FileType::BlockDevice, 7, 300)?,
        }
        self.dress(path)
    }

    fn file(&mut self, path: &Path) -> io::Result<()> {
        let length = match self.random.random_range(0..6) {
            0 => 0,
            1 => 512 * self.random.random_range(1..4),
            2 => self.random.random_range(0..100_000),
            _ => self.random.random_range(0..2000),
        };
        let mut bytes = vec![0; length];
        self.random.fill_bytes(&mut bytes);
        let file = fs::File::create_new(path)?;
        if self.one_in(8) {
            file.set_len(1 << 20)?;
            file.write_all_at(&bytes, 300_000)?;
        } else {
            file.write_all_at(&bytes, 0)?;
        }
        self.fresh.push(path.to_owned());
        Ok(())
    }

    /// Gives it metadata of its own.
    fn dress(&mut self, path: &Path) -> io::Result<()> {
        let kind = fs::symlink_metadata(path)?.file_type();
        if self.one_in(2) {
            let ids = [0, 1, 33, 1000, 65_534, 70_000, 3_000_000];
            let mut id = || Some(ids[self.random.random_range(0..ids.len())]);
            lchown(path, id(), id())?;
        }
        if !kind.is_symlink() {
            let modes = [
                0o644, 0o755, 0o600, 0o4755, 0o2750, 0o1777, 0o000, 0o444, 0o6711,
            ];
            let mode = modes[self.random.random_range(0..modes.len())];
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        if (kind.is_file() || kind.is_dir()) && self.one_in(5) {
            self.attribute(path, "user.note", b"a\0value")?;
        }
        if kind.is_file() && self.one_in(6) {
            self.attribute(path, "security.capability", CAPABILITY)?;
        }
        set_time(path, self.random.random_range(1..2_000_000_000), 0)
    }

    fn attribute(&mut self, path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::lsetxattr(
            path,
            name,
            value,
            XattrFlags::empty(),
        )?)
    }

    fn alter(&mut self) -> io::Result<()> {
        let all = self.all()?;
        let Some(path) = all.choose(self.random).cloned() else {
            return self.add();
        };
        let data = fs::symlink_metadata(&path)?;
        match self.random.random_range(0..8) {
            0..=2 => self.add(),
            3 => remove(&path),
            // Something else of the same name, perhaps of the same type.
            4 | 5 => {
                remove(&path)?;
                self.make(&path)
            }
            6 if data.is_dir() => {
                remove(&path)?;
                fs::create_dir(&path)?;
                self.file(&path.join("again"))?;
                self.dress(&path)
            }
            // Of files with several names all change at once, of which a layer of others has only some.
            _ if data.is_dir() || data.nlink() == 1 => self.dress(&path),
            _ => Ok(()),
        }
    }
}

fn node(path: &Path, kind: FileType, major: u32, minor: u32) -> io::Result<()> {
    let device = rustix::fs::makedev(major, minor);
    Ok(rustix::fs::mknodat(CWD, path, kind, Mode::RUSR, device)?)
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}
