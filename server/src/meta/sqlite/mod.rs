//! [`MetaStore`] in one SQLite file: a thread that writes, a few that read.
//!
//! SQLite in WAL mode lets readers go on while a transaction is written. All writes go through one thread,
//! so that none waits for a lock, and those that arrive together share one commit and with it one
//! fsync (<https://sqlite.org/wal.html>). `synchronous=FULL` makes a commit survive a power cut.

mod collect;
mod open;
mod read;
mod threads;
mod write;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::ErrorCode;
use strata_oci::{Digest, Repository};

use super::{
    Collected, DeleteManifest, Grace, Listed, MetaError, MetaStore, NewManifest, Page, PutManifest,
    Referrer, Result, StoredManifest, Totals, now,
};
use crate::condition::Condition;
use crate::route::Reference;
use crate::telemetry::DatabaseMetrics;
use crate::upload::{Position, Upload, UploadId};
use threads::{Readers, Writer};

/// The database.
pub struct Sqlite {
    writer: Writer,
    readers: Readers,
    metrics: Arc<DatabaseMetrics>,
    grace: Grace,
}

impl Sqlite {
    /// Opens or makes the database and brings its schema up to date. `grace` is asked how long leases are.
    ///
    /// # Errors
    /// [`MetaError::Newer`] when a later version wrote it, and what SQLite says.
    pub fn open(path: &Path, grace: Grace) -> Result<Self> {
        let writer = open::writer(path).map_err(|error| match error {
            MetaError::Damaged(why) => MetaError::Damaged(format!("{}: {why}", path.display())),
            error => error,
        })?;
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let readers = |count: usize| {
            (0..count)
                .map(|_| open::reader(path))
                .collect::<Result<_>>()
        };
        let metrics: Arc<DatabaseMetrics> = Arc::default();
        let threads = readers(cores.clamp(2, 4))?;
        let here = readers(cores.clamp(2, 16))?;
        Ok(Self {
            writer: Writer::start(writer, Arc::clone(&metrics))?,
            readers: Readers::start(threads, here, Arc::clone(&metrics))?,
            metrics,
            grace,
        })
    }

    /// How long it takes.
    pub fn metrics(&self) -> Arc<DatabaseMetrics> {
        Arc::clone(&self.metrics)
    }

    /// When a lease ends that begins now.
    fn until(&self) -> i64 {
        now().saturating_add(self.grace())
    }

    /// In seconds; far from the greatest integer, which says that no lease is needed.
    fn grace(&self) -> i64 {
        i64::from(u32::try_from((self.grace)().as_secs()).unwrap_or(u32::MAX))
    }
}

impl From<rusqlite::Error> for MetaError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(error.into()),
            Some(ErrorCode::ReadOnly) => Self::ReadOnly(error.into()),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Failed(error.into()),
        }
    }
}

#[async_trait]
impl MetaStore for Sqlite {
    async fn blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>> {
        let (repository, digest) = (repository.clone(), digest.clone());
        let job = move |db: &_| read::blob(db, &repository, &digest);
        self.readers.look_up(job).await
    }

    async fn hold_blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>> {
        let (repository, digest) = (repository.clone(), digest.clone());
        let asked = (repository.clone(), digest.clone());
        let job = move |db: &_| read::leased_blob(db, &asked.0, &asked.1);
        let Some((size, leased_until)) = self.readers.look_up(job).await? else {
            return Ok(None);
        };
        if self.grace() == 0 || leased_until >= now().saturating_add(self.grace() / 2) {
            return Ok(Some(size));
        }
        let until = self.until();
        let job = move |db: &_| collect::hold(db, &repository, &digest, until);
        match self.writer.run(job).await {
            // What cannot be written cannot be collected either: reading goes on.
            Err(error) => {
                tracing::warn!("cannot prolong the lease of a blob: {error}");
                Ok(Some(size))
            }
            held => held,
        }
    }

