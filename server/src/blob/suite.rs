//! What every [`BlobStore`] must do, as one suite that each implementation passes.

use std::io::{self, Read};

use bytes::Bytes;
use futures_util::stream;
use strata_oci::{Algorithm, Digest, Digester};

use super::{BlobContent, BlobError, BlobStore, ByteStream};
use crate::upload::{Position, UploadId};

/// Runs the suite on an empty store; `make` opens the same one each time it is called.
pub(super) async fn check<B: BlobStore>(make: impl Fn() -> B) {
    for size in [0, 1, 1000, 100_000, 5_000_000] {
        what_is_appended_becomes_content(&make(), size).await;
    }
    chunks_go_on_where_the_last_one_ended(&make).await;
    a_broken_body_is_kept_as_far_as_it_came(&make()).await;
    lost_bytes_are_noticed(&make()).await;
    an_upload_can_be_dropped(&make()).await;
    the_same_content_can_be_stored_at_once(&make()).await;
    what_is_kept_staged_is_not_the_blob(&make()).await;
    what_is_deleted_is_gone_and_counted(&make()).await;
}

fn beginning() -> Position {
    Position {
        offset: 0,
        digester: Digester::new(Algorithm::Sha256),
    }
}

fn body(pieces: Vec<io::Result<Bytes>>) -> ByteStream {
    Box::pin(stream::iter(pieces))
}

/// Bytes that differ from place to place, in pieces as a socket gives them.
fn pieces(content: &[u8]) -> Vec<io::Result<Bytes>> {
    let pieces = content.chunks(70_001);
    pieces.map(|p| Ok(Bytes::copy_from_slice(p))).collect()
}

fn content(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n % 251) as u8).collect()
}

async fn read(store: &impl BlobStore, digest: &Digest) -> Option<Vec<u8>> {
    let content = store.read(digest).await.expect("read")?;
    let size = content.size();
    let mut bytes = Vec::new();
    match content {
        BlobContent::Memory(memory) => bytes.extend_from_slice(&memory),
        BlobContent::File { mut file, .. } => {
            file.read_to_end(&mut bytes).expect("read");
        }
    }
    assert_eq!(bytes.len() as u64, size);
    Some(bytes)
}

async fn what_is_appended_becomes_content(store: &impl BlobStore, size: usize) {
    let (id, content) = (UploadId::random(), content(size));
    let appended = store.append(&id, beginning(), body(pieces(&content))).await;
    let position = appended.expect("append").position;
    assert_eq!(position.offset, size as u64);
    let digest = position.digester.finish();
    assert!(digest.matches(&content));
    assert_eq!(
        read(store, &digest).await,
        None,
        "not before it is committed"
    );
    for keep in [true, false] {
        let committed = store.commit(&id, size as u64, &digest, keep).await;
        committed.expect("commit");
        assert_eq!(read(store, &digest).await.as_ref(), Some(&content));
        assert_eq!(
            store.staged().await.expect("staged").len(),
            usize::from(keep)
        );
    }
}

async fn chunks_go_on_where_the_last_one_ended<B: BlobStore>(make: &impl Fn() -> B) {
    let (id, content) = (UploadId::random(), content(900_000));
    let (first, second) = content.split_at(400_000);
    let appended = make().append(&id, beginning(), body(pieces(first))).await;
    let position = appended.expect("append").position;
    // What came after the position was recorded does not count.
    let lost = make()
        .append(&id, position.clone(), body(pieces(b"lost in a crash")))
        .await;
    lost.expect("append");
    let store = make();
    let appended = store.append(&id, position, body(pieces(second))).await;
    let position = appended.expect("append").position;
    let long = store
        .rehash(&id, position.offset, Digester::new(Algorithm::Sha512))
        .await;
    let long = long.expect("rehash");
    assert!(long.algorithm() == Algorithm::Sha512 && long.matches(&content));
    let digest = position.digester.finish();
    store
        .commit(&id, position.offset, &digest, false)
        .await
        .expect("commit");
    assert_eq!(read(&store, &digest).await, Some(content));
}

