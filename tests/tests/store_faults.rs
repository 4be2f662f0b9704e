//! The store when things go wrong: commands that are killed at any instant, a power cut at any instant, a disk that
//! is full at any point, and many commands at once. Afterwards `strata system check` finds nothing, every layer that is
//! visible gives the archive of its diffID again, every image that is listed can be mounted, and the command works when it is repeated.
//!
//! STRATA_ROUNDS says how often (12), STRATA_SEED repeats the choices, though not the instants: a failure prints it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use rustix::mount::{MountFlags, mount, mount_remount};
use strata_oci::digest::Digest;
use strata_tests::chance::{number, random};
use strata_tests::command::{Ran, Running, run, tool};
use strata_tests::disk::Disk;
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::place::{Place, remove_tree};
use strata_tests::strata::Strata;
use strata_tests::stratad::Stratad;
use strata_tests::traffic::audit::{copy_of_database, unsound};
use strata_tests::trial::noise;
use strata_tests::user::need_root;

/// A layer of many small files, one that is not small, and things that are replaced.
fn layer(seed: u64) -> Layer {
    let dir = format!("dir{seed}/");
    let mut entries = vec![Entry::dir(&dir)];
    entries.extend((0..120).map(|n| Entry::file(format!("{dir}{n}"), noise(seed * 1000 + n, 600))));
    entries.push(Entry::file("big", noise(seed, 400_000)));
    entries.push(Entry::file("big", noise(seed + 1, 1000)));
    entries.push(Entry::whiteout("other", "gone"));
    Layer::of(&entries)
}

/// Images that share some of their layers, and their names.
fn images(server: &Stratad) -> Vec<(String, Image)> {
    let layers: Vec<Layer> = (1..6).map(layer).collect();
    let shared = [&[0, 1][..], &[0, 2, 3], &[0, 2, 4], &[1]];
    let images = shared.iter().enumerate().map(|(n, picked)| {
        let picked: Vec<Layer> = picked.iter().map(|n| layers[*n].clone()).collect();
        let image = Image::new(&picked);
        (server.api().push(&image, "app", &format!("v{n}")), image)
    });
    images.collect()
}

/// The same images as docker archives.
fn archives(place: &Place, images: &[(String, Image)]) -> Vec<String> {
    let strata = Strata::at(Strata::new(place).program().to_owned(), place.join("other"));
    let save = images.iter().enumerate().map(|(n, (name, _))| {
        let archive = place.join(format!("v{n}.tar"));
        let archive = archive.to_str().expect("a plain path").to_owned();
        strata.run(&["pull", "-q", name]).ok();
        strata.run(&["save", "-o", &archive, name]).ok();
        archive
    });
    save.collect()
}

/// What is not as it should be in a store that nothing uses, in words.
fn wrong(strata: &Strata) -> Vec<String> {
    let mut wrong = wrong_inside(strata);
    for name in names(strata) {
        let mounted = strata.run(&["mount", "--ro", &name]);
        if mounted.code() != 0 {
            wrong.push(mounted.story());
            continue;
        }
        strata.run(&["umount", &mounted.out()]).ok();
    }
    wrong
}

/// The same without mounts, for which there has to be room.
fn wrong_inside(strata: &Strata) -> Vec<String> {
    let mut wrong = Vec::new();
    let checked = strata.run(&["system", "check"]);
    if checked.code() != 0 {
        wrong.push(checked.story());
    }
    let listed = strata.run(&["images", "--format", "json"]);
    if listed.code() != 0 {
        return vec![listed.story()];
    }
    for name in strata.layers() {
        let directory = strata.root().join("layers").join(&name);
        let mut archive = Vec::new();
        match strata::layer::rebuild(&directory, &mut archive) {
            Ok(()) if Digest::of(&archive).hex() == name => {}
            Ok(()) => wrong.push(format!("layer {name} gives another archive")),
            Err(error) => wrong.push(format!("layer {name}: {error}")),
        }
    }
    match copy_of_database(&strata.root().join("strata.db")) {
        Ok((_copy, db)) => {
            wrong.extend(unsound(&db).unwrap_or_else(|error| vec![error.to_string()]))
        }
        Err(error) => wrong.push(format!("no database: {error}")),
    }
    let staged = strata.leftovers();
    let staged = staged.iter().filter(|name| name.starts_with("staging/"));
    wrong.extend(staged.map(|name| format!("{name} is left")));
    wrong
}

