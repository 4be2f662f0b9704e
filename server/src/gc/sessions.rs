//! Uploads that nobody goes on with.

use std::collections::HashSet;

use crate::app::{App, OpenError};
use crate::error::Error;
use crate::meta::now;

/// Sessions ended in one go.
const BATCH: usize = 100;

/// At start: removes staged files that no session names. A crash leaves them between the end of a
/// session and the removal of its bytes, and in uploads of one request. Later this is not possible: a
/// file without a session may be such an upload.
pub(crate) async fn orphans(app: &App) -> Result<(), OpenError> {
    let known: HashSet<_> = app.meta.upload_ids().await?.into_iter().collect();
    for id in app.blobs.staged().await? {
        if !known.contains(&id) {
            app.blobs.abort(&id).await?;
        }
    }
    Ok(())
}

/// Ends sessions that have expired; whether there may be more.
pub(super) async fn expired(app: &App) -> Result<bool, Error> {
    let time = now();
    let found = app.meta.expired_uploads(time, BATCH).await?;
    let full = found.len() == BATCH;
    let mut ended = 0;
    for id in found {
        // One that is being written to is alive.
        let Some(_claim) = app.claims.take(&id) else {
            continue;
        };
        // The row leaves before the bytes; unless it was gone on with since it was found.
        if app.meta.expire_upload(&id, time).await? {
            app.blobs.abort(&id).await?;
            ended += 1;
        }
    }
    app.gc.counters.sessions.add(ended);
    Ok(full && ended > 0)
}
