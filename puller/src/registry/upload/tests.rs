//! Uploads to registries that break off, forget, mislead, and want it otherwise.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;

use super::*;
use crate::registry::{Credentials, RegistryOptions, RetryPolicy};
use crate::testing::{Reply, Request, Server, noise};

fn registry(server: &Server) -> Registry {
    let options = RegistryOptions {
        retry: RetryPolicy {
            tries: 3,
            first: Duration::from_millis(1),
            longest: Duration::from_secs(5),
        },
        credentials: Some(Credentials::new("me", "secret")),
        ..RegistryOptions::default()
    };
    Registry::new(&server.host(), &options).expect("a registry")
}

async fn put(registry: &Registry, bytes: &[u8]) -> Result<u64, RegistryError> {
    put_in(registry, None, bytes).await
}

async fn put_in(
    registry: &Registry,
    session: Option<Session>,
    bytes: &[u8],
) -> Result<u64, RegistryError> {
    let whole = Bytes::copy_from_slice(bytes);
    let upload = Upload {
        digest: &Digest::of(bytes),
        size: bytes.len() as u64,
        body: &|from| {
            let rest = whole.slice(from as usize..);
            futures_util::stream::once(async move { Ok(rest) }).boxed()
        },
        progress: Arc::new(|_| ()),
    };
    registry.put_blob("app", session, &upload).await
}

/// Begins each upload under another address.
fn begun(before: usize) -> Reply {
    Reply::new(202, "").with("Location", format!("/v2/app/blobs/uploads/{before}"))
}

fn status(received: usize) -> Reply {
    Reply::new(204, "").with("Range", format!("0-{}", received.saturating_sub(1)))
}

/// The first byte that a request's Content-Range names.
fn from(request: &Request) -> usize {
    let range = request.header("content-range").unwrap_or("0-0");
    let (first, _) = range.split_once('-').expect("a range");
    first.parse().expect("a number")
}

/// A registry that breaks each PUT after `step` bytes, and keeps those.
fn breaking(step: usize, size: usize) -> Server {
    let received = Mutex::new(0);
    Server::start(move |request, before| {
        let mut received = received.lock().expect("no panic");
        match request.method.as_str() {
            "POST" => begun(before),
            "GET" => status(*received),
            "PUT" => {
                assert_eq!(from(request), *received);
                *received += step.min(request.body.len());
                Reply::new(if *received < size { 502 } else { 201 }, "")
            }
            _ => Reply::new(404, ""),
        }
    })
}

#[tokio::test]
async fn an_upload_goes_on_where_the_registry_says() {
    let bytes = noise(1, 100_000);
    let server = breaking(60_000, bytes.len());
    assert_eq!(put(&registry(&server), &bytes).await.expect("put"), 140_000);
    let puts = server.seen_like("PUT ");
    assert_eq!(puts.len(), 2);
    assert_eq!(
        puts[0].header("content-range"),
        None,
        "the whole needs no range"
    );
    assert_eq!(puts[1].header("content-range"), Some("60000-99999"));
    assert_eq!(puts[1].body, bytes[60_000..]);
    assert!(
        puts[1]
            .path
            .starts_with("/v2/app/blobs/uploads/0?digest=sha256%3A")
    );
    assert_eq!(server.seen_like("POST ").len(), 1);
}

#[tokio::test]
async fn only_tries_without_progress_count() {
    let bytes = noise(2, 100_000);
    let server = breaking(10_000, bytes.len());
    put(&registry(&server), &bytes)
        .await
        .expect("ten tries that all bring something");
    let server = breaking(100, bytes.len());
    assert!(put(&registry(&server), &bytes).await.is_err());
    assert_eq!(server.seen_like("PUT ").len(), 3);
}

