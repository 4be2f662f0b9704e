//! Telling a connection that has all but stopped from one that is merely slow: by what it brings, not
//! by silence alone. A stalled connection may trickle for hours (containerd#12811), and another one to the same
//! host is as fast as ever.

use std::time::{Duration, Instant};

/// When a connection counts as stalled. It is looked at each time that `over` has gone by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Bytes a second: below that it is stalled whatever it was before.
    pub least: u64,
    /// Bytes a second: below that it is stalled if it has been twenty times as fast.
    pub low: u64,
    /// The time over which it is measured.
    pub over: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            least: 1024,
            low: 64 * 1024,
            over: Duration::from_secs(15),
        }
    }
}

/// How many times slower than at its best a stalled connection is.
const COLLAPSE: f64 = 20.0;

/// What one connection has brought.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    pace: Pace,
    since: Instant,
    bytes: u64,
    /// Bytes a second in its best window.
    best: f64,
}

impl Watch {
    pub(crate) fn new(pace: Pace, now: Instant) -> Self {
        Self {
            pace,
            since: now,
            bytes: 0,
            best: 0.0,
        }
    }

    /// Takes note of `bytes` more; `true`: it has stalled.
    pub(crate) fn stalled(&mut self, bytes: u64, now: Instant) -> bool {
        self.bytes += bytes;
        let passed = now.saturating_duration_since(self.since);
        if passed < self.pace.over {
            return false;
        }
        let rate = self.bytes as f64 / passed.as_secs_f64();
        let collapsed = rate < self.pace.low as f64 && rate * COLLAPSE < self.best;
        let stalled = rate < self.pace.least as f64 || collapsed;
        self.best = self.best.max(rate);
        (self.since, self.bytes) = (now, 0);
        stalled
    }

    /// For so long nobody asked for more: what did not come meanwhile is not the connection's fault.
    pub(crate) fn paused(&mut self, time: Duration) {
        self.since += time;
    }

    /// When there has to have been enough.
    pub(crate) fn left(&self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.since);
        self.pace.over.saturating_sub(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a connection of these rates (bytes a second, each for one window) has stalled, and when.
    fn stalls(rates: &[u64]) -> Option<usize> {
        let pace = Pace::default();
        let mut now = Instant::now();
        let mut watch = Watch::new(pace, now);
        let mut windows = rates.iter();
        windows.position(|rate| {
            let half = pace.over / 2;
            let bytes = (*rate as f64 * half.as_secs_f64()) as u64;
            now += half;
            let early = watch.stalled(bytes, now);
            now += half;
            watch.stalled(bytes, now) || early
        })
    }

    #[test]
    fn slow_is_not_stalled() {
        assert_eq!(stalls(&[5_000; 20]), None);
        assert_eq!(stalls(&[1_000_000, 100_000, 60_000]), None);
    }

    #[test]
    fn whoever_was_not_asked_is_not_late() {
        let pace = Pace::default();
        let now = Instant::now();
        let mut watch = Watch::new(pace, now);
        watch.paused(pace.over * 4);
        assert!(!watch.stalled(100, now + pace.over * 4));
        assert!(watch.stalled(100, now + pace.over * 5));
    }

    #[test]
    fn next_to_nothing_is() {
        assert_eq!(stalls(&[5_000, 900]), Some(1));
        assert_eq!(stalls(&[0]), Some(0));
    }

    #[test]
    fn a_twentieth_of_its_best_is() {
        assert_eq!(stalls(&[10_000_000, 10_000_000, 60_000]), Some(2));
        assert_eq!(stalls(&[10_000_000, 100_000, 60_000]), Some(2));
    }
}
