//! An ordinary user to whom the machine grants ids (subuid(5)): owners of files are kept, in the store, in
//! containers, and in what is pushed again.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use serde_json::json;
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::place::Place;
use strata_tests::scene::shell_layer;
use strata_tests::strata::Strata;
use strata_tests::stratad::Stratad;
use strata_tests::user::User;

const FIRST: u32 = 700_000;

struct Setup {
    place: Place,
    server: Stratad,
    image: Image,
    reference: String,
}

fn setup() -> Setup {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let files = [
        Entry::dir("data/").mode(0o750).owner(33, 34),
        Entry::file("data/mine", "mine\n").mode(0o640).owner(33, 34),
        Entry::file("data/far", "far\n").owner(100_000, 100_001),
        Entry::program("data/tool", "#!/bin/sh\n")
            .mode(0o4755)
            .owner(33, 0),
        Entry::file(
            "etc/passwd",
            "root:x:0:0::/:/bin/sh\nwww:x:33:34::/:/bin/sh\n",
        ),
        Entry::file("etc/group", "root:x:0:\nwww:x:34:\nmore:x:50:www\n"),
    ];
    let image = Image::with_config(
        &[shell_layer(), Layer::of(&files)],
        json!({ "Cmd": ["sh"], "Env": ["PATH=/usr/bin:/bin"] }),
    );
    let reference = server.api().push(&image, "app", "v1");
    Setup {
        place,
        server,
        image,
        reference,
    }
}

#[track_caller]
fn ok(strata: &Strata, args: &[&str]) -> String {
    strata.run(args).ok().out()
}

#[test]
fn owners_are_those_of_the_image_in_the_store_and_in_containers() {
    let Setup {
        place, reference, ..
    } = &setup();
    let user = User::new(place, 47_101).with_subordinate_ids(place, FIRST, 65_536);
    let strata = Strata::of_user(place, &user);
    ok(&strata, &["pull", reference]);
    // Id 33 of the namespace is the user's 33rd subordinate id.
    let mine = fs::read_dir(strata.root().join("layers"))
        .expect("layers")
        .map(|layer| layer.expect("entry").path().join("fs/data/mine"))
        .find(|path| path.exists())
        .expect("the file");
    let found = fs::metadata(mine).expect("stat");
    assert_eq!((found.uid(), found.gid()), (FIRST + 32, FIRST + 33));

    let script = "stat -c '%n %u:%g %a' data/* && id -u && id -G && cat data/mine";
    let out = ok(
        &strata,
        &["run", "--rm", "-u", "www", reference, "sh", "-c", script],
    );
    assert_eq!(
        out,
        "data/far 0:0 644\ndata/mine 33:34 640\ndata/tool 33:0 4755\n33\n34 50\nmine"
    );
    // A file of a subordinate id can be changed, and goes with its container.
    let chown = "chown 1000:1000 data/mine && stat -c %u:%g data/mine";
    let out = ok(
        &strata,
        &["run", "--name", "mine", reference, "sh", "-c", chown],
    );
    assert_eq!(out, "1000:1000");
    ok(&strata, &["rm", "mine"]);
    ok(&strata, &["rmi", reference]);
    let left = fs::read_dir(strata.root().join("layers")).expect("layers");
    assert_eq!(left.count(), 0);
}

#[test]
fn what_is_pushed_again_names_the_original_owners() {
    let Setup {
        place,
        server,
        image,
        reference,
    } = setup();
    let (place, reference) = (&place, &reference);
    let user = User::new(place, 47_102).with_subordinate_ids(place, FIRST, 65_536);
    let strata = Strata::of_user(place, &user);
    ok(&strata, &["pull", reference]);
    let other = Stratad::start(&place.join("other"));
    let to = format!("{}/app:v1", other.address());
    ok(&strata, &["tag", reference, &to]);
    drop(server);
    ok(&strata, &["push", &to]);
    let manifest = other.api().manifest("app", "v1").json();
    assert_eq!(manifest["config"]["digest"], image.id().to_string());
    let second = Strata::new(place);
    ok(&second, &["pull", &to]);
    let out = ok(
        &second,
        &["run", "--rm", &to, "stat", "-c", "%u:%g", "/data/far"],
    );
    assert_eq!(out, "100000:100001");
}

#[test]
fn a_user_outside_the_granted_ids_is_refused_in_words() {
    let Setup {
        place, reference, ..
    } = &setup();
    let user = User::new(place, 47_103).with_subordinate_ids(place, FIRST, 20);
    let strata = Strata::of_user(place, &user);
    let refused = strata.run(&["run", "--rm", "-u", "33:34", reference, "true"]);
    assert_eq!(refused.code(), 125);
    assert!(
        refused.story().contains("/etc/subuid"),
        "{}",
        refused.story()
    );
    ok(&strata, &["run", "--rm", reference, "true"]);
}

#[test]
fn a_store_of_subordinate_ids_is_not_opened_without_them() {
    let Setup {
        place, reference, ..
    } = &setup();
    let plain = User::new(place, 47_104);
    let granted = plain.clone().with_subordinate_ids(place, FIRST, 65_536);
    ok(&Strata::of_user(place, &plain), &["images"]);
    ok(&Strata::of_user(place, &granted), &["pull", reference]);
    let refused = Strata::of_user(place, &plain).run(&["images"]);
    assert_eq!(refused.code(), 1);
    assert!(
        refused.story().contains("subordinate ids"),
        "{}",
        refused.story()
    );
    ok(&Strata::of_user(place, &granted), &["rmi", reference]);
}
