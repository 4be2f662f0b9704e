//! Blobs over HTTP: how they are fetched, mounted and deleted.

mod common;

use common::{Registry, content};
use strata_oci::Digest;

#[test]
fn the_base_says_that_this_is_a_registry() {
    let registry = Registry::start();
    for path in ["/v2/", "/v2"] {
        let reply = registry.get(path);
        assert_eq!(reply.status, 200);
        let version = reply.header("docker-distribution-api-version");
        assert_eq!(version, "registry/2.0");
    }
    assert_eq!(registry.get("/").status, 404);
    registry.get("/v2/a/b").expect_refusal(404, "UNSUPPORTED");
    let reply = registry.send("POST", "/v2/a/tags/list", &[], b"");
    assert_eq!(
        (reply.status, reply.header("allow")),
        (405, "GET, HEAD, OPTIONS")
    );
}

#[test]
fn what_was_pushed_is_fetched() {
    let registry = Registry::start();
    for size in [0, 1, 4000, 50_000, 3_000_000] {
        let bytes = content(size);
        let digest = registry.push("a/b", &bytes);
        let path = format!("/v2/a/b/blobs/{digest}");
        let reply = registry.get(&path);
        assert_eq!(reply.status, 200);
        assert!(reply.body == bytes, "{size} bytes");
        let head = registry.send("HEAD", &path, &[], b"");
        assert_eq!(head.status, 200);
        for name in [
            "content-length",
            "docker-content-digest",
            "etag",
            "accept-ranges",
            "content-type",
        ] {
            assert_eq!(head.header(name), reply.header(name), "{name}");
        }
        assert_eq!(reply.header("docker-content-digest"), digest.to_string());
        assert_eq!(reply.header("content-length"), size.to_string());
        let tag = [("If-None-Match", reply.header("etag"))];
        assert_eq!(registry.send("GET", &path, &tag, b"").status, 304);
    }
    assert_eq!(registry.staged(), 0);
}

#[test]
fn one_connection_serves_many_requests() {
    let registry = Registry::start();
    let bytes = content(200_000);
    let digest = registry.push("a", &bytes);
    let mut connection = registry.connect();
    for _ in 0..5 {
        let reply = connection.send("GET", &format!("/v2/a/blobs/{digest}"), &[], b"");
        assert!(reply.body == bytes);
        assert_eq!(connection.send("GET", "/v2/", &[], b"").status, 200);
    }
}

#[test]
fn ranges() {
    let registry = Registry::start();
    for size in [10_000, 1_000_000] {
        let bytes = content(size);
        let path = format!("/v2/a/blobs/{}", registry.push("a", &bytes));
        let get = |range: &str| registry.send("GET", &path, &[("Range", range)], b"");
        let (end, last) = (size, size - 1);
        for (range, from, to) in [
            ("bytes=0-0".to_owned(), 0, 1),
            ("bytes=100-5099".to_owned(), 100, 5100),
            (format!("bytes=7000-{}", size * 2), 7000, end),
            ("bytes=9000-".to_owned(), 9000, end),
            ("bytes=-300".to_owned(), end - 300, end),
            (format!("bytes=-{}", size * 9), 0, end),
        ] {
            let reply = get(&range);
            assert_eq!(reply.status, 206, "{range}");
            assert!(reply.body == bytes[from..to], "{range} of {size}");
            let said = format!("bytes {from}-{}/{size}", to - 1);
            assert_eq!(reply.header("content-range"), said);
        }
        for range in [
            format!("bytes={end}-"),
            format!("bytes={end}-{end}"),
            "bytes=-0".to_owned(),
            "bytes=500-0".to_owned(),
        ] {
            let reply = get(&range);
            assert_eq!(reply.status, 416, "{range}");
            assert_eq!(reply.header("content-range"), format!("bytes */{size}"));
        }
        for range in ["bytes=0-1,5-6", "bytes=x-y", "lines=1-2"] {
            let reply = get(range);
            assert_eq!(reply.status, 200, "{range}");
            assert!(reply.body == bytes);
        }
        let headers = [("Range", "bytes=0-1"), ("If-Range", "\"another\"")];
        let reply = registry.send("GET", &path, &headers, b"");
        assert_eq!((reply.status, reply.body.len()), (200, last + 1));
    }
}

#[test]
fn unknown_and_malformed_blobs() {
    let registry = Registry::start();
    registry.push("a", b"here");
    let digest = Digest::of(b"nowhere");
    registry
        .get(&format!("/v2/a/blobs/{digest}"))
        .expect_refusal(404, "BLOB_UNKNOWN");
    registry
        .get(&format!("/v2/none/blobs/{digest}"))
        .expect_refusal(404, "BLOB_UNKNOWN");
    for bad in [
        "sha256:00",
        "md5:00",
        "sha256",
        "sha256:..%2f..%2f..%2fetc%2fpasswd",
    ] {
        let reply = registry.get(&format!("/v2/a/blobs/{bad}"));
        assert!(matches!(reply.status, 400 | 404), "{bad}: {}", reply.status);
    }
    registry
        .get("/v2/a/blobs/sha256:00")
        .expect_refusal(400, "DIGEST_INVALID");
    registry
        .get("/v2/A_/tags/list")
        .expect_refusal(400, "NAME_INVALID");
    registry
        .get("/v2/a/../b/tags/list")
        .expect_refusal(400, "NAME_INVALID");
}

#[test]
fn a_blob_is_seen_only_through_a_repository_that_links_it() {
    let registry = Registry::start();
    let digest = registry.push("a", b"secret");
    let seen = |repository: &str| {
        registry
            .get(&format!("/v2/{repository}/blobs/{digest}"))
            .status
    };
    assert_eq!((seen("a"), seen("b")), (200, 404));
    let mount = |to: &str, query: String| {
        let path = format!("/v2/{to}/blobs/uploads/?mount={query}");
        registry.send("POST", &path, &[], b"")
    };
    let other = Digest::of(b"not there");
    for query in [
        format!("{other}&from=a"),
        format!("{digest}&from=none"),
        other.to_string(),
    ] {
        let reply = mount("b", query);
        assert_eq!(reply.status, 202, "an upload begins instead");
        assert!(reply.header("location").contains("/v2/b/blobs/uploads/"));
    }
    assert_eq!(seen("b"), 404);
    let reply = mount("b", format!("{digest}&from=a"));
    assert_eq!((reply.status, seen("b")), (201, 200));
    assert_eq!(reply.header("location"), format!("/v2/b/blobs/{digest}"));
    assert_eq!(reply.header("docker-content-digest"), digest.to_string());
    assert_eq!(
        (mount("c", digest.to_string()).status, seen("c")),
        (201, 200)
    );
    mount("c", "sha256:00".to_owned()).expect_refusal(400, "DIGEST_INVALID");
    mount("c", format!("{digest}&from=A")).expect_refusal(400, "NAME_INVALID");
    let delete = || registry.send("DELETE", &format!("/v2/a/blobs/{digest}"), &[], b"");
    assert_eq!((delete().status, seen("a"), seen("b")), (202, 404, 200));
    delete().expect_refusal(404, "BLOB_UNKNOWN");
}

#[test]
fn a_blob_is_stored_once() {
    let registry = Registry::start();
    let digest = registry.push("a", b"same");
    registry.push("b", b"same");
    let blobs = registry.dir.path().join("blobs/sha256");
    let shard = blobs.join(&digest.hex()[..2]);
    assert_eq!(common::files(&shard), 1);
    assert!(shard.join(digest.hex()).is_file());
}
