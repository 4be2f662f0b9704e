//! The server by itself, spoken to by hand: what each step of a push and a pull answers
//! (distribution-spec 1.1, "Pull" and "Push").

use strata_oci::digest::Digest;
use strata_oci::media;
use strata_tests::api::{Api, location};
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::place::Place;
use strata_tests::stratad::Stratad;

fn server() -> (Place, Stratad) {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    (place, server)
}

fn small_image() -> Image {
    Image::new(&[
        Layer::of(&[Entry::file("a", "a")]),
        Layer::of(&[Entry::file("b", "b")]),
    ])
}

#[test]
fn the_base_says_that_the_protocol_is_spoken() {
    let (_place, server) = server();
    let reply = server.api().0.send("GET", "/v2/", &[], b"").expect(200);
    assert_eq!(
        reply.header("docker-distribution-api-version"),
        Some("registry/2.0")
    );
}

#[test]
fn a_chunked_upload_arrives_in_order_and_says_how_far_it_is() {
    let (_place, server) = server();
    let api = server.api();
    let digest = Digest::of(b"one two three");
    let start = api.start("app");
    let send = |location: &str, range: &str, bytes: &[u8]| {
        let headers = [
            ("Content-Range", range),
            ("Content-Type", "application/octet-stream"),
        ];
        api.0.send("PATCH", location, &headers, bytes)
    };
    let first = send(&start, "0-3", b"one ").expect(202);
    assert_eq!(first.header("range"), Some("0-3"));
    let next = location(&first);
    // A chunk that does not begin where the upload ends is refused and changes nothing.
    let wrong = send(&next, "8-12", b"three");
    assert_eq!(wrong.status, 416, "{wrong:?}");
    let status = api.0.send("GET", &next, &[], b"").expect(204);
    assert_eq!(status.header("range"), Some("0-3"));
    let second = send(&location(&status), "4-7", b"two ").expect(202);
    assert_eq!(second.header("range"), Some("0-7"));
    let done = api
        .finish(&location(&second), &digest.to_string(), b"three")
        .expect(201);
    assert_eq!(
        done.header("docker-content-digest"),
        Some(digest.to_string().as_str())
    );
    assert_eq!(api.blob("app", &digest).expect(200).body, b"one two three");
    assert_eq!(location(&done), format!("/v2/app/blobs/{digest}"));
}

#[test]
fn uploads_in_one_request_and_of_unknown_length_work() {
    let (_place, server) = server();
    let api = server.api();
    let digest = Digest::of(b"monolithic");
    let kind = [("Content-Type", "application/octet-stream")];
    let target = format!("/v2/app/blobs/uploads/?digest={digest}");
    api.0
        .send("POST", &target, &kind, b"monolithic")
        .expect(201);
    assert!(api.has_blob("app", &digest));
    let reply = api
        .0
        .send_chunked("PATCH", &api.start("app"), &[b"of unknown ", b"length"])
        .expect(202);
    let digest = Digest::of(b"of unknown length");
    api.finish(&location(&reply), &digest.to_string(), b"")
        .expect(201);
    assert_eq!(
        api.blob("app", &digest).expect(200).body,
        b"of unknown length"
    );
    let empty = api.push_blob("app", b"");
    assert_eq!(api.blob("app", &empty).expect(200).body, b"");
}

#[test]
fn sha512_digests_work() {
    let (_place, server) = server();
    let api = server.api();
    let mut digester = strata_oci::digest::Digester::new(strata_oci::digest::Algorithm::Sha512);
    digester.update(b"long digest");
    let digest = digester.finish();
    api.finish(&api.start("app"), &digest.to_string(), b"long digest")
        .expect(201);
    assert_eq!(api.blob("app", &digest).expect(200).body, b"long digest");
}

#[test]
fn an_upload_can_be_given_up() {
    let (_place, server) = server();
    let api = server.api();
    let upload = api.append(&api.start("app"), b"some bytes");
    let path = upload.split('?').next().expect("path").to_owned();
    api.0.send("DELETE", &upload, &[], b"").expect(204);
    api.0
        .send("GET", &path, &[], b"")
        .expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(server.stored(), (0, 0));
}

