//! Collection over the real stores, one pass at a time.

use std::path::Path;

use strata_oci::media::{OCI_CONFIG, OCI_MANIFEST};
use strata_oci::{Algorithm, Digest, Repository};

use super::*;
use crate::auth::{Access, Grant, Principal};
use crate::condition::Condition;
use crate::config::Config;
use crate::push;
use crate::route::Reference;

async fn open(data: &Path, grace: u64, life: u64) -> Arc<App> {
    let mut config = Config::new(data);
    config.gc.grace = Duration::from_secs(grace);
    config.limits.upload_life = Duration::from_secs(life);
    App::open(config).await.expect("open").0
}

fn grant(app: &App) -> Grant {
    let grant = app.gate.admit(Principal::Anonymous, &Access::Base);
    grant.expect("granted")
}

fn repo(name: &str) -> Repository {
    name.parse().expect("name")
}

async fn push(app: &Arc<App>, repository: &str, content: &'static [u8]) -> Digest {
    let body = Box::pin(futures_util::stream::iter([Ok(content.into())]));
    let (digest, app) = (Digest::of(content), Arc::clone(app));
    let grant = grant(&app);
    let pushed = push::put_blob(app, &grant, repo(repository), digest, body).await;
    pushed.expect("push")
}

async fn put_image(app: &App, repository: &str, config: &Digest) -> Digest {
    let text = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"{OCI_CONFIG}","digest":"{config}","size":1}},"layers":[]}}"#
    );
    let digest = Digest::of(text.as_bytes());
    let reference = Reference::Digest(digest.clone());
    let media_type = Some(OCI_MANIFEST);
    let put = push::put_manifest(
        app,
        repo(repository),
        reference,
        Vec::new(),
        Condition::default(),
        media_type,
        text.into(),
    );
    put.await.map(|_| ()).expect("put");
    digest
}

async fn delete_manifest(app: &App, manifest: Digest) {
    let (reference, always) = (Reference::Digest(manifest), Condition::default());
    let deleted = push::delete_manifest(app, &repo("a"), &reference, &always).await;
    deleted.expect("delete");
}

/// A lease of no time ends with the second in which it began.
async fn next_second() {
    tokio::time::sleep(Duration::from_millis(1100)).await;
}

async fn pass(app: &App) {
    let (_end, stop) = Stop::new();
    Collector::default().pass(app, &stop).await;
    assert_eq!(app.gc.counters.failures.get(), 0);
}

async fn is_linked(app: &App, repository: &str, digest: &Digest) -> bool {
    let found = app.meta.blob(&repo(repository), digest).await;
    found.expect("blob").is_some()
}

async fn has_bytes(app: &App, digest: &Digest) -> bool {
    app.blobs.read(digest).await.expect("read").is_some()
}

#[tokio::test]
async fn what_no_manifest_names_goes_when_its_lease_has_ended() {
    let dir = tempfile::tempdir().expect("tempdir");
    let app = open(dir.path(), 0, 60).await;
    let (named, loose) = (
        push(&app, "a", b"named").await,
        push(&app, "a", b"loose").await,
    );
    let manifest = put_image(&app, "a", &named).await;
    next_second().await;
    pass(&app).await;
    assert!(is_linked(&app, "a", &named).await && has_bytes(&app, &named).await);
    assert!(!is_linked(&app, "a", &loose).await && !has_bytes(&app, &loose).await);
    let counters = &app.gc.counters;
    assert_eq!((counters.links.get(), counters.blobs.get()), (1, 1));
    assert_eq!((counters.files.get(), counters.bytes.get()), (1, 5));
    delete_manifest(&app, manifest).await;
    next_second().await;
    pass(&app).await;
    assert!(!has_bytes(&app, &named).await);
    assert_eq!((counters.files.get(), counters.bytes.get()), (2, 10));
    pass(&app).await;
    assert_eq!(
        counters.repositories.get(),
        1,
        "an empty repository goes too"
    );
}

