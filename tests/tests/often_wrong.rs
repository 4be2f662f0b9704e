//! What registries often get wrong, one test for each: the traps of the specification and of its conformance
//! suite (opencontainers/distribution-spec, `conformance/`), and bugs of other registries.

use serde_json::{Value, json};
use strata_oci::digest::{Algorithm, Digest, Digester};
use strata_oci::media;
use strata_tests::api::{Api, location};
use strata_tests::entry::Entry;
use strata_tests::http::Reply;
use strata_tests::image::{Image, Layer};
use strata_tests::place::Place;
use strata_tests::stratad::Stratad;

const ABSENT: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn server() -> (Place, Stratad) {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    (place, server)
}

fn image(name: &str) -> Image {
    Image::new(&[Layer::of(&[Entry::file(name, name)])])
}

fn sha512(bytes: &[u8]) -> Digest {
    let mut digester = Digester::new(Algorithm::Sha512);
    digester.update(bytes);
    digester.finish()
}

fn chunk(api: &Api, method: &str, target: &str, range: &str, bytes: &[u8]) -> Reply {
    let headers = [
        ("Content-Range", range),
        ("Content-Type", "application/octet-stream"),
    ];
    api.0.send(method, target, &headers, bytes)
}

/// Row 1: nothing before the closing PUT says that the digest is not a sha256.
#[test]
fn a_sha512_blob_arrives_in_chunks_without_a_hint() {
    let (_place, server) = server();
    let api = server.api();
    let digest = sha512(b"some bytes");
    let upload = api.append(&api.append(&api.start("app"), b"some "), b"bytes");
    let done = api.finish(&upload, &digest.to_string(), b"").expect(201);
    let told = digest.to_string();
    assert_eq!(done.header("docker-content-digest"), Some(told.as_str()));
    assert_eq!(api.blob("app", &digest).expect(200).body, b"some bytes");
    let upload = api.append(&api.start("app"), b"other bytes");
    api.finish(&upload, &digest.to_string(), b"")
        .expect_error(400, "DIGEST_INVALID");
}

/// Row 2 (distribution-spec issue 590: distribution appends it).
#[test]
fn a_chunk_out_of_order_is_refused_by_patch_and_by_put_and_nothing_is_appended() {
    let (_place, server) = server();
    let api = server.api();
    let upload = api.start("app");
    let first = chunk(&api, "PATCH", &upload, "0-4", b"first").expect(202);
    let upload = location(&first);
    let digest = Digest::of(b"firstlast");
    let closing = format!("{upload}?digest={digest}");
    for (method, target) in [("PATCH", &upload), ("PUT", &closing)] {
        for range in ["9-12", "0-3", "4-7"] {
            let refused = chunk(&api, method, target, range, b"last").expect(416);
            assert_eq!(refused.header("range"), Some("0-4"), "{method} {range}");
            let status = api.get(&upload).expect(204);
            assert_eq!(status.header("range"), Some("0-4"), "{method} {range}");
            assert_eq!(location(&status), upload);
        }
    }
    chunk(&api, "PUT", &closing, "5-8", b"last").expect(201);
    assert_eq!(api.blob("app", &digest).expect(200).body, b"firstlast");
}

/// Row 3 (distribution-spec issues 577 and 578; artifact-keeper 1349 was off by one).
#[test]
fn an_uploads_range_is_inclusive_and_cumulative() {
    let (_place, server) = server();
    let api = server.api();
    let begun = api
        .0
        .send("POST", "/v2/app/blobs/uploads/", &[], b"")
        .expect(202);
    // There is no form for no bytes; 0-0 is what clients take for it.
    assert_eq!(begun.header("range"), Some("0-0"));
    let mut upload = location(&begun);
    let mut sent = 0;
    for size in [1, 2, 1000, 1] {
        let range = format!("{sent}-{}", sent + size - 1);
        let reply = chunk(&api, "PATCH", &upload, &range, &vec![7; size]).expect(202);
        sent += size;
        let told = format!("0-{}", sent - 1);
        assert_eq!(reply.header("range"), Some(told.as_str()));
        upload = location(&reply);
        let status = api.get(&upload).expect(204);
        assert_eq!(status.header("range"), Some(told.as_str()));
    }
}

