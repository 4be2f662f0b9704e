//! Keeping what a container prints.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::config::{Log, LogDriver};
use super::super::protocol::Stream;
use super::{Entry, MAX_LINE, older, path};

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
pub(in crate::run) struct Writer {
    directory: PathBuf,
    bounds: Log,
    file: File,
    length: u64,
    streams: [Lines; 2],
    /// Entries that could not be written since the last one that could, and why.
    lost: Option<(u64, io::Error)>,
}

impl Writer {
    /// Appends to the log in a container's directory; `None` when none is wanted.
    pub(in crate::run) fn open(directory: &Path, wanted: &Log) -> io::Result<Option<Self>> {
        if wanted.driver == LogDriver::None {
            return Ok(None);
        }
        let file = open(&path(directory))?;
        Ok(Some(Self {
            directory: directory.to_owned(),
            bounds: wanted.clone(),
            length: file.metadata()?.len(),
            file,
            streams: Default::default(),
            lost: None,
        }))
    }

    /// Notes what was printed. On a full disk entries are lost, because the program has to go on; how many is noted
    /// when there is room again.
    pub(in crate::run) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let mut entries = Entries::new();
        self.streams[index(stream)].take(bytes, |line| entries.add(stream, line));
        self.keep(&entries);
    }

    /// Notes what has no end of line. What is said when entries are lost for good.
    pub(in crate::run) fn finish(mut self) -> Option<String> {
        let mut entries = Entries::new();
        for stream in [Stream::Output, Stream::Error] {
            let rest = &self.streams[index(stream)].0;
            if !rest.is_empty() {
                entries.add(stream, rest);
            }
        }
        self.keep(&entries);
        let (count, error) = self.lost?;
        Some(format!("{count} lines of the log were lost: {error}"))
    }

    /// Writes elsewhere; where it wrote before.
    #[cfg(test)]
    pub(super) fn exchange(&mut self, file: File) -> File {
        std::mem::replace(&mut self.file, file)
    }

    fn keep(&mut self, entries: &Entries) {
        if entries.count == 0 && self.lost.is_none() {
            return;
        }
        let mut all = Entries::new();
        if let Some((count, error)) = &self.lost {
            let note = format!("strata: {count} lines of this log are missing here: {error}\n");
            all.add(Stream::Error, note.as_bytes());
        }
        all.text.extend(&entries.text);
        let before = self.lost.as_ref().map_or(0, |(count, _)| *count);
        let mut rest = all.text.as_slice();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(self.piece(rest));
            if let Err(error) = self.append(piece) {
                // Nothing of it was written, or the note of what was lost before was.
                let lines = rest.iter().filter(|b| **b == b'\n').count() as u64;
                let whole = rest.len() == all.text.len();
                let count = if whole { before + entries.count } else { lines };
                self.lost = Some((count, error));
                return;
            }
            rest = after;
        }
        self.lost = None;
    }

    /// The length of as many entries as one file may have; at least one.
    fn piece(&self, entries: &[u8]) -> usize {
        let most = self.bounds.max_size.unwrap_or(u64::MAX);
        let mut length = 0;
        for line in entries.split_inclusive(|b| *b == b'\n') {
            if length > 0 && (length + line.len()) as u64 > most {
                break;
            }
            length += line.len();
        }
        length
    }

    /// All of it, or nothing.
    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        let more = text.len() as u64;
        let full = |most| self.length > 0 && self.length + more > most;
        if self.bounds.max_size.is_some_and(full) {
            self.begin_another()?;
        }
        match self.file.write_all(text) {
            Ok(()) => self.length += more,
            Err(error) => {
                // Half an entry would spoil the next one. If this fails too, readers pass over what is damaged.
                let _ = self.file.set_len(self.length);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Puts the file aside and begins another; the oldest goes when there are too many. There always is one file
    /// that is written to, whatever fails.
    fn begin_another(&mut self) -> io::Result<()> {
        let newest = path(&self.directory);
        let next = newest.with_extension("new");
        let file = open(&next)?;
        for number in (1..self.bounds.max_files).rev() {
            let from = match number {
                1 => newest.clone(),
                number => older(&self.directory, number - 1),
            };
            match fs::rename(from, older(&self.directory, number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(next, newest)?;
        self.file = file;
        self.length = 0;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).open(path)
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Output => 0,
        Stream::Error => 1,
    }
}

/// Entries of one moment, as they are written.
struct Entries {
    time: String,
    text: Vec<u8>,
    count: u64,
}

impl Entries {
    fn new() -> Self {
        let now = OffsetDateTime::now_utc().format(&Rfc3339);
        Self {
            time: now.unwrap_or_default(),
            text: Vec::new(),
            count: 0,
        }
    }

    fn add(&mut self, stream: Stream, line: &[u8]) {
        let entry = Entry {
            text: String::from_utf8_lossy(line).into_owned(),
            stream: match stream {
                Stream::Output => "stdout".to_owned(),
                Stream::Error => "stderr".to_owned(),
            },
            time: self.time.clone(),
        };
        // Strings always are JSON.
        if serde_json::to_writer(&mut self.text, &entry).is_ok() {
            self.text.push(b'\n');
            self.count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
