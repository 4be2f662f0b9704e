//! Uploads over wires that break: what is sent again, what is not, and against whose registry.

use strata_tests::distribution::Distribution;
use strata_tests::entry::{Compression, Entry, tar};
use strata_tests::fake::Asked;
use strata_tests::faulty::{Fault, Faulty};
use strata_tests::image::{Image, Layer};
use strata_tests::place::Place;
use strata_tests::strata::Strata;
use strata_tests::stratad::Stratad;
use strata_tests::trial::noise;

const MIB: u64 = 1 << 20;

/// One layer of about `size` bytes that do not compress.
fn image(seed: u64, size: u64) -> Image {
    let entry = Entry::file("noise", noise(seed, size as usize));
    Image::new(&[Layer::new(&tar(&[entry]), Compression::Plain)])
}

fn bytes(image: &Image) -> u64 {
    image.layer_bytes() + image.config.len() as u64
}

fn layout(place: &Place, image: &Image) -> String {
    let directory = place.dir("layout");
    image.write_layout(&directory, "v1").expect("write");
    format!("oci:{}:v1", directory.display())
}

/// How many requests with this method there were to upload sessions.
fn count(wire: &Faulty, method: &str) -> usize {
    let to_session = |asked: &&Asked| asked.method == method && asked.path().contains("/uploads/");
    wire.asked().iter().filter(to_session).count()
}

fn is_large(asked: &Asked) -> bool {
    asked.header("content-length").parse().unwrap_or(0) > MIB
}

#[test]
fn an_upload_that_is_cut_again_and_again_goes_on_at_stratad() {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    let image = image(1, 64 * MIB);
    let source = layout(&place, &image);
    // No request gets further than this: only what is kept of each can bring it to an end.
    let wire = Faulty::start(server.address(), |asked, _| {
        let cut = asked.method == "PUT" && asked.is_upload() && is_large(asked);
        cut.then_some(Fault::CutRequest(10 * MIB))
    });
    let strata = Strata::new(&place);
    strata
        .run(&["push", &source, &wire.reference("app", "v1")])
        .ok();
    let stored = server.api().manifest("app", "v1").expect(200).body;
    assert_eq!(stored, image.manifest);
    let layer = &image.layers[0];
    let there = server.api().blob("app", &layer.digest).expect(200).body;
    assert!(there == layer.blob, "the bytes are those of the layer");
    let tally = wire.tally();
    assert!(tally.cuts >= 6, "{tally:?}");
    let bound = bytes(&image) + tally.cuts * 4 * MIB;
    assert!(tally.uploaded <= bound, "{} > {bound}", tally.uploaded);
    assert_eq!(count(&wire, "POST"), 2, "a session for each blob");
}

#[test]
fn an_upload_that_another_registry_forgets_is_sent_in_chunks() {
    let place = Place::new();
    let server = Distribution::start(&place, "theirs");
    let image = image(2, 40 * MIB);
    let source = layout(&place, &image);
    // Debian's server knows a session no more whose request broke; what a whole PATCH brought stays.
    let wire = Faulty::start(server.address(), |asked, before| {
        let first = asked.method == "PUT" && before == 0 && is_large(asked);
        let whole = asked.header("content-range").is_empty();
        (first && whole).then_some(Fault::CutRequest(30 * MIB))
    });
    let strata = Strata::new(&place);
    strata
        .run(&["push", &source, &wire.reference("app", "v1")])
        .ok();
    let layer = &image.layers[0];
    let there = server.api().blob("app", &layer.digest).expect(200).body;
    assert!(there == layer.blob, "the bytes are those of the layer");
    let tally = wire.tally();
    assert_eq!(tally.cuts, 1, "{tally:?}");
    assert_eq!(count(&wire, "PATCH"), 2, "the rest goes with the PUT");
    let bound = bytes(&image) + 31 * MIB;
    assert!(tally.uploaded <= bound, "{} > {bound}", tally.uploaded);
}

#[test]
fn a_lost_answer_does_not_send_the_blob_again() {
    let place = Place::new();
    let ours = Stratad::start(&place.join("data"));
    let theirs = Distribution::start(&place, "theirs");
    let image = image(3, 20 * MIB);
    let source = layout(&place, &image);
    for address in [ours.address(), theirs.address()] {
        let wire = Faulty::start(address, |asked, before| {
            let closing = asked.method == "PUT" && asked.is_upload();
            (closing && before == 0).then_some(Fault::LoseAnswer)
        });
        let strata = Strata::new(&place);
        strata
            .run(&["push", &source, &wire.reference("app", "v1")])
            .ok();
        let tally = wire.tally();
        assert_eq!(tally.faults, 2, "one for each blob");
        assert_eq!(tally.uploaded, bytes(&image), "each byte once");
    }
}

#[test]
fn a_healthy_registry_is_asked_as_little_as_can_be() {
    let place = Place::new();
    let ours = Stratad::start(&place.join("data"));
    let theirs = Distribution::start(&place, "theirs");
    let image = image(4, 20 * MIB);
    let source = layout(&place, &image);
    for address in [ours.address(), theirs.address()] {
        let wire = Faulty::start(address, |_, _| None);
        let strata = Strata::new(&place);
        strata
            .run(&["push", &source, &wire.reference("app", "v1")])
            .ok();
        let uploads = ["POST", "PUT", "PATCH", "GET"].map(|method| count(&wire, method));
        assert_eq!(uploads, [2, 2, 0, 0], "POST and PUT for each of two blobs");
    }
}

#[test]
fn the_upload_that_a_refused_mount_begins_is_the_one_that_is_used() {
    let place = Place::new();
    let ours = Stratad::start(&place.join("data"));
    let theirs = Distribution::start(&place, "theirs");
    let image = image(5, 3 * MIB);
    let source = layout(&place, &image);
    for (server, wire) in [
        (ours.api(), ours.address()),
        (theirs.api(), theirs.address()),
    ] {
        let wire = Faulty::start(wire, |_, _| None);
        let strata = Strata::new(&place);
        let first = wire.reference("first", "v1");
        strata.run(&["push", &source, &first]).ok();
        // The store remembers where the layer is; there it is no more.
        let layer = &image.layers[0].digest;
        let path = format!("/v2/first/blobs/{layer}");
        server.0.send("DELETE", &path, &[], b"").expect(202);
        strata
            .run(&["push", &source, &wire.reference("second", "v1")])
            .ok();
        let sessions = wire.asked();
        let begun = sessions.iter().filter(|asked| {
            asked.method == "POST" && asked.path().starts_with("/v2/second/blobs/uploads/")
        });
        let targets: Vec<&str> = begun.map(|asked| asked.target.as_str()).collect();
        assert_eq!(targets.len(), 2, "one for each blob: {targets:?}");
        assert!(
            targets.iter().all(|target| target.contains("mount=")),
            "{targets:?}"
        );
        let there = server.blob("second", layer).expect(200).body;
        assert!(there == image.layers[0].blob);
    }
}
