//! Copying between registries, layouts and archives: ours, Debian's docker-registry, skopeo's files. The
//! digests are the same everywhere, and only missing bytes travel.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use strata_oci::digest::Digest;
use strata_oci::media;
use strata_tests::api::Api;
use strata_tests::clients::Clients;
use strata_tests::command::{Ran, Running};
use strata_tests::debian;
use strata_tests::distribution::Distribution;
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::place::Place;
use strata_tests::proxy::{Faults, Proxy};
use strata_tests::strata::Strata;
use strata_tests::stratad::Stratad;
use strata_tests::trial::noise;

/// A base layer that all share, and one of the image's own.
fn image(own: &str) -> Image {
    let base = Layer::of(&[Entry::file("base", noise(1, 1_000_000))]);
    let top = Layer::of(&[Entry::file(own, noise(own.len() as u64 + 7, 50_000))]);
    Image::new(&[base, top])
}

/// Pushes an index of two images for two machines.
fn push_index(api: &Api, repository: &str, tag: &str) -> (Vec<u8>, Image, Image) {
    let (own, other) = (image("own"), image("other-machine"));
    let mut children = Vec::new();
    for (image, architecture) in [
        (&own, strata_tests::image::architecture()),
        (&other, "s390x"),
    ] {
        let digest = image.digest.to_string();
        api.push(image, repository, "x");
        children.push(json!({
            "mediaType": media::OCI_MANIFEST, "digest": digest, "size": image.manifest.len(),
            "platform": {"os": "linux", "architecture": architecture},
        }));
    }
    let index = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": children});
    let index = index.to_string().into_bytes();
    api.put_manifest(repository, tag, media::OCI_INDEX, &index)
        .expect(201);
    (index, own, other)
}

#[track_caller]
fn copy(strata: &Strata, args: &[&str]) -> Value {
    let all = [&["copy", "--format", "json"], args].concat();
    report(strata.run(&all).ok())
}

#[track_caller]
fn report(ran: Ran) -> Value {
    serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{}", ran.story()))
}

fn oci(path: &Path, name: &str) -> String {
    format!("oci:{}:{name}", path.display())
}

#[test]
fn an_index_travels_between_registries_layouts_and_archives_with_its_digests() {
    let place = Place::new();
    let strata = Strata::new(&place);
    let ours = Stratad::start(&place.join("data"));
    let theirs = Distribution::start(&place, "theirs");
    let (index, own, other) = push_index(&ours.api(), "app", "v1");
    let digest = Digest::of(&index).to_string();

    let from = ours.reference("app", "v1");
    let to = format!("docker://{}", theirs.reference("copies/app", "v1"));
    let done = copy(&strata, &[&from, &to]);
    assert_eq!(done["images"][0]["digest"], digest);
    let there = theirs.api().manifest("copies/app", "v1").expect(200);
    assert_eq!(there.body, index);
    for image in [&own, &other] {
        let child = theirs
            .api()
            .manifest("copies/app", &image.digest.to_string());
        assert_eq!(child.expect(200).body, image.manifest);
    }
    // The same again: two questions, and nothing else.
    let done = copy(&strata, &[&from, &to]);
    assert_eq!(done["images"][0]["unchanged"], true);

    let layout = place.join("layout");
    copy(&strata, &[&to, &oci(&layout, "v1")]);
    let archive = format!("oci-archive:{}", place.join("all.tar").display());
    copy(&strata, &[&oci(&layout, "v1"), &archive]);
    let back = ours.reference("back/app", "v9");
    let done = copy(&strata, &[&archive, &back]);
    assert_eq!(done["images"][0]["digest"], digest);
    let there = ours.api().manifest("back/app", "v9").expect(200);
    assert_eq!(there.body, index);
    for layer in own.layers.iter().chain(&other.layers) {
        let blob = ours.api().blob("back/app", &layer.digest).expect(200);
        assert_eq!(blob.body, layer.blob);
    }
}

#[test]
fn one_platform_is_picked_out_of_an_index() {
    let place = Place::new();
    let strata = Strata::new(&place);
    let server = Stratad::start(&place.join("data"));
    let (_, _, other) = push_index(&server.api(), "app", "v1");
    let from = server.reference("app", "v1");
    let to = oci(&place.join("layout"), "one");
    let done = copy(&strata, &["--platform", "linux/s390x", &from, &to]);
    assert_eq!(done["images"][0]["digest"], other.digest.to_string());
    assert_eq!(done["images"][0]["manifests"], 1);
    strata
        .run(&["copy", "--platform", "linux/riscv64", &from, &to])
        .refused()
        .says("linux/s390x");
}