    async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<StoredManifest>> {
        let (repository, reference) = (repository.clone(), reference.clone());
        let job = move |db: &_| read::manifest(db, &repository, &reference, true);
        self.readers.look_up(job).await
    }

    async fn manifest_head(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<StoredManifest>> {
        let (repository, reference) = (repository.clone(), reference.clone());
        let job = move |db: &_| read::manifest(db, &repository, &reference, false);
        self.readers.look_up(job).await
    }

    async fn tags(&self, repository: &Repository, page: &Page) -> Result<Option<Listed<String>>> {
        let (repository, page) = (repository.clone(), page.clone());
        let job = move |db: &_| read::tags(db, &repository, &page);
        self.readers.run(job).await
    }

    async fn repositories(&self, page: &Page) -> Result<Listed<String>> {
        let page = page.clone();
        let job = move |db: &_| read::repositories(db, &page);
        self.readers.run(job).await
    }

    async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        page: &Page,
    ) -> Result<Listed<Referrer>> {
        let (repository, subject, page) = (repository.clone(), subject.clone(), page.clone());
        let artifact_type = artifact_type.map(str::to_owned);
        let job = move |db: &_| {
            read::referrers(db, &repository, &subject, artifact_type.as_deref(), &page)
        };
        self.readers.run(job).await
    }

    async fn holders(&self, digest: &Digest, limit: usize) -> Result<Vec<Repository>> {
        let digest = digest.clone();
        let job = move |db: &_| read::holders(db, &digest, limit);
        self.readers.run(job).await
    }

    async fn start_upload(&self, upload: &Upload, expires_at: i64) -> Result<()> {
        let upload = upload.clone();
        let job = move |db: &_| write::start_upload(db, &upload, expires_at);
        self.writer.run(job).await
    }

    async fn upload(
        &self,
        id: &UploadId,
        repository: &Repository,
        owner: &str,
    ) -> Result<Option<Upload>> {
        let (id, repository, owner) = (id.clone(), repository.clone(), owner.to_owned());
        let job = move |db: &_| read::upload(db, &id, &repository, &owner);
        self.readers.look_up(job).await
    }

    async fn advance_upload(
        &self,
        id: &UploadId,
        from: u64,
        to: &Position,
        expires_at: i64,
    ) -> Result<bool> {
        let (id, to) = (id.clone(), to.clone());
        let job = move |db: &_| write::advance_upload(db, &id, from, &to, expires_at);
        self.writer.run(job).await
    }

    async fn finish_upload(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
        session: Option<&UploadId>,
    ) -> Result<()> {
        let (repository, digest) = (repository.clone(), digest.clone());
        let session = session.cloned();
        let until = self.until();
        let job = move |db: &_| {
            write::finish_upload(db, &repository, &digest, size, session.as_ref(), until)
        };
        self.writer.run(job).await
    }

    async fn drop_upload(&self, id: &UploadId) -> Result<bool> {
        let id = id.clone();
        let job = move |db: &_| write::drop_upload(db, &id);
        self.writer.run(job).await
    }

    async fn mount(&self, from: &Repository, to: &Repository, digest: &Digest) -> Result<bool> {
        let (from, to, digest) = (from.clone(), to.clone(), digest.clone());
        let until = self.until();
        let job = move |db: &_| write::mount(db, &from, &to, &digest, until);
        self.writer.run(job).await
    }

    async fn put_manifest(&self, new: NewManifest) -> Result<PutManifest> {
        let until = self.until();
        let job = move |db: &_| write::put_manifest(db, &new, until);
        self.writer.run(job).await
    }

