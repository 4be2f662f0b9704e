//! What every [`MetaStore`] must do, as one suite that each implementation passes.

use strata_oci::media::{OCI_CONFIG, OCI_INDEX, OCI_MANIFEST};
use strata_oci::{Algorithm, Digest, Digester, Manifest, Repository, Tag};

use super::{DeleteManifest, MetaStore, NewManifest, Page, PutManifest, now};
use crate::condition::Condition;
use crate::route::Reference;
use crate::upload::{Position, Upload, UploadId};

/// Runs the suite on an empty store; `make` opens the same one each time it is called.
pub(super) async fn check<M: MetaStore>(make: impl Fn() -> M) {
    blobs_are_seen_through_their_repository(&make()).await;
    uploads_survive_and_belong_to_someone(&make).await;
    manifests_need_their_content(&make()).await;
    tags_move_and_go_with_their_manifest(&make()).await;
    a_condition_is_decided_with_the_write(&make()).await;
    pages_are_in_order(&make()).await;
    referrers_are_found_by_subject(&make()).await;
    what_was_written_is_there_after_a_restart(&make).await;
}

fn repo(name: &str) -> Repository {
    name.parse().expect("name")
}

fn tag(name: &str) -> Reference {
    Reference::Tag(name.parse().expect("tag"))
}

fn page(after: Option<&str>, limit: usize) -> Page {
    let after = after.map(str::to_owned);
    Page { after, limit }
}

fn upload(repository: &Repository) -> Upload {
    Upload {
        id: UploadId::random(),
        repository: repository.clone(),
        owner: "me".to_owned(),
        position: Position {
            offset: 0,
            digester: Digester::new(Algorithm::Sha256),
        },
    }
}

pub(super) fn new(
    repository: &Repository,
    text: String,
    media_type: &str,
    tags: &[&str],
) -> NewManifest {
    let manifest = Manifest::parse(text.as_bytes(), Some(media_type)).expect("manifest");
    let tags: Vec<Tag> = tags.iter().map(|t| t.parse().expect("tag")).collect();
    NewManifest {
        repository: repository.clone(),
        digest: Digest::of(text.as_bytes()),
        bytes: text.into(),
        manifest,
        tags,
        sparse: false,
        condition: Condition::default(),
    }
}

fn image(config: &Digest, extra: &str) -> String {
    format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"{OCI_CONFIG}","digest":"{config}","size":1}},"layers":[]{extra}}}"#
    )
}

fn index(child: &Digest) -> String {
    format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{OCI_MANIFEST}","digest":"{child}","size":1}}]}}"#
    )
}

async fn link(meta: &impl MetaStore, repository: &Repository, content: &[u8]) -> Digest {
    let digest = Digest::of(content);
    let size = content.len() as u64;
    let linked = meta.finish_upload(repository, &digest, size, None).await;
    linked.expect("link");
    digest
}

async fn blobs_are_seen_through_their_repository(meta: &impl MetaStore) {
    let (a, b) = (repo("blobs/a"), repo("blobs/b"));
    let digest = link(meta, &a, b"blob").await;
    assert_eq!(link(meta, &a, b"blob").await, digest, "twice is harmless");
    assert_eq!(meta.blob(&a, &digest).await.expect("blob"), Some(4));
    assert_eq!(meta.blob(&b, &digest).await.expect("blob"), None);
    assert!(
        !meta.mount(&b, &a, &digest).await.expect("mount"),
        "b has none"
    );
    assert!(meta.mount(&a, &b, &digest).await.expect("mount"));
    assert_eq!(meta.blob(&b, &digest).await.expect("blob"), Some(4));
    assert_eq!(meta.holders(&digest, 9).await.expect("holders").len(), 2);
    assert!(meta.unlink_blob(&a, &digest).await.expect("unlink"));
    assert!(!meta.unlink_blob(&a, &digest).await.expect("unlink"));
    assert_eq!(meta.blob(&a, &digest).await.expect("blob"), None);
    assert_eq!(meta.holders(&digest, 9).await.expect("holders"), [b]);
}

