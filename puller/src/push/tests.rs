//! Pushes to registries that break or mislead.

use std::sync::Mutex;
use std::time::Duration;

use strata_oci::media;

use super::*;
use crate::progress::Silent;
use crate::registry::{Credentials, RetryPolicy, Timeouts};
use crate::testing::{Reply, Request, Server, TestImage};
use crate::userns::Privilege;

/// Somewhere to push from: a store, and an image in an OCI layout.
struct Pusher {
    dir: tempfile::TempDir,
    store: Arc<Store>,
    image: TestImage,
}

impl Pusher {
    fn new(sizes: &[usize]) -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = Store::open(&dir.path().join("store"), Privilege::Root).expect("open");
        let pusher = Self {
            store: Arc::new(store),
            image: TestImage::new(sizes),
            dir,
        };
        pusher.write_layout();
        pusher
    }

    fn write_layout(&self) {
        let layout = self.dir.path().join("layout");
        let blobs = layout.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).expect("directories");
        std::fs::write(
            layout.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .expect("write");
        let manifest = &self.image.manifests["v1"];
        let all = self.image.blobs.values().chain([manifest]);
        for bytes in all {
            std::fs::write(blobs.join(Digest::of(bytes).hex()), bytes).expect("write");
        }
        let size = manifest.len() as u64;
        let root = Descriptor::new(media::OCI_MANIFEST, Digest::of(manifest), size);
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [root]});
        std::fs::write(layout.join("index.json"), index.to_string()).expect("write");
    }

    async fn push(&self, server: &Server) -> Result<PushReport, PushError> {
        let source = Source::Layout {
            dir: self.dir.path().join("layout"),
            name: None,
        };
        let target = Reference::with_tag(server.host(), "app".to_owned(), "v1".to_owned());
        let options = PushOptions {
            registry: RegistryOptions {
                retry: RetryPolicy {
                    tries: 3,
                    first: Duration::from_millis(1),
                    longest: Duration::from_millis(20),
                },
                timeouts: Timeouts {
                    idle: Duration::from_millis(500),
                    ..Timeouts::default()
                },
                credentials: Some(Credentials::new("me", "secret")),
                ..RegistryOptions::default()
            },
            ..PushOptions::default()
        };
        push(
            self.store.clone(),
            &source,
            &target,
            &options,
            Arc::new(Silent),
        )
        .await
    }
}

/// What an empty registry answers to a push.
fn empty(request: &Request) -> Reply {
    match request.method.as_str() {
        "HEAD" => Reply::new(404, ""),
        "POST" => Reply::new(202, "").with("Location", "/v2/app/blobs/uploads/1?state=x"),
        "PUT" => Reply::new(201, "").with("Location", &request.path),
        _ => Reply::new(405, ""),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_go_first_and_the_tag_last() {
    let pusher = Pusher::new(&[5000, 100]);
    let server = Server::start(|request, _| empty(request));
    let report = pusher.push(&server).await.expect("pushed");
    let manifest = &pusher.image.manifests["v1"];
    assert_eq!(report.digest, Digest::of(manifest));
    assert!(report.blobs.iter().all(|blob| blob.how == How::Uploaded));
    let puts = server.seen_like("PUT ");
    let (last, blobs) = puts.split_last().expect("some");
    assert_eq!(
        (last.path.as_str(), &last.body),
        ("/v2/app/manifests/v1", manifest)
    );
    assert_eq!(last.header("content-type"), Some(media::OCI_MANIFEST));
    assert_eq!(blobs.len(), 3);
    for put in blobs {
        let digest = Digest::of(&put.body).to_string().replace(':', "%3A");
        let expected = format!("/v2/app/blobs/uploads/1?state=x&digest={digest}");
        assert_eq!(put.path, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_begins_again() {
    let pusher = Pusher::new(&[5000]);
    let broken = Mutex::new(0);
    let server = Server::start(move |request, _| {
        let mut broken = broken.lock().expect("no panic");
        if request.method == "PUT" && *broken < 2 {
            *broken += 1;
            return Reply::new(502, "");
        }
        empty(request)
    });
    pusher.push(&server).await.expect("pushed");
    // Two blobs, two failures, and a session for each try.
    assert_eq!(server.seen_like("POST ").len(), 4);
    let server = Server::start(|request, _| match request.method.as_str() {
        "PUT" => Reply::new(
            400,
            r#"{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}"#,
        ),
        _ => empty(request),
    });
    let error = pusher.push(&server).await.expect_err("refused").to_string();
    assert!(error.contains("400 (no)"), "{error}");
    assert!(server.seen_like("PUT /v2/app/manifests").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_to_another_host_goes_without_credentials() {
    let pusher = Pusher::new(&[5000]);
    let storage = Server::start(|request, _| empty(request));
    let elsewhere = storage.host();
    let server = Server::start(move |request, _| {
        if request.header("authorization").is_none() {
            return Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\"");
        }
        match request.method.as_str() {
            "POST" => Reply::new(202, "").with("Location", format!("http://{elsewhere}/put")),
            _ => empty(request),
        }
    });
    pusher.push(&server).await.expect("pushed");
    let seen = storage.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|r| r.header("authorization").is_none()));
    let metadata = Server::start(|request, _| match request.method.as_str() {
        "POST" => Reply::new(202, "").with("Location", "http://169.254.169.254/put"),
        _ => empty(request),
    });
    let error = pusher.push(&metadata).await.expect_err("refused");
    assert!(error.to_string().contains("169.254.169.254"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_mounted_from_where_it_is_known_to_be() {
    let pusher = Pusher::new(&[5000]);
    let tokens = Server::start(|_, _| Reply::new(200, r#"{"token":"good"}"#));
    let realm = format!("http://{}/token", tokens.host());
    let server = Server::start(move |request, _| {
        if request.header("authorization") != Some("Bearer good") {
            let challenge = format!("Bearer realm=\"{realm}\"");
            return Reply::new(401, "").with("WWW-Authenticate", challenge);
        }
        match request.path.contains("&from=") {
            true => Reply::new(201, "").with("Location", "/v2/app/blobs/x"),
            false => empty(request),
        }
    });
    let layer = &pusher.image.layers[0].digest;
    pusher
        .store
        .add_origin(layer, &server.host(), "team/base")
        .expect("recorded");
    let report = pusher.push(&server).await.expect("pushed");
    let mounted = report.blobs.iter().filter(|b| b.how == How::Mounted);
    assert_eq!(mounted.map(|b| &b.digest).collect::<Vec<_>>(), [layer]);
    let mut asked = server.seen_like("POST /v2/app/blobs/uploads/?mount=");
    asked.retain(|request| request.path.contains(layer.hex()));
    assert!(
        asked[0].path.ends_with("&from=team%2Fbase"),
        "{}",
        asked[0].path
    );
    let mut scopes = tokens.seen().into_iter().map(|r| r.path);
    let both = |path: String| {
        path.contains("scope=repository%3Aapp%3Apull%2Cpush")
            && path.contains("scope=repository%3Ateam%2Fbase%3Apull")
    };
    assert!(scopes.any(both), "the source has to be readable");
}
