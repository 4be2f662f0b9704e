//! What a prune is limited to: docker's filters `until` and `label`, read strictly.

use std::collections::BTreeMap;
use std::str::FromStr;

use time::format_description::well_known::{Iso8601, Rfc3339};
use time::{Date, OffsetDateTime, PrimitiveDateTime};

/// One filter: `until=…`, `label=KEY[=VALUE]` or `label!=KEY[=VALUE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Only what was made before this time, in seconds since 1970.
    Until(i64),
    /// Only what has (or, negated, has not) this label, with this value if one is given.
    Label {
        /// The label.
        key: String,
        /// Its value; none: any.
        value: Option<String>,
        /// Only what has it not.
        negated: bool,
    },
}

/// A filter that has no meaning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// None of the filters that there are.
    #[error("expected until=TIME, label=KEY[=VALUE] or label!=KEY[=VALUE]")]
    Unknown,
    /// A label without a name.
    #[error("a label has a name: label=KEY[=VALUE]")]
    NoKey,
    /// A time of no known form.
    #[error(
        "{0:?} is no time: expected how long ago (10m, 1h30m, 24h), seconds since 1970, or a date (2026-01-31, 2026-01-31T12:00:00, in UTC unless it says otherwise)"
    )]
    Time(String),
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if let Some(time) = text.strip_prefix("until=") {
            let time = moment(time).ok_or_else(|| FilterError::Time(time.to_owned()))?;
            return Ok(Self::Until(time));
        }
        let (label, negated) = match text.strip_prefix("label!=") {
            Some(label) => (label, true),
            None => (
                text.strip_prefix("label=").ok_or(FilterError::Unknown)?,
                false,
            ),
        };
        let (key, value) = match label.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (label, None),
        };
        if key.is_empty() {
            return Err(FilterError::NoKey);
        }
        Ok(Self::Label {
            key: key.to_owned(),
            value,
            negated,
        })
    }
}

impl Filter {
    /// Whether it lets through what was made then and has these labels.
    fn admits(&self, created: i64, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Until(time) => created < *time,
            Self::Label {
                key,
                value,
                negated,
            } => {
                let has = labels.get(key);
                let has = has.is_some_and(|has| value.as_ref().is_none_or(|value| value == has));
                has != *negated
            }
        }
    }
}

/// Whether all of them let something through.
pub(super) fn admit(filters: &[Filter], created: i64, labels: &BTreeMap<String, String>) -> bool {
    filters.iter().all(|filter| filter.admits(created, labels))
}

/// A time as docker takes it, in seconds since 1970.
fn moment(text: &str) -> Option<i64> {
    i64::try_from(moment_nanos(text)?.div_euclid(NANOS)).ok()
}

/// Nanoseconds of a second.
const NANOS: i128 = 1_000_000_000;

/// A time as docker takes it, in nanoseconds since 1970: how long ago, seconds since then (with a fraction), RFC 3339,
/// or a date with or without a time, in UTC.
pub fn moment_nanos(text: &str) -> Option<i128> {
    if let Some(ago) = duration(text) {
        let now = OffsetDateTime::now_utc().unix_timestamp_nanos();
        return Some(now - (ago * 1e9) as i128);
    }
    if let Ok(seconds) = text.parse::<i64>() {
        return Some(i128::from(seconds) * NANOS);
    }
    if let Some((seconds, fraction)) = text.split_once('.')
        && let (Ok(seconds), 1..=9) = (seconds.parse::<u32>(), fraction.len())
        && let Ok(fraction) = format!("{fraction:0<9}").parse::<u32>()
    {
        return Some(i128::from(seconds) * NANOS + i128::from(fraction));
    }
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Some(time.unix_timestamp_nanos());
    }
    // A week's date would be read too, and nobody means one.
    if text.contains('W') {
        return None;
    }
    if let Ok(time) = PrimitiveDateTime::parse(text, &Iso8601::DEFAULT) {
        return Some(time.assume_utc().unix_timestamp_nanos());
    }
    let date = Date::parse(text, &Iso8601::DATE).ok()?;
    // Nor the number of a day in its year.
    (text.len() == 10).then(|| date.midnight().assume_utc().unix_timestamp_nanos())
}

/// `1h30m`, `10s`, `1.5h` in seconds.
pub(crate) fn duration(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit() || c == '.');
        let unit = unit.map_or(rest.len(), |end| digits + end);
        let seconds = match &rest[digits..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number * seconds;
        rest = &rest[unit..];
    }
    (!text.is_empty() && total < 1e12).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dockers() {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        for (text, seconds) in [
            ("24h", 86_400),
            ("1h30m", 5400),
            ("1.5h", 5400),
            ("10s500ms", 10),
        ] {
            let Ok(Filter::Until(time)) = format!("until={text}").parse() else {
                panic!("{text}");
            };
            assert!((now - seconds - time).abs() <= 2, "{text}: {time}");
        }
        for (text, time) in [
            ("0", 0),
            ("1700000000", 1_700_000_000),
            ("2023-11-14T22:13:20Z", 1_700_000_000),
            ("2023-11-14T23:13:20+01:00", 1_700_000_000),
            ("2023-11-14T22:13:20", 1_700_000_000),
            ("2023-11-14", 1_699_920_000),
        ] {
            assert_eq!(
                format!("until={text}").parse(),
                Ok(Filter::Until(time)),
                "{text}"
            );
        }
    }

    #[test]
    fn fractions_of_a_second_count_where_they_are_asked_for() {
        assert_eq!(moment_nanos("1.5"), Some(1_500_000_000));
        assert_eq!(
            moment_nanos("1970-01-01T00:00:01.000000007Z"),
            Some(1_000_000_007)
        );
        assert_eq!(moment_nanos("1.1234567890"), None);
        assert_eq!(moment_nanos("1.-5"), None);
    }

    #[test]
    fn what_has_no_meaning_is_refused() {
        for bad in [
            "",
            "until",
            "until=",
            "until=h",
            "until=1d",
            "until=-1h",
            "until=1h30",
            "until=yesterday",
            "until=2023-W46-2",
            "until=2023-13-01",
            "label",
            "label=",
            "label==x",
            "label!=",
            "name=x",
            "UNTIL=1h",
            "dangling=true",
        ] {
            assert!(bad.parse::<Filter>().is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_are_compared_whole_and_all_filters_count() {
        let labels = BTreeMap::from([("stage".to_owned(), "test".to_owned())]);
        let admits = |filters: &[&str]| {
            let filters: Result<Vec<Filter>, _> = filters.iter().map(|f| f.parse()).collect();
            admit(&filters.expect("filters"), 1000, &labels)
        };
        for yes in [
            &["label=stage"][..],
            &["label=stage=test"],
            &["label!=stage=other"],
            &["label!=other"],
            &["until=1001"],
            &["until=1001", "label=stage"],
            &[],
        ] {
            assert!(admits(yes), "{yes:?}");
        }
        for no in [
            &["label=other"][..],
            &["label=stage=tes"],
            &["label!=stage"],
            &["label!=stage=test"],
            &["until=1000"],
            &["label=stage", "until=5"],
        ] {
            assert!(!admits(no), "{no:?}");
        }
    }
}
