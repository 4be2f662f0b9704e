//! What is written comes back.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use super::super::config::{Log, LogDriver};
use super::super::protocol::Stream;
use super::*;

fn all(reader: &mut Reader) -> Vec<Entry> {
    std::iter::from_fn(|| reader.next_entry().expect("reads")).collect()
}

fn writer(directory: &Path, wanted: &Log) -> Writer {
    let writer = Writer::open(directory, wanted).expect("opens");
    writer.expect("is wanted")
}

fn reader(directory: &Path) -> Reader {
    Reader::open(directory).expect("opens").expect("there")
}

#[test]
fn lines_of_both_streams_come_back_in_order_with_their_times() {
    let dir = tempfile::tempdir().expect("tempdir");
    assert!(Reader::open(dir.path()).expect("fine").is_none());
    let mut writer = writer(dir.path(), &Log::default());
    writer.write(Stream::Output, b"one\ntw");
    writer.write(Stream::Error, b"err \"q\" \xff\n");
    writer.write(Stream::Output, b"o\nrest");
    let mut reader = reader(dir.path());
    let texts = |entries: &[Entry]| -> Vec<(String, String)> {
        entries
            .iter()
            .map(|e| (e.stream.clone(), e.text.clone()))
            .collect()
    };
    let word = |s: &str, t: &str| (s.to_owned(), t.to_owned());
    let first = all(&mut reader);
    assert_eq!(
        texts(&first),
        [
            word("stdout", "one\n"),
            word("stderr", "err \"q\" \u{fffd}\n"),
            word("stdout", "two\n"),
        ]
    );
    assert!(
        first
            .iter()
            .all(|entry| entry.moment().is_some_and(|t| t > 0))
    );
    assert_eq!(writer.finish(), None, "nothing was lost");
    assert_eq!(
        texts(&all(&mut reader)),
        [word("stdout", "rest")],
        "a follower sees what comes later"
    );
}

#[test]
fn damage_is_passed_over_and_a_half_line_waits() {
    let dir = tempfile::tempdir().expect("tempdir");
    let good = "{\"log\":\"x\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00.5Z\"}\n";
    let text = format!("{{\"log\":\n\0\0\n{good}{}", &good[..20]);
    fs::write(path(dir.path()), text).expect("write");
    let mut reader = reader(dir.path());
    assert_eq!(all(&mut reader).len(), 1);
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(path(dir.path()))
        .expect("open");
    file.write_all(&good.as_bytes()[20..]).expect("write");
    assert_eq!(all(&mut reader).len(), 1);
}

#[test]
fn a_bounded_log_keeps_the_newest_lines_and_a_follower_misses_none() {
    let dir = tempfile::tempdir().expect("tempdir");
    let bounds = Log {
        max_size: Some(2000),
        max_files: 3,
        ..Log::default()
    };
    let mut writer = writer(dir.path(), &bounds);
    writer.write(Stream::Output, b"0\n");
    let mut follower = reader(dir.path());
    let mut followed = Vec::new();
    for number in 1..200 {
        writer.write(Stream::Output, format!("{number}\n").as_bytes());
        if number % 20 == 0 {
            followed.extend(all(&mut follower));
        }
    }
    followed.extend(all(&mut follower));
    let numbers = |entries: &[Entry]| -> Vec<u32> {
        let numbers = entries.iter().map(|entry| entry.text.trim().parse());
        numbers.map(|number| number.expect("a number")).collect()
    };
    assert_eq!(numbers(&followed), (0..200).collect::<Vec<_>>());
    let kept = numbers(&all(&mut reader(dir.path())));
    assert!((20..100).contains(&kept.len()), "{kept:?}");
    assert_eq!(kept, (200 - kept.len() as u32..200).collect::<Vec<_>>());
    let sizes = fs::read_dir(dir.path()).expect("list").map(|file| {
        let file = file.expect("entry");
        file.metadata().expect("stat").len()
    });
    let sizes: Vec<u64> = sizes.collect();
    assert!(
        sizes.len() == 3 && sizes.iter().all(|size| *size <= 2000),
        "{sizes:?}"
    );
}

#[test]
fn one_bounded_file_begins_anew_and_no_log_is_no_file() {
    let dir = tempfile::tempdir().expect("tempdir");
    let bounds = Log {
        max_size: Some(200),
        ..Log::default()
    };
    let mut writer = writer(dir.path(), &bounds);
    for line in ["one\n", "two\n", "three\n", "four\n"] {
        writer.write(Stream::Output, line.as_bytes());
    }
    // However much comes at once.
    writer.write(Stream::Output, "many\n".repeat(50).as_bytes());
    writer.write(Stream::Output, b"four\n");
    let size = fs::metadata(path(dir.path())).expect("stat").len();
    assert!(size <= 200, "{size}");
    let kept = all(&mut reader(dir.path()));
    assert_eq!(kept.last().expect("some").text, "four\n");
    assert!(kept.len() < 4);
    assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1);
    let none = Log {
        driver: LogDriver::None,
        ..Log::default()
    };
    assert!(Writer::open(dir.path(), &none).expect("fine").is_none());
}

#[test]
fn lines_for_which_there_is_no_room_are_counted_where_they_are_missing() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut writer = writer(dir.path(), &Log::default());
    writer.write(Stream::Output, b"before\n");
    let whole = fs::read(path(dir.path())).expect("read");
    // What is written to this device fails with ENOSPC.
    let full = |writer: &mut Writer| {
        let device = fs::OpenOptions::new().append(true).open("/dev/full");
        writer.exchange(device.expect("device"))
    };
    let file = full(&mut writer);
    writer.write(Stream::Output, b"lost\nlost too\n");
    writer.write(Stream::Error, b"and this\n");
    writer.exchange(file);
    writer.write(Stream::Output, b"after\n");
    assert!(
        fs::read(path(dir.path()))
            .expect("read")
            .starts_with(&whole)
    );
    let texts: Vec<String> = all(&mut reader(dir.path()))
        .into_iter()
        .map(|entry| entry.text)
        .collect();
    assert_eq!(texts.len(), 3, "{texts:?}");
    assert!(
        texts[1].contains("3 lines of this log are missing here: No space left"),
        "{texts:?}"
    );
    full(&mut writer);
    writer.write(Stream::Output, b"last\n");
    let lost = writer.finish().expect("lost");
    assert!(lost.starts_with("1 lines of the log were lost"), "{lost}");
}
