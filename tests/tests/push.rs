//! Pushing with strata: from a layout, from an archive, from the store; what travels and what does not.

use std::path::Path;

use strata_tests::clients::Clients;
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::place::Place;
use strata_tests::proxy::{Faults, Proxy};
use strata_tests::strata::Strata;
use strata_tests::stratad::Stratad;

fn image(own: &str) -> Image {
    let base = Layer::of(&[
        Entry::dir("etc/"),
        Entry::file("etc/base", "base".repeat(50_000))
            .owner(3, 4)
            .mtime(1),
        Entry::symlink("link", "etc/base"),
        Entry::hardlink("etc/twin", "etc/base"),
    ]);
    Image::new(&[base, Layer::of(&[Entry::file(own, own)])])
}

fn layout(place: &Place, name: &str, image: &Image) -> String {
    let directory = place.dir(name);
    image.write_layout(&directory, "v1").expect("write");
    format!("oci:{}:v1", directory.display())
}

#[test]
fn a_layout_is_pushed_unchanged() {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let strata = Strata::new(&place);
    let image = image("own");
    let source = layout(&place, "layout", &image);
    let target = server.reference("team/app", "v1");
    strata.run(&["push", &source, &target]).ok();
    assert_eq!(
        server.api().manifest("team/app", "v1").expect(200).body,
        image.manifest
    );
    for layer in &image.layers {
        assert_eq!(
            server
                .api()
                .blob("team/app", &layer.digest)
                .expect(200)
                .body,
            layer.blob
        );
    }
    // The only image of a layout needs no tag.
    let directory = place.join("layout");
    let untagged = format!("oci:{}", directory.display());
    strata
        .run(&["push", &untagged, &server.reference("team/app", "v2")])
        .ok();
    assert_eq!(
        server.api().manifest("team/app", "v2").expect(200).body,
        image.manifest
    );
}

#[test]
fn what_the_registry_has_is_not_sent_again() {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let strata = Strata::new(&place);
    let (a, b) = (image("a"), image("b"));
    strata
        .run(&[
            "push",
            &layout(&place, "a", &a),
            &server.reference("app", "a"),
        ])
        .ok();
    let before = uploads(&server);
    strata
        .run(&[
            "push",
            &layout(&place, "b", &b),
            &server.reference("app", "b"),
        ])
        .ok();
    assert_eq!(
        server.stored().0,
        5,
        "one layer and a configuration each, and the shared layer"
    );
    strata
        .run(&[
            "push",
            &layout(&place, "again", &b),
            &server.reference("app", "c"),
        ])
        .ok();
    assert_eq!(server.stored().0, 5);
    assert_eq!(before, 0, "no upload is left open");
    assert_eq!(uploads(&server), 0, "no upload is left open");
}

/// Upload sessions that the server still has open.
fn uploads(server: &Stratad) -> i64 {
    let database = rusqlite::Connection::open(find_database(server.data())).expect("open");
    database
        .query_row("SELECT count(*) FROM uploads", [], |row| row.get(0))
        .expect("count")
}

fn find_database(data: &Path) -> std::path::PathBuf {
    let mut files = std::fs::read_dir(data)
        .expect("list")
        .flatten()
        .map(|e| e.path());
    let found = files.find(|path| path.extension().is_some_and(|e| e == "db" || e == "sqlite"));
    found.expect("a database in the data directory")
}

#[test]
fn a_pulled_image_is_pushed_on_with_the_same_digest() {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let other = Stratad::start(&place.join("other"));
    let strata = Strata::new(&place);
    let image = image("own");
    let reference = server.api().push(&image, "app", "v1");
    strata.pull(&reference);

    // To another repository of the same registry: by mount, without a blob on the wire.
    let copy = server.reference("copies/app", "v1");
    strata.run(&["tag", &reference, &copy]).ok();
    strata.run(&["push", &copy]).ok();
    assert_eq!(
        server.api().manifest("copies/app", "v1").expect(200).body,
        image.manifest
    );

    // To another registry: the blobs come from where they are.
    let away = other.reference("app", "v1");
    strata.run(&["tag", &reference, &away]).ok();
    strata.run(&["push", &away]).ok();
    assert_eq!(
        other.api().manifest("app", "v1").expect(200).body,
        image.manifest
    );
    for layer in &image.layers {
        assert_eq!(
            other.api().blob("app", &layer.digest).expect(200).body,
            layer.blob
        );
    }
    let fresh = Strata::at(strata.program().to_owned(), place.join("fresh"));
    assert_eq!(fresh.pull(&away).digest, image.digest.to_string());
}