#[test]
fn parts_of_a_blob_can_be_asked_for() {
    let (_place, server) = server();
    let api = server.api();
    let bytes: Vec<u8> = (0..200_000u32).map(|n| (n * 7 % 251) as u8).collect();
    let digest = api.push_blob("app", &bytes);
    let target = format!("/v2/app/blobs/{digest}");
    let head = api.0.send("HEAD", &target, &[], b"").expect(200);
    assert_eq!(head.header("content-length"), Some("200000"));
    assert_eq!(
        head.header("docker-content-digest"),
        Some(digest.to_string().as_str())
    );
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=5-9", 5, 10),
        ("bytes=199990-", 199_990, 200_000),
        ("bytes=-5", 199_995, 200_000),
        ("bytes=100000-999999999", 100_000, 200_000),
    ] {
        let reply = api
            .0
            .send("GET", &target, &[("Range", range)], b"")
            .expect(206);
        assert_eq!(reply.body, &bytes[from..to], "{range}");
        let content_range = format!("bytes {from}-{}/200000", to - 1);
        assert_eq!(reply.header("content-range"), Some(content_range.as_str()));
    }
    let beyond = api
        .0
        .send("GET", &target, &[("Range", "bytes=200000-")], b"")
        .expect(416);
    assert_eq!(beyond.header("content-range"), Some("bytes */200000"));
    // What is not a range that we know is as if it were not there (RFC 9110, 14.2).
    for odd in ["lines=1-2", "bytes=9-5", "bytes=x-", "bytes="] {
        let reply = api.0.send("GET", &target, &[("Range", odd)], b"");
        let whole = reply.status == 200 && reply.body == bytes;
        assert!(whole || reply.status == 416, "{odd}: {}", reply.status);
    }
}

#[test]
fn a_blob_is_stored_once_and_mounted_across_repositories() {
    let (_place, server) = server();
    let api = server.api();
    let digest = api.push_blob("one", b"shared bytes");
    let target = |from: &str| format!("/v2/two/blobs/uploads/?mount={digest}&from={from}");
    let reply = api.0.send("POST", &target("one"), &[], b"").expect(201);
    assert_eq!(location(&reply), format!("/v2/two/blobs/{digest}"));
    assert_eq!(api.blob("two", &digest).expect(200).body, b"shared bytes");
    // Nothing to mount: the answer is an upload to go on with.
    let unknown = Digest::of(b"elsewhere");
    let target = format!("/v2/two/blobs/uploads/?mount={unknown}&from=one");
    let reply = api.0.send("POST", &target, &[], b"").expect(202);
    api.finish(&location(&reply), &unknown.to_string(), b"elsewhere")
        .expect(201);
    api.push_blob("three", b"shared bytes");
    assert_eq!(server.stored(), (2, 12 + 9));
}

#[test]
fn a_blob_is_seen_only_in_the_repositories_that_have_it() {
    let (_place, server) = server();
    let api = server.api();
    let digest = api.push_blob("mine", b"private bytes");
    assert!(!api.has_blob("theirs", &digest));
    api.blob("theirs", &digest)
        .expect_error(404, "BLOB_UNKNOWN");
}

#[test]
fn manifests_are_served_as_they_were_pushed() {
    let (_place, server) = server();
    let api = server.api();
    let image = small_image();
    for blob in image.blobs() {
        api.push_blob("app", blob);
    }
    // Blanks and unknown fields are part of the digest.
    let text = String::from_utf8(image.manifest.clone()).expect("text");
    let odd = text.replacen('{', "{ \n\t\"x-unknown\": [1, {\"y\": null}],", 1);
    let digest = Digest::of(odd.as_bytes());
    let reply = api
        .put_manifest("app", "odd", image.media_type(), odd.as_bytes())
        .expect(201);
    assert_eq!(
        reply.header("docker-content-digest"),
        Some(digest.to_string().as_str())
    );
    for name in ["odd", &digest.to_string()] {
        let served = api.manifest("app", name).expect(200);
        assert_eq!(served.body, odd.as_bytes());
        assert_eq!(served.header("content-type"), Some(image.media_type()));
        let target = format!("/v2/app/manifests/{name}");
        let head = api.0.send("HEAD", &target, &[], b"").expect(200);
        assert_eq!(
            head.header("content-length"),
            Some(odd.len().to_string().as_str())
        );
    }
}

