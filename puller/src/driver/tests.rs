//! One suite over all drivers: the same stack gives the same tree, and what is written lands in the writable
//! directory. Needs a privilege that the caller may lack; then the end-to-end tests are the ones that show it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use rustix::time::ClockId;

use super::*;
use crate::userns::Privilege;

struct Place {
    dir: tempfile::TempDir,
    privilege: Privilege,
    lowers: Vec<PathBuf>,
}

impl Place {
    /// Three layers with whiteouts, an opaque directory, hard links, attributes, modes.
    fn new() -> Option<Self> {
        let privilege = crate::userns::current().ok().flatten()?;
        let dir = tempfile::tempdir().expect("tempdir");
        let mut lowers: Vec<PathBuf> = ["top", "middle", "low"]
            .map(|name| dir.path().join(name))
            .to_vec();
        let [top, middle, low] = &lowers[..] else {
            return None;
        };
        for (layer, paths) in [
            (
                low,
                &[
                    "kept",
                    "gone/inside",
                    "hidden/old",
                    "shared/low",
                    "file-to-dir",
                    "one",
                ][..],
            ),
            (
                middle,
                &[
                    "hidden/new",
                    "shared/middle",
                    "file-to-dir/inside",
                    "replaced",
                ],
            ),
            (top, &["shared/top", "replaced"]),
        ] {
            for path in paths {
                let path = layer.join(path);
                fs::create_dir_all(path.parent().expect("has one")).expect("mkdir");
                fs::write(
                    &path,
                    path.to_string_lossy().rsplit('/').next().unwrap_or(""),
                )
                .expect("write");
            }
        }
        fs::hard_link(low.join("one"), low.join("shared/two")).expect("link");
        fs::hard_link(low.join("one"), low.join("three")).expect("link");
        symlink("/etc/passwd", low.join("link")).expect("symlink");
        // A hole and something behind it.
        let sparse = fs::File::create(low.join("sparse")).expect("create");
        sparse.set_len(1 << 20).expect("grow");
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (1 << 20) - 3).expect("write");
        for (layer, name) in [(middle, "gone"), (top, "three"), (top, "never-there")] {
            whiteout(&layer.join(name));
        }
        let opaque = match privilege {
            Privilege::Root => "trusted.overlay.opaque",
            Privilege::UserNamespace => "user.overlay.opaque",
        };
        set_xattr(&middle.join("hidden"), opaque, b"y");
        set_xattr(&low.join("kept"), "user.note", b"text");
        fs::set_permissions(low.join("kept"), fs::Permissions::from_mode(0o4751)).expect("chmod");
        fs::set_permissions(top.join("shared"), fs::Permissions::from_mode(0o1770)).expect("chmod");
        fs::set_permissions(top, fs::Permissions::from_mode(0o711)).expect("chmod");
        if privilege == Privilege::Root {
            std::os::unix::fs::chown(low.join("kept"), Some(33), Some(44)).expect("chown");
            fs::set_permissions(low.join("kept"), fs::Permissions::from_mode(0o4751))
                .expect("chmod");
            let device = rustix::fs::makedev(1, 3);
            rustix::fs::mknodat(
                CWD,
                low.join("null"),
                FileType::CharacterDevice,
                Mode::RUSR,
                device,
            )
            .expect("mknod");
        }
        rustix::fs::mknodat(CWD, low.join("pipe"), FileType::Fifo, Mode::RUSR, 0).expect("mkfifo");
        // The lowest twice, as images with repeated layers have it.
        let again = low.clone();
        lowers.push(again);
        Some(Self {
            dir,
            privilege,
            lowers,
        })
    }

    /// A container's directories.
    fn container(&self, name: &str) -> Writable {
        let directory = self.dir.path().join(name);
        fs::create_dir_all(&directory).expect("mkdir");
        let writable = Writable::of(&directory);
        writable.make(&self.lowers).expect("made");
        writable
    }
}

fn whiteout(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).expect("mknod");
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, XattrFlags::empty()).expect("setxattr");
}

/// A line for each name: type, mode, owner, time, what it holds, its attribute, its inode's first name.
fn tree(top: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut inodes: Vec<(u64, String)> = Vec::new();
    let mut left = vec![PathBuf::new()];
    while let Some(path) = left.pop() {
        let full = top.join(&path);
        let data = fs::symlink_metadata(&full).expect("stat");
        let kind = data.file_type();
        let mut note = [0; 64];
        let length = rustix::fs::lgetxattr(&full, "user.note", &mut note).unwrap_or(0);
        let content = match kind {
            kind if kind.is_file() => format!(
                "{:?}",
                fs::read(&full).map(|b| strata_oci::Digest::of(&b)).ok()
            ),
            kind if kind.is_symlink() => fs::read_link(&full).expect("link").display().to_string(),
            _ => data.rdev().to_string(),
        };
        let name = path.display().to_string();
        if !kind.is_dir() && data.nlink() > 1 {
            inodes.push((data.ino(), name.clone()));
        }
        // The root of a writable mount is the writable directory.
        let time = match name.is_empty() {
            true => (0, 0),
            false => (data.mtime(), data.mtime_nsec()),
        };
        lines.push(format!(
            "{name}: {:o} {}:{} {}.{} {content} {:?}",
            data.mode(),
            data.uid(),
            data.gid(),
            time.0,
            time.1,
            &note[..length]
        ));
        if kind.is_dir() {
            for entry in fs::read_dir(&full).expect("list") {
                left.push(path.join(entry.expect("entry").file_name()));
            }
        }
    }
    inodes.sort();
    for pair in inodes.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        lines.push(format!("{} = {}", pair[0].1, pair[1].1));
    }
    lines.sort();
    lines
}

