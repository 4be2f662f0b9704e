//! Ranges: of a blob that is fetched (RFC 9110, 14.2), and of a chunk that is pushed
//! (distribution-spec, "Pushing a blob in chunks").

use std::ops::{Range, RangeInclusive};

/// Which part of a blob a Range header asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All: there is no range, it is not understood, or there are several.
    Whole,
    /// These bytes.
    Bytes(Range<u64>),
    /// None that it has.
    Unsatisfiable,
}

/// Reads a Range header for a blob of `size` bytes.
pub fn of_blob(header: Option<&str>, size: u64) -> Part {
    let Some((unit, ranges)) = header.and_then(|h| h.split_once('=')) else {
        return Part::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") || ranges.contains(',') {
        return Part::Whole;
    }
    let Some((first, last)) = ranges.trim().split_once('-') else {
        return Part::Whole;
    };
    match (number(first), number(last)) {
        (Some(Some(first)), Some(Some(last))) if first > last => Part::Unsatisfiable,
        (Some(Some(first)), Some(_)) if first >= size => Part::Unsatisfiable,
        (Some(Some(first)), Some(last)) => {
            let end = last.map_or(size, |last| last.saturating_add(1).min(size));
            Part::Bytes(first..end)
        }
        (Some(None), Some(Some(suffix))) if suffix == 0 || size == 0 => Part::Unsatisfiable,
        (Some(None), Some(Some(suffix))) => Part::Bytes(size.saturating_sub(suffix)..size),
        _ => Part::Whole,
    }
}

/// `None`: not a number; `Some(None)`: nothing. What is too large for a number is larger than any blob.
fn number(text: &str) -> Option<Option<u64>> {
    match text.trim() {
        "" => Some(None),
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(Some(digits.parse().unwrap_or(u64::MAX)))
        }
        _ => None,
    }
}

/// Reads a chunk's Content-Range, `first-last`; HTTP's own form `bytes first-last/size` is understood too.
pub fn of_chunk(header: &str) -> Option<RangeInclusive<u64>> {
    let text = header.trim();
    let text = match text.get(..5) {
        Some(unit) if unit.eq_ignore_ascii_case("bytes") => {
            text[5..].trim_start_matches([' ', '='])
        }
        _ => text,
    };
    let text = text.split_once('/').map_or(text, |(range, _size)| range);
    let (first, last) = text.split_once('-')?;
    let plain = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !plain(first) || !plain(last) {
        return None;
    }
    let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
    (first <= last && last < u64::MAX).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(header: &str, size: u64) -> Part {
        of_blob(Some(header), size)
    }

    #[test]
    fn parts_of_a_blob() {
        assert_eq!(of_blob(None, 10), Part::Whole);
        assert_eq!(part("bytes=0-0", 10), Part::Bytes(0..1));
        assert_eq!(part("bytes=2-5", 10), Part::Bytes(2..6));
        assert_eq!(part("bytes=5-", 10), Part::Bytes(5..10));
        assert_eq!(part("Bytes= 5-900", 10), Part::Bytes(5..10));
        assert_eq!(part("bytes=-3", 10), Part::Bytes(7..10));
        assert_eq!(part("bytes=-30", 10), Part::Bytes(0..10));
        let huge = "bytes=0-99999999999999999999999";
        assert_eq!(part(huge, 10), Part::Bytes(0..10));
    }

    #[test]
    fn ranges_that_cannot_be_satisfied() {
        for header in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=5-4"] {
            assert_eq!(part(header, 10), Part::Unsatisfiable, "{header}");
        }
        assert_eq!(part("bytes=0-", 0), Part::Unsatisfiable);
        assert_eq!(part("bytes=-1", 0), Part::Unsatisfiable);
    }

    #[test]
    fn what_is_not_understood_is_ignored() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "lines=1-2",
            "bytes=0-1,3-4",
            "bytes=+1-2",
        ] {
            assert_eq!(part(header, 10), Part::Whole, "{header}");
        }
    }

    #[test]
    fn chunks() {
        assert_eq!(of_chunk("0-0"), Some(0..=0));
        assert_eq!(of_chunk("5-9"), Some(5..=9));
        assert_eq!(of_chunk("bytes 5-9/*"), Some(5..=9));
        assert_eq!(of_chunk("bytes=5-9/10"), Some(5..=9));
        for bad in [
            "",
            "-",
            "0-",
            "-1",
            "9-5",
            "a-b",
            "0-+1",
            "0 - 1",
            "0-18446744073709551615",
            "0-99999999999999999999",
        ] {
            assert_eq!(of_chunk(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_part_is_inside_the_blob(header in "(bytes=)?[0-9,a -]{0,24}", size in 0u64..200) {
            if let Part::Bytes(range) = part(&header, size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }

        #[test]
        fn chunks_are_read_without_panic(header in ".{0,60}", first in any::<u64>(), last in any::<u64>()) {
            let _ = of_chunk(&header);
            let read = of_chunk(&format!("{first}-{last}"));
            prop_assert_eq!(read.is_some(), first <= last && last < u64::MAX);
        }
    }
}
