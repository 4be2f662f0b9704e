//! The commands that scripts use: exact output, exit codes, and nothing believed unproved.

use serde_json::{Value, json};
use strata_oci::digest::Digest;
use strata_oci::media;
use strata_tests::api::Api;
use strata_tests::distribution::Distribution;
use strata_tests::entry::Entry;
use strata_tests::fake::{Fake, reply};
use strata_tests::image::{Image, Layer};
use strata_tests::place::Place;
use strata_tests::strata::Strata;
use strata_tests::stratad::Stratad;

fn image(own: &str) -> Image {
    Image::new(&[Layer::of(&[Entry::file(own, own.repeat(5000))])])
}

/// An index of one image for this machine and one for another, under `tag`; the index's bytes.
fn push_index(api: &Api, repository: &str, tag: &str, own: &Image, other: &Image) -> Vec<u8> {
    let mut children = Vec::new();
    for (image, architecture) in [(own, strata_tests::image::architecture()), (other, "s390x")] {
        for blob in image.blobs() {
            api.push_blob(repository, blob);
        }
        let digest = image.digest.to_string();
        api.put_manifest(repository, &digest, image.media_type(), &image.manifest)
            .expect(201);
        children.push(json!({
            "mediaType": media::OCI_MANIFEST, "digest": digest, "size": image.manifest.len(),
            "platform": {"os": "linux", "architecture": architecture},
        }));
    }
    let index = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": children});
    let index = index.to_string().into_bytes();
    api.put_manifest(repository, tag, media::OCI_INDEX, &index)
        .expect(201);
    index
}

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

/// Runs the same check against our server and Debian's.
fn on_both(check: impl Fn(&Strata, Api)) {
    let place = Place::new();
    let strata = Strata::new(&place);
    let ours = Stratad::start(&place.join("data"));
    check(&strata, ours.api());
    let theirs = Distribution::start(&place, "theirs");
    check(&strata, theirs.api());
}

#[test]
fn tags_are_listed_one_a_line() {
    on_both(|strata, api| {
        let image = image("a");
        for tag in ["v2", "v1", "latest"] {
            api.push(&image, "team/app", tag);
        }
        let name = format!("{}/team/app", api.0.address());
        let ran = strata.run(&["tags", &name]).ok();
        assert_eq!(ran.out(), "latest\nv1\nv2");
        assert_eq!(strata.run(&["ls", &name]).ok().out(), ran.out());
        let ran = strata.run(&["tags", "--format", "json", &name]).ok();
        let expected = json!({"name": "team/app", "tags": ["latest", "v1", "v2"]});
        assert_eq!(json_of(&ran.stdout), expected);
        let nothing = format!("{}/team/none", api.0.address());
        strata.run(&["tags", &nothing]).refused().says("team/none");
        let with_tag = format!("{name}:v1");
        strata
            .run(&["tags", &with_tag])
            .refused()
            .says("repository");
    });
}

#[test]
fn more_tags_than_fit_on_a_page_are_all_listed() {
    let place = Place::new();
    let strata = Strata::new(&place);
    let server = Stratad::start(&place.join("data"));
    let image = image("a");
    server.api().push(&image, "app", "first");
    for number in 0..1100 {
        let tag = format!("t{number:04}");
        server
            .api()
            .put_manifest("app", &tag, image.media_type(), &image.manifest)
            .expect(201);
    }
    let name = format!("{}/app", server.address());
    let ran = strata.run(&["tags", &name]).ok();
    assert_eq!(ran.out().lines().count(), 1101);
}

#[test]
fn manifests_and_digests_are_printed_to_the_byte() {
    on_both(|strata, api| {
        let (own, other) = (image("own"), image("other"));
        let index = push_index(&api, "app", "v1", &own, &other);
        let name = api.reference("app", "v1");
        assert_eq!(strata.run(&["manifest", &name]).ok().stdout, index);
        let here = format!("linux/{}", strata_tests::image::architecture());
        let ran = strata.run(&["manifest", "--platform", &here, &name]).ok();
        assert_eq!(ran.stdout, own.manifest);
        let digest = Digest::of(&index).to_string();
        assert_eq!(strata.run(&["digest", &name]).ok().out(), digest);
        let args = ["digest", "--platform", "linux/s390x", &name];
        assert_eq!(strata.run(&args).ok().out(), other.digest.to_string());
        let report = strata.run(&["manifest", "--format", "json", &name]).ok();
        let report = json_of(&report.stdout);
        assert_eq!(report["digest"], digest);
        assert_eq!(report["manifest"], json_of(&index));
        for command in ["manifest", "digest"] {
            strata
                .run(&[command, &api.reference("app", "v9")])
                .refused()
                .says("app");
        }
        let args = ["digest", "--platform", "linux/riscv64", &name];
        strata.run(&args).refused().says("s390x");
    });
}

