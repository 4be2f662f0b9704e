//! The file that a command writes for whoever named it: there when it is whole, and what was there before stays until
//! then. What is no file is written to as it comes.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use rustix::fs::{AtFlags, CWD, OFlags};
use strata_oci::output::Output;
use tempfile::NamedTempFile;

/// Refuses a directory where a file is to be written, before anything is done.
pub(super) fn is_no_directory(file: &Path) -> Result<()> {
    ensure!(
        !file.is_dir(),
        "{} is a directory: name the file to write",
        file.display()
    );
    Ok(())
}

/// Where bytes go until all are there.
pub(super) enum Out {
    Stream(File),
    /// A file without a name, which is gone whatever ends the program (open(2), "O_TMPFILE").
    Unnamed(File, PathBuf),
    /// Where the file system has no such.
    Named(NamedTempFile, PathBuf),
}

impl Out {
    /// Opens what `file` names, or a new file that takes its place at the end.
    pub(super) fn open(file: &Path) -> io::Result<Self> {
        let target = match Output::at(file)? {
            Output::Stream => {
                return OpenOptions::new().write(true).open(file).map(Self::Stream);
            }
            Output::File(target) => target,
        };
        let directory = directory(&target);
        let unnamed = OpenOptions::new()
            .write(true)
            .mode(0o666)
            .custom_flags(OFlags::TMPFILE.bits().cast_signed())
            .open(directory);
        if let Ok(unnamed) = unnamed {
            return Ok(Self::Unnamed(unnamed, target));
        }
        let named = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(directory)?;
        Ok(Self::Named(named, target))
    }

    /// All is there: gives it its name.
    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Self::Stream(_) => Ok(()),
            Self::Named(named, target) => {
                named.persist(target).map_err(|error| error.error)?;
                Ok(())
            }
            Self::Unnamed(file, target) => {
                // A link replaces nothing: a name to be renamed comes first.
                let part = tempfile::Builder::new().prefix(PREFIX).make_in(
                    directory(&target),
                    |part| {
                        let held = format!("/proc/self/fd/{}", file.as_raw_fd());
                        let follow = AtFlags::SYMLINK_FOLLOW;
                        Ok(rustix::fs::linkat(CWD, held, CWD, part, follow)?)
                    },
                )?;
                part.persist(target).map_err(|error| error.error)
            }
        }
    }

    fn file(&mut self) -> &mut File {
        match self {
            Self::Stream(file) | Self::Unnamed(file, _) => file,
            Self::Named(named, _) => named.as_file_mut(),
        }
    }
}

/// How the names begin that a file has on its way.
const PREFIX: &str = ".strata-";

fn directory(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}