/// The names of the images that the store lists.
fn names(strata: &Strata) -> BTreeSet<String> {
    let images = strata.images();
    let text = images.to_string();
    // Whatever the report calls the field, a name of these ends with its tag.
    let words = text.split('"').filter(|word| word.contains("/app:v"));
    words.map(str::to_owned).collect()
}

#[track_caller]
fn assert_right(strata: &Strata, when: &str) {
    let wrong = wrong(strata);
    assert!(wrong.is_empty(), "{when}:\n{}", wrong.join("\n"));
}

#[test]
fn commands_that_are_killed_leave_a_store_that_is_right_and_work_when_repeated() {
    need_root();
    let mut random = random();
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let images = images(&server);
    let archives = archives(&place, &images);
    let strata = Strata::new(&place);
    let (mut kills, mut took) = (0, Duration::from_millis(300));
    for round in 0..number("STRATA_ROUNDS", 12) * 2 {
        let picked = random.random_range(0..images.len());
        let (name, image) = &images[picked];
        let there = names(&strata).contains(name);
        let args = match (there, random.random_ratio(1, 2)) {
            (true, true) => vec!["rmi", name],
            (true, false) => vec!["image", "prune", "-a", "-f"],
            (false, true) => vec!["pull", "-q", name],
            (false, false) => vec!["load", "-q", "-i", &archives[picked]],
        };
        let mut running = Running::start(&mut strata.command(&args));
        let most = if there {
            Duration::from_millis(40)
        } else {
            took.mul_f64(1.1)
        };
        thread::sleep(most.mul_f64(random.random_range(0.0..1.0)));
        kills += u32::from(running.child.try_wait().expect("wait").is_none());
        drop(running);
        assert_right(&strata, &format!("round {round}, after a kill of {args:?}"));
        if random.random_ratio(1, 2) {
            let again = strata.run(&args);
            if !there {
                took = took.min(again.took.max(Duration::from_millis(20)));
            }
            // What was to be removed may have been.
            assert!(
                again.code() == 0 || (there && !names(&strata).contains(name)),
                "{}",
                again.story()
            );
            assert_eq!(names(&strata).contains(name), !there);
            let layers = strata.layers();
            let all = image
                .layers
                .iter()
                .all(|layer| layers.iter().any(|name| *name == layer.diff_id.hex()));
            assert!(there || all, "{layers:?}");
            assert_right(&strata, &format!("round {round}, after {args:?} again"));
        }
    }
    println!("{kills} kills");
    assert!(kills > 5, "nothing was tried");
    for name in names(&strata) {
        strata.run(&["rmi", &name]).ok();
    }
    assert_eq!(
        strata.layers(),
        [""; 0],
        "nothing is left of what no image has"
    );
}

