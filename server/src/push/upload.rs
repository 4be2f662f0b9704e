//! Uploads: from the first byte to a blob.
//!
//! What writes runs in a task of its own: when a client goes away in the middle, the task still records
//! how far it came, and the client can ask and go on.

use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use strata_oci::{Algorithm, Digest, Digester, Repository};
use tokio::time::{Instant, sleep};

use crate::app::App;
use crate::auth::Grant;
use crate::blob::{BlobError, ByteStream};
use crate::error::Error;
use crate::meta::now;
use crate::upload::{Claim, Position, Upload, UploadId};

/// How long a request waits for another one that writes to the same session: a client whose connection broke
/// may come back before the server has noticed.
const BUSY: Duration = Duration::from_secs(5);

/// Begins a session.
pub async fn start(
    app: &App,
    grant: &Grant,
    repository: Repository,
    algorithm: Algorithm,
) -> Result<UploadId, Error> {
    let upload = Upload {
        id: UploadId::random(),
        repository,
        owner: grant.principal().name().to_owned(),
        position: beginning(algorithm),
    };
    app.meta.start_upload(&upload, expiry(app)).await?;
    Ok(upload.id)
}

/// How many bytes a session has received.
pub async fn status(
    app: &App,
    grant: &Grant,
    repository: &Repository,
    id: &UploadId,
) -> Result<u64, Error> {
    let upload = find(app, grant, repository, id).await?;
    Ok(upload.position.offset)
}

/// Ends a session without a blob.
pub async fn cancel(
    app: &App,
    grant: &Grant,
    repository: &Repository,
    id: &UploadId,
) -> Result<(), Error> {
    let _claim = claim(app, id).await?;
    find(app, grant, repository, id).await?;
    discard(app, id).await
}

/// Appends a chunk; `range` is where the client says that it belongs. Returns how many bytes there are now.
pub async fn append(
    app: Arc<App>,
    grant: &Grant,
    repository: &Repository,
    id: &UploadId,
    range: Option<RangeInclusive<u64>>,
    body: ByteStream,
) -> Result<u64, Error> {
    let claim = claim(&app, id).await?;
    let upload = find(&app, grant, repository, id).await?;
    check_start(&upload, range.as_ref())?;
    to_its_end(&Arc::clone(&app), async move {
        let position = receive(&app, &upload, range, body).await?;
        record(&app, &upload, &position).await?;
        drop(claim);
        Ok(position.offset)
    })
    .await
}

/// Appends the last chunk, if there is one, and makes the whole a blob of the repository.
pub async fn finish(
    app: Arc<App>,
    grant: &Grant,
    repository: &Repository,
    id: &UploadId,
    digest: Digest,
    range: Option<RangeInclusive<u64>>,
    body: ByteStream,
) -> Result<Digest, Error> {
    let claim = claim(&app, id).await?;
    let upload = find(&app, grant, repository, id).await?;
    check_start(&upload, range.as_ref())?;
    to_its_end(&Arc::clone(&app), async move {
        let position = receive(&app, &upload, range, body).await?;
        let stored = store(&app, &upload, position, &digest, true).await;
        drop(claim);
        stored.map(|()| digest)
    })
    .await
}

/// A whole blob in one request, without a session.
pub async fn put_blob(
    app: Arc<App>,
    grant: &Grant,
    repository: Repository,
    digest: Digest,
    body: ByteStream,
) -> Result<Digest, Error> {
    let upload = Upload {
        id: UploadId::random(),
        repository,
        owner: grant.principal().name().to_owned(),
        position: beginning(digest.algorithm()),
    };
    to_its_end(&Arc::clone(&app), async move {
        let stored = async {
            let start = upload.position.clone();
            let appended = app.blobs.append(&upload.id, start, body).await?;
            match appended.interrupted {
                Some(error) => Err(Error::Interrupted(error)),
                None => store(&app, &upload, appended.position, &digest, false).await,
            }
        };
        let stored = stored.await;
        if stored.is_err() {
            free(&app, &upload.id).await;
        }
        stored.map(|()| digest)
    })
    .await
}

fn beginning(algorithm: Algorithm) -> Position {
    Position {
        offset: 0,
        digester: Digester::new(algorithm),
    }
}

fn expiry(app: &App) -> i64 {
    let life = app.config.now().limits.upload_life.as_secs();
    now().saturating_add(i64::try_from(life).unwrap_or(i64::MAX))
}

/// Runs `work` in a task that the client's going away does not end, and that the server's end waits for.
async fn to_its_end<T: Send + 'static>(
    app: &App,
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let busy = app.busy();
    let task = tokio::spawn(async move {
        let outcome = work.await;
        drop(busy);
        outcome
    });
    match task.await {
        Ok(outcome) => outcome,
        Err(error) => Err(Error::Interrupted(error.into())),
    }
}

