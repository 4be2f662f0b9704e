//! What collection has done since the start, for whoever shows it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }
}

/// All of them. What is counted as removed is gone, not only to be removed.
#[derive(Debug, Default)]
pub struct Counters {
    /// Passes that came to their end.
    pub passes: Counter,
    /// Steps that failed; the next pass tries them again.
    pub failures: Counter,
    /// Microseconds that passes took.
    pub micros: Counter,
    /// Upload sessions that expired.
    pub sessions: Counter,
    /// Links from a repository to a blob.
    pub links: Counter,
    /// Repositories that held nothing.
    pub repositories: Counter,
    /// Blobs that nothing linked, from the database.
    pub blobs: Counter,
    /// Blobs from the disk, those included that had no row.
    pub files: Counter,
    /// Their bytes, if no other name keeps them.
    pub bytes: Counter,
}

impl Counters {
    pub(super) fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.micros.add(micros);
        self.passes.add(1);
    }
}