/// Pulls and removes until the power goes; what was acknowledged before is there afterwards, and nothing is half there.
fn power_cuts(
    rounds: u64,
    kill: bool,
    command: impl Fn(&Strata, &[&str]) -> Command,
) -> Vec<String> {
    need_root();
    let mut random = random();
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let images = images(&server);
    let mut found = Vec::new();
    let mut disk = Disk::new(&place, "disk", 48);
    let strata = Strata::at(
        Strata::new(&place).program().to_owned(),
        disk.path().join("store"),
    );
    let (mut acknowledged, mut cuts) = (BTreeSet::new(), 0);
    for round in 0..rounds {
        let (name, _) = &images[random.random_range(0..images.len())];
        let there = acknowledged.contains(name);
        let args = match there {
            true => vec!["rmi", name],
            false => vec!["pull", "-q", name],
        };
        let mut running = Running::start(&mut command(&strata, &args));
        let until = Instant::now() + Duration::from_millis(random.random_range(0..400));
        let ended = loop {
            if let Some(status) = running.child.try_wait().expect("wait") {
                break Some(status);
            }
            if kill && Instant::now() > until {
                break None;
            }
            thread::sleep(Duration::from_millis(1));
        };
        drop(running);
        disk.power_cut();
        cuts += u32::from(ended.is_none());
        match ended {
            Some(status) if status.success() && there => {
                acknowledged.remove(name);
            }
            Some(status) if status.success() => {
                acknowledged.insert(name.clone());
            }
            Some(status) => found.push(format!("{args:?}: {status}")),
            // It may be done, and it may be not.
            None if there && !names(&strata).contains(name) => {
                acknowledged.remove(name);
            }
            None => {}
        }
        let now = names(&strata);
        for lost in acknowledged.iter().filter(|name| !now.contains(*name)) {
            found.push(format!("round {round}: {lost} was pulled and is gone"));
        }
        acknowledged = now;
        let wrong = wrong(&strata);
        found.extend(
            wrong
                .iter()
                .map(|wrong| format!("round {round}, {args:?}: {wrong}")),
        );
        if !found.is_empty() {
            return found;
        }
    }
    println!("{rounds} power cuts, {cuts} of them while a command ran");
    for (name, _) in &images {
        strata.run(&["pull", "-q", name]).ok();
    }
    assert_right(&strata, "at the end");
    found
}