/// The drivers that this machine is expected to have; the end-to-end tests fail where one is missing.
fn drivers(privilege: Privilege) -> Vec<Box<dyn Driver>> {
    let all = Name::ALL.into_iter().map(|name| name.driver(privilege));
    let dir = tempfile::tempdir().expect("tempdir");
    all.filter(|driver| driver.name() != Name::FuseOverlayfs || driver.probe(dir.path()).is_ok())
        .collect()
}

#[test]
fn every_driver_shows_the_same_tree() {
    let Some(place) = Place::new() else {
        return;
    };
    let mut trees = Vec::new();
    for driver in drivers(place.privilege) {
        let container = place.container(driver.name().as_str());
        for read_only in [false, true] {
            let stack = Stack {
                lowers: &place.lowers,
                upper: (!read_only).then_some(&container.upper),
                scratch: &container.work,
                read_only,
            };
            // A directory of its own for what is copied.
            let scratch = container.work.with_file_name("scratch");
            let _ = fs::create_dir(&scratch);
            let stack = match read_only {
                true => Stack {
                    scratch: &scratch,
                    ..stack
                },
                false => stack,
            };
            driver.mount(&stack, &container.merged).expect("mounts");
            assert_eq!(state(&container.merged), State::Mounted);
            trees.push((driver.name(), tree(&container.merged)));
            let written = fs::write(container.merged.join("written"), "x").is_ok();
            assert_eq!(written, !read_only, "{}", driver.name());
            let again = driver.mount(&stack, &container.merged);
            assert!(
                matches!(again, Err(DriverError::Target { .. })),
                "{again:?}"
            );
            let inside = fs::File::open(container.merged.join("kept")).expect("open");
            let busy = driver.unmount(&container.merged, false);
            assert!(matches!(busy, Err(DriverError::Busy { .. })), "{busy:?}");
            drop(inside);
            driver.unmount(&container.merged, false).expect("unmounts");
            assert!(!is_mounted(&container.merged));
        }
    }
    let (_, first) = &trees[0];
    for path in [
        "kept",
        "hidden/new",
        "shared/low",
        "shared/middle",
        "shared/top",
        "file-to-dir/inside",
        "sparse",
        "pipe",
    ] {
        assert!(
            first
                .iter()
                .any(|line| line.starts_with(&format!("{path}: "))),
            "{path}: {first:?}"
        );
    }
    for path in ["gone", "hidden/old", "three", "never-there"] {
        assert!(
            !first
                .iter()
                .any(|line| line.starts_with(&format!("{path}: "))),
            "{path}: {first:?}"
        );
    }
    assert!(first.contains(&"one = shared/two".to_owned()), "{first:?}");
    for (name, other) in &trees {
        assert_eq!(first, other, "{name}");
    }
}

#[test]
fn what_is_written_stays_above_and_comes_back() {
    let Some(place) = Place::new() else {
        return;
    };
    let below: Vec<Vec<String>> = place.lowers.iter().map(|l| tree(l)).collect();
    for driver in drivers(place.privilege) {
        let container = place.container(driver.name().as_str());
        let mut stack = Stack {
            lowers: &place.lowers,
            upper: Some(&container.upper),
            scratch: &container.work,
            read_only: false,
        };
        let at = |name: &str| container.merged.join(name);
        assert_eq!(fs::read_dir(&container.upper).expect("list").count(), 0);
        driver.mount(&stack, &container.merged).expect("mounts");
        fs::write(at("kept"), "changed").expect("write");
        fs::remove_file(at("one")).expect("remove");
        fs::remove_dir_all(at("shared")).expect("remove");
        fs::create_dir(at("shared")).expect("mkdir");
        fs::write(at("new"), "new").expect("write");
        driver.unmount(&container.merged, false).expect("unmounts");
        assert_eq!(
            fs::read(container.upper.join("new")).expect("in upper"),
            b"new"
        );
        for read_only in [true, false] {
            stack.read_only = read_only;
            driver
                .mount(&stack, &container.merged)
                .expect("mounts again");
            assert_eq!(fs::read(at("kept")).expect("read"), b"changed");
            assert!(!at("one").exists() && at("new").exists() && at("replaced").exists());
            assert_eq!(fs::read_dir(at("shared")).expect("list").count(), 0);
            assert_eq!(fs::write(at("more"), "x").is_ok(), !read_only);
            driver.unmount(&container.merged, false).expect("unmounts");
        }
    }
    let now: Vec<Vec<String>> = place.lowers.iter().map(|l| tree(l)).collect();
    assert_eq!(below, now, "layers never change");
}

