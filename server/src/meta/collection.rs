//! What collection in every [`MetaStore`] must do and leave, as a suite that each implementation passes.

use std::time::Duration;

use strata_oci::media::{OCI_CONFIG, OCI_INDEX, OCI_MANIFEST};
use strata_oci::{Digest, Repository};

use super::suite::new;
use super::{Collected, DeleteManifest, MetaStore, PutManifest, now};
use crate::condition::Condition;
use crate::route::Reference;

const NONE: Duration = Duration::ZERO;
const HOUR: Duration = Duration::from_secs(3600);

/// Runs the suite on an empty store; `make` opens the same one each time it is called, with leases of this length.
pub(super) async fn check<M: MetaStore>(make: impl Fn(Duration) -> M) {
    links_go_when_no_manifest_of_the_repository_names_them(&make(NONE)).await;
    a_lease_is_kept_and_given_again(&make).await;
    batches_are_bounded(&make(NONE)).await;
    repositories_that_hold_nothing_go(&make(NONE)).await;
}

fn repo(name: &str) -> Repository {
    name.parse().expect("name")
}

async fn link(meta: &impl MetaStore, repository: &Repository, content: &[u8]) -> Digest {
    let digest = Digest::of(content);
    let size = content.len() as u64;
    let linked = meta.finish_upload(repository, &digest, size, None).await;
    linked.expect("link");
    digest
}

async fn put(meta: &impl MetaStore, repository: &Repository, text: String, media: &str) -> Digest {
    let digest = Digest::of(text.as_bytes());
    let put = meta.put_manifest(new(repository, text, media, &[])).await;
    assert_eq!(put.expect("put"), PutManifest::Stored);
    digest
}

async fn image(meta: &impl MetaStore, repository: &Repository, config: &Digest) -> Digest {
    let text = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"{OCI_CONFIG}","digest":"{config}","size":1}},"layers":[]}}"#
    );
    put(meta, repository, text, OCI_MANIFEST).await
}

/// All that can be collected a little later than now.
async fn collect(meta: &impl MetaStore) -> Collected {
    meta.collect(now() + 2, 100).await.expect("collect")
}

async fn is_there(meta: &impl MetaStore, repository: &Repository, digest: &Digest) -> bool {
    meta.blob(repository, digest).await.expect("blob").is_some()
}

async fn delete(meta: &impl MetaStore, repository: &Repository, digest: &Digest) {
    let reference = Reference::Digest(digest.clone());
    let always = Condition::default();
    let deleted = meta.delete_manifest(repository, &reference, &always).await;
    assert_eq!(deleted.expect("delete"), DeleteManifest::Deleted);
}

async fn links_go_when_no_manifest_of_the_repository_names_them(meta: &impl MetaStore) {
    let (a, b) = (repo("gc/a"), repo("gc/b"));
    let (config, loose) = (
        link(meta, &a, b"config").await,
        link(meta, &a, b"loose").await,
    );
    let child = link(meta, &a, b"named by an index").await;
    link(meta, &b, b"config").await;
    let first = image(meta, &a, &config).await;
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{OCI_MANIFEST}","digest":"{child}","size":1}}]}}"#
    );
    let index = put(meta, &a, index, OCI_INDEX).await;
    let collected = collect(meta).await;
    assert_eq!(
        (collected.links, &collected.blobs),
        (2, &vec![loose.clone()])
    );
    assert!(is_there(meta, &a, &config).await && is_there(meta, &a, &child).await);
    assert!(!is_there(meta, &a, &loose).await && !is_there(meta, &b, &config).await);
    assert_eq!(
        collect(meta).await,
        Collected::default(),
        "nothing has changed"
    );
    let unnamed = meta.unnamed(vec![config.clone(), loose.clone()]).await;
    assert_eq!(unnamed.expect("unnamed"), [loose]);
    delete(meta, &a, &index).await;
    assert_eq!(collect(meta).await.blobs, [child]);
    delete(meta, &a, &first).await;
    assert_eq!(collect(meta).await.blobs, std::slice::from_ref(&config));
    // What was collected comes back as if it had never been there.
    link(meta, &a, b"config").await;
    image(meta, &a, &config).await;
    assert_eq!(collect(meta).await, Collected::default());
    assert!(is_there(meta, &a, &config).await);
}

async fn a_lease_is_kept_and_given_again<M: MetaStore>(make: &impl Fn(Duration) -> M) {
    let (a, b) = (repo("leases/a"), repo("leases/b"));
    let short = make(NONE);
    let (asked, mounted) = (
        link(&short, &a, b"asked").await,
        link(&short, &a, b"mounted").await,
    );
    let named = link(&short, &a, b"named").await;
    let manifest = image(&short, &a, &named).await;
    // It is in use, and has no lease any more.
    let looked = short.collect(now() - 1, 100).await;
    assert_eq!(looked.expect("collect").links, 0);
    drop(short);
    let meta = make(HOUR);
    let held = meta.hold_blob(&a, &asked).await;
    assert_eq!(held.expect("hold"), Some(5));
    assert_eq!(meta.hold_blob(&b, &asked).await.expect("hold"), None);
    assert!(meta.mount(&a, &b, &mounted).await.expect("mount"));
    let collected = collect(&meta).await;
    assert_eq!((collected.links, collected.blobs.len()), (1, 0));
    assert!(is_there(&meta, &a, &asked).await && is_there(&meta, &b, &mounted).await);
    delete(&meta, &a, &manifest).await;
    assert_eq!(collect(&meta).await.links, 0);
    assert!(is_there(&meta, &a, &named).await, "it is leased once more");
    let later = meta.collect(now() + 3602, 100).await.expect("collect");
    assert_eq!((later.links, later.blobs.len()), (3, 3));
}

async fn batches_are_bounded(meta: &impl MetaStore) {
    let a = repo("batches/a");
    for content in [b"1", b"2", b"3"] {
        link(meta, &a, content).await;
    }
    let limited = |limit| meta.collect(now() + 2, limit);
    let first = limited(2).await.expect("collect");
    assert!(first.more && (first.links, first.blobs.len()) == (2, 2));
    let second = limited(2).await.expect("collect");
    assert!(!second.more && (second.links, second.blobs.len()) == (1, 1));
}

async fn repositories_that_hold_nothing_go(meta: &impl MetaStore) {
    let (empty, full) = (repo("empty/a"), repo("full/a"));
    let content = link(meta, &empty, b"of nobody").await;
    image(meta, &full, &link(meta, &full, b"of someone").await).await;
    meta.unlink_blob(&empty, &content).await.expect("unlink");
    let (mut gone, mut after) = (0, Some(0));
    while let Some(row) = after {
        let collected = meta.collect_repositories(row, 2).await;
        let (more, next) = collected.expect("collect");
        (gone, after) = (gone + more, next);
    }
    assert!(gone > 0);
    let page = super::Page {
        after: None,
        limit: 9,
    };
    assert!(meta.tags(&empty, &page).await.expect("tags").is_none());
    assert!(meta.tags(&full, &page).await.expect("tags").is_some());
}
