//! What a container printed, in docker's format: a line of JSON for each line of a stream, with its time
//! (docs.docker.com, "JSON File logging driver").

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::protocol::Stream;

/// A longer line is several entries, as docker has it.
const MAX_LINE: usize = 16 * 1024;
/// An entry of the file is not longer, whatever had to be escaped.
const MAX_ENTRY: u64 = 8 * MAX_LINE as u64;

/// The file in a container's directory.
pub fn path(directory: &Path) -> PathBuf {
    directory.join("log.json")
}

/// One line that was printed. Its end is in it, unless it was too long or the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The text.
    #[serde(rename = "log")]
    pub text: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// When, RFC 3339 with up to nine digits of a second.
    pub time: String,
}

impl Entry {
    /// When, in nanoseconds since 1970.
    pub fn moment(&self) -> Option<i128> {
        let time = OffsetDateTime::parse(&self.time, &Rfc3339).ok()?;
        Some(time.unix_timestamp_nanos())
    }
}

/// Cuts a stream into lines.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// The lines that are complete now.
    fn take(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let room = MAX_LINE - self.0.len();
            let end = bytes.iter().take(room).position(|b| *b == b'\n');
            let length = end.map_or(bytes.len().min(room), |at| at + 1);
            self.0.extend(&bytes[..length]);
            bytes = &bytes[length..];
            if end.is_some() || self.0.len() == MAX_LINE {
                each(&self.0);
                self.0.clear();
            }
        }
    }
}

/// Writes a container's log.
#[derive(Debug)]
pub(super) struct Writer {
    file: File,
    streams: [Lines; 2],
}

impl Writer {
    /// Appends to the log in a container's directory.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path(directory))?;
        Ok(Self {
            file,
            streams: Default::default(),
        })
    }

    /// Notes what was printed. On a full disk lines are lost: the program has to go on.
    pub(super) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let mut text = Vec::new();
        let time = now();
        self.streams[index(stream)].take(bytes, |line| append(&mut text, stream, &time, line));
        let _ = self.file.write_all(&text);
    }

    /// Notes what has no end of line.
    pub(super) fn finish(mut self) {
        let mut text = Vec::new();
        let time = now();
        for stream in [Stream::Output, Stream::Error] {
            let rest = &self.streams[index(stream)].0;
            if !rest.is_empty() {
                append(&mut text, stream, &time, rest);
            }
        }
        let _ = self.file.write_all(&text);
    }
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Output => 0,
        Stream::Error => 1,
    }
}

fn now() -> String {
    OffsetDateTime::now_utc()
        .format(&Rfc3339)
        .unwrap_or_default()
}

fn append(text: &mut Vec<u8>, stream: Stream, time: &str, line: &[u8]) {
    let entry = Entry {
        text: String::from_utf8_lossy(line).into_owned(),
        stream: match stream {
            Stream::Output => "stdout".to_owned(),
            Stream::Error => "stderr".to_owned(),
        },
        time: time.to_owned(),
    };
    // Strings always are JSON.
    if serde_json::to_writer(&mut *text, &entry).is_ok() {
        text.push(b'\n');
    }
}

/// Reads a log from its beginning, and what is added to it while it is read.
#[derive(Debug)]
pub struct Reader {
    file: io::BufReader<File>,
    partial: Vec<u8>,
}

impl Reader {
    /// Opens the log in a container's directory; `None` when nothing was ever printed.
    pub fn open(directory: &Path) -> io::Result<Option<Self>> {
        match File::open(path(directory)) {
            Ok(file) => Ok(Some(Self {
                file: io::BufReader::with_capacity(64 * 1024, file),
                partial: Vec::new(),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The next entry; `None` when there is no more now. What is damaged is passed over: a power cut may have
    /// taken part of a line.
    pub fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        loop {
            let room = MAX_ENTRY.saturating_sub(self.partial.len() as u64);
            let mut limited = io::Read::take(&mut self.file, room);
            limited.read_until(b'\n', &mut self.partial)?;
            let whole = self.partial.last() == Some(&b'\n');
            if !whole && (self.partial.len() as u64) < MAX_ENTRY {
                return Ok(None);
            }
            let entry = serde_json::from_slice(&self.partial);
            self.partial.clear();
            if let Ok(entry) = entry {
                return Ok(Some(entry));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(reader: &mut Reader) -> Vec<Entry> {
        std::iter::from_fn(|| reader.next_entry().expect("reads")).collect()
    }

    #[test]
    fn lines_of_both_streams_come_back_in_order_with_their_times() {
        let dir = tempfile::tempdir().expect("tempdir");
        assert!(Reader::open(dir.path()).expect("fine").is_none());
        let mut writer = Writer::open(dir.path()).expect("open");
        writer.write(Stream::Output, b"one\ntw");
        writer.write(Stream::Error, b"err \"q\" \xff\n");
        writer.write(Stream::Output, b"o\nrest");
        let mut reader = Reader::open(dir.path()).expect("open").expect("there");
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
        writer.finish();
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
        std::fs::write(path(dir.path()), text).expect("write");
        let mut reader = Reader::open(dir.path()).expect("open").expect("there");
        assert_eq!(all(&mut reader).len(), 1);
        let mut file = OpenOptions::new()
            .append(true)
            .open(path(dir.path()))
            .expect("open");
        file.write_all(&good.as_bytes()[20..]).expect("write");
        assert_eq!(all(&mut reader).len(), 1);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_in_cutting(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40_000), 0..4)) {
            let mut lines = Lines::default();
            let mut together = Vec::new();
            for part in &parts {
                lines.take(part, |line| {
                    assert!(line.len() <= MAX_LINE && !line.is_empty());
                    let inner = &line[..line.len() - 1];
                    assert!(!inner.contains(&b'\n'));
                    together.extend_from_slice(line);
                });
            }
            together.extend(&lines.0);
            prop_assert_eq!(together, parts.concat());
        }
    }
}
