//! What a transfer comes to: bytes, rates and times left, of each item and in all. Pure: events and
//! instants go in.
//!
//! A rate is of bytes that travel, so what was kept from an earlier try is none of it; recent bytes
//! weigh more than old ones.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use strata::progress::{Event, How};
use strata_oci::Digest;

/// After so many seconds bytes weigh a third.
const MEMORY: f64 = 3.0;
/// Rates of less than this time mean nothing.
const LEAST: f64 = 0.3;

/// What the bytes of a transfer do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// They come from a registry and are unpacked.
    Pull,
    /// They go to a registry.
    Push,
    /// They go from one place to another as they are.
    Copy,
    /// They are here, and are hashed.
    Check,
}

/// Where an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    /// Its turn has not come, or another process is at it.
    Waiting,
    Download,
    Upload,
    Copy,
    /// Hashed: what was kept, before the rest comes; or the whole, by us or by the registry that got it.
    Verify,
    Extract,
    /// It broke off, and is tried again soon.
    Retry,
}

impl Phase {
    /// For people.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Download => "download",
            Self::Upload => "upload",
            Self::Copy => "copy",
            Self::Verify => "verify",
            Self::Extract => "extract",
            Self::Retry => "retry",
        }
    }
}

/// An item that is not done.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) digest: Digest,
    /// Of the blob, in bytes.
    pub(super) size: u64,
    /// Of it, those that are across.
    pub(super) bytes: u64,
    /// Bytes of the layer's tar.
    pub(super) unpacked: u64,
    pub(super) phase: Phase,
    /// Of the bytes, those of an earlier try.
    kept: u64,
    speed: Speed,
}

impl Item {
    /// Whether something happens with it.
    pub(super) fn moves(&self) -> bool {
        self.phase != Phase::Waiting
    }

    /// Bytes a second.
    pub(super) fn rate(&self) -> Option<f64> {
        let travels = matches!(self.phase, Phase::Download | Phase::Upload | Phase::Copy);
        self.speed.rate().filter(|_| travels)
    }

    /// Until all of the blob is across.
    pub(super) fn left(&self) -> Option<Duration> {
        left(self.size.saturating_sub(self.bytes), self.rate()?)
    }
}

/// All items together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Total {
    pub(super) items: usize,
    pub(super) done: usize,
    /// Bytes that have to be across: of items that did not have to come, only those that did.
    pub(super) size: u64,
    /// Of them, those that are.
    pub(super) bytes: u64,
    /// Of those, the ones that were kept from an earlier try.
    pub(super) kept: u64,
    /// Bytes a second.
    pub(super) rate: Option<f64>,
    pub(super) left: Option<Duration>,
    pub(super) elapsed: Duration,
}

/// The count.
#[derive(Debug)]
pub(super) struct Meter {
    work: Work,
    items: BTreeMap<usize, Item>,
    total: Total,
    speed: Speed,
    travelled: u64,
    began: Instant,
    sampled: Instant,
}

impl Meter {
    pub(super) fn new(work: Work, now: Instant) -> Self {
        Self {
            work,
            items: BTreeMap::new(),
            total: Total::default(),
            speed: Speed::default(),
            travelled: 0,
            began: now,
            sampled: now,
        }
    }

    /// The items that are not done, by their numbers.
    pub(super) fn items(&self) -> impl Iterator<Item = (usize, &Item)> {
        self.items.iter().map(|(number, item)| (*number, item))
    }

    /// One of them.
    pub(super) fn item(&self, number: usize) -> Option<&Item> {
        self.items.get(&number)
    }

    /// Takes an event in; gives the item that it ends.
    pub(super) fn take(&mut self, event: &Event) -> Option<Item> {
        match event {
            Event::Planned { item, digest, size } => {
                self.total.items += 1;
                self.total.size = self.total.size.saturating_add(*size);
                let planned = Item {
                    digest: digest.clone(),
                    size: *size,
                    bytes: 0,
                    unpacked: 0,
                    phase: Phase::Waiting,
                    kept: 0,
                    speed: Speed::default(),
                };
                self.items.insert(*item, planned);
            }
            Event::Waiting { item } => self.phase(*item, Phase::Waiting),
            Event::Retrying { item, .. } => self.phase(*item, Phase::Retry),
            Event::Resumed { item, bytes } => {
                self.reach(*item, 0);
                self.reach(*item, *bytes);
                self.phase(*item, Phase::Verify);
                if let Some(item) = self.items.get_mut(item) {
                    item.kept = *bytes;
                    self.total.kept = self.total.kept.saturating_add(*bytes);
                }
            }
            Event::Moved { item, bytes } => {
                let before = self.items.get(item).map_or(0, |item| item.bytes);
                let more = bytes.saturating_sub(before);
                self.reach(*item, *bytes);
                let work = self.work;
                let item = self.items.get_mut(item)?;
                if more > 0 {
                    self.travelled = self.travelled.saturating_add(more);
                    item.speed.fresh = item.speed.fresh.saturating_add(more);
                }
                item.phase = match work {
                    _ if more == 0 && *bytes < item.size => item.phase,
                    Work::Pull if *bytes >= item.size => Phase::Extract,
                    _ if *bytes >= item.size => Phase::Verify,
                    Work::Pull => Phase::Download,
                    Work::Push => Phase::Upload,
                    Work::Copy => Phase::Copy,
                    Work::Check => Phase::Verify,
                };
            }
            Event::Unpacked { item, bytes } => {
                if let Some(item) = self.items.get_mut(item) {
                    item.unpacked = *bytes;
                }
            }
            Event::Done { item, how } => {
                let whole = matches!(how, How::Fetched | How::Uploaded | How::Verified);
                let ended = self.items.remove(item)?;
                self.total.done += 1;
                let had = ended.bytes.min(ended.size);
                match whole {
                    true => self.total.bytes = self.total.bytes.saturating_add(ended.size - had),
                    false => self.total.size = self.total.size.saturating_sub(ended.size - had),
                }
                return Some(ended);
            }
            Event::Failed { item } => return self.items.remove(item),
            Event::Message(_) => {}
        }
        None
    }

