//! Copies from registries that break and mislead, into layouts and archives.

use std::path::Path;
use std::time::Duration;

use strata_oci::layout::Layout;
use strata_oci::media;

use super::*;
use crate::progress::Silent;
use crate::registry::RetryPolicy;
use crate::testing::{Reply, Request, Server, TestImage};

fn options() -> CopyOptions {
    let registry = RegistryOptions {
        retry: RetryPolicy {
            tries: 3,
            first: Duration::from_millis(1),
            ..RetryPolicy::default()
        },
        ..RegistryOptions::default()
    };
    CopyOptions {
        source: registry.clone(),
        target: registry,
        ..CopyOptions::default()
    }
}

fn from(server: &Server, tag: &str) -> Source {
    Source::Registry(Reference::with_tag(server.host(), "app".into(), tag.into()))
}

fn layout(dir: &Path) -> Target {
    Target::Layout {
        dir: dir.to_owned(),
        name: Some("v1".to_owned()),
    }
}

async fn run(server: &Server, dir: &Path, options: CopyOptions) -> Result<CopyReport, CopyError> {
    copy(&from(server, "v1"), &layout(dir), options, Arc::new(Silent)).await
}

/// Blobs that were asked for, with the byte that each request began at.
fn gets(server: &Server) -> Vec<usize> {
    let asked = server.seen_like("GET /v2/app/blobs/");
    asked.iter().map(|r| r.range_from().unwrap_or(0)).collect()
}

#[tokio::test]
async fn a_layout_gets_every_byte_as_it_was() {
    let image = TestImage::new(&[100_000, 300_000]);
    let served = image.clone();
    let server = Server::start(move |request, _| served.answer(request));
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("layout");
    let report = run(&server, &path, options()).await.expect("copied");
    let opened = Layout::open(&path).expect("a layout");
    let found = opened.find(Some("v1")).expect("v1");
    assert_eq!(Some(&found.digest), report.digest.as_ref());
    let (bytes, manifest) = opened.manifest(found).expect("manifest");
    assert_eq!(bytes, image.manifests["v1"]);
    for blob in manifest.required_blobs() {
        let bytes = opened.read(blob, 1 << 20).expect("proved");
        assert_eq!(bytes, image.blobs[&blob.digest]);
    }
    let names: Vec<_> = std::fs::read_dir(&path).expect("list").flatten().collect();
    assert_eq!(names.len(), 3, "{names:?}");
    // Once more: nothing travels.
    let before = gets(&server).len();
    let again = run(&server, &path, options()).await.expect("copied");
    assert_eq!((again.bytes, gets(&server).len()), (0, before));
    assert_eq!(again.total(&[How::Reused]).0, 3);
}

#[tokio::test]
async fn a_copy_that_broke_off_is_taken_up_at_the_byte() {
    let image = TestImage::new(&[400_000]);
    let served = image.clone();
    let big = image.layers[0].digest.clone();
    let server = Server::start(move |request, before| {
        let reply = served.answer(request);
        // The first process gets 150,000 bytes, and then no more connections that bring anything.
        match request.path.ends_with(&big.to_string()) && request.method == "GET" {
            true if before == 0 => reply.cut(150_000),
            true if before < 4 => reply.cut(0),
            _ => reply,
        }
    });
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("layout");
    let error = run(&server, &path, options()).await.expect_err("broken");
    assert!(matches!(error, CopyError::Registry(_)), "{error}");
    assert!(!path.join("index.json").exists());
    let tried = gets(&server).len();
    let mut report = run(&server, &path, options()).await;
    if report.is_err() {
        report = run(&server, &path, options()).await;
    }
    let report = report.expect("taken up");
    let size = image.layers[0].size;
    assert!(report.bytes <= size - 150_000 + 1000, "{}", report.bytes);
    assert!(
        gets(&server)[tried..]
            .iter()
            .all(|at| *at == 0 || *at == 150_000)
    );
    assert!(Layout::open(&path).is_ok());
    assert!(!path.join(".strata").exists());
}

