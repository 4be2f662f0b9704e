//! A transfer where nothing moves: a line for each item that is done, and one now and then for all.

use std::time::{Duration, Instant};

use strata::progress::{Event, How};

use super::meter::{Item, Total};
use super::{bars, short};
use crate::printer;

/// How long a transfer is silent at most.
pub(super) const SILENCE: Duration = Duration::from_secs(10);

/// What is told at once. `ended` is the item that the event ended, or is about.
pub(super) fn event(item: Option<&Item>, event: &Event) -> Option<String> {
    let about = |what: &str| {
        let item = item?;
        let size = printer::size(item.size);
        Some(format!("{}: {what} ({size})", short(&item.digest)))
    };
    match event {
        Event::Waiting { .. } => about("waiting for another process"),
        Event::Resumed { bytes, .. } => about(&format!("{} kept", printer::size(*bytes))),
        Event::Retrying { why, .. } => about(&format!("{why}; again")),
        Event::Done { how, .. } => about(word(*how)),
        Event::Failed { .. } => about("failed"),
        Event::Planned { .. }
        | Event::Moved { .. }
        | Event::Unpacked { .. }
        | Event::Message(_) => None,
    }
}

/// What is told now and then.
pub(super) fn summary(total: &Total, last: &mut Instant, now: Instant) -> Option<String> {
    if total.done == total.items || now.saturating_duration_since(*last) < SILENCE {
        return None;
    }
    *last = now;
    Some(bars::summary(total))
}

fn word(how: How) -> &'static str {
    match how {
        How::Fetched => "fetched",
        How::Reused => "reused",
        How::Uploaded => "pushed",
        How::Mounted => "mounted",
        How::LeftOut => "left out",
        How::Verified => "verified",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_transfer_is_told_of_now_and_then_and_a_short_one_never() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut last = begin;
        let total = Total {
            items: 2,
            done: 1,
            size: 10,
            bytes: 5,
            ..Total::default()
        };
        let mut told = |seconds| summary(&total, &mut last, at(seconds));
        let text = Some("1 of 2 done, 5B/10B".to_owned());
        assert_eq!(
            [told(9), told(10), told(19), told(21)],
            [None, text.clone(), None, text]
        );
        let done = Total { done: 2, ..total };
        assert_eq!(summary(&done, &mut last, at(60)), None);
    }
}
