//! Writing to disk while the bytes still arrive.
//!
//! The kernel keeps what is written in memory for up to half a minute, longer than most pulls take,
//! so the disk would idle during the pull and everything would wait for it at the end. It also
//! means that a power cut takes a longer part of an interrupted download with it.
//!
//! A round makes the file system write its journal too, so rounds are few while much is still to come, and follow each
//! other the faster the nearer the end is: what the last sync has left to do is what everything waits for.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::progress::{Event, Progress};

/// The shortest and the longest time between two rounds.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_millis(500);
/// How often is looked how much is to come.
const LOOK: Duration = Duration::from_millis(50);

/// Writes back now and then, on a thread of its own, until it is dropped.
pub(super) struct Writeback {
    _running: Sender<()>,
}

impl Writeback {
    /// Begins for the file system of `root`. A help and no promise: where no thread can be had, or
    /// a round fails, the sync that comes before publication tells.
    pub(super) fn begin(root: &Path, arrival: Arc<Arrival>) -> Self {
        let (running, stopped) = channel();
        if let Ok(root) = File::open(root) {
            let work = move || {
                let began = Instant::now();
                let (mut round, mut took) = (began, Duration::ZERO);
                while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                    let left = arrival.time_left(began.elapsed());
                    if round.elapsed() < pause(left, took) {
                        continue;
                    }
                    let begins = Instant::now();
                    if rustix::fs::syncfs(&root).is_err() {
                        return;
                    }
                    (round, took) = (Instant::now(), begins.elapsed());
                }
            };
            let named = thread::Builder::new().name("writeback".to_owned());
            let _ = named.spawn(work);
        }
        Self { _running: running }
    }
}

/// The time between two rounds, when everything will be here in `left` (none: nobody knows) and the last one `took`
/// so long.
fn pause(left: Option<Duration>, took: Duration) -> Duration {
    let pause = left.map_or(LONGEST, |left| left / 2);
    // A slow disk is not kept from other work.
    pause.clamp(SHORTEST, LONGEST).max(took)
}

/// How much of what is to come has come.
pub(super) struct Arrival {
    total: u64,
    /// By item.
    here: Vec<AtomicU64>,
}

impl Arrival {
    /// Of so many items, `total` bytes of which are to come.
    pub(super) fn new(items: usize, total: u64) -> Self {
        let here = (0..items).map(|_| AtomicU64::new(0)).collect();
        Self { total, here }
    }

    /// How long it takes until the rest is here too, if it goes on as it did.
    fn time_left(&self, since: Duration) -> Option<Duration> {
        let here: u64 = self.here.iter().map(|n| n.load(Ordering::Relaxed)).sum();
        let rate = here as f64 / since.as_secs_f64();
        let left = self.total.saturating_sub(here) as f64 / rate;
        Duration::try_from_secs_f64(left).ok()
    }
}

/// Takes note of what arrives, and passes all on to who shows it.
pub(super) struct Watched {
    pub(super) shown: Arc<dyn Progress>,
    pub(super) arrival: Arc<Arrival>,
}

impl Progress for Watched {
    fn event(&self, event: Event) {
        if let Event::Resumed { item, bytes } | Event::Moved { item, bytes } = event
            && let Some(here) = self.arrival.here.get(item)
        {
            here.store(bytes, Ordering::Relaxed);
        }
        self.shown.event(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Recording;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn rounds_come_closer_towards_the_end_and_leave_a_slow_disk_to_others() {
        assert_eq!(pause(None, ms(0)), LONGEST);
        assert_eq!(pause(Some(ms(60_000)), ms(0)), LONGEST);
        assert_eq!(pause(Some(ms(400)), ms(0)), ms(200));
        assert_eq!(pause(Some(ms(0)), ms(0)), SHORTEST);
        assert_eq!(pause(Some(ms(0)), ms(3_000)), ms(3_000));
    }

    #[test]
    fn the_time_left_follows_from_what_has_come_of_all_items() {
        let arrival = Arc::new(Arrival::new(3, 1_000));
        let shown = Arc::new(Recording::default());
        let watched = Watched {
            shown: shown.clone(),
            arrival: arrival.clone(),
        };
        let moved = |item, bytes| Event::Moved { item, bytes };
        assert_eq!(arrival.time_left(ms(100)), None);
        watched.event(Event::Resumed { item: 0, bytes: 50 });
        watched.event(moved(0, 100));
        watched.event(moved(2, 100));
        watched.event(moved(7, 100));
        assert_eq!(arrival.time_left(ms(100)), Some(ms(400)));
        watched.event(moved(1, 800));
        assert_eq!(arrival.time_left(ms(200)), Some(ms(0)));
        assert_eq!(shown.events().len(), 5);
    }
}
