//! When to try again, and how long to wait before: exponential back-off with jitter, unless the
//! server says (Retry-After, RFC 9110, 10.2.3).

use std::time::{Duration, SystemTime};

use rand::RngExt as _;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// How often and how patiently requests that failed in passing are repeated.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// How many times a request is tried, or a transfer that brings no byte.
    pub tries: u32,
    /// The wait after the first failure; it doubles with each.
    pub first: Duration,
    /// The longest wait, also when the server asks for more.
    pub longest: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            tries: 5,
            first: Duration::from_millis(200),
            longest: Duration::from_secs(60),
        }
    }
}

impl RetryPolicy {
    /// How long to wait after the `failures`-th failure in a row (from 1); `None`: give up.
    pub(crate) fn wait(&self, failures: u32, asked: Option<Duration>) -> Option<Duration> {
        if failures >= self.tries {
            return None;
        }
        if let Some(asked) = asked {
            return Some(asked.min(self.longest));
        }
        let doubled = self
            .first
            .saturating_mul(1u32.checked_shl(failures - 1).unwrap_or(u32::MAX));
        let jitter = rand::rng().random_range(0.5..1.0);
        Some(doubled.min(self.longest).mul_f64(jitter))
    }
}

/// Whether an answer is one that may be better the next time.
pub(super) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// The wait that a response asks for, in seconds or until a date.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = OffsetDateTime::parse(&text.replace("GMT", "+0000"), &Rfc2822).ok()?;
    SystemTime::from(date)
        .duration_since(SystemTime::now())
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let policy = RetryPolicy {
            tries: 4,
            first: Duration::from_millis(100),
            longest: Duration::from_millis(300),
        };
        let range = |failures| policy.wait(failures, None).expect("another try");
        assert!((50..=100).contains(&range(1).as_millis()));
        assert!((100..=200).contains(&range(2).as_millis()));
        assert!((150..=300).contains(&range(3).as_millis()));
        assert_eq!(policy.wait(4, None), None);
        assert_eq!(
            policy.wait(1, Some(Duration::from_secs(9))),
            Some(Duration::from_millis(300))
        );
        let many = RetryPolicy {
            tries: 100,
            ..policy
        };
        assert!(many.wait(90, None).is_some());
    }

    #[test]
    fn the_server_may_say_how_long() {
        let asked = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().expect("a header"));
            retry_after(&headers)
        };
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert!(asked("Fri, 31 Dec 2199 23:59:59 GMT").is_some());
        assert_eq!(asked("Fri, 31 Dec 1999 23:59:59 GMT"), None);
        assert_eq!(asked("soon"), None);
    }
}
