//! What a client must not be able to do to the server: each wrong request gets the protocol's error, and
//! nothing of it stays (distribution-spec, "Error Codes").

use std::io::{Read, Write};
use std::time::Duration;

use serde_json::json;
use strata_oci::digest::Digest;
use strata_oci::media;
use strata_tests::api::Api;
use strata_tests::entry::Entry;
use strata_tests::image::{Image, Layer};
use strata_tests::place::Place;
use strata_tests::stratad::Stratad;

const NOWHERE: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn server() -> (Place, Stratad) {
    let place = Place::new();
    let server = Stratad::start(&place.join("data"));
    (place, server)
}

fn image() -> Image {
    Image::new(&[Layer::of(&[Entry::file("file", "content")])])
}

#[test]
fn a_wrong_digest_stores_nothing() {
    let (_place, server) = server();
    let api = server.api();
    let upload = api.append(&api.start("app"), b"first part");
    api.finish(&upload, NOWHERE, b"")
        .expect_error(400, "DIGEST_INVALID");
    let kind = [("Content-Type", "application/octet-stream")];
    let target = format!("/v2/app/blobs/uploads/?digest={NOWHERE}");
    api.0
        .send("POST", &target, &kind, b"other bytes")
        .expect_error(400, "DIGEST_INVALID");
    let upload = api.start("app");
    api.finish(&upload, NOWHERE, b"all at once")
        .expect_error(400, "DIGEST_INVALID");
    assert_eq!(server.stored(), (0, 0));
    assert!(!api.has_blob("app", &NOWHERE.parse().expect("digest")));
}

#[test]
fn a_digest_that_is_not_one_is_refused_everywhere() {
    let (_place, server) = server();
    let api = server.api();
    let bad = [
        "sha256:short",
        "sha256:0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        "sha256:..%2F..%2F..%2Fetc%2Fpasswd",
        "sha256",
        "%00",
    ];
    for digest in bad {
        let upload = api.append(&api.start("app"), b"x");
        api.finish(&upload, digest, b"")
            .expect_error(400, "DIGEST_INVALID");
        let reply = api
            .0
            .send("GET", &format!("/v2/app/blobs/{digest}"), &[], b"");
        assert!(
            [400, 404].contains(&reply.status),
            "{digest}: {}",
            reply.status
        );
    }
    let upload = api.append(&api.start("app"), b"x");
    let reply = api.0.send("PUT", &upload, &[], b"");
    assert_eq!(reply.status, 400, "a PUT without a digest");
    assert_eq!(server.stored(), (0, 0));
}

#[test]
fn a_truncated_body_changes_nothing_that_was_told() {
    let (_place, server) = server();
    let api = server.api();
    let upload = api.append(&api.start("app"), b"told ");
    let content = [
        ("Content-Length", "1000"),
        ("Content-Type", "application/octet-stream"),
    ];
    let head = api.0.head("PATCH", &upload, &content);
    let request = [head.as_bytes(), b"\r\n", b"only some"].concat();
    if let Some(reply) = api.0.break_off(&request) {
        assert!(reply.status >= 400, "{reply:?}");
    }
    // What had come of it may be kept, but the server says truly how much.
    let path = upload.split('?').next().expect("a path");
    let status = api.0.send("GET", path, &[], b"").expect(204);
    let range = status.header("range").expect("a range").to_owned();
    assert!(range == "0-4" || range == "0-13", "{range}");
    let so_far: &[u8] = if range == "0-4" {
        b"told "
    } else {
        b"told only some"
    };
    let whole = [so_far, b" and the rest"].concat();
    let next = strata_tests::api::location(&status);
    let digest = Digest::of(&whole).to_string();
    api.finish(&next, &digest, b" and the rest").expect(201);

    // A monolithic upload that breaks off is no blob.
    let digest = Digest::of(b"a whole body");
    let target = format!("/v2/app/blobs/uploads/?digest={digest}");
    let content = [
        ("Content-Length", "12"),
        ("Content-Type", "application/octet-stream"),
    ];
    let head = api.0.head("POST", &target, &content);
    api.0
        .break_off(&[head.as_bytes(), b"\r\n", b"a whole"].concat());
    assert!(!api.has_blob("app", &digest));
    assert_eq!(server.stored().0, 1);
}