async fn uploads_survive_and_belong_to_someone<M: MetaStore>(make: &impl Fn() -> M) {
    let (a, b) = (repo("uploads/a"), repo("uploads/b"));
    let started = upload(&a);
    let id = &started.id;
    let mut position = started.position.clone();
    position.digester.update(b"hello");
    position.offset = 5;
    let meta = make();
    meta.start_upload(&started, now() - 10)
        .await
        .expect("start");
    let later = now() + 100;
    assert!(
        meta.advance_upload(id, 0, &position, later)
            .await
            .expect("advance")
    );
    let again = meta.advance_upload(id, 0, &position, later).await;
    assert!(!again.expect("advance"), "it is no longer at 0");
    drop(meta);
    let meta = make();
    assert!(meta.upload(id, &b, "me").await.expect("upload").is_none());
    assert!(meta.upload(id, &a, "you").await.expect("upload").is_none());
    let found = meta
        .upload(id, &a, "me")
        .await
        .expect("upload")
        .expect("there");
    assert_eq!(found.position.offset, 5);
    assert_eq!(found.position.digester.finish(), Digest::of(b"hello"));
    assert!(
        meta.expired_uploads(now(), 9)
            .await
            .expect("expired")
            .is_empty()
    );
    assert!(!meta.expire_upload(id, now()).await.expect("expire"));
    let expired = meta.expired_uploads(later + 1, 9).await;
    assert_eq!(expired.expect("expired"), std::slice::from_ref(id));
    let digest = Digest::of(b"hello");
    meta.finish_upload(&a, &digest, 5, Some(id))
        .await
        .expect("finish");
    assert!(meta.upload(id, &a, "me").await.expect("upload").is_none());
    let cancelled = upload(&a);
    meta.start_upload(&cancelled, later).await.expect("start");
    let ids = meta.upload_ids().await.expect("ids");
    assert_eq!(ids, std::slice::from_ref(&cancelled.id));
    assert!(meta.drop_upload(&cancelled.id).await.expect("drop"));
    assert!(!meta.drop_upload(&cancelled.id).await.expect("drop"));
}

async fn manifests_need_their_content(meta: &impl MetaStore) {
    let (a, elsewhere) = (repo("content/a"), repo("content/b"));
    let config = link(meta, &elsewhere, b"config").await;
    let text = image(&config, "");
    let refused = meta
        .put_manifest(new(&a, text.clone(), OCI_MANIFEST, &["t"]))
        .await;
    assert_eq!(
        refused.expect("put"),
        PutManifest::Missing(vec![config.clone()])
    );
    let tags = meta.tags(&a, &page(None, 9)).await.expect("tags");
    assert_eq!(tags, None, "a refused manifest makes no repository");
    let mut sparse = new(&a, text.clone(), OCI_MANIFEST, &["t"]);
    sparse.sparse = true;
    assert_eq!(
        meta.put_manifest(sparse).await.expect("put"),
        PutManifest::Sparse(1)
    );
    let child = Digest::of(text.as_bytes());
    let list = new(&elsewhere, index(&child), OCI_INDEX, &[]);
    let refused = meta.put_manifest(list).await.expect("put");
    assert_eq!(refused, PutManifest::Missing(vec![child.clone()]));
    let list = new(&a, index(&child), OCI_INDEX, &[]);
    assert_eq!(
        meta.put_manifest(list).await.expect("put"),
        PutManifest::Stored
    );
    let found = meta
        .manifest(&a, &tag("t"))
        .await
        .expect("get")
        .expect("there");
    assert_eq!((&found.bytes[..], &found.digest), (text.as_bytes(), &child));
    assert_eq!(found.media_type, OCI_MANIFEST);
    let head = meta.manifest_head(&a, &Reference::Digest(child)).await;
    let head = head.expect("head").expect("there");
    assert!(head.bytes.is_empty() && head.size == text.len() as u64);
}

