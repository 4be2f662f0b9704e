//! The only writer of results (stdout) and messages (stderr); what changes at the bottom of a terminal is
//! `show`'s, and these go above it.
//!
//! Exit codes: 1 is a refusal whose reason the message gives (no such image, a conflict, content that
//! is not what was promised, a registry that is not there, a disk that is full), 2 a failure of this machine or program.

use std::fmt::{Display, Write as _};
use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use serde::Serialize;
use strata::store::{StoreError, is_of_a_full_disk};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::show::{json, screen};
use crate::transport::Interrupted;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Whether all of standard error is for a program.
static JSON: AtomicBool = AtomicBool::new(false);

/// From now on a line of standard error is JSON, whatever it tells.
pub(crate) fn speak_json() {
    JSON.store(true, Ordering::Relaxed);
}

/// Prints an error with its causes and gives the exit code it stands for.
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    progress(worded("error", story(error)));
    exit_code(error)
}

/// An error and its causes in one line, but for what an error already says of its own cause.
fn story(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let words = cause.to_string();
        if parts.last().is_none_or(|last| !last.contains(&words)) {
            parts.push(words);
        }
    }
    parts.join(": ")
}

/// Prints a message for the person at the terminal.
pub(crate) fn message(text: impl Display) {
    progress(worded("message", text));
}

/// A message's line; a program is told which kind it is of.
pub(crate) fn worded(kind: &'static str, text: impl Display) -> String {
    match JSON.load(Ordering::Relaxed) {
        true => json::words(kind, &text.to_string()),
        false => format!("strata: {text}"),
    }
}

/// Prints how something is going.
pub(crate) fn progress(text: impl Display) {
    let line = format!("{text}\n");
    // Without a place to complain there is nobody to complain to.
    let _ = screen::above(|| io::stderr().write_all(line.as_bytes()));
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    // Whatever part of the work notices it.
    if is_of_a_full_disk(error.as_ref()) {
        return ExitCode::from(1);
    }
    if let Some(interrupted) = error.downcast_ref::<Interrupted>() {
        return interrupted.code;
    }
    let unexpected = error.chain().find_map(|cause| {
        if let Some(store) = cause.downcast_ref::<StoreError>() {
            return Some(!store.is_refusal());
        }
        if cause.is::<rusqlite::Error>() {
            return Some(true);
        }
        let io = cause.downcast_ref::<io::Error>()?;
        is_of_this_machine(io).then_some(true)
    });
    ExitCode::from(if unexpected == Some(true) { 2 } else { 1 })
}

/// Whether the system refused a call, as against a peer that went away, content that is wrong, or a
/// path that was mistyped.
fn is_of_this_machine(error: &io::Error) -> bool {
    let elsewhere = matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::TimedOut
            | ErrorKind::BrokenPipe
    );
    error.raw_os_error().is_some() && !elsewhere
}

/// Prints one line of a result.
pub(crate) fn line(text: impl Display) {
    result(&format!("{text}\n"));
}

/// Prints a result as JSON, indented.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    line(serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Writes to stdout. A reader that has seen enough (`strata images | head -1`) is no failure, and what
/// the command does goes on; a result that cannot be written otherwise is one.
fn result(text: &str) {
    let written = screen::above(|| {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush())
    });
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            message(format_args!("cannot write the result: {error}"));
            std::process::exit(2);
        }
        _ => {}
    }
}

/// Writes bytes of a result as they are; `false` when the reader has seen enough.
pub(crate) fn bytes(bytes: &[u8]) -> Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write the result")),
    }
}

/// Text from anywhere in one line, without what could move a terminal's cursor.
pub(crate) fn plain(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(plain).collect()
}

/// Columns with a heading, for people.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings and no row.
    pub(crate) fn new(headings: &[&str]) -> Self {
        let headings = headings.iter().map(|&h| h.to_owned()).collect();
        Self {
            rows: vec![headings],
        }
    }

    /// Adds a row; its cells come from anywhere, so what could move a terminal's cursor is replaced.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter().map(|cell| plain(&cell));
        self.rows.push(cells.collect());
    }

    /// Prints it.
    pub(crate) fn print(&self) {
        result(&self.to_text());
    }

    fn to_text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let start = text.len();
            for (cell, width) in row.iter().zip(&widths) {
                // Writing to a String cannot fail.
                let _ = write!(text, "{cell:<width$}   ");
            }
            let end = start + text[start..].trim_end().len();
            text.truncate(end);
            text.push('\n');
        }
        text
    }
}