#[test]
fn a_detached_mount_is_seen_by_nobody() {
    let Some(place) = Place::new() else {
        return;
    };
    for driver in drivers(place.privilege) {
        let container = place.container(driver.name().as_str());
        let stack = Stack {
            lowers: &place.lowers,
            upper: Some(&container.upper),
            scratch: &container.work,
            read_only: false,
        };
        let mount = mount_detached(&*driver, &stack, &container.merged).expect("mounts");
        assert!(!is_mounted(&container.merged));
        let flags = rustix::fs::OFlags::RDONLY;
        let file = rustix::fs::openat(&mount, "hidden/new", flags, Mode::empty()).expect("open");
        let mut content = [0; 8];
        assert_eq!(rustix::io::read(&file, &mut content), Ok(3));
    }
}

#[test]
fn an_empty_stack_is_an_empty_tree() {
    let Some(place) = Place::new() else {
        return;
    };
    for driver in drivers(place.privilege) {
        let container = place.container(driver.name().as_str());
        let stack = Stack {
            lowers: &[],
            upper: Some(&container.upper),
            scratch: &container.work,
            read_only: false,
        };
        driver.mount(&stack, &container.merged).expect("mounts");
        assert_eq!(fs::read_dir(&container.merged).expect("list").count(), 0);
        fs::write(container.merged.join("new"), "x").expect("write");
        driver.unmount(&container.merged, false).expect("unmounts");
    }
}

#[test]
fn a_copy_that_was_broken_off_is_made_anew() {
    let Some(place) = Place::new() else {
        return;
    };
    let driver = Vfs::new(place.privilege);
    let container = place.container("vfs");
    let stack = Stack {
        lowers: &place.lowers,
        upper: Some(&container.upper),
        scratch: &container.work,
        read_only: false,
    };
    // Killed on the way, and killed between the exchange and the mark.
    fs::create_dir_all(container.work.join("copy/half")).expect("mkdir");
    fs::write(container.upper.join("half"), "x").expect("write");
    driver.mount(&stack, &container.merged).expect("mounts");
    assert!(!container.merged.join("half").exists() && container.merged.join("kept").exists());
    assert!(!container.work.join("copy").exists());
    driver.unmount(&container.merged, false).expect("unmounts");
}

/// Prints what it measures; the processor's time, best of several tries, because others use the machine, too.
#[test]
fn a_mount_takes_milliseconds_however_high_the_stack() {
    let Some(privilege) = crate::userns::current().ok().flatten() else {
        return;
    };
    let dir = tempfile::tempdir().expect("tempdir");
    let [upper, work, target] = ["upper", "work", "target"].map(|name| dir.path().join(name));
    for path in [&upper, &work, &target] {
        fs::create_dir(path).expect("mkdir");
    }
    let layers: Vec<PathBuf> = (0..200)
        .map(|n| dir.path().join(format!("layers/{n:064}/fs")))
        .inspect(|layer| fs::create_dir_all(layer).expect("mkdir"))
        .collect();
    let driver = Overlay::new(privilege);
    let busy = || {
        let time = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
        Duration::try_from(time).expect("a time")
    };
    for (height, limit) in [(5, 5), (200, 30)] {
        let stack = Stack {
            lowers: &layers[..height],
            upper: Some(&upper),
            scratch: &work,
            read_only: false,
        };
        let once = || {
            let begun = busy();
            driver.mount(&stack, &target).expect("mounts");
            let took = busy() - begun;
            driver.unmount(&target, false).expect("unmounts");
            took
        };
        let best = (0..20).map(|_| once()).min().expect("twenty");
        eprintln!("{height} layers: {best:?}");
        assert!(best.as_millis() < limit, "{height} layers: {best:?}");
    }
}

#[test]
fn marks_that_fuse_overlayfs_leaves_in_files_are_read() {
    let dir = tempfile::tempdir().expect("tempdir");
    let lowers = ["top", "low"].map(|name| dir.path().join(name));
    for path in [
        "low/kept",
        "low/gone",
        "low/sub/old",
        "low/dir/inside",
        "top/.wh.gone",
        "top/sub/.wh..wh..opq",
        "top/sub/new",
        "top/.wh.dir",
    ] {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("has one")).expect("mkdir");
        fs::write(path, "").expect("write");
    }
    let namespace = crate::layer::XattrNamespace::User;
    let stack = merged::Merged::open(&lowers, namespace)
        .map_err(|(_, error)| error)
        .expect("opens");
    let top = stack.top().expect("root");
    let list = stack.list(&top).expect("list");
    let names: Vec<&[u8]> = list.keys().map(Vec::as_slice).collect();
    assert_eq!(names, [&b"kept"[..], b"sub"]);
    let sub = merged::Merged::enter(&top, b"sub", &list[&b"sub"[..]]);
    let names: Vec<Vec<u8>> = stack.list(&sub).expect("list").into_keys().collect();
    assert_eq!(names, [b"new"]);
}
