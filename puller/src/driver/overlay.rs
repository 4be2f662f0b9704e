//! Overlayfs (Documentation/filesystems/overlayfs.rst of Linux).
//!
//! Two ways to name the layers. `fsconfig(lowerdir+)`, Linux 6.7 and later, takes one at a time and has
//! no limit but 500 layers. Before that all options had to fit into one page, which long paths exceed
//! at some 60 layers (containerd issue 2497): there the layers are opened and named by descriptor
//! number, relative to `/proc/self/fd`, so that 500 fit.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

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
/// is writable. The empty target stands in for the one that is missing.
struct Layers<'a> {
    lowers: Vec<&'a Path>,
    writable: Option<(&'a Path, &'a Path)>,
}

impl<'a> Layers<'a> {
    fn new(stack: &Stack<'a>, target: &'a Path) -> Result<Self, DriverError> {
        let mut lowers = distinct(stack.lowers);
        let writable = stack.upper.filter(|_| stack.is_writable());
        // What was written is one layer among others when nothing more is to be.
        lowers.splice(..0, stack.upper.filter(|_| !stack.is_writable()));
        let least = if writable.is_some() { 1 } else { 2 };
        if lowers.len() < least {
            lowers.push(target);
        }
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
        let layers = Layers::new(stack, target)?;
        match self.mount_by_fsconfig(&layers, target)? {
            Some(()) => Ok(()),
            None => self.mount_by_options(&layers, target),
        }
    }

    fn unmount(&self, target: &Path, lazy: bool) -> Result<(), DriverError> {
        unmount(target, lazy)
    }
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
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn options_fit_a_page_with_the_most_layers() {
        let lowers: Vec<i32> = (1000..1500).collect();
        let driver = Overlay::new(Privilege::UserNamespace).volatile();
        let text = option_text(&lowers, Some((2000, 2001)), &driver.options(true));
        assert!(text.len() < 4096, "{}", text.len());
        assert!(text.starts_with("lowerdir=1000:1001:"));
        assert!(text.ends_with("1499,upperdir=2000,workdir=2001,userxattr,index=off,volatile"));
    }

    #[test]
    fn root_needs_no_user_attributes_and_read_only_is_not_volatile() {
        let driver = Overlay::new(Privilege::Root).volatile();
        let names: Vec<_> = driver.options(false).iter().map(|o| o.0).collect();
        assert_eq!(names, ["redirect_dir", "metacopy", "index"]);
    }

    #[test]
    fn awkward_paths_are_named_by_descriptor() {
        let dir = tempfile::tempdir().expect("tempdir");
        let plain = Speakable::new(dir.path()).expect("opens");
        assert_eq!(plain.text, dir.path().as_os_str());
        for name in ["a:b", "a,b", "a\\b", &"x".repeat(251)] {
            let awkward = dir.path().join(name);
            fs::create_dir(&awkward).expect("mkdir");
            let named = Speakable::new(&awkward).expect("opens");
            let text = named.text.to_str().expect("ascii").to_owned();
            assert!(text.starts_with("/proc/self/fd/"), "{text}");
            assert_eq!(fs::canonicalize(text).expect("there"), awkward);
        }
        assert!(Speakable::new(&dir.path().join("no:where")).is_err());
    }

    #[test]
    fn too_many_layers_are_refused_before_the_kernel_is_asked() {
        let lowers: Vec<PathBuf> = (0..501).map(|n| PathBuf::from(format!("/l/{n}"))).collect();
        let stack = Stack {
            lowers: &lowers,
            upper: None,
            scratch: Path::new("/w"),
            read_only: true,
        };
        assert!(matches!(
            Layers::new(&stack, Path::new("/t")),
            Err(DriverError::TooManyLayers { layers: 501, .. })
        ));
    }