#[tokio::test]
async fn a_lease_and_every_other_use_protect() {
    let dir = tempfile::tempdir().expect("tempdir");
    let app = open(dir.path(), 3600, 60).await;
    let leased = push(&app, "a", b"leased").await;
    next_second().await;
    pass(&app).await;
    assert!(is_linked(&app, "a", &leased).await);
    drop(app);
    let app = open(dir.path(), 0, 60).await;
    let digest = push(&app, "a", b"shared").await;
    put_image(&app, "b", &push(&app, "b", b"shared").await).await;
    next_second().await;
    pass(&app).await;
    assert!(!is_linked(&app, "a", &digest).await);
    assert!(is_linked(&app, "b", &digest).await && has_bytes(&app, &digest).await);
}

#[tokio::test]
async fn whoever_asks_for_a_blob_has_it_for_a_while() {
    let dir = tempfile::tempdir().expect("tempdir");
    let short = open(dir.path(), 0, 60).await;
    let digest = push(&short, "a", b"asked for").await;
    drop(short);
    next_second().await;
    let app = open(dir.path(), 3600, 60).await;
    let size = crate::pull::blob_size(&app, &repo("a"), &digest).await;
    assert_eq!(size.expect("there"), 9);
    pass(&app).await;
    assert!(is_linked(&app, "a", &digest).await);
}

#[tokio::test]
async fn what_a_deleted_manifest_named_is_leased_once_more() {
    let dir = tempfile::tempdir().expect("tempdir");
    let app = open(dir.path(), 0, 60).await;
    let digest = push(&app, "a", b"in use").await;
    let manifest = put_image(&app, "a", &digest).await;
    next_second().await;
    pass(&app).await;
    drop(app);
    let app = open(dir.path(), 3600, 60).await;
    delete_manifest(&app, manifest).await;
    next_second().await;
    pass(&app).await;
    assert!(is_linked(&app, "a", &digest).await);
}

#[tokio::test]
async fn a_blob_that_was_deleted_goes_at_once_unless_another_repository_has_it() {
    let dir = tempfile::tempdir().expect("tempdir");
    let app = open(dir.path(), 3600, 60).await;
    let digest = push(&app, "a", b"deleted").await;
    let mounted = push::mount(&app, &grant(&app), &repo("b"), Some(repo("a")), &digest).await;
    assert!(mounted.expect("mount"));
    for (repository, left) in [("a", true), ("b", false)] {
        push::delete_blob(&app, &repo(repository), &digest)
            .await
            .expect("delete");
        pass(&app).await;
        assert_eq!(has_bytes(&app, &digest).await, left);
    }
}

#[tokio::test]
async fn bytes_without_a_row_go_unless_they_are_being_pushed() {
    let dir = tempfile::tempdir().expect("tempdir");
    let app = open(dir.path(), 0, 60).await;
    let digest = Digest::of(b"orphan");
    let hex = digest.hex();
    let path = dir.path().join("blobs/sha256").join(&hex[..2]).join(hex);
    std::fs::write(&path, b"orphan").expect("write");
    let pin = app.gc.pins.pin(&digest).await;
    pass(&app).await;
    assert!(path.exists());
    drop(pin);
    pass(&app).await;
    assert!(!path.exists());
    let counters = &app.gc.counters;
    assert_eq!((counters.blobs.get(), counters.files.get()), (0, 1));
}

#[tokio::test]
async fn a_session_ends_when_nobody_has_gone_on_with_it() {
    let dir = tempfile::tempdir().expect("tempdir");
    for (life, left) in [(600, 1), (0, 0)] {
        let app = open(dir.path(), 60, life).await;
        let (grant, repository) = (grant(&app), repo("a"));
        let id = push::start(&app, &grant, repository.clone(), Algorithm::Sha256).await;
        let id = id.expect("start");
        let body = Box::pin(futures_util::stream::iter([Ok("x".into())]));
        let appended = push::append(Arc::clone(&app), &grant, &repository, &id, None, body).await;
        assert_eq!(appended.expect("append"), 1);
        // An expiry is a whole second, and past only when the next one has begun.
        next_second().await;
        pass(&app).await;
        assert_eq!(app.gc.counters.sessions.get(), 1 - left);
        let status = push::status(&app, &grant, &repository, &id).await;
        assert_eq!(status.is_ok(), left == 1);
        let staged = app.blobs.staged().await.expect("staged").len();
        assert_eq!(staged as u64, left);
        if left == 1 {
            push::cancel(&app, &grant, &repository, &id)
                .await
                .expect("cancel");
        }
        assert!(app.blobs.staged().await.expect("staged").is_empty());
    }
}