#[test]
fn only_what_the_target_lacks_travels() {
    let place = Place::new();
    let strata = Strata::new(&place);
    let source = Stratad::start(&place.join("source"));
    let target = Stratad::start(&place.join("target"));
    let (a, b) = (image("a"), image("bb"));
    source.api().push(&a, "app", "a");
    source.api().push(&b, "app", "b");
    let wire = Proxy::start(source.address(), Faults::default());
    let from = |tag: &str| format!("{}/app:{tag}", wire.address());
    copy(&strata, &[&from("a"), &target.reference("app", "a")]);
    let before = wire.received();
    let done = copy(&strata, &[&from("b"), &target.reference("app", "b")]);
    let travelled = wire.received() - before;
    let missing = (b.layers[1].blob.len() + b.config.len()) as u64;
    assert_eq!(done["images"][0]["bytes_copied"], missing);
    assert_eq!(done["images"][0]["bytes_present"], b.layers[0].blob.len());
    assert!(travelled < missing + 20_000, "{travelled} for {missing}");
    // To another repository of the registry that it is in: mounted.
    let before = wire.received();
    let done = copy(
        &strata,
        &[
            &target.reference("app", "b"),
            &target.reference("other/app", "b"),
        ],
    );
    assert_eq!(done["images"][0]["bytes_copied"], 0);
    assert_eq!(wire.received(), before);
    let there = target.api().manifest("other/app", "b").expect(200);
    assert_eq!(there.body, b.manifest);
}

#[test]
fn cut_connections_are_resumed_into_a_layout_and_a_registry() {
    let place = Place::new();
    let strata = Strata::new(&place);
    let source = Stratad::start(&place.join("source"));
    let target = Stratad::start(&place.join("target"));
    let image = image("a");
    source.api().push(&image, "app", "v1");
    let size = image.layers[0].blob.len() as u64;
    let cut = Faults {
        cut_after: Some(size / 3),
        cuts: Some(2),
        rate: None,
    };
    for to in [
        oci(&place.join("layout"), "v1"),
        target.reference("app", "v1"),
    ] {
        let wire = Proxy::start(source.address(), cut);
        let from = format!("{}/app:v1", wire.address());
        let done = copy(&strata, &[&from, &to]);
        assert_eq!(done["images"][0]["digest"], image.digest.to_string());
        assert!(wire.cuts() > 0, "the wire never broke");
        let all = image.layer_bytes() + 200_000;
        assert!(wire.received() < all + size / 3, "{}", wire.received());
    }
}