    fn phase(&mut self, item: usize, phase: Phase) {
        if let Some(item) = self.items.get_mut(&item) {
            item.phase = phase;
        }
    }

    /// So many bytes of an item are across: fewer than before when it begins again.
    fn reach(&mut self, item: usize, bytes: u64) {
        if let Some(item) = self.items.get_mut(&item) {
            let (before, now) = (item.bytes.min(item.size), bytes.min(item.size));
            let others = self.total.bytes.saturating_sub(before);
            self.total.bytes = others.saturating_add(now);
            item.bytes = bytes;
            // What proved wrong was not kept after all.
            let lost = item.kept.saturating_sub(bytes);
            item.kept -= lost;
            self.total.kept = self.total.kept.saturating_sub(lost);
        }
    }

    /// Measures the time since the last call.
    pub(super) fn sample(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.sampled).as_secs_f64();
        if passed < 0.02 {
            return;
        }
        self.sampled = now;
        for item in self.items.values_mut() {
            if item.moves() || item.speed.fresh > 0 {
                item.speed.sample(passed);
            }
        }
        // Those of items that are done by now are not in any of them.
        self.speed.fresh = self.travelled.saturating_sub(self.speed.counted);
        self.speed.sample(passed);
    }

    /// All of it.
    pub(super) fn total(&self, now: Instant) -> Total {
        let rate = self.speed.rate();
        let missing = self.total.size.saturating_sub(self.total.bytes);
        Total {
            rate,
            left: rate.and_then(|rate| left(missing, rate)),
            elapsed: now.saturating_duration_since(self.began),
            ..self.total
        }
    }

    /// All of it when nothing more comes: the rate is that of the whole time.
    pub(super) fn result(&self, now: Instant) -> Total {
        let total = self.total(now);
        let seconds = total.elapsed.as_secs_f64();
        Total {
            rate: (seconds > 0.0).then(|| self.travelled as f64 / seconds),
            left: None,
            ..total
        }
    }
}

/// Bytes a second, the recent ones first.
#[derive(Debug, Clone, Default)]
struct Speed {
    /// Bytes since the last sample.
    fresh: u64,
    /// Bytes of all samples.
    counted: u64,
    mean: f64,
    /// How much of the mean is measured: 0 at first, nearly 1 later.
    weight: f64,
    seconds: f64,
}

impl Speed {
    fn sample(&mut self, seconds: f64) {
        let keep = (-seconds / MEMORY).exp();
        self.mean = self.mean * keep + self.fresh as f64 / seconds * (1.0 - keep);
        self.weight = self.weight * keep + (1.0 - keep);
        self.seconds += seconds;
        self.counted = self.counted.saturating_add(self.fresh);
        self.fresh = 0;
    }

    fn rate(&self) -> Option<f64> {
        (self.seconds >= LEAST).then(|| self.mean / self.weight)
    }
}