#[test]
fn an_image_can_be_pushed_when_its_registry_is_gone() {
    let place = Place::new();
    let mut server = Stratad::start(&place.join("data"));
    let other = Stratad::start(&place.join("other"));
    let strata = Strata::new(&place);
    let image = image("own");
    let reference = server.api().push(&image, "app", "v1");
    strata.pull(&reference);
    server.kill();
    let away = other.reference("app", "v1");
    strata.run(&["tag", &reference, &away]).ok();
    strata.run(&["push", &away]).ok();
    let fresh = Strata::at(strata.program().to_owned(), place.join("fresh"));
    let pulled = fresh.pull(&away);
    let diff_ids: Vec<String> = image.layers.iter().map(|l| l.diff_id.to_string()).collect();
    let got: Vec<String> = pulled.layers.iter().map(|l| l.diff_id.clone()).collect();
    assert_eq!(got, diff_ids, "the tars are rebuilt to the byte");
}

#[test]
fn a_docker_archive_is_pushed_and_runs_the_same() {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let clients = Clients::new(&place);
    let image = image("own");
    let archive = place.join("image.tar");
    let to = format!("docker-archive:{}:app:v1", archive.display());
    clients
        .skopeo_copy(&layout(&place, "layout", &image), &to, &[])
        .ok();
    let strata = Strata::new(&place);
    let reference = server.reference("from-archive", "v1");
    let source = format!("docker-archive:{}", archive.display());
    strata.run(&["push", &source, &reference]).ok();
    let pulled = strata.pull(&reference);
    let diff_ids: Vec<String> = image.layers.iter().map(|l| l.diff_id.to_string()).collect();
    let got: Vec<String> = pulled.layers.iter().map(|l| l.diff_id.clone()).collect();
    assert_eq!(got, diff_ids);
    clients.podman_transfer("pull", &reference).ok();
}

#[test]
fn a_push_of_what_is_not_there_is_refused() {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let strata = Strata::new(&place);
    let target = server.reference("app", "v1");
    strata.run(&["push", &target]).refused().says("app");
    let nothing = format!("oci:{}", place.join("nothing").display());
    strata
        .run(&["push", &nothing, &target])
        .refused()
        .says("nothing");
    let layout_of = layout(&place, "layout", &image("own"));
    let wrong = layout_of.replace(":v1", ":v9");
    strata.run(&["push", &wrong, &target]).refused().says("v9");
}

#[test]
fn a_layout_with_an_altered_blob_is_not_pushed() {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let strata = Strata::new(&place);
    let image = image("own");
    let source = layout(&place, "layout", &image);
    let layer = &image.layers[0];
    let blob = place.join("layout/blobs/sha256").join(layer.digest.hex());
    let mut bytes = layer.blob.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(blob, bytes).expect("write");
    let ran = strata.run(&["push", &source, &server.reference("app", "v1")]);
    assert!(!ran.status.success(), "{}", ran.story());
    assert!(
        ran.stderr.contains(layer.digest.short()),
        "names the blob: {}",
        ran.stderr
    );
    assert_eq!(server.api().manifest("app", "v1").status, 404);
}

#[test]
fn a_push_over_a_wire_that_breaks_once_succeeds() {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let strata = Strata::new(&place);
    let image = image("own");
    let source = layout(&place, "layout", &image);
    // The first connection breaks at the registry's first answer.
    let faults = Faults {
        cut_after: Some(1),
        cuts: Some(1),
        rate: None,
    };
    let wire = Proxy::start(server.address(), faults);
    let target = format!("{}/app:v1", wire.address());
    strata.run(&["push", &source, &target]).ok();
    assert_eq!(
        server.api().manifest("app", "v1").expect(200).body,
        image.manifest
    );
}