async fn tags_move_and_go_with_their_manifest(meta: &impl MetaStore) {
    let a = repo("tags/a");
    let (one, two) = (link(meta, &a, b"1").await, link(meta, &a, b"2").await);
    let (first, second) = (image(&one, ""), image(&two, ""));
    for (text, tags) in [(&first, ["x", "y"]), (&second, ["x", "z"])] {
        let put = meta
            .put_manifest(new(&a, text.clone(), OCI_MANIFEST, &tags))
            .await;
        assert_eq!(put.expect("put"), PutManifest::Stored);
    }
    let moved = meta
        .manifest(&a, &tag("x"))
        .await
        .expect("get")
        .expect("there");
    assert_eq!(moved.bytes, second);
    let always = Condition::default();
    let delete = async |reference: &Reference| {
        let deleted = meta.delete_manifest(&a, reference, &always).await;
        deleted.expect("delete")
    };
    assert_eq!(delete(&tag("z")).await, DeleteManifest::Deleted);
    assert_eq!(delete(&tag("z")).await, DeleteManifest::Unknown);
    let digest = Reference::Digest(Digest::of(second.as_bytes()));
    assert!(
        meta.manifest(&a, &digest).await.expect("get").is_some(),
        "a tag goes alone"
    );
    assert_eq!(delete(&digest).await, DeleteManifest::Deleted);
    assert_eq!(delete(&digest).await, DeleteManifest::Unknown);
    assert!(meta.manifest(&a, &tag("x")).await.expect("get").is_none());
    let left = meta
        .tags(&a, &page(None, 9))
        .await
        .expect("tags")
        .expect("there");
    assert_eq!(left.entries, ["y"]);
}

