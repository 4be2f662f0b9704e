//! A transfer as lines of JSON, for programs: docs/progress.md has the words.

use std::time::Duration;

use serde::Serialize;
use strata::progress::{Event, How};
use strata_oci::Digest;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::meter::{Item, Meter, Phase, Total};

/// One line. What does not belong to its type is left out.
#[derive(Debug, Default, Serialize)]
pub(super) struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    /// RFC 3339, UTC.
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<Phase>,
    #[serde(skip_serializing_if = "Option::is_none")]
    how: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    items: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unpacked: Option<u64>,
    /// Bytes a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<u64>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    eta: Option<u64>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    elapsed: Option<f64>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    wait: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

impl Line<'_> {
    fn new(kind: &'static str) -> Self {
        let now = OffsetDateTime::now_utc();
        let now = now.replace_millisecond(now.millisecond()).unwrap_or(now);
        Self {
            kind,
            time: now.format(&Rfc3339).unwrap_or_default(),
            ..Self::default()
        }
    }

    /// The line's text.
    pub(super) fn text(&self) -> String {
        // Only a map with keys that are no text could fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Something that is told to a person in words.
pub(crate) fn words(kind: &'static str, text: &str) -> String {
    let text = Some(text);
    Line {
        text,
        ..Line::new(kind)
    }
    .text()
}

/// What is told at once; none of what only moves. `ended` is the item that the event ended.
pub(super) fn event(meter: &Meter, ended: Option<&Item>, event: &Event) -> Option<String> {
    let about = |kind, number: &usize| {
        let item = ended.or_else(|| meter.item(*number));
        Line {
            item: Some(*number),
            digest: item.map(|item| &item.digest),
            size: item.map(|item| item.size),
            ..Line::new(kind)
        }
    };
    let line = match event {
        Event::Planned { item, .. } => about("planned", item),
        Event::Waiting { item } => about("waiting", item),
        Event::Resumed { item, bytes } => Line {
            bytes: Some(*bytes),
            ..about("resumed", item)
        },
        Event::Retrying { item, why, wait } => Line {
            bytes: meter.item(*item).map(|item| item.bytes),
            wait: Some(wait.as_secs_f64()),
            text: Some(why),
            ..about("retrying", item)
        },
        Event::Done { item, how } => Line {
            how: Some(word(*how)),
            ..about("done", item)
        },
        Event::Failed { item } => about("failed", item),
        Event::Message(text) => return Some(words("message", text)),
        Event::Moved { .. } | Event::Unpacked { .. } => return None,
    };
    Some(line.text())
}

/// Where an item is.
pub(super) fn progress(number: usize, item: &Item) -> String {
    let line = Line {
        item: Some(number),
        digest: Some(&item.digest),
        phase: Some(item.phase),
        bytes: Some(item.bytes),
        size: Some(item.size),
        unpacked: (item.unpacked > 0).then_some(item.unpacked),
        rate: item.rate().map(|rate| rate as u64),
        eta: item.left().map(|left| left.as_secs()),
        ..Line::new("progress")
    };
    line.text()
}

/// Where all of it is; `end`: nothing more comes.
pub(super) fn total(total: &Total, end: bool) -> String {
    let line = Line {
        items: Some(total.items),
        done: Some(total.done),
        bytes: Some(total.bytes),
        size: Some(total.size),
        kept: Some(total.kept),
        rate: total.rate.map(|rate| rate as u64),
        eta: total.left.map(|left: Duration| left.as_secs()),
        elapsed: Some((total.elapsed.as_secs_f64() * 1000.0).round() / 1000.0),
        ..Line::new(if end { "end" } else { "total" })
    };
    line.text()
}

fn word(how: How) -> &'static str {
    match how {
        How::Fetched => "fetched",
        How::Reused => "reused",
        How::Uploaded => "uploaded",
        How::Mounted => "mounted",
        How::LeftOut => "left-out",
        How::Verified => "verified",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::{Value, json};

    use super::super::meter::Work;
    use super::*;

    fn read(line: &str) -> Value {
        let mut value: Value = serde_json::from_str(line).expect("JSON");
        let time = value["time"].as_str().unwrap_or_default().to_owned();
        assert!(OffsetDateTime::parse(&time, &Rfc3339).is_ok(), "{time}");
        value.as_object_mut().expect("an object").remove("time");
        value
    }

    #[test]
    fn the_names_are_those_of_the_documentation() {
        let documented = include_str!("../../../docs/progress.md");
        let digest = Digest::of(b"x");
        let mut meter = Meter::new(Work::Pull, Instant::now());
        let (item, size) = (3, 10);
        let wait = Duration::from_millis(1500);
        let (why, how) = ("reset".to_owned(), How::LeftOut);
        let digest = || digest.clone();
        let events = [
            (
                Event::Planned {
                    item,
                    digest: digest(),
                    size,
                },
                json!({"type": "planned"}),
            ),
            (Event::Waiting { item }, json!({"type": "waiting"})),
            (
                Event::Resumed { item, bytes: 4 },
                json!({"type": "resumed", "bytes": 4}),
            ),
            (
                Event::Retrying { item, why, wait },
                json!({"type": "retrying", "bytes": 4, "wait": 1.5, "text": "reset"}),
            ),
            (
                Event::Done { item, how },
                json!({"type": "done", "how": "left-out"}),
            ),
        ];
        for (event, mut expected) in events {
            let ended = meter.take(&event);
            let told = super::event(&meter, ended.as_ref(), &event).expect("told");
            expected["item"] = json!(3);
            expected["digest"] = json!(digest());
            expected["size"] = json!(10);
            assert_eq!(read(&told), expected);
            let kind = expected["type"].as_str().unwrap_or_default();
            assert!(documented.contains(&format!("| `{kind}` |")), "{kind}");
        }
        for how in [How::Fetched, How::Reused, How::Uploaded, How::Mounted] {
            assert!(documented.contains(&format!("`{}`", word(how))));
        }
        let moved = Event::Moved { item, bytes: 1 };
        assert_eq!(super::event(&meter, None, &moved), None);
    }

    #[test]
    fn items_and_totals_have_bytes_rates_and_times_left() {
        let begin = Instant::now();
        let digest = Digest::of(b"x");
        let mut meter = Meter::new(Work::Copy, begin);
        let (item, size) = (0, 9000);
        meter.take(&Event::Planned {
            item,
            digest: digest.clone(),
            size,
        });
        meter.take(&Event::Moved { item, bytes: 3000 });
        let now = begin + Duration::from_secs(1);
        meter.sample(now);
        let (_, moving) = meter.items().next().expect("one");
        let expected = json!({
            "type": "progress", "item": 0, "digest": digest, "phase": "copy",
            "bytes": 3000, "size": 9000, "rate": 3000, "eta": 2,
        });
        assert_eq!(read(&progress(0, moving)), expected);
        let mut expected = json!({
            "type": "total", "items": 1, "done": 0, "bytes": 3000, "size": 9000, "kept": 0,
            "rate": 3000, "eta": 2, "elapsed": 1.0,
        });
        assert_eq!(read(&total(&meter.total(now), false)), expected);
        expected["type"] = json!("end");
        expected.as_object_mut().expect("an object").remove("eta");
        assert_eq!(read(&total(&meter.result(now), true)), expected);
    }
}