#[test]
fn a_killed_copy_into_a_layout_goes_on_where_it_was() {
    let place = Place::new();
    let strata = Strata::new(&place);
    let server = Stratad::start(&place.join("data"));
    let image = image("a");
    server.api().push(&image, "app", "v1");
    let slow = Faults {
        rate: Some(400_000),
        ..Faults::default()
    };
    let wire = Proxy::start(server.address(), slow);
    let from = format!("{}/app:v1", wire.address());
    let layout = place.join("layout");
    let mut running =
        Running::start(&mut strata.command(&["copy", "-q", &from, &oci(&layout, "v1")]));
    while wire.received() < 600_000 {
        assert!(running.child.try_wait().expect("wait").is_none());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    running.signal(rustix::process::Signal::KILL);
    running.wait();
    assert!(!layout.join("index.json").exists());
    let from = server.reference("app", "v1");
    let done = copy(&strata, &[&from, &oci(&layout, "v1")]);
    let rest = done["images"][0]["bytes_copied"].as_u64().expect("number");
    assert!(
        rest < image.layer_bytes() - 300_000,
        "{rest} travelled again"
    );
    let place = Place::new();
    let clients = Clients::new(&place);
    let out = format!("dir:{}", place.join("out").display());
    clients.skopeo_copy(&oci(&layout, "v1"), &out, &[]).ok();
}

#[test]
fn skopeo_reads_what_we_write_and_we_read_what_skopeo_writes() {
    let place = Place::new();
    let strata = Strata::new(&place);
    let clients = Clients::new(&place);
    let server = Stratad::start(&place.join("data"));
    let layout = debian::layout();
    let source = oci(&layout, "latest");
    let reference = server.reference("debian", "v1");
    let digest = copy(&strata, &[&source, &reference])["images"][0]["digest"].clone();
    let digest = digest.as_str().expect("a digest");

    let path = |name: &str| place.join(name).display().to_string();
    let (ours, theirs) = (path("ours"), path("theirs"));
    let remote = format!("docker://{reference}");
    for (name, transport) in [("layout", "oci"), ("archive.tar", "oci-archive")] {
        let ours = format!("{transport}:{ours}-{name}:v1");
        let theirs = format!("{transport}:{theirs}-{name}:v1");
        copy(&strata, &[&remote, &ours]);
        let to = format!("docker://{}", server.reference("ours", name));
        clients.skopeo_copy(&ours, &to, &[]).ok();
        clients.skopeo_copy(&remote, &theirs, &[]).ok();
        copy(&strata, &[&theirs, &server.reference("theirs", name)]);
        for repository in ["ours", "theirs"] {
            let name = server.reference(repository, name);
            assert_eq!(strata.run(&["digest", &name]).ok().out(), digest);
        }
    }

    // Docker's archive: for docker and podman to load, and for skopeo and us to read.
    let archive = format!("docker-archive:{}", path("docker.tar"));
    copy(&strata, &[&remote, &archive]);
    clients
        .podman(&["load", "--quiet", "--input", &path("docker.tar")])
        .ok();
    let ran = clients
        .podman(&["inspect", "--format", "{{.Id}}", &reference])
        .ok();
    let config = strata.run(&["manifest", &reference]).ok();
    let config: Value = serde_json::from_slice(&config.stdout).expect("JSON");
    assert_eq!(format!("sha256:{}", ran.out()), config["config"]["digest"]);
    let out = format!("dir:{}", path("out"));
    clients.skopeo_copy(&archive, &out, &[]).ok();
    let again = server.reference("again", "v1");
    strata.run(&["push", &archive, &again]).ok();
    assert_eq!(
        strata.pull(&again).layers.len(),
        strata.pull(&reference).layers.len()
    );
    let skopeos = format!("docker-archive:{}:app:v1", path("skopeo.tar"));
    clients.skopeo_copy(&remote, &skopeos, &[]).ok();
    copy(&strata, &[&skopeos, &oci(&place.join("from-docker"), "v1")]);
}

#[test]
fn an_air_gap_is_crossed_with_the_missing_blobs_alone() {
    let place = Place::new();
    let strata = Strata::new(&place);
    let inside = Stratad::start(&place.join("inside"));
    let outside = Stratad::start(&place.join("outside"));
    let (a, b) = (image("a"), image("bb"));
    outside.api().push(&a, "team/app", "a");
    outside.api().push(&a, "other", "x");
    let file = |name: &str| place.join(name);
    let archive = |name: &str| format!("oci-archive:{}", file(name).display());
    let size = |name: &str| fs::metadata(file(name)).expect("a file").len();
    let sources = [
        outside.reference("team/app", "a"),
        outside.reference("other", "x"),
    ];
    copy(&strata, &[&sources[0], &sources[1], &archive("1.tar")]);
    outside.api().push(&b, "team/app", "b");
    let second = outside.reference("team/app", "b");
    let since = file("1.tar").display().to_string();
    let done = copy(&strata, &["--since", &since, &second, &archive("2.tar")]);
    assert_eq!(done["images"][0]["bytes_left_out"], b.layers[0].blob.len());
    assert!(size("2.tar") < size("1.tar") / 4);
    // The third builds on the second, and so on the first.
    let since = file("2.tar").display().to_string();
    copy(&strata, &["--since", &since, &second, &archive("3.tar")]);
    assert!(size("3.tar") < 20_000);

    // In the wrong order nothing is named there, and nothing is half there.
    let to = format!("docker://{}", inside.address());
    let repository = format!("{to}/team/app:b");
    strata
        .run(&["copy", &archive("2.tar"), &repository])
        .refused()
        .says(b.layers[0].digest.hex());
    assert_eq!(inside.api().manifest("team/app", "b").status, 404);
    assert_eq!(inside.stored().0, 0);
    copy(&strata, &["--all", &archive("1.tar"), &to]);
    copy(&strata, &[&archive("2.tar"), &repository]);
    copy(&strata, &[&archive("3.tar"), &format!("{to}/team/app:c")]);
    for (repository, tag, image) in [
        ("team/app", "a", &a),
        ("other", "x", &a),
        ("team/app", "b", &b),
        ("team/app", "c", &b),
    ] {
        let there = inside.api().manifest(repository, tag).expect(200);
        assert_eq!(there.body, image.manifest, "{repository}:{tag}");
    }
    // An archive is the same whenever it is written.
    copy(&strata, &[&sources[0], &sources[1], &archive("again.tar")]);
    let read = |name: &str| fs::read(file(name)).expect("read");
    assert!(read("1.tar") == read("again.tar"));
}

/// An artifact that names `subject` as its own.
fn artifact(subject: &Image, content: &[u8]) -> Vec<u8> {
    let empty = json!({"mediaType": media::OCI_EMPTY, "digest": Digest::of(b"{}"), "size": 2});
    let layer =
        json!({"mediaType": "text/plain", "digest": Digest::of(content), "size": content.len()});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": empty, "layers": [layer],
        "artifactType": "application/x.sbom",
        "subject": {
            "mediaType": media::OCI_MANIFEST, "digest": subject.digest,
            "size": subject.manifest.len(),
        },
    });
    manifest.to_string().into_bytes()
}

