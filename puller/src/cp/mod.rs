//! Copying between the machine and a container, by docker's rules (docs.docker.com, "docker container cp").
//!
//! One side packs what is to be copied into an archive, the other unpacks it. A container's paths are resolved inside its root by
//! the kernel, and its programs and libraries are never used (CVE-2018-15664, CVE-2019-14271).

mod error;
mod pack;
mod place;
mod unpack;

use std::io::{self, BufReader, Read, Write};
use std::panic::resume_unwind;
use std::thread;

pub use error::CpError;
pub use place::Place;
pub use unpack::Copied;

use crate::driver::merged::join;
use pack::{Source, pack};
use place::is_directory;
use unpack::{Target, unpack};

/// As many links as the kernel follows (path_resolution(7)).
const LINKS: u32 = 40;

/// How to copy.
#[derive(Debug, Clone, Copy, Default)]
pub struct CpOptions {
    /// Keep owners, and the rights that only mean something with them.
    pub archive: bool,
    /// Copy what a link leads to, if the source is one.
    pub follow: bool,
}

/// What is to be copied.
struct From {
    /// Without dots and slashes at its end.
    path: Vec<u8>,
    /// What it is called; empty: only what is in it counts.
    base: Vec<u8>,
    directory: bool,
    follow: bool,
}

/// Copies a file, a link or a directory with all that is in it.
///
/// # Errors
/// What is missing, does not fit, or cannot be read or written; some of it may have been copied then.
pub fn copy(
    (from, source): (&Place, &[u8]),
    (to, target): (&Place, &[u8]),
    options: CpOptions,
) -> Result<Copied, CpError> {
    let found = look(from, source, options.follow)?;
    let (directory, name) = destination(&found, to, target)?;
    let source = Source {
        place: from,
        path: &found.path,
        name: &name,
        follow: found.follow,
    };
    let target = Target {
        place: to,
        directory: &directory,
        keep_owners: options.archive,
    };
    let (reader, mut writer) = io::pipe().map_err(CpError::Write)?;
    let (packed, unpacked) = thread::scope(|scope| {
        let packing = scope.spawn(move || pack(&source, &mut writer));
        let unpacked = unpack(BufReader::with_capacity(1 << 18, reader), &target);
        (
            packing.join().unwrap_or_else(|panic| resume_unwind(panic)),
            unpacked,
        )
    });
    match packed {
        // Whoever reads has stopped: for a reason of its own.
        Err(CpError::Write(error)) => unpacked.and(Err(CpError::Write(error))),
        Err(error) => Err(error),
        Ok(()) => unpacked,
    }
}

/// Writes what is to be copied as an archive.
///
/// # Errors
/// As [`copy`].
pub fn write_archive(
    (from, source): (&Place, &[u8]),
    options: CpOptions,
    out: &mut dyn Write,
) -> Result<(), CpError> {
    let found = look(from, source, options.follow)?;
    let source = Source {
        place: from,
        path: &found.path,
        name: &found.base,
        follow: found.follow,
    };
    pack(&source, out)
}

/// Unpacks an archive (plain, gzip, zstd, xz or bzip2) into a directory that is there.
///
/// # Errors
/// As [`copy`], and archives that cannot be read or lead out of the directory.
pub fn read_archive(
    archive: impl Read + Send,
    (to, target): (&Place, &[u8]),
) -> Result<Copied, CpError> {
    match to.look(target, true)? {
        Some(stat) if is_directory(&stat) => {}
        Some(_) => return Err(to.refused(target, "an archive is unpacked into a directory")),
        None => return Err(to.missing(target)),
    }
    let archive = crate::inflate::inflate(archive).map_err(CpError::Write)?;
    let target = Target {
        place: to,
        directory: target,
        keep_owners: true,
    };
    unpack(BufReader::with_capacity(1 << 18, archive), &target)
}

/// A path, and what its end says: whether only what is in it counts, and whether it is to be a directory.
struct Written<'a> {
    path: &'a [u8],
    contents: bool,
    directory: bool,
}

fn written(path: &[u8]) -> Written<'_> {
    let directory = path.ends_with(b"/") || last_is_dots(path);
    let mut trimmed = path;
    while trimmed.len() > 1 {
        trimmed = match trimmed {
            [rest @ .., b'/'] | [rest @ .., b'/', b'.'] => rest,
            _ => break,
        };
    }
    let trimmed = if trimmed.is_empty() { b"/" } else { trimmed };
    Written {
        path: trimmed,
        contents: last_is_dots(path) || trimmed == b"/",
        directory,
    }
}

fn last_is_dots(path: &[u8]) -> bool {
    matches!(split(path).1, b"." | b"..")
}

/// Parent and last part; the parent of a single name is where one is.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(0) => (b"/", &path[1..]),
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b".", path),
    }
}

fn look(place: &Place, path: &[u8], follow: bool) -> Result<From, CpError> {
    let written = written(path);
    let follow = follow || written.directory;
    let stat = place.look(written.path, follow)?;
    let stat = stat.ok_or_else(|| place.missing(path))?;
    let directory = is_directory(&stat);
    if written.directory && !directory {
        return Err(place.refused(path, "it is not a directory"));
    }
    let base = match written.contents && directory {
        true => Vec::new(),
        false => split(written.path).1.to_vec(),
    };
    Ok(From {
        path: written.path.to_vec(),
        base,
        directory,
        follow,
    })
}

/// The directory to copy into, and what the source is called there; nothing for what is in it alone.
fn destination(from: &From, to: &Place, path: &[u8]) -> Result<(Vec<u8>, Vec<u8>), CpError> {
    let written = written(path);
    match to.look(written.path, true)? {
        Some(stat) if is_directory(&stat) => {
            return Ok((written.path.to_vec(), from.base.clone()));
        }
        Some(_) if from.directory => {
            return Err(to.refused(path, "a directory cannot be copied to a file"));
        }
        Some(_) if written.directory => return Err(to.refused(path, "it is not a directory")),
        None if written.directory && !from.directory => {
            return Err(to.refused(path, "the directory must exist"));
        }
        Some(_) | None => {}
    }
    let path = behind_links(to, written.path)?;
    let (above, last) = split(&path);
    match to.look(above, true)? {
        Some(stat) if is_directory(&stat) => Ok((above.to_vec(), last.to_vec())),
        Some(_) => Err(to.refused(above, "it is not a directory")),
        None => Err(to.missing(above)),
    }
}

/// What a path leads to in the end, whether or not anything is there: a file behind a link is written, not the link.
fn behind_links(place: &Place, path: &[u8]) -> Result<Vec<u8>, CpError> {
    use rustix::fs::{FileType, OFlags};
    let mut path = path.to_vec();
    for _ in 0..LINKS {
        let stat = place.look(&path, false)?;
        let kind = stat.map(|stat| FileType::from_raw_mode(stat.st_mode));
        if kind != Some(FileType::Symlink) {
            return Ok(path);
        }
        let opened = place.open(&path, OFlags::PATH | OFlags::NOFOLLOW);
        let opened = opened.map_err(place.failed("open", &path))?;
        let target = rustix::fs::readlinkat(&opened, "", Vec::new());
        let target = target
            .map_err(place.failed("read the link", &path))?
            .into_bytes();
        path = match target.starts_with(b"/") {
            true => target,
            false => join(split(&path).0, &target),
        };
    }
    Err(place.refused(&path, "there are too many links"))
}

#[cfg(test)]
mod tests;
