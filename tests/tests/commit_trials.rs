//! Commits under trial: changes by chance, ordinary users, kills, programs that go on.

use std::fs;
use std::path::Path;
use std::thread;

use rand::RngExt;
use strata_tests::chance::random;
use strata_tests::command::Running;
use strata_tests::committed::{committed, layers, mounted, shell};
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::place::Place;
use strata_tests::scene::{Scene, shell_layer};
use strata_tests::strata::Strata;
use strata_tests::tree::Tree;
use strata_tests::user::{User, need_root};
use strata_tests::wild;

#[test]
fn changes_by_chance_come_out_elsewhere_as_they_were_made() {
    need_root();
    let mut random = random();
    let s = Scene::new();
    let base = Image::new(&[
        shell_layer(),
        Layer::of(&[Entry::dir("wild/"), Entry::file("wild/one", "1")]),
    ]);
    let mut name = s.push(&base, "v0");
    s.strata.pull(&name);
    for round in 0..6 {
        // fuse-overlayfs (1.10) answers EIO to whoever changes owner or mode of a device or fifo of a lower layer: it
        // would have to copy it up, and tries to open it. The bare program does so, too, without anything of ours.
        let driver = ["overlay", "vfs"][random.random_range(0..2)];
        let top = s
            .strata
            .run(&["--driver", driver, "mount", &name])
            .ok()
            .out();
        let wild = Path::new(&top).join("wild");
        match round {
            0 => wild::grow(&wild, 60, &mut random).expect("grow"),
            _ => wild::change(&wild, 15, &mut random).expect("change"),
        }
        if round == 5 {
            wild::refine(&wild, &mut random).expect("refine");
        }
        let truth = Tree::read(Path::new(&top));
        let next = s.server.reference("app", &format!("v{}", round + 1));
        let id = top.rsplit('/').nth(1).expect("an id").to_owned();
        s.strata.run(&["commit", &id, &next]).ok();
        s.strata.run(&["umount", &top]).ok();
        s.strata.run(&["push", "-q", &next]).ok();
        println!("round {round} on {driver}");
        mounted(&s.strata, &next).assert_same(&truth);
        let there = s.fresh_store();
        there.pull(&next);
        mounted(&there, &next).assert_same(&truth);
        name = next;
    }
    s.strata.run(&["system", "check"]).ok();
}

#[test]
fn an_ordinary_user_commits_and_owners_are_those_that_the_container_saw() {
    let (s, base) = shell();
    let place = Place::new();
    let single = User::new(&place, 61_501);
    let granted = User::new(&place, 61_502).with_subordinate_ids(&place, 800_000, 65_536);
    let script = "set -e; rm two; rm -r sub; mkdir sub; echo new > sub/new; chmod 4711 sub/new; mkdir /made; \
        chown 33:44 /made 2>/dev/null || true; cp -l one /made/again";
    let mut seen = Vec::new();
    for (user, owner) in [(&single, (0, 0)), (&granted, (33, 44))] {
        // An ordinary user may not open /dev/fuse everywhere.
        for driver in ["overlay", "vfs"] {
            let strata = Strata::of_user(&place, user);
            strata.pull(&base);
            let name = s.server.reference("rootless", driver);
            committed(&strata, driver, &base, script, &[], &name).ok();
            strata.run(&["push", "-q", &name]).ok();
            let here = s.fresh_store();
            here.pull(&name);
            let tree = mounted(&here, &name);
            let made = tree.get("made").expect("there");
            assert_eq!(made.owner, owner, "{driver}");
            assert_eq!(
                tree.get("data/sub/new").expect("there").mode,
                0o4711,
                "{driver}"
            );
            assert!(tree.get("data/two").is_none() && tree.get("data/sub/three").is_none());
            let again = tree.get("made/again").expect("there").same_as.clone();
            assert_eq!(again.as_deref(), Some(Path::new("data/one")), "{driver}");
            let ran = strata
                .run(&["run", "--rm", &name, "sh", "-c", "cat sub/new; ls"])
                .ok();
            assert_eq!(ran.out(), "new\nmine\none\nsub", "{driver}");
            strata.run(&["system", "check"]).ok();
            seen.push((owner, layers(&strata, &name).pop()));
            fs::remove_dir_all(s.place.join("fresh")).expect("remove");
        }
    }
    for same in seen.chunks(2) {
        assert!(same.iter().all(|layer| *layer == same[0]), "{same:?}");
    }
}