async fn a_condition_is_decided_with_the_write(meta: &impl MetaStore) {
    let a = repo("conditions/a");
    let config = link(meta, &a, b"conditions").await;
    let text = |n: u8| image(&config, &format!(r#","annotations":{{"n":"{n}"}}"#));
    let digest = |n: u8| Digest::of(text(n).as_bytes());
    let only_new = || Condition::parse([], [b"*".as_slice()]).expect("valid");
    let from = |n: u8| {
        let tag = format!("\"{}\"", digest(n));
        Condition::parse([tag.as_bytes()], []).expect("valid")
    };
    let put = async |n: u8, tags: &[&str], condition: Condition| {
        let mut new = new(&a, text(n), OCI_MANIFEST, tags);
        new.condition = condition;
        meta.put_manifest(new).await.expect("put")
    };
    let refused = |of: &str, current| PutManifest::Refused {
        of: of.to_owned(),
        current,
    };
    assert_eq!(put(1, &["t"], from(1)).await, refused("t", None));
    assert_eq!(put(1, &["t"], only_new()).await, PutManifest::Stored);
    let both = put(2, &["new", "t"], only_new()).await;
    assert_eq!(both, refused("t", Some(digest(1))));
    for reference in [tag("new"), Reference::Digest(digest(2))] {
        let found = meta.manifest_head(&a, &reference).await;
        assert_eq!(found.expect("head"), None, "nothing was stored");
    }
    assert_eq!(put(2, &["t"], from(1)).await, PutManifest::Stored);
    assert_eq!(put(3, &["t"], from(1)).await, refused("t", Some(digest(2))));
    let one = digest(1).to_string();
    assert_eq!(
        put(1, &[], only_new()).await,
        refused(&one, Some(digest(1)))
    );
    let delete = async |condition: Condition| {
        let deleted = meta.delete_manifest(&a, &tag("t"), &condition).await;
        deleted.expect("delete")
    };
    assert_eq!(delete(from(1)).await, DeleteManifest::Refused(digest(2)));
    assert_eq!(delete(from(2)).await, DeleteManifest::Deleted);
    assert_eq!(delete(from(2)).await, DeleteManifest::Unknown);
}

async fn pages_are_in_order(meta: &impl MetaStore) {
    let a = repo("pages/a");
    let config = link(meta, &a, b"pages").await;
    let tags = ["b", "B", "a1", "a-1", "a"];
    meta.put_manifest(new(&a, image(&config, ""), OCI_MANIFEST, &tags))
        .await
        .expect("put");
    let first = meta
        .tags(&a, &page(None, 2))
        .await
        .expect("tags")
        .expect("there");
    assert_eq!(
        (first.entries, first.more),
        (vec!["B".to_owned(), "a".to_owned()], true)
    );
    let rest = meta
        .tags(&a, &page(Some("a"), 3))
        .await
        .expect("tags")
        .expect("there");
    assert_eq!(
        (rest.entries.concat(), rest.more),
        ("a-1a1b".to_owned(), false)
    );
    let none = meta
        .tags(&a, &page(None, 0))
        .await
        .expect("tags")
        .expect("there");
    assert!(none.entries.is_empty());
    link(meta, &repo("pages/without-manifest"), b"pages").await;
    let names = meta
        .repositories(&page(Some("page"), 9))
        .await
        .expect("names");
    assert_eq!(names.entries.first().map(String::as_str), Some("pages/a"));
    assert!(!names.entries.contains(&"pages/without-manifest".to_owned()));
}

async fn referrers_are_found_by_subject(meta: &impl MetaStore) {
    let a = repo("referrers/a");
    let config = link(meta, &a, b"r").await;
    let subject = Digest::of(b"not pushed yet");
    let refer = |kind: &str, n: u8| {
        let subject =
            format!(r#","subject":{{"mediaType":"{OCI_MANIFEST}","digest":"{subject}","size":1}}"#);
        let kind = if kind.is_empty() {
            String::new()
        } else {
            format!(r#","artifactType":"{kind}""#)
        };
        image(
            &config,
            &format!(r#"{subject}{kind},"annotations":{{"n":"{n}"}}"#),
        )
    };
    for text in [refer("x/y", 1), refer("x/z", 2), refer("", 3)] {
        meta.put_manifest(new(&a, text, OCI_MANIFEST, &[]))
            .await
            .expect("put");
    }
    let all = meta
        .referrers(&a, &subject, None, &page(None, 9))
        .await
        .expect("all");
    assert_eq!(all.entries.len(), 3);
    let some = meta
        .referrers(&a, &subject, Some("x/y"), &page(None, 9))
        .await;
    let some = some.expect("some").entries;
    assert_eq!(some.len(), 1);
    assert_eq!(some[0].annotations.as_deref(), Some(r#"{"n":"1"}"#));
    let by_config = meta
        .referrers(&a, &subject, Some(OCI_CONFIG), &page(None, 9))
        .await;
    assert_eq!(by_config.expect("some").entries.len(), 1);
    let first = meta
        .referrers(&a, &subject, None, &page(None, 1))
        .await
        .expect("first");
    let after = first.entries[0].digest.to_string();
    let rest = meta
        .referrers(&a, &subject, None, &page(Some(&after), 9))
        .await;
    assert!(first.more && rest.expect("rest").entries == all.entries[1..]);
    let other = meta
        .referrers(&repo("other"), &subject, None, &page(None, 9))
        .await;
    assert!(other.expect("none").entries.is_empty());
}

async fn what_was_written_is_there_after_a_restart<M: MetaStore>(make: &impl Fn() -> M) {
    let a = repo("restart/a");
    let meta = make();
    let config = link(&meta, &a, b"restart").await;
    let text = image(&config, "");
    meta.put_manifest(new(&a, text.clone(), OCI_MANIFEST, &["t"]))
        .await
        .expect("put");
    drop(meta);
    let found = make()
        .manifest(&a, &tag("t"))
        .await
        .expect("get")
        .expect("there");
    assert_eq!(found.bytes, text);
}