    async fn delete_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        condition: &Condition,
    ) -> Result<DeleteManifest> {
        let (repository, reference) = (repository.clone(), reference.clone());
        let condition = condition.clone();
        let until = self.until();
        let job =
            move |db: &_| write::delete_manifest(db, &repository, &reference, &condition, until);
        self.writer.run(job).await
    }

    async fn unlink_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool> {
        let (repository, digest) = (repository.clone(), digest.clone());
        let job = move |db: &_| write::unlink_blob(db, &repository, &digest);
        self.writer.run(job).await
    }

    async fn expired_uploads(&self, time: i64, limit: usize) -> Result<Vec<UploadId>> {
        let job = move |db: &_| read::expired_uploads(db, time, limit);
        self.readers.run(job).await
    }

    async fn expire_upload(&self, id: &UploadId, time: i64) -> Result<bool> {
        let id = id.clone();
        let job = move |db: &_| write::expire_upload(db, &id, time);
        self.writer.run(job).await
    }

    async fn totals(&self) -> Result<Totals> {
        self.readers.look_up(read::totals).await
    }

    async fn probe(&self) -> Result<()> {
        self.writer.run(write::probe).await
    }

    fn is_alive(&self) -> bool {
        self.writer.is_alive()
    }

    async fn upload_ids(&self) -> Result<Vec<UploadId>> {
        self.readers.run(read::upload_ids).await
    }

    async fn collect(&self, time: i64, limit: usize) -> Result<Collected> {
        let job = move |db: &_| collect::collect(db, time, limit);
        self.writer.run(job).await
    }

    async fn collect_repositories(&self, after: i64, limit: usize) -> Result<(u64, Option<i64>)> {
        let job = move |db: &_| collect::collect_repositories(db, after, limit);
        self.writer.run(job).await
    }

    async fn unnamed(&self, digests: Vec<Digest>) -> Result<Vec<Digest>> {
        let job = move |db: &_| read::unnamed(db, digests);
        self.readers.run(job).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn sqlite_is_a_meta_store() {
        let dir = tempfile::tempdir().expect("tempdir");
        let stored = |name: &str, grace| {
            let grace = Box::new(move || grace);
            Sqlite::open(&dir.path().join(name), grace).expect("open")
        };
        let hour = Duration::from_secs(3600);
        crate::meta::collection::check(|grace| stored("collection.db", grace)).await;
        let make = || stored("stratad.db", hour);
        crate::meta::suite::check(make).await;
        let told = make().totals().await.expect("totals");
        let db = open::reader(&dir.path().join("stratad.db")).expect("open");
        let count = |sql: &str| {
            let number: i64 = db.query_row(sql, [], |row| row.get(0)).expect(sql);
            u64::try_from(number).expect("no less than nothing")
        };
        let counted = Totals {
            repositories: count("SELECT count(*) FROM repository"),
            manifests: count("SELECT count(*) FROM manifest"),
            manifest_bytes: count("SELECT sum(length(bytes)) FROM manifest_content"),
            tags: count("SELECT count(*) FROM tag"),
            blobs: count("SELECT count(*) FROM blob"),
            blob_bytes: count("SELECT sum(size) FROM blob"),
            links: count("SELECT count(*) FROM repository_blob"),
            linked_bytes: count(
                "SELECT sum(size) FROM repository_blob l JOIN blob b ON b.id = l.blob_id",
            ),
            uploads: count("SELECT count(*) FROM upload"),
        };
        assert_eq!(told, counted, "after all that the suite has done");
        assert!(told.blobs > 0 && told.manifests > 0, "{told:?}");
    }

    #[tokio::test]
    async fn a_probe_is_a_write() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("stratad.db");
        let store = Sqlite::open(&path, Box::new(|| Duration::ZERO)).expect("open");
        let before = super::super::now();
        store.probe().await.expect("probe");
        let db = open::reader(&path).expect("open");
        let sql = "SELECT probed_at FROM probe";
        let probed: i64 = db.query_row(sql, [], |row| row.get(0)).expect(sql);
        assert!(probed >= before && store.is_alive());
        // Whoever waits for a commit is told of it before it is counted.
        for _ in 0..1000 {
            if store.metrics().commits.count() == 1 {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{} commits", store.metrics().commits.count());
    }
}