#[tokio::test]
async fn wrong_bytes_are_refused_and_not_kept() {
    let image = TestImage::new(&[50_000]);
    let served = image.clone();
    let big = image.layers[0].digest.clone();
    let server = Server::start(move |request, _| {
        let mut reply = served.answer(request);
        if request.path.ends_with(&big.to_string()) {
            reply.body[100] ^= 1;
        }
        reply
    });
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("layout");
    let error = run(&server, &path, options()).await.expect_err("wrong");
    assert!(matches!(error, CopyError::Content { .. }), "{error}");
    assert!(error.to_string().contains(image.layers[0].digest.hex()));
    let kept = path.join(".strata").join(image.layers[0].digest.hex());
    assert!(!kept.exists());
    let archive = dir.path().join("a.tar");
    let copier = Copier::new(options(), Arc::new(Silent));
    let sources = [(from(&server, "v1"), None)];
    let packed = copier
        .pack(&sources, &archive, ArchiveKind::Oci, &[].into())
        .await;
    assert!(matches!(packed, Err(CopyError::Content { .. })));
    let left = std::fs::read_dir(dir.path()).expect("list").count();
    assert_eq!(left, 1, "the layout alone");
}

/// Answers manifests that a closure makes, each under its digest and the first as `v1`.
fn of_manifests(documents: Vec<serde_json::Value>) -> Server {
    let all: Vec<(Digest, Vec<u8>, String)> = documents
        .iter()
        .map(|document| {
            let bytes = document.to_string().into_bytes();
            let kind = document["mediaType"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            (Digest::of(&bytes), bytes, kind)
        })
        .collect();
    Server::start(move |request: &Request, _| {
        let name = request.path.rsplit('/').next().unwrap_or_default();
        let found = all.iter().find(|(digest, ..)| digest.to_string() == name);
        let found = found.or((name == "v1").then(|| &all[0]));
        match found {
            Some((_, bytes, kind)) => Reply::new(200, bytes.clone()).with("Content-Type", kind),
            None => Reply::new(404, ""),
        }
    })
}

fn child(document: &serde_json::Value) -> Descriptor {
    let bytes = document.to_string().into_bytes();
    let kind = document["mediaType"].as_str().unwrap_or_default();
    Descriptor::new(kind, Digest::of(&bytes), bytes.len() as u64)
}

fn index(children: &[Descriptor]) -> serde_json::Value {
    serde_json::json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": children})
}

fn image(layers: usize) -> serde_json::Value {
    let blob = |n: usize| {
        let digest = Digest::of(&n.to_le_bytes());
        Descriptor::new(media::OCI_LAYER_GZIP, digest, 1 << 40)
    };
    let layers: Vec<Descriptor> = (0..layers).map(blob).collect();
    let config = Descriptor::new(media::OCI_CONFIG, Digest::of(b"{}"), 2);
    serde_json::json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config, "layers": layers,
    })
}

#[tokio::test]
async fn bombs_are_refused_before_any_blob_is_asked_for() {
    let mut deep = vec![index(&[child(&image(1))])];
    for _ in 0..5 {
        deep.push(index(&[child(&deep[deep.len() - 1])]));
    }
    deep.reverse();
    let nothing = |n: usize| Descriptor::new(media::OCI_MANIFEST, Digest::of(&n.to_le_bytes()), 1);
    let wide: Vec<Descriptor> = (0..10_000).map(nothing).collect();
    let cases = [
        ("deep", deep, "indexes in indexes"),
        ("wide", vec![index(&wide)], "manifests of index"),
        ("long", vec![image(10_000)], "layers of manifest"),
    ];
    for (what, documents, says) in cases {
        let server = of_manifests(documents);
        let dir = tempfile::tempdir().expect("tempdir");
        let result = run(&server, &dir.path().join("layout"), options()).await;
        let error = result.expect_err(what).to_string();
        assert!(error.contains(says), "{what}: {error}");
        assert!(gets(&server).is_empty(), "{what}");
    }
}

#[tokio::test]
async fn a_child_that_is_not_what_its_index_says_is_refused() {
    let own = image(0);
    let mut lies = child(&own);
    lies.size += 1;
    let server = of_manifests(vec![index(&[lies]), own.clone()]);
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("layout");
    assert!(run(&server, &path, options()).await.is_err());
    let mut lies = child(&own);
    lies.media_type = media::DOCKER_MANIFEST.to_owned();
    let server = of_manifests(vec![index(&[lies]), own]);
    assert!(run(&server, &path, options()).await.is_err());
    assert!(!path.exists(), "nothing is made");
}

