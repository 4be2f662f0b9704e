//! The picture of a transfer: a line for each item that moves, one for all of it.

use super::meter::{Item, Meter, Phase, Total};
use super::{short, time_left};
use crate::printer;

/// Characters of a bar.
const BAR: usize = 24;

/// The lines for a terminal of so many rows: what moves first, and what waits only as a number.
pub(super) fn lines(meter: &Meter, total: &Total, rows: usize) -> Vec<String> {
    if total.items == total.done {
        return Vec::new();
    }
    let items = meter.items().map(|(_, item)| item);
    let items = items.filter(|item| item.moves());
    // The last line, and the cursor's.
    let most = rows.saturating_sub(2);
    let mut lines: Vec<String> = items.take(most).map(line).collect();
    lines.push(summary(total));
    lines
}

fn line(item: &Item) -> String {
    let (word, name) = (item.phase.word(), short(&item.digest));
    let begin = format!("{name} {word:8}");
    let of = format!(
        "{:>7}/{:<7}",
        printer::size(item.bytes),
        printer::size(item.size)
    );
    match item.phase {
        Phase::Extract => format!("{begin} {:>7} unpacked", printer::size(item.unpacked)),
        _ => {
            let bar = bar(item.bytes, item.size);
            let mut line = format!("{begin} [{bar}] {of}");
            if let Some(rate) = item.rate() {
                line += &format!(" {:>9}", speed(rate));
            }
            if let (Some(_), Some(left)) = (item.rate(), item.left()) {
                line += &format!(" {:>6}", time_left(left));
            }
            line
        }
    }
}

/// `3 of 17 done, 120MB/777MB, 88MB/s, 8s left`
pub(super) fn summary(total: &Total) -> String {
    let mut text = format!(
        "{} of {} done, {}/{}",
        total.done,
        total.items,
        printer::size(total.bytes),
        printer::size(total.size)
    );
    if total.bytes < total.size
        && let Some(rate) = total.rate
    {
        text += &format!(", {}", speed(rate));
        if let Some(left) = total.left {
            text += &format!(", {} left", time_left(left));
        }
    }
    text
}

fn speed(rate: f64) -> String {
    format!("{}/s", printer::size(rate as u64))
}

fn bar(bytes: u64, size: u64) -> String {
    let share = if size == 0 {
        1.0
    } else {
        bytes.min(size) as f64 / size as f64
    };
    let full = (share * BAR as f64) as usize;
    let head = if full < BAR { ">" } else { "" };
    format!("{:BAR$}", "=".repeat(full) + head)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use strata::progress::{Event, How};
    use strata_oci::Digest;

    use super::super::meter::Work;
    use super::*;

    fn planned(items: usize) -> Meter {
        let mut meter = Meter::new(Work::Pull, Instant::now());
        for item in 0..items {
            let digest = Digest::of(&item.to_le_bytes());
            let size = 1_000_000;
            meter.take(&Event::Planned { item, digest, size });
        }
        meter
    }

    fn drawn(meter: &Meter, rows: usize) -> Vec<String> {
        let now = Instant::now();
        lines(meter, &meter.total(now), rows)
    }

    #[test]
    fn what_moves_has_a_line_and_what_waits_has_none() {
        let mut meter = planned(3);
        let bytes = 500_000;
        meter.take(&Event::Moved { item: 1, bytes });
        let lines = drawn(&meter, 24);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[0].contains("download [============>           ]   500kB/1MB"),
            "{lines:?}"
        );
        assert_eq!(lines[1], "0 of 3 done, 500kB/3MB");
        for item in 0..3 {
            let how = How::Reused;
            meter.take(&Event::Done { item, how });
        }
        assert!(drawn(&meter, 24).is_empty());
    }

    #[test]
    fn there_are_never_more_lines_than_the_terminal_has() {
        let mut meter = planned(100);
        for item in 0..100 {
            meter.take(&Event::Moved { item, bytes: 1 });
        }
        for rows in [1, 2, 3, 10] {
            let lines = drawn(&meter, rows);
            assert!(lines.len() <= rows.saturating_sub(1).max(1), "{rows}");
            assert!(lines.last().is_some_and(|l| l.contains("0 of 100")));
        }
    }

    #[test]
    fn rate_and_time_left_are_told_when_they_are_known() {
        let begin = Instant::now();
        let mut meter = Meter::new(Work::Push, begin);
        let digest = Digest::of(b"x");
        let (item, size) = (0, 10_000_000);
        meter.take(&Event::Planned { item, digest, size });
        let bytes = 4_000_000;
        meter.take(&Event::Moved { item, bytes });
        let now = begin + Duration::from_secs(2);
        meter.sample(now);
        let lines = lines(&meter, &meter.total(now), 9);
        assert!(
            lines[0].ends_with("4MB/10MB        2MB/s     3s"),
            "{lines:?}"
        );
        assert_eq!(lines[1], "0 of 1 done, 4MB/10MB, 2MB/s, 3s left");
    }
}