#[test]
fn a_commit_that_is_killed_leaves_a_store_that_is_right_and_works_when_repeated() {
    need_root();
    let mut random = random();
    let (s, base) = shell();
    let script = "head -c 9000000 /dev/urandom > /big; mkdir /many; for n in 1 2 3 4 5 6 7 8 9; do head -c 99999 /dev/urandom > /many/$n; done";
    s.strata
        .run(&["run", "--name", "box", &base, "sh", "-c", script])
        .ok();
    let took = s.strata.run(&["commit", "box", "whole"]).ok().took;
    let truth = mounted(&s.strata, "whole");
    let whole = layers(&s.strata, "whole");
    s.strata.run(&["rmi", "whole"]).ok();
    let mut kills = 0;
    for round in 0..12 {
        let mut running = Running::start(&mut s.strata.command(&["commit", "box", "whole"]));
        thread::sleep(took.mul_f64(random.random_range(0.0..1.1)));
        kills += u32::from(running.child.try_wait().expect("wait").is_none());
        drop(running);
        s.strata.run(&["system", "check"]).ok();
        let images = s.strata.images().to_string();
        assert_eq!(s.strata.leftovers(), [""; 0], "round {round}");
        if images.contains("whole") {
            assert_eq!(layers(&s.strata, "whole"), whole);
            s.strata.run(&["rmi", "whole"]).ok();
        }
    }
    println!("{kills} kills");
    assert!(kills > 3, "nothing was tried");
    s.strata.run(&["commit", "box", "whole"]).ok();
    mounted(&s.strata, "whole").assert_same(&truth);
    s.strata.run(&["system", "check"]).ok();
}

#[test]
fn a_running_container_is_held_still_meanwhile_and_goes_on() {
    let (s, base) = shell();
    let place = Place::new();
    let user = User::new(&place, 61_503);
    for strata in [s.strata.clone(), Strata::of_user(&place, &user)] {
        strata.pull(&base);
        // The first file is always as far as the last, or one ahead. Between them is much to read.
        let script = "head -c 30000000 /dev/urandom > /data/big; n=0; while true; do n=$((n+1)); \
            echo $n > /tmp/t; mv /tmp/t /data/a; echo $n > /tmp/t; mv /tmp/t /data/z; done";
        let run = ["run", "-d", "--name", "busy", &base, "sh", "-c", script];
        strata.run(&run).ok();
        let count = |image: &str, name: &str| -> u64 {
            let ran = strata
                .run(&["run", "--rm", image, "cat", &format!("/data/{name}")])
                .ok();
            ran.out().parse().expect("a number")
        };
        let live = || -> u64 {
            let ran = strata.run(&["exec", "busy", "cat", "/data/z"]);
            ran.out().parse().unwrap_or(0)
        };
        for _ in 0..500 {
            if live() > 0 {
                break;
            }
            thread::sleep(std::time::Duration::from_millis(20));
        }
        strata.run(&["commit", "busy", "moment"]).ok();
        let (first, last) = (count("moment", "a"), count("moment", "z"));
        assert!(first == last || first == last + 1, "{first} {last}");
        let now = live();
        let goes_on = (0..500).any(|_| {
            thread::sleep(std::time::Duration::from_millis(10));
            live() > now
        });
        assert!(goes_on, "it is still at {now}");
        let listed = strata.run(&["ps"]).ok().out();
        assert!(
            listed.contains("busy") && !listed.contains("aused"),
            "{listed}"
        );
        strata.run(&["pause", "busy"]).ok();
        strata.run(&["commit", "busy", "again"]).ok();
        assert!(
            strata.run(&["ps"]).ok().out().contains("aused"),
            "one that was paused stays so"
        );
        strata.run(&["rm", "-f", "busy"]).ok();
    }
}
