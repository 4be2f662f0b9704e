//! Uploads over HTTP: every way to push a blob, and every way to do it wrong.

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::{Registry, content};
use strata_oci::{Algorithm, Digest, Digester};
use stratad::Limits;

fn range(text: &str) -> (&str, &str) {
    ("Content-Range", text)
}

#[test]
fn post_then_put() {
    let registry = Registry::start();
    let bytes = content(700_000);
    let digest = Digest::of(&bytes);
    let location = registry.begin("a/b");
    let reply = registry.send("PUT", &format!("{location}?digest={digest}"), &[], &bytes);
    assert_eq!(reply.status, 201);
    assert_eq!(reply.header("location"), format!("/v2/a/b/blobs/{digest}"));
    assert_eq!(reply.header("docker-content-digest"), digest.to_string());
    assert!(registry.get(reply.header("location")).body == bytes);
    assert_eq!(registry.get(&location).status, 404, "the session is over");
}

#[test]
fn chunks_in_order() {
    let registry = Registry::start();
    let bytes = content(30_000);
    let location = registry.begin("a");
    for (chunk, said) in [(0..10_000, "0-9999"), (10_000..20_000, "10000-19999")] {
        let reply = registry.send("PATCH", &location, &[range(said)], &bytes[chunk.clone()]);
        assert_eq!(reply.status, 202, "{}", reply.text());
        assert_eq!(reply.header("location"), location);
        assert_eq!(reply.header("range"), format!("0-{}", chunk.end - 1));
    }
    let digest = Digest::of(&bytes);
    let path = format!("{location}?digest={digest}");
    let reply = registry.send("PUT", &path, &[range("20000-29999")], &bytes[20_000..]);
    assert_eq!(reply.status, 201);
    assert!(registry.get(reply.header("location")).body == bytes);
}

#[test]
fn a_stream_of_unknown_length() {
    let registry = Registry::start();
    let location = registry.begin("a");
    let chunked = [("Transfer-Encoding", "chunked")];
    let reply = registry.send(
        "PATCH",
        &location,
        &chunked,
        b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    );
    assert_eq!((reply.status, reply.header("range")), (202, "0-10"));
    let digest = Digest::of(b"hello world");
    let reply = registry.send("PUT", &format!("{location}?digest={digest}"), &[], b"");
    assert_eq!(reply.status, 201);
}

#[test]
fn sha512_is_known_only_at_the_end() {
    let registry = Registry::start();
    let bytes = content(100_000);
    let mut digester = Digester::new(Algorithm::Sha512);
    digester.update(&bytes);
    let digest = digester.finish();
    let location = registry.begin("a");
    assert_eq!(registry.send("PATCH", &location, &[], &bytes).status, 202);
    let reply = registry.send("PUT", &format!("{location}?digest={digest}"), &[], b"");
    assert_eq!(reply.status, 201, "{}", reply.text());
    let reply = registry.get(&format!("/v2/a/blobs/{digest}"));
    assert!(reply.body == bytes);
    assert_eq!(reply.header("docker-content-digest"), digest.to_string());
    let hinted = "/v2/a/blobs/uploads/?digest-algorithm=sha512";
    let location = registry
        .send("POST", hinted, &[], b"")
        .header("location")
        .to_owned();
    let reply = registry.send("PUT", &format!("{location}?digest={digest}"), &[], &bytes);
    assert_eq!(reply.status, 201);
    let unknown = "/v2/a/blobs/uploads/?digest-algorithm=md5";
    registry
        .send("POST", unknown, &[], b"")
        .expect_refusal(400, "DIGEST_INVALID");
}

#[test]
fn a_wrong_digest_stores_nothing() {
    let registry = Registry::start();
    let (bytes, wrong) = (content(100_000), Digest::of(b"something else"));
    let location = registry.begin("a");
    let put = |location: &str, body: &[u8]| {
        registry.send("PUT", &format!("{location}?digest={wrong}"), &[], body)
    };
    put(&location, &bytes).expect_refusal(400, "DIGEST_INVALID");
    let location = registry.begin("a");
    assert_eq!(registry.send("PATCH", &location, &[], &bytes).status, 202);
    put(&location, b"").expect_refusal(400, "DIGEST_INVALID");
    let single = format!("/v2/a/blobs/uploads/?digest={wrong}");
    registry
        .send("POST", &single, &[], &bytes)
        .expect_refusal(400, "DIGEST_INVALID");
    for digest in [wrong, Digest::of(&bytes)] {
        assert_eq!(registry.get(&format!("/v2/a/blobs/{digest}")).status, 404);
        let path = registry
            .dir
            .path()
            .join("blobs/sha256")
            .join(&digest.hex()[..2]);
        assert_eq!(common::files(&path), 0);
    }
    assert_eq!(registry.staged(), 0);
}