#[test]
fn a_tag_is_deleted_alone_and_a_digest_with_its_tags() {
    let place = Place::new();
    let strata = Strata::new(&place);
    let server = Stratad::start(&place.join("data"));
    let api = server.api();
    let image = image("a");
    for tag in ["v1", "v2", "v3"] {
        api.push(&image, "app", tag);
    }
    strata.run(&["delete", &api.reference("app", "v1")]).ok();
    assert_eq!(api.manifest("app", "v1").status, 404);
    assert_eq!(api.manifest("app", "v2").status, 200);
    let name = format!("{}/app", server.address());
    strata.run(&["delete", &name]).refused().says(":TAG");
    let by_digest = format!("{name}@{}", image.digest);
    strata.run(&["delete", &by_digest]).ok();
    assert_eq!(api.manifest("app", "v2").status, 404);
    strata.run(&["delete", &by_digest]).refused().says("app");
}

#[test]
fn a_registry_that_deletes_no_tags_says_what_to_do() {
    let place = Place::new();
    let strata = Strata::new(&place);
    let server = Distribution::start(&place, "theirs");
    let api = server.api();
    let image = image("a");
    api.push(&image, "app", "v1");
    strata
        .run(&["delete", &api.reference("app", "v1")])
        .refused()
        .says("digest");
    assert_eq!(api.manifest("app", "v1").status, 200);
    let by_digest = format!("{}/app@{}", server.address(), image.digest);
    strata.run(&["delete", &by_digest]).ok();
    assert_eq!(api.manifest("app", "v1").status, 404);
}

/// An artifact that names `subject` as its own; its manifest.
fn artifact(subject: &Image, kind: &str, content: &[u8]) -> Vec<u8> {
    let empty = json!({"mediaType": media::OCI_EMPTY, "digest": Digest::of(b"{}"), "size": 2});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "artifactType": kind, "config": empty,
        "layers": [{"mediaType": "text/plain", "digest": Digest::of(content), "size": content.len()}],
        "subject": {"mediaType": media::OCI_MANIFEST, "digest": subject.digest, "size": subject.manifest.len()},
    });
    manifest.to_string().into_bytes()
}

#[test]
fn referrers_are_listed_by_type() {
    let place = Place::new();
    let strata = Strata::new(&place);
    let server = Stratad::start(&place.join("data"));
    let api = server.api();
    let image = image("a");
    let name = api.push(&image, "app", "v1");
    api.push_blob("app", b"{}");
    let mut digests = Vec::new();
    for kind in ["application/x.sbom", "application/x.signature"] {
        api.push_blob("app", kind.as_bytes());
        let manifest = artifact(&image, kind, kind.as_bytes());
        let digest = Digest::of(&manifest).to_string();
        api.put_manifest("app", &digest, media::OCI_MANIFEST, &manifest)
            .expect(201);
        digests.push(digest);
    }
    let out = strata.run(&["referrers", &name]).ok().out();
    assert!(digests.iter().all(|d| out.contains(d)), "{out}");
    let args = [
        "referrers",
        "--format",
        "json",
        "--artifact-type",
        "application/x.sbom",
        &name,
    ];
    let found = json_of(&strata.run(&args).ok().stdout);
    assert_eq!(found["referrers"].as_array().map(Vec::len), Some(1));
    assert_eq!(found["referrers"][0]["digest"], digests[0]);
    assert_eq!(found["subject"], image.digest.to_string());
    strata
        .run(&["referrers", &api.reference("app", "v9")])
        .refused()
        .says("app");
}

#[test]
fn a_blob_is_printed_or_saved_only_whole() {
    on_both(|strata, api| {
        let image = image("a");
        api.push(&image, "app", "v1");
        let layer = &image.layers[0];
        let name = format!("{}/app@{}", api.0.address(), layer.digest);
        assert_eq!(strata.run(&["blob", &name]).ok().stdout, layer.blob);
        let place = Place::new();
        let file = place.join("layer.tar.gz");
        let path = file.to_str().expect("text");
        strata.run(&["blob", "-o", path, &name]).ok();
        assert_eq!(std::fs::read(&file).expect("read"), layer.blob);
        let absent = format!("{}/app@{}", api.0.address(), Digest::of(b"absent"));
        let ran = strata.run(&["blob", &absent]);
        ran.refused().says(Digest::of(b"absent").hex());
        let tag = api.reference("app", "v1");
        strata.run(&["blob", &tag]).refused().says("@DIGEST");
    });
}

#[test]
fn a_blob_that_is_not_what_its_digest_says_is_refused_and_not_saved() {
    let place = Place::new();
    let strata = Strata::new(&place);
    let image = image("a");
    let mut bytes = image.layers[0].blob.clone();
    bytes[10] ^= 1;
    let wanted = image.layers[0].digest.to_string();
    let fake = Fake::of_image(image.clone(), move |asked| {
        let hit = asked.target.ends_with(&wanted) && asked.method == "GET";
        hit.then(|| reply(200, &[], &bytes))
    });
    let name = format!("{}/app@{}", fake.address(), image.layers[0].digest);
    strata.run(&["blob", &name]).refused().says("digest");
    let file = place.dir("out").join("layer");
    let path = file.to_str().expect("text");
    strata.run(&["blob", "-o", path, &name]).refused();
    let left = std::fs::read_dir(place.join("out")).expect("list").count();
    assert_eq!(left, 0, "nothing is left");
}
