//! How many connections one blob is worth: one, and another only while the network is what everything waits for and
//! the last one made it faster.
//!
//! More connections help where each of them is held back (by a server's limit for one, or by a long way
//! with losses); where all of them share one full line they only disturb each other and everybody else.

use std::time::{Duration, Instant};

/// The time over which rates are compared.
const WINDOW: Duration = Duration::from_millis(750);
/// What is done sooner needs no help.
const SOON: f64 = 2.5;
/// Part of the time that is spent waiting for bytes, if the network is what holds everything up.
const WAITING: f64 = 0.6;
/// How much faster another connection has to make it.
const HELPS: f64 = 1.15;

/// Decides from time to time how many connections there are to be.
#[derive(Debug)]
pub(super) struct Width {
    most: usize,
    now: usize,
    since: Instant,
    /// Bytes that had come over the network then.
    before: u64,
    waited: Duration,
    /// Bytes a second.
    rate: f64,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    /// Nothing is known yet.
    Looking,
    /// One was added; this was the rate before. It has one window to come to speed.
    Added(f64),
    /// It has had that.
    Settled(f64),
    /// No more.
    Enough,
}

impl Width {
    /// At most `most`.
    pub(super) fn new(most: usize, now: Instant) -> Self {
        Self {
            most,
            now: 1,
            since: now,
            before: 0,
            waited: Duration::ZERO,
            rate: 0.0,
            step: if most > 1 {
                Step::Looking
            } else {
                Step::Enough
            },
        }
    }

    /// How many there are to be now.
    pub(super) fn wanted(&self) -> usize {
        self.now
    }

    /// Bytes a second, as far as is known.
    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// They do not work here: one it is.
    pub(super) fn give_up(&mut self) {
        (self.now, self.step) = (1, Step::Enough);
    }

    /// Takes note that bytes were waited for.
    pub(super) fn waited(&mut self, time: Duration) {
        self.waited += time;
    }

    /// Looks at what has `come` over the network until now and at what is `left`. `spare`: one more is
    /// allowed.
    pub(super) fn look(&mut self, come: u64, left: u64, spare: bool, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        if passed < WINDOW {
            return;
        }
        let rate = come.saturating_sub(self.before) as f64 / passed.as_secs_f64();
        let waiting = self.waited.as_secs_f64() / passed.as_secs_f64() >= WAITING;
        (self.since, self.before, self.waited) = (now, come, Duration::ZERO);
        let long = left as f64 > rate * SOON;
        // The first window has the slow start of a connection in it.
        let known = self.rate > 0.0;
        self.rate = rate;
        let worth = waiting && long && spare && rate > 0.0 && self.now < self.most;
        self.step = match self.step {
            Step::Looking if known && worth => self.add(rate),
            Step::Added(before) => Step::Settled(before),
            Step::Settled(before) if rate < before * HELPS => {
                self.now -= 1;
                Step::Enough
            }
            Step::Settled(_) if worth => self.add(rate),
            Step::Settled(_) => Step::Looking,
            step => step,
        };
    }

    fn add(&mut self, rate: f64) -> Step {
        self.now += 1;
        Step::Added(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A download of `size` bytes over a line that gives `rate(connections)` bytes a second; how many
    /// connections there are, window by window.
    fn widths(size: u64, busy: f64, rate: impl Fn(usize) -> u64) -> Vec<usize> {
        let mut now = Instant::now();
        let mut width = Width::new(4, now);
        let (mut come, mut seen) = (0, Vec::new());
        while come < size && seen.len() < 40 {
            now += WINDOW;
            come += (rate(width.wanted()) as f64 * WINDOW.as_secs_f64()) as u64;
            width.waited(WINDOW.mul_f64(1.0 - busy));
            width.look(come, size.saturating_sub(come), true, now);
            seen.push(width.wanted());
        }
        seen
    }

    #[test]
    fn connections_that_are_held_back_one_by_one_are_added_up() {
        let seen = widths(500 << 20, 0.0, |n| n as u64 * (10 << 20));
        assert_eq!(seen[..8], [1, 2, 2, 3, 3, 4, 4, 4]);
        assert!(seen.iter().all(|n| *n <= 4));
    }

    #[test]
    fn a_full_line_is_left_with_one() {
        let seen = widths(500 << 20, 0.0, |_| 20 << 20);
        assert_eq!(seen[..4], [1, 2, 2, 1]);
        assert!(seen[3..].iter().all(|n| *n == 1));
    }

    #[test]
    fn nothing_is_added_where_this_machine_is_what_is_slow_or_the_end_is_near() {
        assert!(widths(500 << 20, 0.9, |_| 20 << 20).iter().all(|n| *n == 1));
        assert!(
            widths(40 << 20, 0.0, |n| n as u64 * (20 << 20))
                .iter()
                .all(|n| *n == 1)
        );
        let mut never = Width::new(1, Instant::now());
        never.waited(WINDOW * 9);
        never.look(1, 1 << 40, true, Instant::now() + WINDOW * 9);
        assert_eq!(never.wanted(), 1);
    }
}