#[test]
fn a_malformed_closing_request_leaves_the_upload_alone() {
    let registry = Registry::start();
    let location = registry.begin("a");
    assert_eq!(registry.send("PATCH", &location, &[], b"hello").status, 202);
    for query in ["", "?digest=", "?digest=sha256:00", "?digest=hello"] {
        let reply = registry.send("PUT", &format!("{location}{query}"), &[], b"more");
        reply.expect_refusal(400, "DIGEST_INVALID");
        assert_eq!(registry.range(&location), "0-4");
    }
    let digest = Digest::of(b"hello");
    let reply = registry.send("PUT", &format!("{location}?digest={digest}"), &[], b"");
    assert_eq!(reply.status, 201);
}

#[test]
fn a_chunk_out_of_order_appends_nothing() {
    let registry = Registry::start();
    let location = registry.begin("a");
    assert_eq!(
        registry
            .send("PATCH", &location, &[range("0-4")], b"hello")
            .status,
        202
    );
    let digest = Digest::of(b"hello world");
    let put = format!("{location}?digest={digest}");
    for (method, path) in [("PATCH", &location), ("PUT", &put)] {
        for said in ["6-11", "0-5", "4-9"] {
            let reply = registry.send(method, path, &[range(said)], b" world");
            reply.expect_refusal(416, "BLOB_UPLOAD_INVALID");
            assert_eq!(reply.header("range"), "0-4");
            assert_eq!(reply.header("location"), location);
            assert_eq!(registry.range(&location), "0-4");
        }
    }
    let reply = registry.send("PUT", &put, &[range("5-10")], b" world");
    assert_eq!(reply.status, 201);
}

#[test]
fn a_chunk_that_is_not_as_long_as_it_says_appends_nothing() {
    let registry = Registry::start();
    let location = registry.begin("a");
    for said in ["0-3", "0-5"] {
        let reply = registry.send("PATCH", &location, &[range(said)], b"hello");
        reply.expect_refusal(400, "SIZE_INVALID");
        let headers = [range(said), ("Transfer-Encoding", "chunked")];
        let reply = registry.send("PATCH", &location, &headers, b"5\r\nhello\r\n0\r\n\r\n");
        reply.expect_refusal(400, "SIZE_INVALID");
    }
    for said in ["", "5", "x-y", "4-0", "-4", "0-18446744073709551615"] {
        let reply = registry.send("PATCH", &location, &[range(said)], b"hello");
        reply.expect_refusal(400, "BLOB_UPLOAD_INVALID");
    }
    assert_eq!(registry.range(&location), "0-0");
    let reply = registry.send("PATCH", &location, &[range("0-4")], b"hello");
    assert_eq!(reply.header("range"), "0-4");
}

