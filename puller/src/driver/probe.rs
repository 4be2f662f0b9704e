//! Can stacks be mounted here? The only sure answer is to mount one; when overlayfs fails, its parts are
//! tried one by one to say which is missing.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use rustix::mount::{FsOpenFlags, fsopen};

use super::{Driver, DriverError, Stack};
use crate::userns::Privilege;

/// Mounts a stack of two small directories below `dir`, reads and writes through it, and takes it away.
pub(super) fn probe(driver: &dyn Driver, dir: &Path) -> Result<(), DriverError> {
    in_place(dir, |place| try_mount(driver, place))
        .and_then(|tried| tried.map_err(|error| error.to_string()))
        .map_err(|missing| DriverError::Unusable {
            driver: driver.name(),
            dir: dir.to_owned(),
            missing,
        })
}

/// An error of overlayfs' probe, with what is missing in plainer words than the kernel's.
pub(super) fn explained(error: DriverError, privilege: Privilege, dir: &Path) -> DriverError {
    match error {
        DriverError::Unusable {
            driver,
            dir: of,
            missing: said,
        } => DriverError::Unusable {
            driver,
            dir: of,
            missing: in_place(dir, |place| missing(privilege, place, &said)).unwrap_or(said),
        },
        other => other,
    }
}

/// Makes the directories of a small stack, uses them, and removes them; the error says why there is no place.
fn in_place<T>(dir: &Path, work: impl FnOnce(&Path) -> T) -> Result<T, String> {
    let place = dir.join(format!(".probe-{}", std::process::id()));
    let made = ["", "low", "low2", "upper", "work", "merged"]
        .iter()
        .try_for_each(|name| fs::DirBuilder::new().mode(0o700).create(place.join(name)))
        .and_then(|()| fs::write(place.join("low2/below"), "x"));
    let outcome = match made {
        Err(error) => Err(format!("it cannot be written ({error})")),
        Ok(()) => Ok(work(&place)),
    };
    let _ = fs::remove_dir_all(&place);
    outcome
}

fn try_mount(driver: &dyn Driver, place: &Path) -> Result<(), DriverError> {
    let lowers = [place.join("low"), place.join("low2")];
    let (upper, work, merged) = (
        place.join("upper"),
        place.join("work"),
        place.join("merged"),
    );
    let stack = Stack {
        lowers: &lowers,
        upper: Some(&upper),
        scratch: &work,
        read_only: false,
    };
    driver.mount(&stack, &merged)?;
    let used = fs::read(merged.join("below")).and_then(|_| fs::write(merged.join("file"), "x"));
    driver.unmount(&merged, true)?;
    used.map_err(|source| DriverError::Mount {
        driver: driver.name(),
        target: merged,
        step: "reading and writing through the mount".to_owned(),
        source,
        log: String::new(),
    })
}

/// What is missing, most basic first.
fn missing(privilege: Privilege, place: &Path, error: &str) -> String {
    match fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) {
        Err(Errno::NODEV) => {
            return "the kernel has no overlayfs: load it with `modprobe overlay` as root"
                .to_owned();
        }
        Err(Errno::PERM) => {
            return match privilege {
                Privilege::Root => {
                    "CAP_SYS_ADMIN is missing, or a security policy (seccomp, AppArmor, \
                    SELinux) forbids mounting: a container around this one must allow it"
                        .to_owned()
                }
                Privilege::UserNamespace => {
                    "the kernel allows no overlay mounts in user namespaces: that \
                    needs Linux 5.11 or later, and no policy against it; else run as root"
                        .to_owned()
                }
            };
        }
        _ => {}
    }
    let namespace = match privilege {
        Privilege::Root => "trusted.overlay.probe",
        Privilege::UserNamespace => "user.overlay.probe",
    };
    if let Err(error) = rustix::fs::setxattr(place, namespace, b"y", XattrFlags::empty()) {
        return format!(
            "its file system takes no extended attributes ({namespace}: {}): move the store to ext4, xfs or btrfs with --root",
            io::Error::from(error)
        );
    }
    if tells_types(place) == Some(false) {
        return "its file system does not tell file types in directory listings (d_type; an xfs made with ftype=0): \
            move the store with --root"
            .to_owned();
    }
    match rustix::fs::statfs(place).map(|s| s.f_type as u64) {
        // OVERLAYFS_SUPER_MAGIC of linux/magic.h.
        Ok(0x794c_7630) => format!(
            "it lies on an overlay itself, where no writable layer can be (is this a container?): put the store on a volume with --root ({error})"
        ),
        _ => error.to_owned(),
    }
}

/// Whether the file system tells an entry's type with its name; `None` when that cannot be found out.
fn tells_types(place: &Path) -> Option<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(place, flags, Mode::empty()).ok()?;
    let mut entries = rustix::fs::Dir::read_from(directory).ok()?;
    entries
        .find_map(|entry| entry.ok().filter(|e| e.file_name() == c"low"))
        .map(|entry| entry.file_type() != FileType::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Overlay;

    #[test]
    fn says_why_a_directory_cannot_be_used_and_leaves_nothing() {
        let Some(privilege) = crate::userns::current().ok().flatten() else {
            return;
        };
        let driver = Overlay::new(privilege);
        let dir = tempfile::tempdir().expect("tempdir");
        driver.probe(dir.path()).expect("works");
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 0);
        let error = driver.probe(Path::new("/proc")).expect_err("not in /proc");
        assert!(error.to_string().contains("/proc"), "{error}");
        assert_eq!(tells_types(dir.path()), None);
    }
}
