//! The registry as an ordinary user: it needs no privilege, only a directory of its own, and says so.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use strata_tests::binaries::binary;
use strata_tests::place::Place;
use strata_tests::program;
use strata_tests::scene::shell_image;
use strata_tests::stratad::Stratad;
use strata_tests::user::User;

const NOBODY: u32 = 65534;

/// A program that is stratad as this user.
fn stratad_of(user: &User, place: &Place) -> PathBuf {
    let command = user.command(&binary("stratad"));
    let mut words = vec![command.get_program()];
    words.extend(command.get_args());
    let words: Vec<_> = words
        .iter()
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    let path = place.join("stratad-of-nobody");
    program::write(
        &path,
        &format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" ")),
    );
    path
}

fn refusal(stratad: &Path, data: &Path) -> String {
    let launched = Stratad::launch(stratad, data).map(|_| ());
    format!("{:#}", launched.expect_err("refused"))
}

#[test]
fn an_ordinary_user_serves_from_a_directory_of_their_own() {
    let place = Place::new();
    let user = User::new(&place, NOBODY);
    let data = user.home().join("registry");
    let server = Stratad::launch(&stratad_of(&user, &place), &data).expect("serve");
    let image = shell_image();
    server.api().push(&image, "a", "v1");
    assert!(server.api().has_blob("a", &image.id()));
    assert_eq!(
        fs::metadata(data.join("stratad.db"))
            .expect("database")
            .uid(),
        NOBODY
    );
}

#[test]
fn a_directory_that_the_user_cannot_write_is_refused_with_what_to_do() {
    let place = Place::new();
    let user = User::new(&place, NOBODY);
    let stratad = stratad_of(&user, &place);
    let readable = place.dir("readable");
    let closed = place.dir("closed");
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).expect("chmod");
    for data in [
        &readable,
        &closed,
        &readable.join("new"),
        &closed.join("new"),
    ] {
        let said = refusal(&stratad, data);
        let words = format!("cannot use the data directory {}", data.display());
        assert!(
            said.contains(&words) && said.contains("Permission denied"),
            "{said}"
        );
        assert!(
            said.contains("user 65534") && said.contains("--data"),
            "{said}"
        );
    }
    // What root began, for example by a first start without a unit, is refused as well.
    drop(Stratad::start(&readable));
    chown(&readable, Some(NOBODY), None).expect("chown");
    let said = refusal(&stratad, &readable);
    assert!(
        said.contains("user 65534") && said.contains("lock"),
        "{said}"
    );
}
