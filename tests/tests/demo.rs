//! `cargo demo` as root and as an ordinary user: all of its claims hold, and nothing of it stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use strata_tests::binaries::binary;
use strata_tests::command::{Ran, Running, run};
use strata_tests::place::{Place, mounts_under};
use strata_tests::program;
use strata_tests::stratad::Stratad;
use strata_tests::user::{User, need_root};

const DEMO: &str = env!("CARGO_BIN_EXE_demo");

/// The three programs where every user can run them.
fn programs(place: &Place) -> PathBuf {
    let directory = place.dir("programs");
    for built in [PathBuf::from(DEMO), binary("strata"), binary("stratad")] {
        let name = built.file_name().expect("named");
        program::copy(&built, &directory.join(name));
    }
    directory
}

fn demo(mut command: Command, programs: &Path, temporary: &Path, words: &[&str]) -> Command {
    command
        .env("STRATA_BIN_DIR", programs)
        .env("TMPDIR", temporary)
        .args(words);
    command
}

#[track_caller]
fn assert_went_well(ran: Ran, temporary: &Path) {
    let ran = ran.ok();
    assert!(
        ran.out().contains("Everything is removed again"),
        "{}",
        ran.story()
    );
    assert_nothing_left(temporary);
}

#[track_caller]
fn assert_nothing_left(temporary: &Path) {
    let left: Vec<_> = fs::read_dir(temporary)
        .expect("list")
        .flatten()
        .map(|e| e.path())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(mounts_under(temporary), Vec::<PathBuf>::new());
}

#[test]
fn as_root() {
    need_root();
    let place = Place::new();
    let (programs, temporary) = (programs(&place), place.dir("tmp"));
    let mut command = demo(
        Command::new(programs.join("demo")),
        &programs,
        &temporary,
        &[],
    );
    assert_went_well(run(&mut command), &temporary);
}

#[test]
fn as_an_ordinary_user() {
    let place = Place::new();
    let user = User::new(&place, 61_030);
    let (programs, temporary) = (programs(&place), user.home().join("tmp"));
    fs::create_dir(&temporary).expect("make");
    std::os::unix::fs::chown(&temporary, Some(user.id()), Some(user.id())).expect("chown");
    let command = user.command(&programs.join("demo"));
    assert_went_well(
        run(&mut demo(command, &programs, &temporary, &[])),
        &temporary,
    );
}

#[test]
fn with_images_of_ones_own() {
    need_root();
    let place = Place::new();
    let (programs, temporary) = (programs(&place), place.dir("tmp"));
    let server = Stratad::start(&place.join("data"));
    let entries = [strata_tests::entry::Entry::file("file", "content")];
    let base = strata_tests::image::Layer::of(&entries);
    let own = strata_tests::image::Layer::of(&[strata_tests::entry::Entry::file("own", "x")]);
    let (a, b) = ([base.clone()], [base, own]);
    let image = |layers: &[_]| strata_tests::image::Image::new(layers);
    let references = [
        server.api().push(&image(&a), "a", "v1"),
        server.api().push(&image(&b), "b", "v1"),
    ];
    let words = [references[0].as_str(), references[1].as_str()];
    let mut command = demo(
        Command::new(programs.join("demo")),
        &programs,
        &temporary,
        &words,
    );
    assert_went_well(run(&mut command), &temporary);
}

#[test]
fn an_interrupt_leaves_nothing() {
    need_root();
    let place = Place::new();
    let (programs, temporary) = (programs(&place), place.dir("tmp"));
    for wait in [30, 150, 400] {
        let mut command = demo(
            Command::new(programs.join("demo")),
            &programs,
            &temporary,
            &[],
        );
        let running = Running::start(&mut command);
        std::thread::sleep(std::time::Duration::from_millis(wait));
        running.signal(rustix::process::Signal::INT);
        running.wait();
        assert_nothing_left(&temporary);
    }
}
