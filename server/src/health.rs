//! Whether the server is alive, and whether it is ready to serve.
//!
//! Alive: it answers, and the thread that writes the database runs; if not, only a restart helps. Ready: a write reaches
//! the disk, the disk has room, and the server is not about to stop; if not, others should be asked
//! meanwhile, and it may become ready again by itself.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::app::App;

/// How long an answer about disk and database is good: whoever asks more often costs nothing.
const FRESH: Duration = Duration::from_secs(2);

/// How long disk and database may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Below this many free bytes the disk has no room; on a small disk, below a twentieth of it.
const ROOM: u64 = 64 * 1024 * 1024;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// What is wrong with it.
    pub failure: Option<String>,
}

/// What is remembered between two questions.
#[derive(Debug, Default)]
pub struct Health {
    draining: AtomicBool,
    probed: Mutex<Option<(Instant, Vec<Check>)>>,
}

impl Health {
    /// From now on the server is about to stop.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

/// Whether the server is alive.
pub fn live(app: &App) -> Vec<Check> {
    let alive = app.meta.is_alive();
    let failure = (!alive).then(|| "its thread has ended: restart the server".to_owned());
    vec![Check {
        name: "database",
        failure,
    }]
}

/// Whether the server is ready.
pub async fn ready(app: &App) -> Vec<Check> {
    let health = &app.health;
    let draining = health.draining.load(Ordering::Relaxed);
    let mut checks = vec![Check {
        name: "serving",
        failure: draining.then(|| "the server is stopping".to_owned()),
    }];
    // Whoever asks while another looks waits for the same answer.
    let mut probed = health.probed.lock().await;
    match &*probed {
        Some((when, found)) if when.elapsed() < FRESH => checks.extend_from_slice(found),
        _ => {
            let found = vec![database(app).await, disk(app).await];
            checks.extend_from_slice(&found);
            *probed = Some((Instant::now(), found));
        }
    }
    checks
}

async fn database(app: &App) -> Check {
    let failure = match timeout(PATIENCE, app.meta.probe()).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("a write has not ended for seconds".to_owned()),
    };
    Check {
        name: "database",
        failure,
    }
}

async fn disk(app: &App) -> Check {
    let data = app.config.now().storage.data.clone();
    let asked = tokio::task::spawn_blocking(move || Disk::of(&data));
    let failure = match timeout(PATIENCE, asked).await {
        Ok(Ok(Ok(disk))) => disk.failure(),
        Ok(Ok(Err(error))) => Some(format!("cannot be asked: {error}")),
        Ok(Err(error)) => Some(format!("cannot be asked: {error}")),
        Err(_) => Some("does not answer".to_owned()),
    };
    Check {
        name: "disk",
        failure,
    }
}

/// The file system that holds the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes of it.
    pub size: u64,
    /// Bytes that we may still use.
    pub free: u64,
    /// Whether there may be more files; some file systems have no bound.
    pub takes_files: bool,
}

impl Disk {
    /// The one that `path` is on.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        let told = rustix::fs::statvfs(path)?;
        Ok(Self {
            size: told.f_blocks.saturating_mul(told.f_frsize),
            free: told.f_bavail.saturating_mul(told.f_frsize),
            takes_files: told.f_files == 0 || told.f_favail > 0,
        })
    }

    fn failure(self) -> Option<String> {
        let Self { size, free, .. } = self;
        if free < ROOM.min(size / 20) {
            return Some(format!("is full: {free} of {size} bytes are free"));
        }
        let no_files = "is full: no more files can be made";
        (!self.takes_files).then(|| no_files.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_full_below_a_bound_that_fits_its_size() {
        let full = |size, free, takes_files| {
            let disk = Disk {
                size,
                free,
                takes_files,
            };
            disk.failure().is_some()
        };
        let (mega, tera) = (1 << 20, 1 << 40);
        assert!(full(tera, 63 * mega, true) && !full(tera, 65 * mega, true));
        assert!(full(20 * mega, mega - 1, true) && !full(20 * mega, mega, true));
        assert!(full(tera, tera / 2, false));
    }
}