#[test]
fn a_truncated_manifest_is_not_taken() {
    let (_place, server) = server();
    let api = server.api();
    let image = image();
    api.push(&image, "app", "whole");
    let length = (image.manifest.len() + 10).to_string();
    let headers = [
        ("Content-Length", length.as_str()),
        ("Content-Type", image.media_type()),
    ];
    let head = api.0.head("PUT", "/v2/app/manifests/cut", &headers);
    api.0
        .break_off(&[head.as_bytes(), b"\r\n", &image.manifest].concat());
    api.manifest("app", "cut")
        .expect_error(404, "MANIFEST_UNKNOWN");
}

#[test]
fn an_oversized_manifest_is_refused_without_being_read() {
    let (_place, server) = server();
    let api = server.api();
    let mut large = String::from_utf8(image().manifest).expect("text");
    large.push_str(&" ".repeat(5 * 1024 * 1024));
    let reply = api.put_manifest("app", "large", media::OCI_MANIFEST, large.as_bytes());
    assert!([400, 413].contains(&reply.status), "{}", reply.status);
    // The length alone is reason enough: the answer comes before a body does.
    let headers = [
        ("Content-Length", "99999999999"),
        ("Content-Type", media::OCI_MANIFEST),
    ];
    let head = api.0.head("PUT", "/v2/app/manifests/large", &headers) + "\r\n";
    let mut stream = api.0.connect();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("set a time limit");
    stream.write_all(head.as_bytes()).expect("write");
    let mut start = [0; 12];
    stream.read_exact(&mut start).expect("an early answer");
    assert!(start.starts_with(b"HTTP/1.1 4"), "{start:?}");
    api.manifest("app", "large")
        .expect_error(404, "MANIFEST_UNKNOWN");
}

