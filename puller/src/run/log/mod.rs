//! What a container printed, in docker's format: a line of JSON for each line of a stream, with its time
//! (docs.docker.com, "JSON File logging driver").
//!
//! It is one file, or several if its size is bounded: `log.json`, which is written to, and before it `log.json.1`,
//! `log.json.2` ….

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use reader::Reader;
pub(super) use writer::Writer;

/// A longer line is several entries, as docker has it.
const MAX_LINE: usize = 16 * 1024;
/// An entry of the file is not longer, whatever had to be escaped.
const MAX_ENTRY: u64 = 8 * MAX_LINE as u64;

/// The file in a container's directory.
pub fn path(directory: &Path) -> PathBuf {
    directory.join("log.json")
}

/// One that is written to no more; the larger the number, the older.
fn older(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("log.json.{number}"))
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
