//! Overlayfs (Documentation/filesystems/overlayfs.rst of Linux).
//!
//! Two ways to name the layers. `fsconfig(lowerdir+)`, Linux 6.7 and later, takes one at a time and has
//! no limit but 500 layers. Before that all options had to fit into one page, which long paths exceed
//! at some 60 layers (containerd issue 2497): there the layers are opened and named by descriptor
//! number, relative to `/proc/self/fd`, so that 500 fit.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
};

use super::{Driver, DriverError, Name, Stack, distinct, must_be_empty, probe, unmount};
use crate::userns::Privilege;

/// `OVL_MAX_STACK` of the kernel.
const MAX_LAYERS: usize = 500;
/// `fsconfig` takes values of up to 255 bytes.
const MAX_VALUE: usize = 250;

/// The kernel's overlayfs, as root or in a user namespace.
#[derive(Debug, Clone, Copy)]
pub struct Overlay {
    privilege: Privilege,
    volatile: bool,
}

impl Overlay {
    /// The driver for a process of this privilege.
    pub fn new(privilege: Privilege) -> Self {
        Self {
            privilege,
            volatile: false,
        }
    }

    /// Nothing written through the mount is ever synced to disk. For containers that are removed when
    /// they end: unmounting then does not wait for the disk.
    pub fn volatile(self) -> Self {
        Self {
            volatile: true,
            ..self
        }
    }

    /// The options apart from the layers: (name, value, whether the kernel must know it). Features that
    /// would leave marks in the writable layer that mean nothing elsewhere are off, so that it can be
    /// read as a layer later; `userxattr` turns two of them off itself and takes no word about them.
    fn options(&self, writable: bool) -> Vec<(&'static str, Option<&'static str>, bool)> {
        let mut options = match self.privilege {
            Privilege::UserNamespace => vec![("userxattr", None, true)],
            Privilege::Root => vec![
                ("redirect_dir", Some("off"), false),
                ("metacopy", Some("off"), false),
            ],
        };
        options.push(("index", Some("off"), false));
        if writable && self.volatile {
            options.push(("volatile", None, false));
        }
        options
    }

    /// Mounts with the new mount calls. `Ok(None)`: the kernel lacks them, or `lowerdir+`.
    fn mount_by_fsconfig(&self, stack: &Layers, target: &Path) -> Result<Option<()>, DriverError> {
        let fail = |step: &str, error: Errno, log: String| DriverError::Mount {
            driver: Name::Overlay,
            target: target.to_owned(),
            step: step.to_owned(),
            source: error.into(),
            log,
        };
        let context = match fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) {
            Ok(context) => context,
            Err(Errno::NOSYS) => return Ok(None),
            Err(error) => return Err(fail("fsopen", error, String::new())),
        };
        let _ = fsconfig_set_string(&context, "source", "overlay");
        for (index, lower) in stack.lowers.iter().enumerate() {
            let name = Speakable::new(lower)?;
            match fsconfig_set_string(&context, "lowerdir+", name.text.as_os_str()) {
                Ok(()) => {}
                Err(Errno::INVAL) if index == 0 => return Ok(None),
                Err(error) => {
                    let step = format!("layer {}", lower.display());
                    return Err(fail(&step, error, kernel_log(&context)));
                }
            }
        }
        if let Some((upper, work)) = stack.writable {
            for (key, path) in [("upperdir", upper), ("workdir", work)] {
                let name = Speakable::new(path)?;
                fsconfig_set_string(&context, key, name.text.as_os_str())
                    .map_err(|error| fail(key, error, kernel_log(&context)))?;
            }
        }
        for (key, value, required) in self.options(stack.writable.is_some()) {
            let set = match value {
                Some(value) => fsconfig_set_string(&context, key, value),
                None => fsconfig_set_flag(&context, key),
            };
            match set {
                Ok(()) => {}
                Err(Errno::INVAL) if !required => {}
                Err(error) => return Err(fail(key, error, kernel_log(&context))),
            }
        }
        fsconfig_create(&context).map_err(|error| fail("fsconfig", error, kernel_log(&context)))?;
        let attributes = match stack.writable {
            Some(_) => MountAttrFlags::empty(),
            None => MountAttrFlags::MOUNT_ATTR_RDONLY,
        };
        let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|error| fail("fsmount", error, kernel_log(&context)))?;
        let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&mount, "", CWD, target, empty)
            .map_err(|error| fail("move_mount", error, String::new()))?;
        Ok(Some(()))
    }

    /// Mounts with mount(2), the layers named by descriptor number.
    fn mount_by_options(&self, stack: &Layers, target: &Path) -> Result<(), DriverError> {
        let open = |path: &Path| open_dir(path);
        let lowers = stack
            .lowers
            .iter()
            .map(|l| open(l))
            .collect::<Result<Vec<_>, _>>()?;
        let writable = match stack.writable {
            Some((upper, work)) => Some((open(upper)?, open(work)?)),
            None => None,
        };
        let numbers: Vec<i32> = lowers.iter().map(|fd| fd.as_raw_fd()).collect();
        let upper_work = writable
            .as_ref()
            .map(|(u, w)| (u.as_raw_fd(), w.as_raw_fd()));
        let target = std::path::absolute(target).map_err(|source| DriverError::Open {
            path: target.to_owned(),
            source,
        })?;
        let text = option_text(&numbers, upper_work, &self.options(upper_work.is_some()));
        let flags = match upper_work {
            Some(_) => MountFlags::empty(),
            None => MountFlags::RDONLY,
        };
        let mounted = in_descriptor_directory(|| {
            let text = std::ffi::CString::new(text.as_str()).map_err(|_| Errno::INVAL)?;
            rustix::mount::mount("overlay", &target, "overlay", flags, text.as_c_str())
        });
        mounted.map_err(|source| DriverError::Mount {
            driver: Name::Overlay,
            target,
            step: "mount".to_owned(),
            source,
            log: String::new(),
        })
    }
}