async fn a_broken_body_is_kept_as_far_as_it_came(store: &impl BlobStore) {
    let id = UploadId::random();
    let mut broken = pieces(b"all that came");
    broken.push(Err(io::ErrorKind::ConnectionReset.into()));
    let appended = store
        .append(&id, beginning(), body(broken))
        .await
        .expect("append");
    assert!(appended.interrupted.is_some());
    assert_eq!(appended.position.offset, 13);
    assert_eq!(
        appended.position.digester.finish(),
        Digest::of(b"all that came")
    );
    store.abort(&id).await.expect("abort");
}

async fn lost_bytes_are_noticed(store: &impl BlobStore) {
    let mut position = beginning();
    position.offset = 10;
    let id = UploadId::random();
    let appended = store.append(&id, position, body(pieces(b"more"))).await;
    assert!(matches!(appended.map(|_| ()), Err(BlobError::Lost(_))));
    let committed = store.commit(&id, 10, &Digest::of(b""), false).await;
    assert!(matches!(committed, Err(BlobError::Lost(_))));
}

async fn an_upload_can_be_dropped(store: &impl BlobStore) {
    let id = UploadId::random();
    let appended = store.append(&id, beginning(), body(pieces(b"x"))).await;
    appended.expect("append");
    let staged = store.staged().await.expect("staged");
    assert_eq!(staged, std::slice::from_ref(&id));
    store.abort(&id).await.expect("abort");
    store.abort(&id).await.expect("abort again");
    assert!(store.staged().await.expect("staged").is_empty());
}

async fn the_same_content_can_be_stored_at_once(store: &impl BlobStore) {
    let content = content(300_000);
    let digest = Digest::of(&content);
    let upload = async |keep| {
        let id = UploadId::random();
        let appended = store.append(&id, beginning(), body(pieces(&content))).await;
        appended.expect("append");
        store.commit(&id, 300_000, &digest, keep).await
    };
    let (a, b, c) = tokio::join!(upload(true), upload(false), upload(true));
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    assert_eq!(read(store, &digest).await.as_ref(), Some(&content));
}

/// An upload whose last request was broken off after it had become a blob goes on with other bytes.
async fn what_is_kept_staged_is_not_the_blob(store: &impl BlobStore) {
    let id = UploadId::random();
    let appended = store.append(&id, beginning(), body(pieces(b"first"))).await;
    let first = appended.expect("append").position;
    let appended = store.append(&id, first.clone(), body(pieces(b" and last")));
    let whole = appended.await.expect("append").position;
    let digest = whole.digester.finish();
    let committed = store.commit(&id, 14, &digest, true).await;
    committed.expect("commit");
    let appended = store.append(&id, first, body(pieces(b" and other"))).await;
    let other = appended.expect("append").position;
    let bytes = read(store, &digest).await.expect("there");
    assert_eq!(bytes, b"first and last");
    let digest = other.digester.finish();
    let committed = store.commit(&id, 15, &digest, false).await;
    committed.expect("commit");
    let bytes = read(store, &digest).await.expect("there");
    assert_eq!(bytes, b"first and other");
}

async fn what_is_deleted_is_gone_and_counted(store: &impl BlobStore) {
    let (id, content) = (UploadId::random(), content(70_000));
    let digest = Digest::of(&content);
    let appended = store.append(&id, beginning(), body(pieces(&content))).await;
    appended.expect("append");
    let committed = store.commit(&id, 70_000, &digest, false).await;
    committed.expect("commit");
    let shard = u8::from_str_radix(&digest.hex()[..2], 16).expect("hex");
    let listed = store.list(shard).await.expect("list");
    assert!(listed.contains(&digest));
    let other = store.list(shard.wrapping_add(1)).await.expect("list");
    assert!(!other.contains(&digest));
    assert_eq!(store.delete(&digest).await.expect("delete"), Some(70_000));
    assert_eq!(store.delete(&digest).await.expect("delete"), None);
    assert_eq!(read(store, &digest).await, None);
}