#[test]
fn names_that_are_not_names_are_refused() {
    let (_place, server) = server();
    let api = server.api();
    for name in [
        "UPPER",
        "-dash",
        "dot.",
        "a//b",
        "a/../b",
        "%2e%2e/etc",
        "a%2f..%2f..%2fb",
        "a_-b",
        "ä",
    ] {
        let reply = api
            .0
            .send("POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"");
        assert!(
            [400, 404].contains(&reply.status),
            "{name}: {}",
            reply.status
        );
        let reply = api
            .0
            .send("GET", &format!("/v2/{name}/tags/list"), &[], b"");
        assert!(
            [400, 404].contains(&reply.status),
            "{name}: {}",
            reply.status
        );
    }
    let long = format!("/v2/{}/blobs/uploads/", "a".repeat(300));
    assert_eq!(api.0.send("POST", &long, &[], b"").status, 400);
    api.0
        .send("POST", "/v2/UPPER/blobs/uploads/", &[], b"")
        .expect_error(400, "NAME_INVALID");
    // A repository may be called like a part of the protocol.
    for name in ["blobs", "manifests/x", "uploads/tags/list", "v2"] {
        let digest = api.push_blob(name, b"x");
        assert!(api.has_blob(name, &digest), "{name}");
    }
}

#[test]
fn tags_that_are_not_tags_are_refused() {
    let (_place, server) = server();
    let api = server.api();
    let image = image();
    api.push(&image, "app", "good");
    let long = "t".repeat(129);
    for tag in [
        "-dash",
        ".dot",
        "a%20b",
        "a%2fb",
        "sha256:short",
        long.as_str(),
    ] {
        let reply = api.put_manifest("app", tag, image.media_type(), &image.manifest);
        assert!(
            [400, 404].contains(&reply.status),
            "{tag}: {}",
            reply.status
        );
    }
    let tags = api
        .0
        .send("GET", "/v2/app/tags/list", &[], b"")
        .expect(200)
        .json();
    assert_eq!(tags["tags"], json!(["good"]));
}

#[test]
fn manifests_are_checked_before_they_are_stored() {
    let (_place, server) = server();
    let api = server.api();
    let image = image();
    let kind = image.media_type();
    // Its blobs are not there: each one is named.
    let reply = api.put_manifest("app", "v1", kind, &image.manifest);
    assert!([400, 404].contains(&reply.status), "{}", reply.status);
    let errors = reply.json();
    assert_eq!(errors["errors"][0]["code"], "MANIFEST_BLOB_UNKNOWN");
    let text = errors.to_string();
    for blob in image.blobs() {
        assert!(text.contains(&Digest::of(blob).to_string()), "{text}");
    }
    // Another repository's blobs do not count.
    api.push(&image, "elsewhere", "v1");
    assert_ne!(
        api.put_manifest("app", "v1", kind, &image.manifest).status,
        201
    );
    // A child that is not there.
    let index = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX,
        "manifests": [{ "mediaType": kind, "digest": NOWHERE, "size": 5 }] });
    let reply = api.put_manifest(
        "elsewhere",
        "index",
        media::OCI_INDEX,
        index.to_string().as_bytes(),
    );
    assert!([400, 404].contains(&reply.status), "{}", reply.status);
    let wrong: [(&str, Vec<u8>); 6] = [
        (kind, b"not json".to_vec()),
        (kind, b"{}".to_vec()),
        (kind, b"[]".to_vec()),
        ("text/plain", image.manifest.clone()),
        (media::OCI_INDEX, image.manifest.clone()),
        (kind, [b"[".repeat(100_000), b"]".repeat(100_000)].concat()),
    ];
    for (media_type, bytes) in wrong {
        let reply = api.put_manifest("elsewhere", "wrong", media_type, &bytes);
        assert!(
            [400, 415].contains(&reply.status),
            "{media_type}: {}",
            reply.status
        );
        assert_eq!(reply.error_code(), "MANIFEST_INVALID");
    }
    // By a digest that is another manifest's.
    let reply = api.put_manifest("elsewhere", NOWHERE, kind, &image.manifest);
    assert_eq!(reply.status, 400);
    assert_eq!(reply.error_code(), "DIGEST_INVALID");
    for name in ["v1", "index", "wrong"] {
        api.manifest("app", name)
            .expect_error(404, "MANIFEST_UNKNOWN");
    }
    api.manifest("elsewhere", "wrong")
        .expect_error(404, "MANIFEST_UNKNOWN");
}

#[test]
fn uploads_that_are_not_there_are_unknown() {
    let (_place, server) = server();
    let api = server.api();
    for id in [
        "00000000-0000-0000-0000-000000000000",
        "x",
        "%2e%2e%2fblobs",
        "..",
        "' OR 1=1 --",
    ] {
        let target = format!("/v2/app/blobs/uploads/{}", id.replace(' ', "%20"));
        for method in ["GET", "PATCH", "DELETE"] {
            let body: &[u8] = if method == "PATCH" { b"x" } else { b"" };
            let reply = api.0.send(method, &target, &[], body);
            assert!(
                [400, 404].contains(&reply.status),
                "{method} {id}: {}",
                reply.status
            );
        }
    }
    let unknown = "/v2/app/blobs/uploads/00000000-0000-0000-0000-000000000000";
    api.0
        .send("PATCH", unknown, &[], b"x")
        .expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    // An upload belongs to the repository that it was started in.
    let upload = api.append(&api.start("mine"), b"x");
    let stolen = upload.replace("/v2/mine/", "/v2/theirs/");
    assert_eq!(api.0.send("PATCH", &stolen, &[], b"y").status, 404);
    let digest = Digest::of(b"x").to_string();
    assert_eq!(api.finish(&stolen, &digest, b"").status, 404);
    api.finish(&upload, &digest, b"").expect(201);
    // What is finished is over.
    assert_eq!(api.finish(&upload, &digest, b"").status, 404);
}