/// Row 4.
#[test]
fn empty_and_odd_content_is_content() {
    let (_place, server) = server();
    let api = server.api();
    let empty = api.push_blob("app", b"");
    assert_eq!(api.blob("app", &empty).expect(200).body, b"");
    let head = api
        .0
        .send("HEAD", &format!("/v2/app/blobs/{empty}"), &[], b"");
    assert_eq!(head.expect(200).header("content-length"), Some("0"));
    let absent = |kind: &str| json!({ "mediaType": kind, "digest": ABSENT, "size": 9 });
    let never_pushed = [
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ];
    let (plain, _) = api.push_manifest("app", media::OCI_MANIFEST, &api.artifact("app", json!({})));
    for more in [
        json!({ "x-unknown": { "deep": [null, 1.5e300, "\u{1f600}"] } }),
        json!({ "config": { "mediaType": "text/x-own", "digest": empty, "size": 0 } }),
        json!({ "layers": never_pushed.map(absent) }),
        json!({ "artifactType": "text/x-own", "annotations": {} }),
    ] {
        let text = api.artifact("app", more);
        let (digest, _) = api.push_manifest("app", media::OCI_MANIFEST, &text);
        let served = api.manifest("app", &digest.to_string()).expect(200);
        assert_eq!(served.body, text.as_bytes());
    }
    let mut child = (media::OCI_MANIFEST, plain);
    for depth in 0..3 {
        let (kind, digest) = child;
        let list = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "x": depth,
            "manifests": [{ "mediaType": kind, "digest": digest, "size": 2 }] });
        let (digest, _) = api.push_manifest("app", media::OCI_INDEX, &list.to_string());
        child = (media::OCI_INDEX, digest);
    }
    let none = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [] });
    api.push_manifest("app", media::OCI_INDEX, &none.to_string());
}

/// Row 5.
#[test]
fn a_manifest_of_nearly_four_mebibytes_is_kept_to_the_byte_and_a_larger_one_is_too_large() {
    let (_place, server) = server();
    let api = server.api();
    let most = 4 * 1024 * 1024;
    let long =
        |length: usize| api.artifact("app", json!({ "annotations": { "n": "x".repeat(length) } }));
    let fixed = long(0).len();
    for size in [3_900_000, most] {
        let text = long(size - fixed);
        assert_eq!(text.len(), size);
        let (digest, _) = api.push_manifest("app", media::OCI_MANIFEST, &text);
        let served = api.manifest("app", &digest.to_string()).expect(200);
        assert!(served.body == text.as_bytes(), "{size} bytes");
    }
    let text = long(most + 1 - fixed);
    api.put_manifest("app", "large", media::OCI_MANIFEST, text.as_bytes())
        .expect_error(413, "SIZE_INVALID");
}

/// Row 6.
#[test]
fn a_wrong_or_malformed_digest_is_refused_on_every_path() {
    let (_place, server) = server();
    let api = server.api();
    let image = image("a");
    api.push(&image, "app", "there");
    let stored = server.stored();
    for digest in [ABSENT, "sha256:x", "sha256:", "md4:00", "sha256", ""] {
        let single = format!("/v2/app/blobs/uploads/?digest={digest}");
        let kind = [("Content-Type", "application/octet-stream")];
        api.0
            .send("POST", &single, &kind, b"bytes")
            .expect_error(400, "DIGEST_INVALID");
        api.finish(&api.start("app"), digest, b"bytes")
            .expect_error(400, "DIGEST_INVALID");
        let upload = api.append(&api.start("app"), b"bytes");
        api.finish(&upload, digest, b"")
            .expect_error(400, "DIGEST_INVALID");
    }
    let chunked = [("Transfer-Encoding", "chunked")];
    let upload = format!("{}?digest={ABSENT}", api.start("app"));
    let head = api.0.head("PUT", &upload, &chunked) + "\r\n5\r\nbytes\r\n0\r\n\r\n";
    api.0
        .raw("PUT", head.as_bytes())
        .expect_error(400, "DIGEST_INVALID");
    for name in [ABSENT, "sha256:x", &sha512(b"another").to_string()] {
        api.put_manifest("app", name, image.media_type(), &image.manifest)
            .expect_error(400, "DIGEST_INVALID");
    }
    assert_eq!(server.stored(), stored);
}

/// Row 10 (Harbor issue 17097).
#[test]
fn a_mount_that_cannot_be_done_begins_an_upload() {
    let (_place, server) = server();
    let api = server.api();
    let there = api.push_blob("source", b"bytes");
    for query in [
        format!("mount={ABSENT}&from=source"),
        format!("mount={there}&from=no/such/repository"),
        format!("mount={there}&from=target"),
        format!("mount={ABSENT}"),
    ] {
        let target = format!("/v2/target/blobs/uploads/?{query}");
        let reply = api.0.send("POST", &target, &[], b"").expect(202);
        let done = api.finish(
            &location(&reply),
            &Digest::of(query.as_bytes()).to_string(),
            query.as_bytes(),
        );
        done.expect(201);
    }
    assert!(!api.has_blob("target", &there));
}