/// Bytes in decimal units with three digits, as docker writes them: `1.23GB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    // 999.5 would be rounded to four digits.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = match value {
        _ if unit == 0 => 0,
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    let number = format!("{value:.decimals$}");
    let number = match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.'),
        false => &number,
    };
    format!("{number}{}", UNITS[unit])
}

/// How long ago a time in seconds since 1970 was, in docker's words: `3 hours ago`.
pub(crate) fn ago(time: i64) -> String {
    let seconds = OffsetDateTime::now_utc().unix_timestamp() - time;
    format!("{} ago", duration(seconds))
}

fn duration(seconds: i64) -> String {
    let hours = (seconds + 1800) / 3600;
    match seconds {
        ..=0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{} minutes", seconds / 60),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 14 => format!("{} days", hours / 24),
        _ if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 730 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// A time in seconds since 1970 as RFC 3339, in UTC.
pub(crate) fn rfc3339(time: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(time).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(&Rfc3339).unwrap_or_default()
}

/// A time of RFC 3339 in seconds since 1970; `None` for what is none.
pub(crate) fn parse_rfc3339(text: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Some(time.unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_pull_ends_as_its_signal_has_it() {
        let (image, code) = ("app".to_owned(), ExitCode::from(130));
        let error = anyhow::Error::new(Interrupted { image, code }).context("mounting");
        assert_eq!(exit_code(&error), ExitCode::from(130));
    }

    #[test]
    fn a_cause_is_told_once() {
        let cause = io::Error::other("no space");
        let error = anyhow::Error::new(cause).context("blob 1: no space");
        assert_eq!(
            story(&error.context("copying")),
            "copying: blob 1: no space"
        );
        let other = anyhow::anyhow!("no space").context("copying");
        assert_eq!(story(&other), "copying: no space");
    }

    #[test]
    fn sizes_have_three_digits_in_decimal_units() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (12_340_000, "12.3MB"),
            (777_000_000, "777MB"),
            (999_999, "1MB"),
            (1_230_000_000, "1.23GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn durations_are_dockers() {
        const HOUR: i64 = 3600;
        for (seconds, text) in [
            (-5, "Less than a second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (3599, "59 minutes"),
            (HOUR, "About an hour"),
            (3 * HOUR, "3 hours"),
            (47 * HOUR, "47 hours"),
            (48 * HOUR, "2 days"),
            (14 * 24 * HOUR, "2 weeks"),
            (60 * 24 * HOUR, "2 months"),
            (730 * 24 * HOUR, "2 years"),
        ] {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn columns_line_up_and_cells_cannot_move_the_cursor() {
        let mut table = Table::new(&["NAME", "SIZE"]);
        table.row(["ä".to_owned(), "1\x1b[2J".to_owned()]);
        table.row(["longer".to_owned(), String::new()]);
        assert_eq!(
            table.to_text(),
            "NAME     SIZE\nä        1\u{fffd}[2J\nlonger\n"
        );
    }

    #[test]
    fn refusals_and_failures_have_their_codes() {
        let code = |error: anyhow::Error| format!("{:?}", exit_code(&error));
        let one = format!("{:?}", ExitCode::from(1));
        let two = format!("{:?}", ExitCode::from(2));
        assert_eq!(code(StoreError::NoSuchImage("a".into()).into()), one);
        assert_eq!(code(StoreError::Damaged("a".into()).into()), two);
        let full = io::Error::from_raw_os_error(28);
        assert_eq!(code(anyhow::Error::new(full).context("writing")), one);
        let denied = io::Error::from_raw_os_error(13);
        assert_eq!(code(anyhow::Error::new(denied).context("writing")), two);
        let gone = io::Error::from_raw_os_error(111);
        assert_eq!(code(anyhow::Error::new(gone).context("pulling")), one);
        let wrong = io::Error::new(ErrorKind::InvalidData, "digest differs");
        assert_eq!(code(anyhow::Error::new(wrong)), one);
    }
}