async fn claim(app: &App, id: &UploadId) -> Result<Claim, Error> {
    let until = Instant::now() + BUSY;
    loop {
        match app.claims.take(id) {
            Some(claim) => return Ok(claim),
            None if Instant::now() >= until => return Err(Error::UploadBusy),
            None => sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn find(
    app: &App,
    grant: &Grant,
    repository: &Repository,
    id: &UploadId,
) -> Result<Upload, Error> {
    let owner = grant.principal().name();
    let found = app.meta.upload(id, repository, owner).await?;
    found.ok_or(Error::UploadUnknown)
}

fn check_start(upload: &Upload, range: Option<&RangeInclusive<u64>>) -> Result<(), Error> {
    let expected = upload.position.offset;
    match range.map(|range| *range.start()) {
        Some(start) if start != expected => Err(Error::OutOfOrder { start, expected }),
        _ => Ok(()),
    }
}

/// Takes the body in. What a broken connection brought is recorded; what does not fit its range is not.
async fn receive(
    app: &App,
    upload: &Upload,
    range: Option<RangeInclusive<u64>>,
    body: ByteStream,
) -> Result<Position, Error> {
    let start = upload.position.clone();
    let expected = range.map(|range| range.end() - range.start() + 1);
    let body = match expected {
        // One byte too many is enough to know.
        Some(expected) => at_most(body, expected.saturating_add(1)),
        None => body,
    };
    let appended = match app.blobs.append(&upload.id, start, body).await {
        Err(BlobError::Lost(_)) => {
            discard(app, &upload.id).await?;
            return Err(Error::UploadUnknown);
        }
        Err(error) => return Err(failed(app, &upload.id, error).await),
        Ok(appended) => appended,
    };
    let actual = appended.position.offset - upload.position.offset;
    match (appended.interrupted, expected) {
        (None, Some(expected)) if actual != expected => Err(Error::ChunkSize { expected, actual }),
        (None, _) => Ok(appended.position),
        (Some(error), expected) => {
            if expected.is_none_or(|expected| actual <= expected) {
                record(app, upload, &appended.position).await?;
            }
            Err(Error::Interrupted(error))
        }
    }
}

/// The first `limit` bytes of a body.
fn at_most(body: ByteStream, limit: u64) -> ByteStream {
    Box::pin(body.scan(limit, |left, item| {
        let item = match item {
            Ok(_) if *left == 0 => None,
            Ok(mut bytes) => {
                bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= bytes.len() as u64;
                Some(Ok(bytes))
            }
            Err(error) => Some(Err(error)),
        };
        std::future::ready(item)
    }))
}

async fn record(app: &App, upload: &Upload, position: &Position) -> Result<(), Error> {
    let (id, from) = (&upload.id, upload.position.offset);
    let advance = app.meta.advance_upload(id, from, position, expiry(app));
    if advance.await? {
        Ok(())
    } else {
        // It was cancelled, or it has expired, while it was written to.
        app.blobs.abort(id).await?;
        Err(Error::UploadUnknown)
    }
}

/// Compares the digest and makes the staged bytes a blob.
async fn store(
    app: &App,
    upload: &Upload,
    position: Position,
    digest: &Digest,
    has_session: bool,
) -> Result<(), Error> {
    let (id, size) = (&upload.id, position.offset);
    let actual = if digest.algorithm() == position.digester.algorithm() {
        position.digester.finish()
    } else {
        // A client names its algorithm only when it closes the upload.
        let digester = Digester::new(digest.algorithm());
        app.blobs.rehash(id, size, digester).await?
    };
    if actual != *digest {
        // Its bytes are wrong whatever comes after them.
        discard(app, id).await?;
        let expected = digest.clone();
        return Err(Error::DigestMismatch { expected, actual });
    }
    // Between the bytes and their row nothing may take the bytes for garbage.
    let pin = app.gc.pins.pin(digest).await;
    if let Err(error) = app.blobs.commit(id, size, digest, has_session).await {
        return Err(failed(app, id, error).await);
    }
    let session = has_session.then_some(id);
    let finish = app
        .meta
        .finish_upload(&upload.repository, digest, size, session);
    finish.await?;
    drop(pin);
    // Until here the session could have gone on, also after a crash.
    if has_session {
        free(app, id).await;
    }
    Ok(())
}

/// After a failed fsync nobody can tell what is on the disk: the session ends, its client begins anew.
async fn failed(app: &App, id: &UploadId, error: BlobError) -> Error {
    if matches!(error, BlobError::Unsynced { .. }) {
        // The bytes first: without them the session cannot go on, even if its row cannot be removed.
        free(app, id).await;
        if let Err(again) = app.meta.drop_upload(id).await {
            tracing::warn!("cannot end the upload {id}, which may have lost bytes: {again}");
        }
    }
    error.into()
}

/// Frees staged bytes that nobody will ask for; those that cannot be are removed by the next start.
async fn free(app: &App, id: &UploadId) {
    if let Err(error) = app.blobs.abort(id).await {
        tracing::warn!("cannot free the staged upload {id}: {error}");
    }
}

/// Forgets a session, then frees its bytes.
async fn discard(app: &App, id: &UploadId) -> Result<(), Error> {
    app.meta.drop_upload(id).await?;
    Ok(app.blobs.abort(id).await?)
}
