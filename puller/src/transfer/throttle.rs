//! A limit on bytes a second, shared by everything that travels.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets bytes pass at a rate.
#[derive(Debug)]
pub(crate) struct Throttle {
    /// Bytes a second.
    rate: f64,
    /// When the line is free again.
    free: Mutex<Instant>,
}

impl Throttle {
    pub(crate) fn new(rate: u64) -> Self {
        Self {
            rate: rate.max(1) as f64,
            free: Mutex::new(Instant::now()),
        }
    }

    /// Waits until `bytes` more may pass.
    pub(crate) async fn pass(&self, bytes: usize) {
        let wait = self.reserve(bytes, Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    fn reserve(&self, bytes: usize, now: Instant) -> Duration {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = (*free).max(now);
        *free = begin + Duration::from_secs_f64(bytes as f64 / self.rate);
        // Whoever has to wait waits for what went before, and for its own bytes.
        free.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_together_keep_to_the_rate() {
        let throttle = Throttle::new(1000);
        let now = Instant::now();
        let seconds = |bytes| throttle.reserve(bytes, now).as_secs_f64().round();
        assert_eq!([seconds(2000), seconds(1000), seconds(0)], [2.0, 3.0, 3.0]);
        let later = now + Duration::from_secs(10);
        let wait = throttle.reserve(500, later);
        assert_eq!(wait, Duration::from_millis(500));
    }
}
