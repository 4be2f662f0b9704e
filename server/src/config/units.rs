//! Lengths of time and amounts of bytes, as they are written: `60s`, `1h30m`, `64KiB`.

use std::time::Duration;

/// Longest first, so that a duration is written with the largest that fit.
const TIMES: [(&str, u64); 6] = [
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("B", 1),
];

/// Reads a length of time: whole numbers, each with its unit.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (mut rest, mut millis) = (text, 0u64);
    while !rest.is_empty() {
        let (number, after) = number(rest)?;
        let end = after.find(|c: char| !c.is_ascii_alphabetic());
        let (unit, after) = after.split_at(end.unwrap_or(after.len()));
        let (_, factor) = TIMES.iter().find(|(name, _)| *name == unit)?;
        millis = millis.checked_add(number.checked_mul(*factor)?)?;
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::from_millis(millis))
}

/// Writes a length of time as [`duration`] reads it.
pub(super) fn show_duration(time: Duration) -> String {
    let mut millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, factor) in TIMES {
        let count = millis / factor;
        // People count hours up to two days.
        if count == 0 || (unit == "d" && millis < 2 * factor) || unit == "w" {
            continue;
        }
        text.push_str(&format!("{count}{unit}"));
        millis %= factor;
    }
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

/// Reads an amount of bytes: a whole number and its unit.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = number(text)?;
    let (_, factor) = SIZES.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

/// Writes an amount of bytes as [`bytes`] reads it.
pub(super) fn show_bytes(bytes: u64) -> String {
    let whole = SIZES.iter().find(|(unit, factor)| {
        unit.contains('i') && bytes >= *factor && bytes.is_multiple_of(*factor)
    });
    let (unit, factor) = whole.unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / factor)
}

/// The digits in front, and what follows.
fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit());
    let (digits, rest) = text.split_at(end.unwrap_or(text.len()));
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, millis) in [
            ("60s", 60_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("24h", 86_400_000),
            ("2w", 14 * 86_400_000),
            ("0s", 0),
        ] {
            assert_eq!(
                duration(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for bad in [
            "",
            "60",
            "s",
            "1.5h",
            "-1s",
            "1 s",
            "1y",
            "99999999999999999999s",
            "1hm",
        ] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        for (seconds, text) in [
            (60, "1m"),
            (90, "1m30s"),
            (86_400, "24h"),
            (172_800, "2d"),
            (0, "0s"),
        ] {
            assert_eq!(show_duration(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes_) in [
            ("64KiB", 65_536),
            ("1GiB", 1 << 30),
            ("5MB", 5_000_000),
            ("0B", 0),
        ] {
            assert_eq!(bytes(text), Some(bytes_), "{text}");
        }
        for bad in [
            "",
            "64",
            "KiB",
            "1.5MiB",
            "64 KiB",
            "1PiB",
            "-1B",
            "99999999999TiB",
        ] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
        for (count, text) in [
            (65_536, "64KiB"),
            (128, "128B"),
            (1 << 30, "1GiB"),
            (0, "0B"),
            (1500, "1500B"),
        ] {
            assert_eq!(show_bytes(count), text);
            assert_eq!(bytes(text), Some(count));
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back(number in 0u64..1 << 50) {
            proptest::prop_assert_eq!(bytes(&show_bytes(number)), Some(number));
            let time = Duration::from_millis(number);
            proptest::prop_assert_eq!(duration(&show_duration(time)), Some(time));
        }
    }
}
