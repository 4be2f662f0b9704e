//! Garbage collection, while everything else goes on.
//!
//! What nobody needs any more: upload sessions that have expired; links from a repository to a blob that none
//! of its manifests names; blobs that no repository links; bytes that no row names; repositories that
//! hold nothing. Manifests stay, also those without a tag: to forget them is a decision, not collection.
//!
//! Rows leave before their bytes, and whether a row may leave is decided in the transaction that takes it
//! away. A lease ([`crate::meta::Grace`]) covers the time in which a client knows of a blob but has
//! not named it yet. What could race:
//!
//! - *A push sends a blob, its manifest comes later.* The link is leased when the blob comes, again when it
//!   comes again. The manifest's transaction finds the link, and from then on the manifest protects it; or it does not,
//!   and the client is told which blobs are missing, and nothing was acknowledged that is not there.
//! - *A client asks whether a blob is there (HEAD), and does not send it.* The answer renews a lease that is
//!   in its second half. A link that rests because a manifest names it has no lease; when that manifest is deleted,
//!   the deletion gives it a whole one, so it outlives every answer that was given before.
//! - *A mount.* One transaction sees the source's link and leases the target's. A blob goes only when nothing
//!   links it, so it does not matter whether the source's link goes then.
//! - *A deletion.* It only allows a later look; what else names a blob is asked then.
//! - *Bytes are removed while the same content is pushed.* A push pins its digest from before it gives the bytes their
//!   name until its row is durable; a removal bars it, then looks for a row, then unlinks ([`Pins`]).
//!   If the push comes first the removal finds the pin or the row, if the removal comes first the push waits and
//!   gives the name to its own bytes.
//! - *A blob is read while it is removed.* A file that is open stays whole; one that is gone by then is
//!   answered like one that was gone before.
//! - *A session expires while it is written to.* Both take the session's claim first.
//! - *A crash anywhere.* Between a row and its bytes there are only bytes without a row, never the reverse:
//!   a search finds them after a start, and from time to time.

mod bytes;
mod counters;
mod pins;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::app::App;
use crate::error::Error;
use crate::meta::now;

pub use counters::{Counter, Counters};
pub use pins::{Bar, Pin, Pins};
pub(crate) use sessions::orphans;

/// Rows looked at in one transaction: pushes wait no longer than that takes.
const BATCH: usize = 250;

/// Repositories looked at in one pass.
const REPOSITORIES: usize = 1000;

/// Of 256 shards so many are searched for bytes without a row in one pass; all of them in the first.
const SHARDS: usize = 8;

/// What collection shares with those who serve.
#[derive(Debug, Default)]
pub struct Gc {
    /// Digests whose bytes are about to get a row, or to be removed.
    pub pins: Pins,
    /// What was done so far.
    pub counters: Counters,
}

/// Asks collection to end: between two steps, never within one.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// With the sender that sets it.
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits; `true` when it was set meanwhile.
    async fn within(&mut self, time: Duration) -> bool {
        timeout(time, self.0.wait_for(|set| *set)).await.is_ok()
    }
}

/// Where the next pass goes on.
#[derive(Debug, Default)]
pub struct Collector {
    repository: i64,
    shard: u8,
    begun: bool,
}

/// Collects until it is asked to stop.
pub async fn forever(app: Arc<App>, mut stop: Stop) {
    let mut collector = Collector::default();
    loop {
        collector.pass(&app, &stop).await;
        if stop.within(app.config.now().gc.interval).await {
            return;
        }
    }
}

impl Collector {
    /// Looks once at everything that may have come out of use.
    pub async fn pass(&mut self, app: &App, stop: &Stop) {
        let begun = Instant::now();
        let counters = &app.gc.counters;
        let before = (
            counters.sessions.get(),
            counters.files.get(),
            counters.bytes.get(),
        );
        let steps = [
            sessions(app, stop).await,
            rows(app, stop).await,
            self.repositories(app).await,
            self.orphans(app, stop).await,
        ];
        for error in steps.into_iter().filter_map(Result::err) {
            counters.failures.add(1);
            tracing::error!("garbage collection cannot go on for now: {error}");
        }
        counters.took(begun.elapsed());
        let sessions = counters.sessions.get() - before.0;
        let (blobs, bytes) = (
            counters.files.get() - before.1,
            counters.bytes.get() - before.2,
        );
        if sessions + blobs > 0 {
            let seconds = begun.elapsed().as_secs_f64();
            tracing::info!(sessions, blobs, bytes, seconds, "garbage collected");
        }
    }

    async fn repositories(&mut self, app: &App) -> Result<(), Error> {
        let collected = app.meta.collect_repositories(self.repository, REPOSITORIES);
        let (gone, next) = collected.await?;
        app.gc.counters.repositories.add(gone);
        self.repository = next.unwrap_or(0);
        Ok(())
    }

    async fn orphans(&mut self, app: &App, stop: &Stop) -> Result<(), Error> {
        let count = if self.begun { SHARDS } else { 256 };
        self.begun = true;
        let searched = bytes::orphans(app, self.shard, count, stop).await;
        let (next, outcome) = match searched {
            Ok(next) => (next, Ok(())),
            Err((next, error)) => (next, Err(error)),
        };
        self.shard = next;
        outcome
    }
}

async fn sessions(app: &App, stop: &Stop) -> Result<(), Error> {
    while !stop.is_set() && sessions::expired(app).await? {}
    Ok(())
}

/// Links and blobs, then the bytes of those that have gone.
async fn rows(app: &App, stop: &Stop) -> Result<(), Error> {
    // What comes out of use from here on waits for the next pass.
    let time = now();
    while !stop.is_set() {
        let collected = app.meta.collect(time, BATCH).await?;
        app.gc.counters.links.add(collected.links);
        app.gc.counters.blobs.add(collected.blobs.len() as u64);
        bytes::remove(app, collected.blobs).await?;
        if !collected.more {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