#[tokio::test]
async fn a_healthy_registry_is_asked_no_more_than_twice() {
    let bytes = noise(3, 3_000_000);
    let server = breaking(usize::MAX, bytes.len());
    assert_eq!(
        put(&registry(&server), &bytes).await.expect("put"),
        3_000_000
    );
    assert_eq!(server.seen().len(), 2);
    let server = breaking(usize::MAX, 0);
    assert_eq!(put(&registry(&server), b"").await.expect("nothing"), 0);
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_refused_range_says_where_to_go_on() {
    let bytes = noise(4, 100_000);
    let server = Server::start(|request, before| match request.method.as_str() {
        "POST" => begun(before),
        // It has not noticed yet how much the broken request brought.
        "GET" => status(0),
        "PUT" if request.header("content-range").is_none() => Reply::new(503, ""),
        "PUT" if from(request) == 0 => Reply::new(416, "")
            .with("Range", "0-49999")
            .with("Location", "/v2/app/blobs/uploads/moved?state=2"),
        "PUT" => Reply::new(201, ""),
        _ => Reply::new(404, ""),
    });
    put(&registry(&server), &bytes).await.expect("put");
    let puts = server.seen_like("PUT /v2/app/blobs/uploads/moved?state=2&digest=");
    assert_eq!(puts[0].body, bytes[50_000..]);
}

#[tokio::test]
async fn a_forgotten_session_is_begun_anew() {
    let bytes = noise(5, 50_000);
    let server = Server::start(|request, before| match request.method.as_str() {
        "POST" => begun(before),
        "PUT" if request.path.contains("/uploads/0") => Reply::new(502, ""),
        "PUT" if request.path.contains("/uploads/1") => Reply::new(404, ""),
        "PUT" => Reply::new(201, ""),
        _ => Reply::new(404, ""),
    });
    put(&registry(&server), &bytes).await.expect("put");
    let last = &server.seen_like("PUT /v2/app/blobs/uploads/2?")[0];
    assert_eq!(
        (last.header("content-range"), &last.body),
        (None, &bytes),
        "the whole again"
    );
}

#[tokio::test]
async fn the_blob_is_not_sent_again_when_only_the_answer_was_lost() {
    let bytes = noise(6, 50_000);
    let server = Server::start(|request, before| match request.method.as_str() {
        "POST" => begun(before),
        "PUT" => Reply::new(502, ""),
        "HEAD" => Reply::new(200, ""),
        _ => Reply::new(404, ""),
    });
    assert_eq!(put(&registry(&server), &bytes).await.expect("put"), 50_000);
}

#[tokio::test]
async fn answers_that_make_no_sense_come_to_an_end() {
    let bytes = noise(7, 50_000);
    // More than was sent; no range; nothing at all; accepted, for ever.
    let answers = [
        (502, Some("0-99999999")),
        (502, Some("7-8")),
        (502, None),
        (502, Some("0-49998")),
        (502, Some("0-49999")),
        (202, Some("0-49998")),
        (202, Some("0-49999")),
        (416, Some("0-99999999")),
    ];
    for (code, range) in answers {
        let answer = move |code| match range {
            Some(range) => Reply::new(code, "").with("Range", range),
            None => Reply::new(code, ""),
        };
        let server = Server::start(move |request, before| match request.method.as_str() {
            "POST" => begun(before),
            "GET" => answer(204),
            "PUT" => answer(code),
            _ => Reply::new(404, ""),
        });
        assert!(
            put(&registry(&server), &bytes).await.is_err(),
            "{code} {range:?}"
        );
        assert!(server.seen().len() < 15, "{code} {range:?}");
    }
}

#[tokio::test]
async fn an_authorization_that_runs_out_in_mid_upload_is_renewed() {
    let bytes = noise(8, 100_000);
    let tokens = Server::start(|_, before| {
        Reply::new(200, format!(r#"{{"token":"t{before}","expires_in":3600}}"#))
    });
    let realm = format!("http://{}/token", tokens.host());
    let server = Server::start(move |request, before| {
        let token = request.header("authorization").unwrap_or_default();
        let refuse = || {
            let challenge = format!("Bearer realm=\"{realm}\"");
            Reply::new(401, "").with("WWW-Authenticate", challenge)
        };
        match (request.method.as_str(), token) {
            (_, "") => refuse(),
            ("POST", _) => begun(before),
            ("PUT", "Bearer t0") if from(request) == 0 => Reply::new(502, ""),
            ("PUT", "Bearer t0") => refuse(),
            ("GET", _) => status(40_000),
            ("PUT", "Bearer t1") => Reply::new(201, ""),
            _ => Reply::new(404, ""),
        }
    });
    put(&registry(&server), &bytes).await.expect("put");
    let puts = server.seen_like("PUT ");
    let last = puts.last().expect("some");
    assert_eq!(last.header("content-range"), Some("40000-99999"));
    assert_eq!(server.seen_like("GET ").len(), 1);
}

#[tokio::test]
async fn an_upload_goes_on_at_another_host_without_credentials() {
    let bytes = noise(13, 100_000);
    let storage = breaking(60_000, bytes.len());
    let elsewhere = storage.host();
    let server = Server::start(move |request, _| {
        if request.header("authorization").is_none() {
            return Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\"");
        }
        let place = format!("http://{elsewhere}/bucket/part?signature=x");
        Reply::new(202, "").with("Location", place)
    });
    put(&registry(&server), &bytes).await.expect("put");
    let seen = storage.seen();
    let methods: Vec<&str> = seen.iter().map(|r| r.method.as_str()).collect();
    assert_eq!(methods, ["PUT", "GET", "PUT"]);
    assert!(seen.iter().all(|r| r.header("authorization").is_none()));
    assert!(
        seen.iter()
            .all(|r| r.path.starts_with("/bucket/part?signature=x"))
    );
}

#[tokio::test]
async fn a_registry_that_wants_rest_is_given_it() {
    let bytes = noise(9, 1000);
    let server = Server::start(|request, before| match request.method.as_str() {
        "POST" => begun(before),
        "PUT" if before == 0 => Reply::new(429, "").with("Retry-After", "1"),
        "PUT" => Reply::new(201, ""),
        _ => status(0),
    });
    let began = Instant::now();
    put(&registry(&server), &bytes).await.expect("put");
    assert!(began.elapsed() >= Duration::from_secs(1));
}

/// A registry that keeps nothing of a broken PUT of a large blob.
fn forgetful(min: &'static str, patch: u16) -> Server {
    let received = Mutex::new(0);
    Server::start(move |request, before| {
        let mut received = received.lock().expect("no panic");
        match request.method.as_str() {
            "POST" => {
                *received = 0;
                begun(before).with("OCI-Chunk-Min-Length", min)
            }
            "GET" => status(*received),
            "PATCH" if patch == 202 => {
                assert_eq!(from(request), *received);
                *received += request.body.len();
                let reply = Reply::new(202, "").with("Range", format!("0-{}", *received - 1));
                reply.with(
                    "Location",
                    format!("/v2/app/blobs/uploads/at-{}", *received),
                )
            }
            "PATCH" => Reply::new(patch, ""),
            "PUT" if *received == 0 && request.path.contains("uploads/0") => Reply::new(502, ""),
            "PUT" => Reply::new(201, ""),
            _ => Reply::new(404, ""),
        }
    })
}

#[tokio::test]
async fn a_registry_that_keeps_nothing_of_a_broken_put_is_sent_chunks() {
    let bytes = noise(10, 50 << 20);
    let server = forgetful("100", 202);
    put(&registry(&server), &bytes).await.expect("put");
    let patches = server.seen_like("PATCH ");
    let sizes: Vec<usize> = patches.iter().map(|p| p.body.len()).collect();
    assert_eq!(sizes, [16 << 20; 3]);
    assert_eq!(
        patches[1].header("content-range"),
        Some("16777216-33554431")
    );
    assert!(patches[1].path.ends_with("/at-16777216"));
    let last = server.seen_like("PUT ").pop().expect("some");
    assert_eq!(last.body, bytes[48 << 20..]);
    // The registry's least chunk.
    let server = forgetful("20000000", 202);
    put(&registry(&server), &bytes).await.expect("put");
    let patches = server.seen_like("PATCH ");
    let sizes: Vec<usize> = patches.iter().map(|p| p.body.len()).collect();
    assert_eq!(sizes, [20_000_000; 2]);
    let server = forgetful("18446744073709551615", 202);
    assert!(put(&registry(&server), &bytes).await.is_err());
    assert!(server.seen_like("PATCH ").is_empty(), "none is so large");
}

#[tokio::test]
async fn a_registry_without_patch_is_sent_the_whole_again() {
    let bytes = noise(11, 20 << 20);
    let server = forgetful("0", 405);
    put(&registry(&server), &bytes).await.expect("put");
    assert_eq!(server.seen_like("PATCH ").len(), 1);
    let last = server.seen_like("PUT ").pop().expect("some");
    assert_eq!(last.body.len(), bytes.len());
}

#[tokio::test]
async fn the_upload_that_a_mount_began_is_used() {
    let bytes = noise(12, 1000);
    let server = breaking(usize::MAX, bytes.len());
    let registry = registry(&server);
    let siblings = ["one".to_owned(), "two".to_owned()];
    let digest = Digest::of(&bytes);
    let mounting = registry.mount_from_any("app", &digest, &siblings);
    let Mount::Begun(session) = mounting.await.expect("asked") else {
        panic!("an upload was begun");
    };
    put_in(&registry, Some(session), &bytes).await.expect("put");
    assert_eq!(server.seen_like("POST ").len(), 2);
    assert_eq!(
        server.seen_like("DELETE ").len(),
        1,
        "the other one is ended"
    );
}

#[tokio::test]
async fn a_registry_finds_a_blob_by_itself_or_is_not_bothered() {
    let digest = Digest::of(b"x");
    let ask = async |registry: &Registry| {
        let asked = registry.mount_from_any("app", &digest, &[]).await;
        asked.expect("asked")
    };
    let finds = Server::start(|_, _| Reply::new(201, "").with("Location", "/v2/app/blobs/x"));
    assert!(matches!(ask(&registry(&finds)).await, Mount::Done));
    let path = &finds.seen_like("POST ")[0].path;
    assert!(
        path.contains("mount=sha256") && !path.contains("from="),
        "{path}"
    );
    // One that does not look has begun the upload with the same answer.
    let bytes = noise(14, 1000);
    let begins = breaking(usize::MAX, bytes.len());
    let client = registry(&begins);
    let Mount::Begun(session) = ask(&client).await else {
        panic!("an upload was begun");
    };
    put_in(&client, Some(session), &bytes).await.expect("put");
    assert_eq!(begins.seen_like("POST ").len(), 1);
    // One that minds is asked once.
    for status in [400, 405, 501] {
        let minds = Server::start(move |_, _| Reply::new(status, ""));
        let client = registry(&minds);
        for _ in 0..2 {
            assert!(matches!(ask(&client).await, Mount::Refused), "{status}");
        }
        assert_eq!(minds.seen_like("POST ").len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_source_that_fails_ends_the_upload() {
    let server = breaking(usize::MAX, 10);
    let upload = Upload {
        digest: &Digest::of(b"0123456789"),
        size: 10,
        body: &|_| {
            let failure = std::io::Error::other("the disk is on fire");
            let chunks = [Ok(Bytes::from_static(b"01234")), Err(failure)];
            futures_util::stream::iter(chunks).boxed()
        },
        progress: Arc::new(|_| ()),
    };
    let failed = registry(&server).put_blob("app", None, &upload).await;
    let error = failed.expect_err("no bytes").to_string();
    assert!(error.contains("the disk is on fire"), "{error}");
    assert_eq!(server.seen_like("POST ").len(), 1);
}