#[test]
fn what_came_before_a_broken_connection_is_kept() {
    let registry = Registry::start();
    let bytes = content(600_000);
    let location = registry.begin("a");
    let mut connection = registry.connect();
    connection.head("PATCH", &location, &[("Content-Length", "600000")]);
    connection.write(&bytes[..400_000]);
    drop(connection);
    let until = Instant::now() + Duration::from_secs(10);
    while registry.range(&location) == "0-0" && Instant::now() < until {
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(registry.range(&location), "0-399999");
    let reply = registry.send(
        "PATCH",
        &location,
        &[range("400000-599999")],
        &bytes[400_000..],
    );
    assert_eq!(reply.status, 202);
    let path = format!("{location}?digest={}", Digest::of(&bytes));
    assert_eq!(registry.send("PUT", &path, &[], b"").status, 201);
}

#[test]
fn a_single_post_that_breaks_off_leaves_nothing() {
    let registry = Registry::start();
    let digest = Digest::of(&content(3_000_000));
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    let mut connection = registry.connect();
    connection.head("POST", &path, &[("Content-Length", "3000000")]);
    connection.write(&content(2_500_000));
    let wait_for = |count| {
        let until = Instant::now() + Duration::from_secs(10);
        while registry.staged() != count && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(registry.staged(), count);
    };
    wait_for(1);
    drop(connection);
    wait_for(0);
    assert_eq!(registry.get(&format!("/v2/a/blobs/{digest}")).status, 404);
}

#[test]
fn an_upload_goes_on_after_a_restart() {
    let mut registry = Registry::start();
    let bytes = content(500_000);
    let location = registry.begin("a");
    assert_eq!(
        registry
            .send("PATCH", &location, &[], &bytes[..300_000])
            .status,
        202
    );
    let orphan = registry.dir.path().join("uploads").join("0".repeat(32));
    std::fs::write(&orphan, b"of a session that is gone").expect("write");
    registry.restart();
    assert!(!orphan.exists());
    assert_eq!(registry.range(&location), "0-299999");
    let path = format!("{location}?digest={}", Digest::of(&bytes));
    let reply = registry.send("PUT", &path, &[range("300000-499999")], &bytes[300_000..]);
    assert_eq!(reply.status, 201);
    registry.restart();
    assert!(registry.get(reply.header("location")).body == bytes);
}

#[test]
fn a_session_belongs_to_its_repository() {
    let registry = Registry::start();
    let location = registry.begin("a");
    let unknown = format!("/v2/a/blobs/uploads/{}", "0".repeat(32));
    let elsewhere = location.replace("/v2/a/", "/v2/b/");
    let digest = Digest::of(b"x");
    for path in [&unknown, &elsewhere, &"/v2/a/blobs/uploads/what".to_owned()] {
        for method in ["GET", "PATCH", "PUT", "DELETE"] {
            let reply = registry.send(method, &format!("{path}?digest={digest}"), &[], b"x");
            reply.expect_refusal(404, "BLOB_UPLOAD_UNKNOWN");
        }
    }
    assert_eq!(registry.range(&location), "0-0");
}

#[test]
fn a_cancelled_upload_is_gone() {
    let registry = Registry::start();
    let location = registry.begin("a");
    assert_eq!(registry.send("PATCH", &location, &[], b"hello").status, 202);
    assert_eq!(registry.staged(), 1);
    assert_eq!(registry.send("DELETE", &location, &[], b"").status, 204);
    assert_eq!(registry.staged(), 0);
    for method in ["DELETE", "PATCH", "GET"] {
        let reply = registry.send(method, &location, &[], b"");
        reply.expect_refusal(404, "BLOB_UPLOAD_UNKNOWN");
    }
}

#[test]
fn the_same_blob_can_be_pushed_by_many_at_once() {
    let registry = Registry::start();
    let bytes = content(400_000);
    let digest = Digest::of(&bytes);
    thread::scope(|scope| {
        for number in 0..8 {
            let (registry, bytes, digest) = (&registry, &bytes, &digest);
            scope.spawn(move || {
                let location = registry.begin(&format!("r{}", number % 2));
                let path = format!("{location}?digest={digest}");
                assert_eq!(registry.send("PUT", &path, &[], bytes).status, 201);
            });
        }
    });
    assert!(registry.get(&format!("/v2/r1/blobs/{digest}")).body == bytes);
    assert_eq!(registry.staged(), 0);
}

#[test]
fn a_trickle_is_given_up_but_kept() {
    let registry = Registry::with(Limits {
        body_timeout: Duration::from_millis(300),
        head_timeout: Duration::from_millis(300),
        ..Limits::default()
    });
    let location = registry.begin("a");
    let mut connection = registry.connect();
    connection.head("PATCH", &location, &[("Content-Length", "10")]);
    connection.write(b"hello");
    let reply = connection.reply(false).expect("a reply");
    reply.expect_refusal(400, "BLOB_UPLOAD_INVALID");
    assert_eq!(registry.range(&location), "0-4");
    let mut connection = registry.connect();
    connection.write(b"GET /v2/ HTTP/1.1\r\nHost: re");
    let reply = connection.reply(false);
    assert!(reply.is_none_or(|r| r.status == 408), "half a head");
}

#[test]
fn a_large_head_is_refused() {
    let registry = Registry::start();
    let long = "x".repeat(100_000);
    let reply = registry.send("GET", "/v2/", &[("X-Long", &long)], b"");
    assert_eq!(reply.status, 431);
}

#[test]
fn a_stop_lets_an_upload_finish() {
    let mut registry = Registry::start();
    let location = registry.begin("a");
    let bytes = content(300_000);
    let digest = Digest::of(&bytes);
    let mut connection = registry.connect();
    let length = [("Content-Length", "300000")];
    connection.head("PUT", &format!("{location}?digest={digest}"), &length);
    connection.write(&bytes[..100_000]);
    let rest = bytes[100_000..].to_vec();
    let finishing = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        connection.write(&rest);
        connection.reply(false).map(|reply| reply.status)
    });
    thread::sleep(Duration::from_millis(100));
    registry.restart();
    assert_eq!(finishing.join().expect("thread"), Some(201));
    assert!(registry.get(&format!("/v2/a/blobs/{digest}")).body == bytes);
}

#[test]
fn a_stop_is_bounded_and_keeps_what_came() {
    let mut registry = Registry::with(Limits {
        drain: Duration::from_millis(200),
        ..Limits::default()
    });
    let location = registry.begin("a");
    let mut connection = registry.connect();
    connection.head("PATCH", &location, &[("Content-Length", "300000")]);
    connection.write(b"hello");
    thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    registry.restart();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(registry.range(&location), "0-4");
}