/// Row 11 (Angos answers 200 to what it cannot read; RFC 9110, 14.2, allows that for what is no range).
#[test]
fn a_range_of_a_blob_is_cut_to_it_or_refused() {
    let (_place, server) = server();
    let api = server.api();
    let bytes: Vec<u8> = (0..1000u32).map(|n| (n % 251) as u8).collect();
    let digest = api.push_blob("app", &bytes);
    let target = format!("/v2/app/blobs/{digest}");
    let part = |range: &str| api.0.send("GET", &target, &[("Range", range)], b"");
    for (range, from, to) in [
        ("bytes=0-499", 0, 500),
        ("bytes=500-", 500, 1000),
        ("bytes=-1", 999, 1000),
        ("bytes=-5000", 0, 1000),
        ("bytes=990-5000", 990, 1000),
    ] {
        let reply = part(range).expect(206);
        assert_eq!(reply.body, bytes[from..to], "{range}");
        let told = format!("bytes {from}-{}/1000", to - 1);
        assert_eq!(reply.header("content-range"), Some(told.as_str()));
        assert_eq!(
            reply.header("docker-content-digest"),
            Some(digest.to_string().as_str())
        );
    }
    for range in ["bytes=500-0", "bytes=1000-", "bytes=1000-1001", "bytes=-0"] {
        let reply = part(range).expect(416);
        assert_eq!(
            reply.header("content-range"),
            Some("bytes */1000"),
            "{range}"
        );
    }
    for range in ["bytes=0-0,5-6", "bytes=zero-one", "chapters=1-2"] {
        assert_eq!(part(range).expect(200).body, bytes, "{range}");
    }
    let head = api
        .0
        .send("HEAD", &target, &[("Range", "bytes=0-1")], b"")
        .expect(200);
    assert_eq!(head.header("content-length"), Some("1000"));
    assert_eq!(head.header("accept-ranges"), Some("bytes"));
}

/// Row 12.
#[test]
fn no_tags_are_a_page_and_the_last_one_needs_no_number() {
    let (_place, server) = server();
    let api = server.api();
    let image = image("a");
    for tag in ["c", "a", "B", "b"] {
        api.push(&image, "app", tag);
    }
    let list = |query: &str| api.get(&format!("/v2/app/tags/list{query}")).expect(200);
    let none = list("?n=0");
    assert_eq!(
        (none.json()["tags"].clone(), none.header("link")),
        (json!([]), None)
    );
    assert_eq!(list("?last=a").json()["tags"], json!(["b", "c"]));
    assert_eq!(list("?last=c").json()["tags"], json!([]));
    assert_eq!(
        list("?last=aa&n=1").json()["tags"],
        json!(["b"]),
        "last need not be there"
    );
    let mut seen = Vec::new();
    let mut target = "/v2/app/tags/list?n=1".to_owned();
    loop {
        let page = api.get(&target).expect(200);
        seen.extend(page.json()["tags"].as_array().expect("tags").clone());
        let Some(link) = page.header("link") else {
            break;
        };
        let end = link.find('>').expect("a reference");
        target = link[1..end].to_owned();
    }
    assert_eq!(Value::from(seen), json!(["B", "a", "b", "c"]));
}

/// Row 13.
#[test]
fn what_is_deleted_is_gone_at_once_with_its_tags() {
    let (_place, mut server) = server();
    let api = server.api();
    let image = image("a");
    for tag in ["one", "two"] {
        api.push(&image, "app", tag);
    }
    let digest = image.digest.to_string();
    let delete = |what: &str| api.0.send("DELETE", &format!("/v2/app/{what}"), &[], b"");
    delete("manifests/one").expect(202);
    api.manifest("app", "one")
        .expect_error(404, "MANIFEST_UNKNOWN");
    delete("manifests/one").expect_error(404, "MANIFEST_UNKNOWN");
    api.manifest("app", &digest).expect(200);
    delete(&format!("manifests/{digest}")).expect(202);
    for name in ["two", &digest] {
        api.manifest("app", name)
            .expect_error(404, "MANIFEST_UNKNOWN");
    }
    assert_eq!(api.get("/v2/app/tags/list").json()["tags"], json!([]));
    let blob = &image.layers[0].digest;
    delete(&format!("blobs/{blob}")).expect(202);
    assert!(!api.has_blob("app", blob));
    delete(&format!("blobs/{blob}")).expect_error(404, "BLOB_UNKNOWN");
    server.start_again();
    let api = server.api();
    assert!(!api.has_blob("app", blob));
    api.manifest("app", "two")
        .expect_error(404, "MANIFEST_UNKNOWN");
}

/// Row 14.
#[test]
fn parameters_of_a_content_type_do_not_count() {
    let (_place, server) = server();
    let api = server.api();
    let image = image("a");
    api.push(&image, "app", "first");
    for (n, kind) in ["; charset=utf-8", ";charset=\"utf-8\"; q=1", " ; x"]
        .iter()
        .enumerate()
    {
        let kind = format!("{}{kind}", image.media_type());
        let tag = format!("t{n}");
        api.put_manifest("app", &tag, &kind, &image.manifest)
            .expect(201);
        let served = api.manifest("app", &tag).expect(200);
        assert_eq!(served.header("content-type"), Some(image.media_type()));
        assert_eq!(served.body, image.manifest);
    }
}
