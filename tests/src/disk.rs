//! A real file system (ext4 or XFS) on a disk of a test's own, whose power can be cut: what is in the file behind the loop
//! device then is what had reached the disk, and nothing else.
//!
//! The kernel keeps what programs write in memory and writes it some time later, or when it is told to (syncfs(2),
//! fsync(2)). So a copy of the file, made while the file system is mounted, is the disk as a power cut at that
//! moment leaves it; mounted, it is recovered from its journal as after one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount};

use crate::command::{run, tool};
use crate::place::Place;
use crate::user::need_root;

/// Unmounts what nobody uses. A process that another thread of the tests starts has, until it runs its program, all
/// files open that this one had then.
#[track_caller]
pub fn unmount(path: &Path) {
    let limit = Instant::now() + Duration::from_secs(30);
    loop {
        let ran = run(Command::new(tool("umount")).arg(path));
        if !ran.stderr.contains("busy") || Instant::now() > limit {
            ran.ok();
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The file system, mounted; it goes with the place that it is in.
pub struct Disk {
    kind: &'static str,
    file: PathBuf,
    mount: PathBuf,
    cuts: u32,
}

impl Disk {
    /// Makes one with ext4 of so many megabytes, empty.
    #[track_caller]
    pub fn new(place: &Place, name: &str, megabytes: u64) -> Self {
        let options = ["-q", "-F", "-E", "lazy_itable_init=0,nodiscard"];
        Self::of("ext4", &options, place, name, megabytes)
    }

    /// Makes one with XFS, which has no smaller ones.
    #[track_caller]
    pub fn xfs(place: &Place, name: &str) -> Self {
        Self::of("xfs", &["-q"], place, name, 320)
    }

    #[track_caller]
    fn of(kind: &'static str, options: &[&str], place: &Place, name: &str, megabytes: u64) -> Self {
        need_root();
        // The disk itself is in memory, so that all this is quick.
        let memory = place.dir(&format!("{name}.memory"));
        mount("tmpfs", &memory, "tmpfs", MountFlags::empty(), None).expect("mount a tmpfs");
        let disk = Self {
            kind,
            file: memory.join("disk"),
            mount: place.dir(name),
            cuts: 0,
        };
        let file = File::create_new(&disk.file).expect("make a file");
        file.set_len(megabytes << 20).expect("set its size");
        run(Command::new(tool(&format!("mkfs.{kind}")))
            .args(options)
            .arg(&disk.file))
        .ok();
        disk.attach();
        disk
    }

    fn attach(&self) {
        let mut mount = Command::new(tool("mount"));
        mount.args(["-t", self.kind, "-o", "loop"]);
        run(mount.arg(&self.file).arg(&self.mount)).ok();
    }

    #[track_caller]
    fn detach(&self) {
        unmount(&self.mount);
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// The power goes, and comes back. Nothing may use the file system.
    #[track_caller]
    pub fn power_cut(&mut self) {
        self.cuts += 1;
        let left = self.file.with_extension(self.cuts.to_string());
        let mut copy = Command::new(tool("cp"));
        run(copy.arg("--sparse=always").arg(&self.file).arg(&left)).ok();
        self.detach();
        fs::remove_file(&self.file).expect("remove the old disk");
        self.file = left;
        self.attach();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It is unmounted already where the test ended well.
        let _ = Command::new(tool("umount"))
            .arg("-l")
            .arg(&self.mount)
            .status();
    }
}