fn left(bytes: u64, rate: f64) -> Option<Duration> {
    if bytes == 0 {
        return Some(Duration::ZERO);
    }
    // What would take longer is not known, but stands still.
    // A hundredth more is no reason to say a second more.
    let seconds = (bytes as f64 / rate - 0.01).ceil();
    (seconds < 1e8).then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(item: usize, size: u64) -> Event {
        let digest = Digest::of(&item.to_le_bytes());
        Event::Planned { item, digest, size }
    }

    /// A meter after `seconds` of `bytes` each for item 0.
    fn steady(meter: &mut Meter, begin: Instant, from: u64, bytes: u64, seconds: u64) -> Instant {
        let mut now = begin;
        for n in 1..=seconds * 10 {
            let bytes = from + bytes * n / 10;
            meter.take(&Event::Moved { item: 0, bytes });
            now = begin + Duration::from_millis(100 * n);
            meter.sample(now);
        }
        now
    }

    #[test]
    fn a_steady_transfer_has_its_rate_and_its_time_left() {
        let begin = Instant::now();
        let mut meter = Meter::new(Work::Pull, begin);
        meter.take(&planned(0, 10_000));
        let now = steady(&mut meter, begin, 0, 1000, 4);
        let item = meter.item(0).expect("on its way");
        assert_eq!(item.rate().map(f64::round), Some(1000.0));
        assert_eq!(item.left(), Some(Duration::from_secs(6)));
        let total = meter.total(now);
        assert_eq!((total.size, total.bytes), (10_000, 4000));
        assert_eq!(total.left, Some(Duration::from_secs(6)));
    }

    #[test]
    fn what_was_kept_is_across_and_no_part_of_the_rate() {
        let begin = Instant::now();
        let mut meter = Meter::new(Work::Copy, begin);
        meter.take(&planned(0, 1_000_000));
        let bytes = 990_000;
        meter.take(&Event::Resumed { item: 0, bytes });
        assert_eq!(meter.item(0).expect("there").phase, Phase::Verify);
        meter.take(&Event::Moved { item: 0, bytes });
        assert_eq!(meter.item(0).expect("there").phase, Phase::Verify);
        let now = steady(&mut meter, begin, bytes, 1000, 2);
        let total = meter.total(now);
        assert_eq!(total.rate.map(f64::round), Some(1000.0));
        assert_eq!((total.bytes, total.kept), (992_000, bytes));
        assert_eq!(total.left, Some(Duration::from_secs(8)));
    }

    #[test]
    fn what_proves_wrong_was_not_kept() {
        let begin = Instant::now();
        let mut meter = Meter::new(Work::Copy, begin);
        meter.take(&planned(0, 1000));
        for (bytes, moved, kept) in [(1000, 1000, 1000), (600, 600, 600), (600, 50, 50)] {
            meter.take(&Event::Resumed { item: 0, bytes });
            let bytes = moved;
            meter.take(&Event::Moved { item: 0, bytes });
            let total = meter.total(begin);
            assert_eq!((total.kept, total.bytes), (kept, moved));
        }
    }

    #[test]
    fn a_transfer_that_begins_again_has_fewer_bytes_across() {
        let begin = Instant::now();
        let mut meter = Meter::new(Work::Push, begin);
        meter.take(&planned(0, 1000));
        meter.take(&Event::Moved {
            item: 0,
            bytes: 800,
        });
        meter.take(&Event::Moved { item: 0, bytes: 10 });
        assert_eq!(meter.total(begin).bytes, 10);
        assert_eq!(meter.travelled, 800);
        meter.take(&Event::Moved {
            item: 0,
            bytes: 1000,
        });
        assert_eq!(meter.item(0).expect("there").phase, Phase::Verify);
        let how = How::Uploaded;
        meter.take(&Event::Done { item: 0, how });
        let total = meter.total(begin);
        assert_eq!((total.size, total.bytes, total.done), (1000, 1000, 1));
    }

    #[test]
    fn items_that_need_not_come_are_not_waited_for() {
        let begin = Instant::now();
        let mut meter = Meter::new(Work::Pull, begin);
        meter.take(&planned(0, 1000));
        meter.take(&planned(1, 70));
        let how = How::Reused;
        meter.take(&Event::Done { item: 0, how });
        let total = meter.total(begin);
        assert_eq!((total.items, total.done, total.size), (2, 1, 70));
        meter.take(&Event::Moved { item: 1, bytes: 70 });
        meter.take(&Event::Unpacked {
            item: 1,
            bytes: 300,
        });
        let item = meter.item(1).expect("there");
        assert_eq!((item.phase, item.unpacked), (Phase::Extract, 300));
        assert_eq!(item.rate(), None);
    }

    #[test]
    fn nothing_is_promised_of_what_stands_still() {
        let begin = Instant::now();
        let mut meter = Meter::new(Work::Pull, begin);
        meter.take(&planned(0, 1000));
        meter.sample(begin + Duration::from_secs(9));
        let total = meter.total(begin + Duration::from_secs(9));
        assert_eq!((total.rate, total.left), (Some(0.0), None));
        // A rate follows what happens now.
        let later = begin + Duration::from_secs(9);
        let end = steady(&mut meter, later, 0, 50, 15);
        let rate = meter.total(end).rate.unwrap_or_default();
        assert!((48.0..50.5).contains(&rate), "{rate}");
    }

    #[test]
    fn sizes_that_are_lies_overflow_nothing() {
        let begin = Instant::now();
        let mut meter = Meter::new(Work::Pull, begin);
        meter.take(&planned(0, 5));
        meter.take(&Event::Moved { item: 0, bytes: 50 });
        meter.take(&Event::Done {
            item: 0,
            how: How::Reused,
        });
        meter.take(&Event::Done {
            item: 0,
            how: How::Reused,
        });
        meter.take(&Event::Moved { item: 7, bytes: 1 });
        let total = meter.total(begin);
        assert_eq!((total.size, total.bytes, total.done), (5, 5, 1));
    }
}