#[test]
fn a_power_cut_takes_nothing_that_was_acknowledged_and_leaves_nothing_half() {
    let found = power_cuts(number("STRATA_ROUNDS", 12), true, |strata, args| {
        strata.command(args)
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The test above can fail: without the syncs it sees the loss.
#[test]
fn without_the_syncs_a_power_cut_would_be_seen() {
    let found = power_cuts(10, false, |strata, args| {
        let mut command = Command::new(tool("strace"));
        command.args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=syncfs,fsync,fdatasync",
        ]);
        command.args(["-e", "inject=syncfs,fsync,fdatasync:retval=0"]);
        command
            .arg(strata.program())
            .args(args)
            .env("STRATA_ROOT", strata.root());
        command
    });
    println!("seen: {}", found.join("\n"));
    assert!(!found.is_empty(), "nothing was lost");
}

/// A file system in memory that holds so much, at `place/name`.
fn memory(place: &Place, name: &str, options: &str) -> std::path::PathBuf {
    let path = place.dir(name);
    let options = std::ffi::CString::new(options).expect("no zero");
    mount(
        "tmpfs",
        &path,
        "tmpfs",
        MountFlags::empty(),
        options.as_c_str(),
    )
    .expect("mount a tmpfs");
    path
}

/// What a command on a full disk says; it is no fault of the image's (exit code 1) that there is none.
#[track_caller]
fn full_of(ran: Ran) {
    assert!(
        matches!(ran.code(), 1 | 2) && !ran.stderr.contains("panicked"),
        "{}",
        ran.story()
    );
    ran.says("space");
}

fn grow(path: &Path) {
    mount_remount(path, MountFlags::empty(), c"size=64m,nr_inodes=100000").expect("grow");
}

#[test]
fn a_disk_that_is_full_at_any_point_of_a_pull_takes_nothing_else_along() {
    need_root();
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let images = images(&server);
    let (kept, _) = &images[3];
    let (wanted, _) = &images[1];
    let program = Strata::new(&place).program().to_owned();
    // What the first image takes, and what both do.
    let probe = memory(&place, "probe", "size=64m");
    let strata = Strata::at(program.clone(), probe.join("store"));
    let used = || {
        let stat = rustix::fs::statvfs(&probe).expect("statvfs");
        (
            (stat.f_blocks - stat.f_bfree) * stat.f_frsize,
            stat.f_files - stat.f_ffree,
        )
    };
    strata.pull(kept);
    let first = used();
    strata.pull(wanted);
    let both = used();
    let steps = number("STRATA_ROUNDS", 12);
    let between = |from: u64, to: u64, step: u64| from + (to - from) * step / steps;
    let cases = (0..steps).flat_map(|step| {
        let bytes = between(first.0 + 100_000, both.0, step);
        let inodes = between(first.1 + 6, both.1, step);
        [
            format!("size={bytes}"),
            format!("size=64m,nr_inodes={inodes}"),
        ]
    });
    let mut full = 0;
    for (n, options) in cases.enumerate() {
        let disk = memory(&place, &format!("disk{n}"), &options);
        let strata = Strata::at(program.clone(), disk.join("store"));
        let ran = strata.run(&["pull", "-q", kept]);
        if !ran.status.success() {
            // Then there was no room for that either; the next disk is larger.
            full_of(ran);
            continue;
        }
        let ran = strata.run(&["pull", "-q", wanted]);
        if !ran.status.success() {
            full += 1;
            full_of(ran);
            assert_eq!(names(&strata), BTreeSet::from([kept.clone()]), "{options}");
            assert_eq!(wrong_inside(&strata), [""; 0], "{options}");
        }
        grow(&disk);
        strata.run(&["pull", "-q", wanted]).ok();
        assert_right(&strata, &options);
        assert_eq!(strata.leftovers(), [""; 0], "{options}");
        assert_eq!(names(&strata).len(), 2);
        rustix::mount::unmount(&disk, rustix::mount::UnmountFlags::DETACH).expect("unmount");
    }
    println!("{full} of {} disks were full", 2 * steps);
    assert!(full >= steps, "{full} of {} disks were full", 2 * steps);
}

#[test]
fn many_commands_at_once_leave_a_store_that_is_right() {
    need_root();
    let mut seeds = random();
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let images = images(&server);
    let strata = Strata::new(&place);
    let stop = AtomicBool::new(false);
    let done = [const { AtomicU32::new(0) }; 6];
    let seconds = number("STRATA_ROUNDS", 12) / 2;
    let rngs: Vec<StdRng> = (0..4)
        .map(|_| StdRng::seed_from_u64(seeds.next_u64()))
        .collect();
    thread::scope(|scope| {
        for mut random in rngs {
            let (strata, images, stop, done) = (&strata, &images, &stop, &done);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let (name, _) = &images[random.random_range(0..images.len())];
                    let what = random.random_range(0..done.len());
                    let args: &[&str] = match what {
                        0 => &["pull", "-q", name],
                        1 => &["rmi", name],
                        2 => &["images", "-q"],
                        3 => &["image", "prune", "-a", "-f"],
                        4 => &["system", "check"],
                        _ => &["mount", "--ro", name],
                    };
                    let ran = run(&mut strata.command(args));
                    assert!(!ran.stderr.contains("panicked"), "{}", ran.story());
                    if what == 5 && ran.code() == 0 {
                        let top = ran.out();
                        let big =
                            std::fs::read(Path::new(&top).join("big")).expect("a whole image");
                        assert_eq!(big.len(), 1000);
                        strata.run(&["umount", &top]).ok();
                    } else if what == 1 || what == 5 {
                        // Gone, or not pulled yet, or in use: nothing else may come of it.
                        assert!(matches!(ran.code(), 0 | 1), "{}", ran.story());
                    } else {
                        ran.ok();
                    }
                    done[what].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        thread::sleep(Duration::from_secs(seconds));
        stop.store(true, Ordering::Relaxed);
    });
    let done = done.map(AtomicU32::into_inner);
    println!(
        "{} pulls, {} removals, {} lists, {} prunes, {} checks, {} mounts",
        done[0], done[1], done[2], done[3], done[4], done[5]
    );
    assert!(done.iter().all(|count| *count > 1), "{done:?}");
    assert_right(&strata, "afterwards");
    for (name, _) in &images {
        strata.run(&["pull", "-q", name]).ok();
    }
    assert_right(&strata, "with all images");
    assert_eq!(strata.layers().len(), 5);
    for (name, _) in &images {
        strata.run(&["rmi", name]).ok();
    }
    assert_eq!(strata.layers(), [""; 0]);
    remove_tree(strata.root()).expect("remove the store");
}
