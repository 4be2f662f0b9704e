//! fuse-overlayfs: overlayfs as a program, for kernels whose own refuses. The program must be on the
//! PATH of whoever starts us, and is never one of an image (compare CVE-2026-41567). It understands the marks
//! that overlayfs leaves, those of root (`trusted.overlay.`) and those of a user namespace (`user.overlay.`).
//!
//! It goes into the background when the mount is there, and ends by itself when the last user of the mount
//! is gone.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;

use super::{Driver, DriverError, Name, Stack, must_be_empty, probe, state, unmount};

const PROGRAM: &str = "fuse-overlayfs";
/// It mounts within milliseconds; one that waits for something waits forever.
const LIMIT: Duration = Duration::from_secs(60);
/// Else the kernel keeps what a program has written and not closed to itself, and a commit of a running container,
/// which reads the upper directory, would not have it.
const NOTHING_HELD_BACK: &[u8] = b",writeback=0";
/// What it says on its way is for a message.
const MAX_WORDS: u64 = 2000;

/// The program of that name.
#[derive(Debug, Clone)]
pub struct FuseOverlayfs {
    program: Option<PathBuf>,
}

impl FuseOverlayfs {
    /// Looks for the program in the PATH of this process.
    pub fn new() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self {
            program: std::env::split_paths(&path)
                // A relative one would depend on where we are, and that may be in an image.
                .filter(|directory| directory.is_absolute())
                .map(|directory| directory.join(PROGRAM))
                .find(|program| is_program(program)),
        }
    }

    fn start(&self, stack: &Stack, target: &Path) -> io::Result<()> {
        let missing = || said("not found on the PATH: install the package fuse-overlayfs");
        let program = self.program.as_ref().ok_or_else(missing)?;
        let Words { directory, options } = words(stack, target)?;
        let output = rustix::fs::memfd_create("words", MemfdFlags::CLOEXEC)?;
        let mut output = File::from(output);
        let status = Command::new(program)
            .current_dir(directory)
            .arg("-o")
            .arg(options)
            .arg(target)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output.try_clone()?)
            .spawn()
            .and_then(wait)?;
        if status.success() && state(target) == super::State::Mounted {
            return Ok(());
        }
        let mut text = String::new();
        output.rewind()?;
        output.take(MAX_WORDS).read_to_string(&mut text)?;
        let ignored = "unknown argument ignored";
        let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with(ignored)).collect();
        match lines.is_empty() {
            false => Err(said(&lines.join("; "))),
            true => Err(said(&format!("it ended with {status}"))),
        }
    }
}

impl Default for FuseOverlayfs {
    fn default() -> Self {
        Self::new()
    }
}

fn said(words: &str) -> io::Error {
    io::Error::other(words.to_owned())
}

impl Driver for FuseOverlayfs {
    fn name(&self) -> Name {
        Name::FuseOverlayfs
    }

    fn probe(&self, dir: &Path) -> Result<(), DriverError> {
        probe::probe(self, dir)
    }

    fn mount(&self, stack: &Stack, target: &Path) -> Result<(), DriverError> {
        must_be_empty(target)?;
        self.start(stack, target)
            .map_err(|source| DriverError::Mount {
                driver: self.name(),
                target: target.to_owned(),
                step: PROGRAM.to_owned(),
                source,
                log: String::new(),
            })
    }

    fn unmount(&self, target: &Path, lazy: bool) -> Result<(), DriverError> {
        unmount(target, lazy)
    }
}

fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn wait(mut child: std::process::Child) -> io::Result<ExitStatus> {
    let limit = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > limit {
            child.kill()?;
            return child.wait();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The options, and the directory that the paths in them are relative to.
struct Words {
    directory: PathBuf,
    options: std::ffi::OsString,
}

/// Names the layers relative to the directory that all have in common, so that five hundred fit into one argument
/// (128 KiB), and nothing of the store's own path has to be escaped.
fn words(stack: &Stack, target: &Path) -> io::Result<Words> {
    let mut lowers = super::distinct(stack.lowers);
    let writable = stack.upper.filter(|_| stack.is_writable());
    // What was written is one layer among others when nothing more is to be.
    let shown = stack.upper.filter(|_| !stack.is_writable());
    lowers.splice(..0, shown);
    if lowers.is_empty() {
        // It wants one, and the empty mount point will do.
        lowers.push(target);
    }
    let named = writable
        .into_iter()
        .chain([stack.scratch])
        .chain(lowers.iter().copied());
    let mut common: Option<&Path> = None;
    for path in named {
        common = Some(match common {
            None => path.parent().unwrap_or(path),
            Some(common) => ancestor(common, path),
        });
    }
    let directory = common.unwrap_or(Path::new("/"));
    let relative = |path: &Path| -> io::Result<Vec<u8>> {
        let rest = path
            .strip_prefix(directory)
            .unwrap_or(path)
            .as_os_str()
            .as_bytes();
        match rest {
            b"" => Ok(b".".to_vec()),
            rest if rest.iter().any(|b| matches!(b, b':' | b',' | b'\\')) => Err(said(&format!(
                "{} has a character in its name that fuse-overlayfs cannot be told (: , \\)",
                path.display()
            ))),
            rest => Ok(rest.to_vec()),
        }
    };
    let lowers: Vec<Vec<u8>> = lowers.into_iter().map(relative).collect::<Result<_, _>>()?;
    let mut options = [b"lowerdir=", lowers.join(&b':').as_slice()].concat();
    match writable {
        None => options.extend(b",ro"),
        Some(upper) => {
            for (key, path) in [(&b",upperdir="[..], upper), (b",workdir=", stack.scratch)] {
                options.extend(key);
                options.extend(relative(path)?);
            }
            options.extend(NOTHING_HELD_BACK);
        }
    }
    Ok(Words {
        directory: directory.to_owned(),
        options: std::os::unix::ffi::OsStringExt::from_vec(options),
    })
}

fn ancestor<'a>(one: &'a Path, other: &Path) -> &'a Path {
    let fits = one.ancestors().find(|ancestor| other.starts_with(ancestor));
    fits.unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_named_from_where_they_have_in_common() {
        let lowers = [
            "/a,b/s/layers/1/fs",
            "/a,b/s/layers/2/fs",
            "/a,b/s/layers/1/fs",
        ]
        .map(PathBuf::from);
        let mut stack = Stack {
            lowers: &lowers,
            upper: Some(Path::new("/a,b/s/containers/c/upper")),
            scratch: Path::new("/a,b/s/containers/c/work"),
            read_only: false,
        };
        let text = |stack: &Stack| {
            let words = words(stack, Path::new("/t")).expect("fits");
            (words.directory, words.options.into_string().expect("text"))
        };
        let (directory, options) = text(&stack);
        assert_eq!(directory, Path::new("/a,b/s"));
        assert_eq!(
            options,
            "lowerdir=layers/1/fs:layers/2/fs,upperdir=containers/c/upper,workdir=containers/c/work,writeback=0"
        );
        stack.read_only = true;
        assert_eq!(
            text(&stack).1,
            "lowerdir=containers/c/upper:layers/1/fs:layers/2/fs,ro"
        );
        stack.upper = None;
        assert_eq!(text(&stack).1, "lowerdir=layers/1/fs:layers/2/fs,ro");
        let odd = [PathBuf::from("/a,b/s/x:y")];
        stack.lowers = &odd;
        assert!(words(&stack, Path::new("/t")).is_err());
    }

    #[test]
    fn five_hundred_layers_fit_into_an_argument() {
        let lowers: Vec<PathBuf> = (0..500)
            .map(|n| PathBuf::from(format!("/var/lib/strata/layers/{n:064}/fs")))
            .collect();
        let stack = Stack {
            lowers: &lowers,
            upper: None,
            scratch: Path::new("/var/lib/strata/containers/c/work"),
            read_only: true,
        };
        let words = words(&stack, Path::new("/t")).expect("fits");
        assert!(words.options.len() < 128 * 1024);
    }
}