/// A stack that the kernel takes: overlayfs wants at least one lower directory, and two when nothing
/// is writable. The empty target stands in for the one that is missing, and for the second an empty directory of ours.
struct Layers<'a> {
    lowers: Vec<&'a Path>,
    writable: Option<(&'a Path, &'a Path)>,
}

impl<'a> Layers<'a> {
    fn new(stack: &Stack<'a>, target: &'a Path, empty: &'a Path) -> Result<Self, DriverError> {
        let mut lowers = distinct(stack.lowers);
        let writable = stack.upper.filter(|_| stack.is_writable());
        // What was written is one layer among others when nothing more is to be.
        lowers.splice(..0, stack.upper.filter(|_| !stack.is_writable()));
        let least: usize = if writable.is_some() { 1 } else { 2 };
        let missing = least.saturating_sub(lowers.len());
        lowers.extend([target, empty].into_iter().take(missing));
        if lowers.len() > MAX_LAYERS {
            return Err(DriverError::TooManyLayers {
                layers: lowers.len(),
                max: MAX_LAYERS,
            });
        }
        Ok(Self {
            lowers,
            writable: writable.map(|upper| (upper, stack.scratch)),
        })
    }
}

impl Driver for Overlay {
    fn name(&self) -> Name {
        Name::Overlay
    }

    fn probe(&self, dir: &Path) -> Result<(), DriverError> {
        probe::probe(self, dir).map_err(|error| probe::explained(error, self.privilege, dir))
    }

    fn mount(&self, stack: &Stack, target: &Path) -> Result<(), DriverError> {
        must_be_empty(target)?;
        let empty = empty_directory(stack)?;
        let layers = Layers::new(stack, target, &empty)?;
        match self.mount_by_fsconfig(&layers, target)? {
            Some(()) => Ok(()),
            None => self.mount_by_options(&layers, target),
        }
    }

    fn unmount(&self, target: &Path, lazy: bool) -> Result<(), DriverError> {
        unmount(target, lazy)
    }
}

/// Beside what is mounted, made where an image without layers is shown: there is nothing else to show.
fn empty_directory(stack: &Stack) -> Result<PathBuf, DriverError> {
    let empty = stack.scratch.join("empty");
    if stack.lowers.is_empty() && stack.upper.is_none() {
        match fs::create_dir(&empty) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(DriverError::Open {
                    path: empty,
                    source: error,
                });
            }
            _ => {}
        }
    }
    Ok(empty)
}

/// A path in words that fit an option: itself, or `/proc/self/fd/N` when it is too long or has a
/// character that some kernels read as a separator or an escape.
struct Speakable {
    text: OsString,
    _open: Option<OwnedFd>,
}

impl Speakable {
    fn new(path: &Path) -> Result<Self, DriverError> {
        let bytes = path.as_os_str().as_bytes();
        let plain = bytes.len() <= MAX_VALUE
            && path.is_absolute()
            && !bytes.iter().any(|b| matches!(b, b'\\' | b':' | b','));
        if plain {
            return Ok(Self {
                text: OsString::from_vec(bytes.to_vec()),
                _open: None,
            });
        }
        let open = open_dir(path)?;
        Ok(Self {
            text: format!("/proc/self/fd/{}", open.as_raw_fd()).into(),
            _open: Some(open),
        })
    }
}

fn open_dir(path: &Path) -> Result<OwnedFd, DriverError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|error| DriverError::Open {
        path: path.to_owned(),
        source: error.into(),
    })
}

/// What the kernel wrote about a mount in the making: lines such as "e overlay: No changes allowed".
fn kernel_log(context: &OwnedFd) -> String {
    let mut lines = Vec::new();
    let mut buffer = [0u8; 1024];
    while let Ok(length) = rustix::io::read(context, &mut buffer) {
        if length == 0 || lines.len() > 8 {
            break;
        }
        let line = String::from_utf8_lossy(&buffer[..length]);
        lines.push(
            line.trim()
                .trim_start_matches(['e', 'w', 'i'])
                .trim()
                .to_owned(),
        );
    }
    lines.join("; ")
}

/// Runs `work` with `/proc/self/fd` as its working directory, and nobody else's.
fn in_descriptor_directory(work: impl FnOnce() -> rustix::io::Result<()> + Send) -> io::Result<()> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| -> io::Result<()> {
            unshare_working_directory()?;
            rustix::process::chdir("/proc/self/fd")?;
            Ok(work()?)
        });
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the mounting thread panicked")))
    })
}

#[allow(unsafe_code)]
fn unshare_working_directory() -> io::Result<()> {
    // SAFETY: only the working directory stops being shared; no descriptor table is involved.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FS) }?;
    Ok(())
}

fn option_text(
    lowers: &[i32],
    writable: Option<(i32, i32)>,
    options: &[(&str, Option<&str>, bool)],
) -> String {
    let numbers: Vec<String> = lowers.iter().map(i32::to_string).collect();
    let mut text = format!("lowerdir={}", numbers.join(":"));
    if let Some((upper, work)) = writable {
        text.push_str(&format!(",upperdir={upper},workdir={work}"));
    }
    for (name, value, _) in options {
        text.push(',');
        text.push_str(name);
        if let Some(value) = value {
            text.push('=');
            text.push_str(value);
        }
    }
    text
}

#[cfg(test)]
mod tests;