#[test]
fn tags_move_are_listed_in_pages_and_are_deleted() {
    let (_place, server) = server();
    let api = server.api();
    let image = small_image();
    for tag in ["b", "a", "c", "latest"] {
        api.push(&image, "app", tag);
    }
    let other = Image::new(&[Layer::of(&[Entry::file("z", "z")])]);
    api.push(&other, "app", "latest");
    assert_eq!(
        api.manifest("app", "latest").expect(200).body,
        other.manifest
    );
    assert_eq!(tags(&api, "?n=100"), ["a", "b", "c", "latest"]);
    let page = api
        .0
        .send("GET", "/v2/app/tags/list?n=2", &[], b"")
        .expect(200);
    assert_eq!(page.json()["tags"], serde_json::json!(["a", "b"]));
    assert!(
        page.header("link")
            .is_some_and(|link| link.contains("rel=\"next\""))
    );
    assert_eq!(tags(&api, "?n=2&last=b"), ["c", "latest"]);

    api.0
        .send("DELETE", "/v2/app/manifests/a", &[], b"")
        .expect(202);
    api.manifest("app", "a")
        .expect_error(404, "MANIFEST_UNKNOWN");
    assert_eq!(api.manifest("app", "b").expect(200).body, image.manifest);
    let by_digest = format!("/v2/app/manifests/{}", image.digest);
    api.0.send("DELETE", &by_digest, &[], b"").expect(202);
    for name in ["b", "c", &image.digest.to_string()] {
        api.manifest("app", name)
            .expect_error(404, "MANIFEST_UNKNOWN");
    }
    assert_eq!(tags(&api, ""), ["latest"]);
}

fn tags(api: &Api, query: &str) -> Vec<String> {
    let target = format!("/v2/app/tags/list{query}");
    let listed = api.0.send("GET", &target, &[], b"").expect(200).json();
    let tags = listed["tags"].as_array().expect("tags");
    tags.iter()
        .map(|t| t.as_str().expect("text").to_owned())
        .collect()
}

#[test]
fn artifacts_and_signatures_are_images_too() {
    let (_place, server) = server();
    let api = server.api();
    let image = small_image();
    api.push(&image, "app", "v1");
    let empty = api.push_blob("app", b"{}");
    let note = api.push_blob("app", b"a note");
    let artifact = serde_json::json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "artifactType": "text/x-note",
        "config": { "mediaType": media::OCI_EMPTY, "digest": empty, "size": 2 },
        "layers": [{ "mediaType": "text/plain", "digest": note, "size": 6 }],
        "subject": { "mediaType": media::OCI_MANIFEST, "digest": image.digest, "size": image.manifest.len() },
    })
    .to_string();
    let digest = Digest::of(artifact.as_bytes());
    let name = digest.to_string();
    api.put_manifest("app", &name, media::OCI_MANIFEST, artifact.as_bytes())
        .expect(201);
    assert_eq!(
        api.manifest("app", &name).expect(200).body,
        artifact.as_bytes()
    );
}

#[test]
fn many_clients_push_and_pull_at_once() {
    let (_place, server) = server();
    let api = server.api();
    let common = vec![7u8; 300_000];
    std::thread::scope(|scope| {
        for n in 0..16u8 {
            let common = &common;
            scope.spawn(move || {
                let repository = format!("app{}", n % 4);
                let own = vec![n; 100_000 + n as usize];
                for bytes in [common, &own] {
                    let digest = api.push_blob(&repository, bytes);
                    assert_eq!(api.blob(&repository, &digest).expect(200).body, *bytes);
                }
            });
        }
    });
    assert_eq!(server.stored().0, 17);
}
