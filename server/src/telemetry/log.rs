//! The log, on stderr, for people or as JSON.
//!
//! Whoever writes a line never waits for whoever reads the log: lines pass through a bounded queue to a thread of
//! its own. When the reader stops reading, lines are dropped and counted, and requests are served all the same.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::{Log as Settings, LogFormat};
use serde_json::json;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// Lines that wait to be written, at most; a line is some hundred bytes.
const QUEUE: usize = 16 * 1024;

/// Of the process, as is the log.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();
static JSON: AtomicBool = AtomicBool::new(false);

/// The log of this process; when it is dropped, what waits is written.
pub struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    _writer: WorkerGuard,
}

/// Why the log cannot begin, or be changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A level or filter that makes no sense.
    #[error(
        "{0:?} is no log level: say error, warn, info, debug or trace, or filters such as info,request=debug"
    )]
    Level(String),
    /// There is a log already.
    #[error("cannot begin to log: {0}")]
    Begun(#[from] TryInitError),
    /// It has ended.
    #[error("the log has ended: {0}")]
    Ended(#[from] reload::Error),
}

impl Log {
    /// Begins to log. A stderr that was closed is no reason to stop.
    pub fn start(settings: &Settings) -> Result<Self, LogError> {
        let (filter, handle) = reload::Layer::new(parse(&settings.level)?);
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(QUEUE)
            .thread_name("log")
            .finish(BufWriter::with_capacity(64 * 1024, io::stderr()));
        let dropped = writer.error_counter();
        let lines = fmt::layer()
            .with_writer(writer)
            .with_target(false)
            .log_internal_errors(false);
        let registry = tracing_subscriber::registry().with(filter);
        if settings.format == LogFormat::Json {
            let lines = lines.json().flatten_event(true);
            let lines = lines.with_current_span(false).with_span_list(false);
            registry.with(lines).try_init()?;
            JSON.store(true, Ordering::Relaxed);
        } else {
            let lines = lines.with_ansi(io::stderr().is_terminal());
            registry.with(lines).try_init()?;
        }
        DROPPED.get_or_init(|| dropped);
        Ok(Self {
            filter: handle,
            _writer: guard,
        })
    }

    /// Logs what passes another level from now on.
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        Ok(self.filter.reload(parse(level)?)?)
    }
}

/// One line for the person who started the server, whatever the level; in the form of the log. When nobody
/// listens any more, the server goes on without.
pub fn say(line: &str) {
    let text = if JSON.load(Ordering::Relaxed) {
        let mut time = String::new();
        // Writing to a String cannot fail.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        json!({ "timestamp": time, "level": "INFO", "message": line }).to_string()
    } else {
        format!("stratad: {line}")
    };
    drop(writeln!(io::stderr(), "{text}"));
}

/// Lines that were dropped because nobody read the log.
pub fn dropped() -> u64 {
    DROPPED
        .get()
        .map_or(0, |dropped| dropped.dropped_lines() as u64)
}

/// Reads a level or filters. The names of the database's migrations at each start are nobody's concern.
fn parse(level: &str) -> Result<EnvFilter, LogError> {
    let failed = || LogError::Level(level.to_owned());
    // A word that is no level would be taken for a target, and nothing would be logged at all.
    let is_level = |word: &str| !word.is_empty() && LevelFilter::from_str(word).is_ok();
    let is_filter = |part: &str| match part.rsplit_once('=') {
        Some((target, level)) => !target.trim().is_empty() && is_level(level),
        None => is_level(part),
    };
    let parts: Vec<&str> = level.split(',').map(str::trim).collect();
    if !parts.iter().all(|part| is_filter(part)) {
        return Err(failed());
    }
    let filters = format!("refinery_core=warn,{}", parts.join(","));
    EnvFilter::try_new(filters).map_err(|_| failed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters_are_read_and_anything_else_is_refused() {
        for good in [
            "info",
            "WARN",
            "off",
            "info,request=debug",
            "warn, stratad=trace",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "loud",
            "info,loud",
            "info,",
            "request=loud",
            "=",
            "info;debug",
        ] {
            let error = parse(bad).map(|_| ()).expect_err(bad);
            assert!(error.to_string().contains("say error"), "{error}");
        }
    }
}