#[test]
fn ranges_that_do_not_fit_change_nothing() {
    let (_place, server) = server();
    let api = server.api();
    let upload = api.start("app");
    for range in [
        "5-9",
        "0-",
        "9-5",
        "x-y",
        "-1-3",
        "0-99999999999999999999",
        "bytes 5-9/20",
    ] {
        let headers = [
            ("Content-Range", range),
            ("Content-Type", "application/octet-stream"),
        ];
        let reply = api.0.send("PATCH", &upload, &headers, b"12345");
        assert!(
            [400, 416].contains(&reply.status),
            "{range}: {}",
            reply.status
        );
    }
    // The upload goes on where it was.
    let done = api.finish(
        &api.append(&upload, b"12345"),
        &Digest::of(b"12345").to_string(),
        b"",
    );
    done.expect(201);
}

#[test]
fn pages_that_make_no_sense_are_refused_or_bounded() {
    let (_place, server) = server();
    let api = server.api();
    api.push(&image(), "app", "v1");
    for query in ["n=-1", "n=x", "n=99999999999999999999"] {
        let reply = api
            .0
            .send("GET", &format!("/v2/app/tags/list?{query}"), &[], b"");
        assert!(
            [200, 400].contains(&reply.status),
            "{query}: {}",
            reply.status
        );
    }
    let none = api
        .0
        .send("GET", "/v2/app/tags/list?n=0", &[], b"")
        .expect(200)
        .json();
    assert_eq!(none["tags"], json!([]));
    api.0
        .send("GET", "/v2/nothing-here/tags/list", &[], b"")
        .expect_error(404, "NAME_UNKNOWN");
    let bounded = api
        .0
        .send("GET", "/v2/app/tags/list?last=%27%3B--", &[], b"")
        .expect(200)
        .json();
    assert!(bounded["tags"].is_array());
}

#[test]
fn paths_and_methods_that_are_not_the_protocols() {
    let (_place, server) = server();
    let api = server.api();
    for path in [
        "/",
        "/v1/",
        "/v2/app",
        "/v2/app/nothing",
        "/v2//",
        "/v2/../../etc/passwd",
    ] {
        let reply = api.0.send("GET", path, &[], b"");
        assert!(
            [301, 308, 400, 404].contains(&reply.status),
            "{path}: {}",
            reply.status
        );
    }
    for (method, path) in [
        ("PUT", "/v2/"),
        ("POST", "/v2/app/tags/list"),
        ("PATCH", "/v2/app/manifests/x"),
    ] {
        let reply = api.0.send(method, path, &[], b"x");
        assert!(
            [404, 405].contains(&reply.status),
            "{method} {path}: {}",
            reply.status
        );
    }
    let garbage = api.0.break_off(b"\x16\x03\x01 this is not HTTP\r\n\r\n");
    assert!(garbage.is_none_or(|reply| reply.status == 400));
    alive(&api);
}

#[test]
fn slow_and_silent_clients_do_not_stop_others() {
    let (_place, server) = server();
    let api = server.api();
    let upload = api.start("slow");
    let content = [
        ("Content-Length", "100"),
        ("Content-Type", "application/octet-stream"),
    ];
    let head = api.0.head("PATCH", &upload, &content) + "\r\npart";
    let mut held = Vec::new();
    for n in 0..200 {
        let mut stream = api.0.connect();
        if n % 2 == 0 {
            stream.write_all(head.as_bytes()).expect("write");
        }
        held.push(stream);
    }
    alive(&api);
    drop(held);
    alive(&api);
}

fn alive(api: &Api) {
    let digest = api.push_blob("alive", b"still here");
    assert_eq!(api.blob("alive", &digest).expect(200).body, b"still here");
}