#[test]
fn signatures_and_sboms_come_along_when_they_are_wanted() {
    let place = Place::new();
    let strata = Strata::new(&place);
    let ours = Stratad::start(&place.join("data"));
    let theirs = Distribution::start(&place, "theirs");
    let far = Stratad::start(&place.join("far"));
    let image = image("a");
    let api = ours.api();
    let from = api.push(&image, "app", "v1");
    for content in [&b"{}"[..], b"sbom"] {
        api.push_blob("app", content);
    }
    let sbom = artifact(&image, b"sbom");
    let digest = Digest::of(&sbom).to_string();
    api.put_manifest("app", &digest, media::OCI_MANIFEST, &sbom)
        .expect(201);
    let signature = Image::new(&[Layer::of(&[Entry::file("signature", "cosign")])]);
    let tag = format!("sha256-{}.sig", image.digest.hex());
    api.push(&signature, "app", &tag);

    // Without being asked, the image alone.
    copy(&strata, &[&from, &far.reference("alone", "v1")]);
    assert_eq!(far.api().manifest("alone", &digest).status, 404);

    // Through a registry without a referrers API, a layout and an archive.
    let archive = format!("oci-archive:{}", place.join("a.tar").display());
    let stations = [
        theirs.reference("app", "v1"),
        oci(&place.join("layout"), "v1"),
        archive,
        far.reference("app", "v1"),
    ];
    let mut from = from;
    for to in stations {
        copy(&strata, &["--referrers", &from, &to]);
        from = to;
    }
    assert_eq!(far.api().manifest("app", &digest).expect(200).body, sbom);
    let there = far.api().manifest("app", &tag).expect(200);
    assert_eq!(there.body, signature.manifest);
    let listed = strata.run(&["referrers", &from]).ok().out();
    assert!(listed.contains(&digest), "{listed}");
    let listed = strata
        .run(&["referrers", &theirs.reference("app", "v1")])
        .ok();
    assert!(listed.out().contains(&digest), "{}", listed.out());
}

#[test]
fn the_store_is_a_source_and_a_target() {
    let place = Place::new();
    let strata = Strata::new(&place);
    let server = Stratad::start(&place.join("data"));
    let image = image("a");
    let from = server.api().push(&image, "app", "v1");
    copy(&strata, &[&from, "store:local/app:v1"]);
    let layout = oci(&place.join("layout"), "v1");
    let done = copy(&strata, &["store:local/app:v1", &layout]);
    assert_eq!(done["images"][0]["digest"], image.digest.to_string());
    drop(server);
    // Without the registry the layers are compressed anew, and the image is another.
    let done = copy(
        &strata,
        &["store:local/app:v1", &oci(&place.join("anew"), "v1")],
    );
    assert_ne!(done["images"][0]["digest"], image.digest.to_string());
    let clients = Clients::new(&place);
    let out = format!("dir:{}", place.join("out").display());
    clients
        .skopeo_copy(&oci(&place.join("anew"), "v1"), &out, &[])
        .ok();
}

#[test]
fn what_cannot_be_copied_is_refused_with_a_reason() {
    let place = Place::new();
    let strata = Strata::new(&place);
    let server = Stratad::start(&place.join("data"));
    let from = server.api().push(&image("a"), "app", "v1");
    let layout = oci(&place.join("layout"), "v1");
    let absent = server.reference("app", "v9");
    strata.run(&["copy", &absent, &layout]).refused().says("v9");
    strata.run(&["copy", &layout, &from]).refused();
    let wrong = format!("{}/app@{}", server.address(), Digest::of(b"other"));
    strata
        .run(&["copy", &from, &wrong])
        .refused()
        .says("digest");
    let full = place.dir("full");
    fs::write(full.join("letter"), "dear").expect("write");
    strata
        .run(&["copy", &from, &oci(&full, "v1")])
        .refused()
        .says("other files");
    strata
        .run(&["copy", "--since", "/x.tar", &from, &layout])
        .refused()
        .says("--since");
    let ran = strata.run(&["copy", &from]);
    assert_eq!(ran.code(), 2, "{}", ran.story());
}
