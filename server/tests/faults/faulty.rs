//! Stores that fail when they are told to: at one step of many, before it is done or after.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use strata_oci::{Digest, Digester, Repository};
use stratad::blob::{Appended, BlobContent, BlobError, BlobStore, ByteStream};
use stratad::condition::Condition;
use stratad::meta::{
    Collected, DeleteManifest, Listed, MetaError, MetaStore, NewManifest, Page, PutManifest,
    Referrer, StoredManifest, Totals,
};
use stratad::route::Reference;
use stratad::upload::{Position, Upload, UploadId};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// ENOSPC.
    Full,
    /// EIO.
    Broken,
    /// EROFS.
    ReadOnly,
    /// A failed fsync: only bytes know it, for rows it is [`Fault::Broken`].
    Unsynced,
}

/// Whether a step that fails was done all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Before,
    After,
}

/// What collection does in the background is no step of a client's.
const COLLECTION: [&str; 5] = [
    "list",
    "unnamed",
    "collect",
    "collect_repositories",
    "expired_uploads",
];

/// The plan that both stores follow.
#[derive(Default)]
pub(super) struct Faults(Mutex<Plan>);

#[derive(Default)]
struct Plan {
    steps: usize,
    fails: Option<(usize, Fault, When)>,
    failed: Option<&'static str>,
}

impl Faults {
    /// From now on the step of this number fails, counted from 0.
    pub(super) fn plan(&self, step: usize, fault: Fault, when: When) {
        *self.0.lock().expect("plan") = Plan {
            fails: Some((step, fault, when)),
            ..Plan::default()
        };
    }

    /// From now on nothing fails; what has failed, if anything has.
    pub(super) fn end(&self) -> Option<&'static str> {
        std::mem::take(&mut *self.0.lock().expect("plan")).failed
    }

    fn step(&self, name: &'static str) -> Option<(Fault, When)> {
        if COLLECTION.contains(&name) {
            return None;
        }
        let mut plan = self.0.lock().expect("plan");
        let number = plan.steps;
        plan.steps += 1;
        let (step, fault, when) = plan.fails?;
        (step == number).then(|| {
            plan.failed = Some(name);
            (fault, when)
        })
    }

    async fn around<T, E: From<Injected>>(
        &self,
        name: &'static str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        match self.step(name) {
            Some((fault, When::Before)) => Err(Injected(fault).into()),
            Some((fault, When::After)) => {
                drop(work.await);
                Err(Injected(fault).into())
            }
            None => work.await,
        }
    }
}

struct Injected(Fault);

impl Injected {
    fn error(&self) -> io::Error {
        match self.0 {
            Fault::Full => io::ErrorKind::StorageFull.into(),
            Fault::ReadOnly => io::ErrorKind::ReadOnlyFilesystem.into(),
            Fault::Broken | Fault::Unsynced => io::Error::other("injected"),
        }
    }
}

impl From<Injected> for BlobError {
    fn from(injected: Injected) -> Self {
        let source = injected.error();
        let path = "injected".into();
        match injected.0 {
            Fault::Full => Self::Full(source),
            Fault::Unsynced => Self::Unsynced { path, source },
            Fault::Broken | Fault::ReadOnly => Self::Io {
                action: "cannot work on",
                path,
                source,
            },
        }
    }
}

impl From<Injected> for MetaError {
    fn from(injected: Injected) -> Self {
        let source = injected.error().into();
        match injected.0 {
            Fault::Full => Self::Full(source),
            Fault::ReadOnly => Self::ReadOnly(source),
            Fault::Broken | Fault::Unsynced => Self::Failed(source),
        }
    }
}

type Blob<T> = Result<T, BlobError>;
type Meta<T> = Result<T, MetaError>;

/// A store between the server and its own.
pub(super) struct Faulty<S> {
    pub(super) inner: S,
    pub(super) faults: Arc<Faults>,
}

/// Passes each method on, as one step; what is in braces is taken as it is.
macro_rules! faulty {
    ($store:ident { $($rest:tt)* } $(fn $name:ident($($argument:ident: $type:ty),*) -> $output:ty;)*) => {
        #[async_trait]
        impl<S: $store> $store for Faulty<S> {
            $(async fn $name(&self, $($argument: $type),*) -> $output {
                let work = self.inner.$name($($argument),*);
                self.faults.around(stringify!($name), work).await
            })*

            $($rest)*
        }
    };
}

faulty! { BlobStore {}
    fn read(digest: &Digest) -> Blob<Option<BlobContent>>;
    fn append(id: &UploadId, position: Position, body: ByteStream) -> Blob<Appended>;
    fn rehash(id: &UploadId, size: u64, digester: Digester) -> Blob<Digest>;
    fn commit(id: &UploadId, size: u64, digest: &Digest, keep: bool) -> Blob<()>;
    fn delete(digest: &Digest) -> Blob<Option<u64>>;
    fn list(shard: u8) -> Blob<Vec<Digest>>;
    fn abort(id: &UploadId) -> Blob<()>;
    fn staged() -> Blob<Vec<UploadId>>;
}

faulty! { MetaStore {
    fn is_alive(&self) -> bool {
        self.inner.is_alive()
    }
}
    fn blob(repository: &Repository, digest: &Digest) -> Meta<Option<u64>>;
    fn hold_blob(repository: &Repository, digest: &Digest) -> Meta<Option<u64>>;
    fn manifest(repository: &Repository, reference: &Reference) -> Meta<Option<StoredManifest>>;
    fn manifest_head(repository: &Repository, reference: &Reference) -> Meta<Option<StoredManifest>>;
    fn tags(repository: &Repository, page: &Page) -> Meta<Option<Listed<String>>>;
    fn repositories(page: &Page) -> Meta<Listed<String>>;
    fn referrers(repository: &Repository, subject: &Digest, artifact_type: Option<&str>, page: &Page) -> Meta<Listed<Referrer>>;
    fn holders(digest: &Digest, limit: usize) -> Meta<Vec<Repository>>;
    fn start_upload(upload: &Upload, expires_at: i64) -> Meta<()>;
    fn upload(id: &UploadId, repository: &Repository, owner: &str) -> Meta<Option<Upload>>;
    fn advance_upload(id: &UploadId, from: u64, to: &Position, expires_at: i64) -> Meta<bool>;
    fn finish_upload(repository: &Repository, digest: &Digest, size: u64, session: Option<&UploadId>) -> Meta<()>;
    fn drop_upload(id: &UploadId) -> Meta<bool>;
    fn mount(from: &Repository, to: &Repository, digest: &Digest) -> Meta<bool>;
    fn put_manifest(new: NewManifest) -> Meta<PutManifest>;
    fn delete_manifest(repository: &Repository, reference: &Reference, condition: &Condition) -> Meta<DeleteManifest>;
    fn unlink_blob(repository: &Repository, digest: &Digest) -> Meta<bool>;
    fn expired_uploads(time: i64, limit: usize) -> Meta<Vec<UploadId>>;
    fn expire_upload(id: &UploadId, time: i64) -> Meta<bool>;
    fn upload_ids() -> Meta<Vec<UploadId>>;
    fn totals() -> Meta<Totals>;
    fn probe() -> Meta<()>;
    fn collect(time: i64, limit: usize) -> Meta<Collected>;
    fn collect_repositories(after: i64, limit: usize) -> Meta<(u64, Option<i64>)>;
    fn unnamed(digests: Vec<Digest>) -> Meta<Vec<Digest>>;
}
