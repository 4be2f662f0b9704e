//! A full disk: the server and the puller say so, lose nothing that was there, and go on when there is room.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount, mount_remount};
use serde_json::json;
use strata_tests::disk::{Disk, unmount};
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::place::Place;
use strata_tests::strata::Strata;
use strata_tests::stratad::Stratad;
use strata_tests::trial::noise;
use strata_tests::user::need_root;

/// A file system of `megabytes` in memory at `place/name`; it goes with the place.
fn small_disk(place: &Place, name: &str, megabytes: u32) -> PathBuf {
    need_root();
    let path = place.dir(name);
    let size = std::ffi::CString::new(format!("size={megabytes}m")).expect("no zero");
    mount(
        "tmpfs",
        &path,
        "tmpfs",
        MountFlags::empty(),
        size.as_c_str(),
    )
    .expect("mount a tmpfs");
    path
}

fn grow(path: &Path, megabytes: u32) {
    let size = std::ffi::CString::new(format!("size={megabytes}m")).expect("no zero");
    mount_remount(path, MountFlags::empty(), size.as_c_str()).expect("grow the tmpfs");
}

#[test]
fn the_server_says_that_its_disk_is_full_and_goes_on() {
    let place = Place::new();
    let disk = small_disk(&place, "disk", 16);
    let server = Stratad::start(&disk.join("data"));
    let api = server.api();
    let kept = api.push_blob("app", b"kept");
    let large = noise(1, 30_000_000);
    let digest = strata_oci::digest::Digest::of(&large);
    let reply = api.finish(&api.start("app"), &digest.to_string(), &large);
    assert!([500, 503, 507].contains(&reply.status), "{}", reply.status);
    assert!(!api.has_blob("app", &digest));
    assert_eq!(api.blob("app", &kept).expect(200).body, b"kept");
    grow(&disk, 100);
    let digest = api.push_blob("app", &large);
    assert!(api.has_blob("app", &digest));
}

#[test]
fn a_pull_onto_a_full_disk_leaves_nothing_and_the_next_one_works() {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let image = Image::new(&[
        Layer::of(&[Entry::file("small", "small")]),
        Layer::of(&[Entry::file("big", noise(2, 20_000_000))]),
    ]);
    let reference = server.api().push(&image, "app", "v1");
    let disk = small_disk(&place, "disk", 12);
    let strata = Strata::at(Strata::new(&place).program().to_owned(), disk.join("store"));
    let ran = strata.run(&["pull", &reference]);
    let ran = ran.refused().says("space");
    assert_eq!(strata.layers(), [""; 0], "{}", ran.story());
    assert_eq!(strata.images(), json!([]));
    grow(&disk, 200);
    assert_eq!(strata.pull(&reference).digest, image.digest.to_string());
    assert_eq!(strata.leftovers(), [""; 0]);
    assert_eq!(strata.layers().len(), 2);
}

/// Writes until nothing more fits.
fn fill(path: &Path) {
    let file = fs::File::options().append(true).create(true).open(path);
    let mut file = file.expect("open");
    for size in [1 << 20, 1 << 12] {
        let zeros = vec![0; size];
        while file.write_all(&zeros).is_ok() {}
    }
}

#[test]
fn on_a_full_disk_a_store_is_looked_at_and_what_is_removed_makes_room() {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let image = |number| {
        let image = Image::new(&[Layer::of(&[Entry::file("big", noise(number, 2_000_000))])]);
        server.api().push(&image, "app", &format!("v{number}"))
    };
    let [first, second, third] = [1, 2, 3].map(image);
    let disk = small_disk(&place, "disk", 24);
    let strata = Strata::at(Strata::new(&place).program().to_owned(), disk.join("store"));
    strata.pull(&first);
    let create = ["create", "--name", "one", &third, "/program"];
    strata.run(&create).ok();
    // The last one to close the index leaves no files beside it, which it needs to be opened again.
    strata.pull(&second);
    assert!(!strata.root().join("strata.db-shm").exists());
    let other = disk.join("other");
    let free = || {
        let room = rustix::fs::statvfs(&disk).expect("statvfs");
        room.f_bavail * room.f_frsize
    };
    let full = |args: &[&str]| {
        fill(&other);
        strata.run(args).ok()
    };
    assert_eq!(full(&["images", "-q"]).out().lines().count(), 3);
    assert!(full(&["ps", "-a"]).out().contains("one"));
    full(&["rmi", &first]);
    assert!(free() > 1_500_000, "{}", free());
    full(&["rm", "one"]);
    let pruned = full(&["system", "prune", "-a", "-f"]);
    assert!(free() > 3_000_000, "{}", pruned.story());
    assert_eq!(strata.layers(), [""; 0]);
    full(&["images"]);
    fs::remove_file(&other).expect("remove");
    strata.pull(&first);
    strata.run(&["system", "check"]).ok();
    let reserve = fs::metadata(strata.root().join("reserve")).expect("made again");
    assert_eq!(reserve.len(), 1 << 20);
}

#[test]
fn where_blocks_are_small_the_index_has_room_for_its_memory_before_it_is_opened() {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let image = Image::new(&[Layer::of(&[Entry::file("some", "x")])]);
    let reference = server.api().push(&image, "app", "v1");
    // Of this size, mkfs.ext4 takes blocks of 1 KiB.
    let disk = Disk::new(&place, "disk", 14);
    let program = Strata::new(&place).program().to_owned();
    let strata = Strata::at(program, disk.path().join("store"));
    strata.pull(&reference);
    let create = ["create", "--name", "one", &reference, "/program"];
    strata.run(&create).ok();
    fill(&disk.path().join("other"));
    let mut rest = fs::File::create(disk.path().join("rest")).expect("create");
    while rest.write_all(b"x").is_ok() && rest.metadata().expect("look").len() < 4000 {}
    drop(rest);
    // Without, SIGBUS killed one of several dozen.
    for _ in 0..10 {
        strata.run(&["images", "-q"]).ok();
        let reserve = fs::metadata(strata.root().join("reserve")).expect("reserve");
        assert_eq!(reserve.len(), 768 << 10, "a part of it, once");
    }
    unmount(disk.path());
}

#[test]
fn a_container_that_fills_the_disk_harms_only_itself() {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let mut collector = strata_tests::machine::Collector::default();
    collector
        .programs(&["sh", "cat", "head", "ls"])
        .expect("programs");
    let image = Image::new(&[Layer::of(&collector.take().expect("files"))]);
    let reference = server.api().push(&image, "app", "v1");
    let disk = small_disk(&place, "disk", 40);
    let strata = Strata::at(Strata::new(&place).program().to_owned(), disk.join("store"));
    strata.pull(&reference);
    let fill = [
        "run",
        "--name",
        "full",
        &reference,
        "sh",
        "-c",
        "head -c 100000000 /dev/zero > /big",
    ];
    let ran = strata.run(&fill);
    assert!(
        !ran.status.success() && ran.stderr.contains("No space"),
        "{}",
        ran.story()
    );
    strata.run(&["rm", "full"]).ok();
    strata
        .run(&["run", "--rm", &reference, "sh", "-c", "echo fine > /x"])
        .ok();
}
