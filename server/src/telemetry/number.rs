//! Numbers that requests move and a scrape reads. Each is a plain atomic: nobody waits for anybody.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    /// How many there were.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What comes and goes.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// One more.
    pub fn inc(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// One less.
    pub fn dec(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    /// How many there are.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Bounds for requests, in microseconds: from a manifest in the cache to a layer over a slow line.
pub(super) const REQUEST_BOUNDS: &[u64] = &[
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    1_000_000,
    5_000_000,
    30_000_000,
    120_000_000,
    600_000_000,
];

/// Bounds for the database, in microseconds: from a lookup to a commit on a disk that is busy.
pub(super) const DATABASE_BOUNDS: &[u64] = &[
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 2_500_000,
];

/// How long things took.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    buckets: Box<[Counter]>,
    nanos: Counter,
}

/// What a [`Histogram`] held at one moment.
#[derive(Debug, PartialEq)]
pub(super) struct Snapshot {
    /// Upper bounds in seconds, each with the number of things that took as long or less; the bound of
    /// the last is infinite, its number is that of all.
    pub(super) buckets: Vec<(f64, u64)>,
    /// Seconds, all together.
    pub(super) sum: f64,
}

impl Histogram {
    /// With buckets up to `bounds` (microseconds, ascending) and one for what took longer.
    pub fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            buckets: (0..=bounds.len()).map(|_| Counter::default()).collect(),
            nanos: Counter::default(),
        }
    }

    /// Counts one.
    pub fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = self.bounds.partition_point(|bound| bound * 1000 < nanos);
        self.buckets[bucket].inc();
        self.nanos.add(nanos);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(Counter::get).sum()
    }

    /// What it holds now. All numbers are sums of the same reading, so they agree with each other.
    pub(super) fn snapshot(&self) -> Snapshot {
        let bounds = self.bounds.iter().map(|micros| *micros as f64 / 1e6);
        let mut total = 0;
        let counts = self.buckets.iter().map(|bucket| {
            total += bucket.get();
            total
        });
        Snapshot {
            buckets: bounds.chain([f64::INFINITY]).zip(counts).collect(),
            sum: self.nanos.get() as f64 / 1e9,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::new(&[100, 1000]);
        for micros in [1, 100, 101, 1000, 1001, 5_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let snapshot = histogram.snapshot();
        let expected = vec![(0.0001, 2), (0.001, 4), (f64::INFINITY, 6)];
        assert_eq!(snapshot.buckets, expected);
        assert!((snapshot.sum - 5.002203).abs() < 1e-9, "{}", snapshot.sum);
    }
}