    #[test]
    fn an_empty_image_and_a_single_layer_are_padded() {
        let target = Path::new("/t");
        let one = [PathBuf::from("/l")];
        let read_only = |lowers| Stack {
            lowers,
            upper: None,
            scratch: Path::new("/w"),
            read_only: false,
        };
        assert_eq!(
            Layers::new(&read_only(&one), target)
                .expect("fine")
                .lowers
                .len(),
            2
        );
        let writable = Stack {
            lowers: &[],
            upper: Some(Path::new("/u")),
            scratch: Path::new("/w"),
            read_only: false,
        };
        assert_eq!(
            Layers::new(&writable, target).expect("fine").lowers,
            [target]
        );
    }

    /// Both ways of mounting, really; needs a privilege that the caller may lack, then it shows nothing.
    #[test]
    fn both_ways_mount_the_same_stack() {
        if crate::userns::current().ok().flatten().is_none() {
            return;
        }
        let dir = tempfile::tempdir().expect("tempdir");
        let make = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir(&path).expect("mkdir");
            path
        };
        let (low, high, target) = (make("low:est"), make("high"), make("target"));
        let (upper, work) = (make("upper"), make("work"));
        fs::write(low.join("f"), "low").expect("write");
        fs::write(high.join("f"), "high").expect("write");
        fs::write(low.join("g"), "only low").expect("write");
        // The lowest again in the middle, as images with repeated layers have it.
        let lowers = [high.clone(), low.clone(), high];
        let driver = Overlay::new(
            crate::userns::current()
                .ok()
                .flatten()
                .expect("checked above"),
        );
        for (writable, classic) in [(true, false), (true, true), (false, false), (false, true)] {
            let stack = Stack {
                lowers: &lowers,
                upper: Some(&upper),
                scratch: &work,
                read_only: !writable,
            };
            let layers = Layers::new(&stack, &target).expect("fine");
            if classic {
                driver.mount_by_options(&layers, &target).expect("mounts");
            } else {
                driver.mount(&stack, &target).expect("mounts");
            }
            assert!(crate::driver::is_mounted(&target) && !crate::driver::is_mounted(&upper));
            assert_eq!(fs::read(target.join("f")).expect("read"), b"high");
            assert_eq!(fs::read(target.join("g")).expect("read"), b"only low");
            assert_eq!(fs::write(target.join("new"), "x").is_ok(), writable);
            assert!(matches!(
                driver.mount(&stack, &target),
                Err(DriverError::Target { .. })
            ));
            let inside = fs::File::open(target.join("f")).expect("open");
            assert!(matches!(
                driver.unmount(&target, false),
                Err(DriverError::Busy { .. })
            ));
            drop(inside);
            driver.unmount(&target, false).expect("unmounts");
        }
        assert!(!low.join("new").exists());
    }

    #[test]
    fn five_hundred_layers_mount_both_ways() {
        let Some(privilege) = crate::userns::current().ok().flatten() else {
            return;
        };
        let dir = tempfile::tempdir().expect("tempdir");
        let target = dir.path().join("target");
        fs::create_dir(&target).expect("mkdir");
        let lowers: Vec<PathBuf> = (0..MAX_LAYERS)
            .map(|n| {
                let layer = dir
                    .path()
                    .join(format!("a,layer:with-a-name-of-some-length-{n:060}"));
                fs::create_dir(&layer).expect("mkdir");
                fs::write(layer.join(n.to_string()), "").expect("write");
                layer
            })
            .collect();
        let stack = Stack {
            lowers: &lowers,
            upper: None,
            scratch: dir.path(),
            read_only: true,
        };
        let driver = Overlay::new(privilege);
        let layers = Layers::new(&stack, &target).expect("fine");
        for classic in [false, true] {
            match classic {
                true => driver.mount_by_options(&layers, &target).expect("mounts"),
                false => driver.mount(&stack, &target).expect("mounts"),
            }
            assert_eq!(fs::read_dir(&target).expect("list").count(), MAX_LAYERS);
            driver.unmount(&target, false).expect("unmounts");
        }
    }
}