#[tokio::test]
async fn an_incremental_archive_lacks_what_an_earlier_one_holds() {
    let image = TestImage::new(&[100_000, 300_000]);
    let served = image.clone();
    let server = Server::start(move |request, _| served.answer(request));
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("a.tar");
    let copier = Copier::new(options(), Arc::new(Silent));
    let sources = [(from(&server, "v1"), Some("v1".to_owned()))];
    let large = &image.layers[1].digest;
    let report = copier
        .pack(&sources, &path, ArchiveKind::Oci, &[large.clone()].into())
        .await
        .expect("packed");
    assert_eq!(report.total(&[How::LeftOut]), (1, image.layers[1].size));
    let packed = Layout::open_archive(&path).expect("open");
    assert!(
        packed
            .find_blob(&image.layers[1])
            .expect("no error")
            .is_none()
    );
    assert_eq!(
        packed
            .read(&image.layers[0], 1 << 20)
            .expect("proved")
            .len() as u64,
        image.layers[0].size
    );
    // Into a layout that lacks it the archive cannot go, and nothing is named there.
    let source = Source::OciArchive {
        file: path,
        name: None,
    };
    let to = dir.path().join("layout");
    let error = copier.copy(&source, &layout(&to)).await.expect_err("lacks");
    assert!(error.to_string().contains(large.hex()), "{error}");
    assert!(!to.join("index.json").exists());
    // Into one that has it, it can.
    run(&server, &to, options()).await.expect("whole");
    copier.copy(&source, &layout(&to)).await.expect("complete");
}

#[tokio::test]
async fn wrong_bytes_do_not_reach_another_registry_and_are_not_asked_for_again() {
    let image = TestImage::new(&[50_000]);
    let served = image.clone();
    let big = image.layers[0].digest.clone();
    let server = Server::start(move |request, _| {
        let mut reply = served.answer(request);
        if request.path.ends_with(&big.to_string()) {
            reply.body[100] ^= 1;
        }
        reply
    });
    let target = Server::start(|request, _| match &*request.method {
        "POST" => Reply::new(202, "").with("Location", "/v2/app/blobs/uploads/1"),
        "PUT" => Reply::new(201, "").with("Location", "/v2/app/blobs/x"),
        _ => Reply::new(404, ""),
    });
    let to = Reference::with_tag(target.host(), "app".into(), "v1".into());
    let (source, to) = (from(&server, "v1"), Target::Registry(to));
    let copied = copy(&source, &to, options(), Arc::new(Silent)).await;
    let error = copied.expect_err("wrong").to_string();
    let digest = &image.layers[0].digest;
    assert!(error.contains(digest.hex()), "{error}");
    let asked = server.seen_like(&format!("GET /v2/app/blobs/{digest}"));
    assert_eq!(asked.len(), 1);
    assert!(target.seen_like("PUT /v2/app/manifests").is_empty());
}

/// An upload that waited for its source would be given up by either side.
#[tokio::test(flavor = "multi_thread")]
async fn no_upload_begins_before_its_source_may_be_asked() {
    let image = TestImage::new(&[100_000, 100_001, 100_002, 100_003]);
    let served = image.clone();
    let source = Server::start(move |request, _| served.answer(request).slow(2000));
    let target = Server::start(|request, _| match request.method.as_str() {
        "POST" => Reply::new(202, "").with("Location", "/v2/app/blobs/uploads/1"),
        "PUT" => Reply::new(201, ""),
        _ => Reply::new(404, ""),
    });
    let mut options = options();
    options.source.connections = std::num::NonZeroUsize::new(1);
    options.target.timeouts.idle = Duration::from_millis(400);
    let to = Reference::with_tag(target.host(), "app".into(), "v1".into());
    let to = Target::Registry(to);
    let report = copy(&from(&source, "v1"), &to, options, Arc::new(Silent)).await;
    assert_eq!(report.expect("copied").blobs.len(), 5);
    assert_eq!(target.seen_like("PUT /v2/app/blobs/").len(), 5);
    assert_eq!(gets(&source), [0; 5]);
}
