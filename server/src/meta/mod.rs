//! What the registry knows about its content: repositories, links, manifests, tags, upload sessions.
//!
//! One method is one transaction, so that existence, the link to the repository and the lease
//! against garbage collection are decided together with the write that depends on them. Bytes are durable
//! before a row names them, and rows leave before their bytes.

#[cfg(test)]
mod collection;
mod sqlite;
#[cfg(test)]
mod suite;

use std::error::Error as StdError;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use strata_oci::{Digest, Manifest, Repository, Tag};

use crate::condition::Condition;
use crate::route::Reference;
use crate::upload::{Position, Upload, UploadId};

pub use sqlite::Sqlite;

/// Says how long content that was just pushed, mounted or asked for is safe from collection, and what a deleted
/// manifest has named.
pub type Grace = Box<dyn Fn() -> Duration + Send + Sync>;

/// Seconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

/// Why the database did not answer.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// A later version of this program wrote it.
    #[error(
        "the database {path} has schema version {found}, this stratad knows {known}: run the stratad that wrote it, or a newer one"
    )]
    Newer {
        /// Where the database is.
        path: String,
        /// What was found.
        found: i64,
        /// The newest that is known here.
        known: i64,
    },
    /// Its disk is full.
    #[error("the disk that holds the database is full")]
    Full(#[source] Box<dyn StdError + Send + Sync>),
    /// It cannot be written: a disk that is mounted so, or was by the system after an error of its own.
    #[error("the database can only be read: look at its disk and at who owns its files")]
    ReadOnly(#[source] Box<dyn StdError + Send + Sync>),
    /// What it holds cannot be understood.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// Anything else that failed.
    #[error("the database failed: {0}")]
    Failed(#[source] Box<dyn StdError + Send + Sync>),
    /// The program is stopping.
    #[error("the database is closed")]
    Closed,
}

/// A manifest as it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredManifest {
    /// Its digest.
    pub digest: Digest,
    /// The media type that it was pushed with.
    pub media_type: String,
    /// How many bytes it has.
    pub size: u64,
    /// The bytes as they were pushed; empty where only the head was asked for.
    pub bytes: Bytes,
}

/// A manifest to keep.
pub struct NewManifest {
    /// Where.
    pub repository: Repository,
    /// The digest of `bytes`.
    pub digest: Digest,
    /// The bytes as they came.
    pub bytes: Bytes,
    /// The view of them.
    pub manifest: Manifest,
    /// The tags that shall point at it.
    pub tags: Vec<Tag>,
    /// Whether content that it names may be missing.
    pub sparse: bool,
    /// What must hold of each of the tags, or of the manifest when there are none.
    pub condition: Condition,
}

/// What came of [`MetaStore::put_manifest`].
#[derive(Debug, PartialEq, Eq)]
pub enum PutManifest {
    /// It is there, durably.
    Stored,
    /// It is there, durably, and names this many things that the repository lacks (100 stand for more).
    Sparse(usize),
    /// The repository lacks these; nothing was stored.
    Missing(Vec<Digest>),
    /// The condition does not hold; nothing was stored.
    Refused {
        /// Of which tag or digest.
        of: String,
        /// What is there.
        current: Option<Digest>,
    },
}

/// What came of [`MetaStore::delete_manifest`].
#[derive(Debug, PartialEq, Eq)]
pub enum DeleteManifest {
    /// It is gone.
    Deleted,
    /// There was none.
    Unknown,
    /// The condition does not hold: this is there, and stays.
    Refused(Digest),
}

/// What [`MetaStore::collect`] has taken away.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// How many links.
    pub links: u64,
    /// Blobs whose bytes may go now, if they are not named again.
    pub blobs: Vec<Digest>,
    /// Whether there was more to look at than the limit.
    pub more: bool,
}

/// A manifest that refers to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// How many bytes it has.
    pub size: u64,
    /// What kind of artifact it is.
    pub artifact_type: Option<String>,
    /// Its annotations, a JSON object.
    pub annotations: Option<String>,
}

/// A piece of a list in byte order: what comes after `after`, at most `limit` entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The last entry of the page before.
    pub after: Option<String>,
    /// How many entries.
    pub limit: usize,
}

/// The entries of a [`Page`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    /// In order.
    pub entries: Vec<T>,
    /// Whether there are more after them.
    pub more: bool,
}

