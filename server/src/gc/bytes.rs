//! Bytes that no row names: of rows that were collected, of a crash between the bytes of a push and
//! its row, of a push whose row could not be written.

use strata_oci::Digest;
use tokio::time::{Instant, sleep};

use super::Stop;
use crate::app::App;
use crate::error::Error;

/// The shards that the first byte of a digest can name.
const SHARDS: usize = 256;

/// Digests looked up in one go.
const BATCH: usize = 1000;

/// Removes the bytes of digests unless they have a row. Those that are being pushed at this moment are passed over:
/// they get one, or are found by [`orphans`] later.
pub(super) async fn remove(app: &App, digests: Vec<Digest>) -> Result<(), Error> {
    let mut outcome = Ok(());
    for digest in digests {
        // One that cannot be removed keeps no other.
        if let Err(error) = remove_one(app, digest).await {
            outcome = Err(error);
        }
    }
    outcome
}

async fn remove_one(app: &App, digest: Digest) -> Result<(), Error> {
    let Some(_bar) = app.gc.pins.bar(&digest) else {
        return Ok(());
    };
    // While it is barred no push can add the row between the lookup and the removal.
    if let Some(digest) = app.meta.unnamed(vec![digest]).await?.pop()
        && let Some(bytes) = app.blobs.delete(&digest).await?
    {
        app.gc.counters.files.add(1);
        app.gc.counters.bytes.add(bytes);
    }
    Ok(())
}

/// Looks for bytes without a row in `count` shards, from `from` on; where to go on the next time. Half of the time
/// it rests, so that a start with very many blobs leaves the disk to the clients.
pub(super) async fn orphans(
    app: &App,
    from: u8,
    count: usize,
    stop: &Stop,
) -> Result<u8, (u8, Error)> {
    let mut shard = from;
    for _ in 0..count.min(SHARDS) {
        let begun = Instant::now();
        let next = shard.wrapping_add(1);
        in_shard(app, shard).await.map_err(|error| (next, error))?;
        shard = next;
        if stop.is_set() {
            break;
        }
        sleep(begun.elapsed()).await;
    }
    Ok(shard)
}

async fn in_shard(app: &App, shard: u8) -> Result<(), Error> {
    let mut found = app.blobs.list(shard).await?;
    while !found.is_empty() {
        let batch = found.split_off(found.len().saturating_sub(BATCH));
        let unnamed = app.meta.unnamed(batch).await?;
        remove(app, unnamed).await?;
    }
    Ok(())
}