impl<T> Listed<T> {
    /// From one entry more than the page holds, if there are as many.
    fn cut(mut entries: Vec<T>, limit: usize) -> Self {
        let more = entries.len() > limit;
        entries.truncate(limit);
        Self { entries, more }
    }
}

/// How much there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Repositories.
    pub repositories: u64,
    /// Manifests in all repositories.
    pub manifests: u64,
    /// Bytes of manifests, each counted once.
    pub manifest_bytes: u64,
    /// Tags.
    pub tags: u64,
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Blobs, as often as they are linked.
    pub links: u64,
    /// Their bytes.
    pub linked_bytes: u64,
    /// Upload sessions.
    pub uploads: u64,
}

type Result<T> = std::result::Result<T, MetaError>;

/// The registry's database.
#[async_trait]
pub trait MetaStore: Send + Sync {
    /// The size of a blob that the repository links.
    async fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>>;
    /// [`MetaStore::blob`] for a client that may go on without sending it: for half of a grace period at least it
    /// is not collected. Writes only when that is not so already.
    async fn hold_blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>>;
    /// A manifest with its bytes.
    async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<StoredManifest>>;
    /// A manifest without its bytes.
    async fn manifest_head(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<StoredManifest>>;
    /// The tags of a repository; `None` when there is no such repository.
    async fn tags(&self, repository: &Repository, page: &Page) -> Result<Option<Listed<String>>>;
    /// The repositories that hold a manifest.
    async fn repositories(&self, page: &Page) -> Result<Listed<String>>;
    /// The manifests of a repository whose subject is `subject`, of one artifact type if given, by digest.
    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &Page,
    ) -> Result<Listed<Referrer>>;
    /// Some repositories that link a blob.
    async fn holders(&self, digest: &Digest, limit: usize) -> Result<Vec<Repository>>;

    /// Remembers a new session until `expires_at`.
    async fn start_upload(&self, upload: &Upload, expires_at: i64) -> Result<()>;
    /// A session, if it is this repository's and this owner's.
    async fn upload(
        &self,
        id: &UploadId,
        repository: &Repository,
        owner: &str,
    ) -> Result<Option<Upload>>;
    /// Moves a session on; `false` when it is no longer at `from`.
    async fn advance_upload(
        &self,
        id: &UploadId,
        from: u64,
        to: &Position,
        expires_at: i64,
    ) -> Result<bool>;
    /// Links a blob whose bytes are durable, and ends the session that brought it.
    async fn finish_upload(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
        session: Option<&UploadId>,
    ) -> Result<()>;
    /// Forgets a session; `false` when there was none.
    async fn drop_upload(&self, id: &UploadId) -> Result<bool>;
    /// Links a blob of `from` to `to`; `false` when `from` does not link it.
    async fn mount(&self, from: &Repository, to: &Repository, digest: &Digest) -> Result<bool>;
    /// Keeps a manifest and moves its tags, unless content that it names is missing or a condition fails.
    async fn put_manifest(&self, new: NewManifest) -> Result<PutManifest>;
    /// Takes a tag away, or a manifest with all of its tags, if the condition holds.
    async fn delete_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        condition: &Condition,
    ) -> Result<DeleteManifest>;
    /// Takes the link to a blob away; `false` when there was none.
    async fn unlink_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool>;

    /// The sessions that expired before `time`.
    async fn expired_uploads(&self, time: i64, limit: usize) -> Result<Vec<UploadId>>;
    /// Forgets a session if it expired before `time`; `false` when it did not.
    async fn expire_upload(&self, id: &UploadId, time: i64) -> Result<bool>;
    /// How much there is; costs the same however much it is.
    async fn totals(&self) -> Result<Totals>;
    /// Proves that a change can be made durable.
    async fn probe(&self) -> Result<()>;
    /// Whether it can still be written to at all.
    fn is_alive(&self) -> bool;
    /// Every session.
    async fn upload_ids(&self) -> Result<Vec<UploadId>>;

    /// Takes away links whose lease ended before `time` and that no manifest of their repository needs, and blobs
    /// that nothing links; looks at no more than `limit` of each.
    async fn collect(&self, time: i64, limit: usize) -> Result<Collected>;
    /// Takes away the repositories that hold nothing, among `limit` of them; how many, and after which row
    /// to go on, if there are more.
    async fn collect_repositories(&self, after: i64, limit: usize) -> Result<(u64, Option<i64>)>;
    /// Those of the digests that no blob has.
    async fn unnamed(&self, digests: Vec<Digest>) -> Result<Vec<Digest>>;
}
