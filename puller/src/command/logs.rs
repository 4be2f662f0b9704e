//! `strata logs`: what a container has printed.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use strata::run::config::{Config, LogDriver};
use strata::run::log::{Entry, Reader};
use strata::store::Store;
use strata::store::containers::{Container, ContainerError, State};
use strata::store::moment_nanos;

use super::containers::find;
use crate::settings::Settings;

/// Show what a container has printed
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Go on until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Only what was printed since: a time, or how long ago (10m)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<i128>,
    /// Only what was printed until: a time, or how long ago (10m)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<i128>,
    /// Only so many lines from the end
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all", value_parser = tail)]
    tail: Tail,
    /// With the time of each line
    #[arg(short, long)]
    timestamps: bool,
    /// Name or id
    container: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    All,
    Last(usize),
}

/// docker takes what is no number as all, too.
#[expect(clippy::unnecessary_wraps, reason = "a parser of clap")]
fn tail(text: &str) -> Result<Tail, std::convert::Infallible> {
    Ok(text.parse().map_or(Tail::All, Tail::Last))
}

fn moment(text: &str) -> Result<i128, String> {
    moment_nanos(text).ok_or_else(|| {
        "expected how long ago (10m, 1h30m), seconds since 1970, or a date (2026-01-31T12:00:00Z)".to_owned()
    })
}

/// How often a log is looked at.
const PERIOD: Duration = Duration::from_millis(50);

pub(crate) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    let store = settings.open_store()?;
    let container = find(&store, &args.container)?;
    let directory = store.container_dir(&container.id);
    // One of an older version has no config, and a log.
    let wanted = Config::read(&directory).ok().flatten().unwrap_or_default();
    ensure!(
        wanted.log.driver != LogDriver::None,
        "configured logging driver does not support reading: container {} keeps no log (--log-driver none)",
        container.name
    );
    let mut reader =
        Reader::open(&directory).with_context(|| format!("the log of {}", container.name))?;
    if let Some(reader) = &mut reader
        && !print_present(reader, args)?
    {
        return Ok(ExitCode::SUCCESS);
    }
    if args.follow {
        follow(&store, &container, reader, args)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what comes until the container ends, or nobody reads it any more.
fn follow(
    store: &Store,
    container: &Container,
    mut reader: Option<Reader>,
    args: &Args,
) -> Result<()> {
    let directory = store.container_dir(&container.id);
    loop {
        // Asked before the log is read: what it printed last is there when it has ended.
        let ended = has_ended(store, container)?;
        if reader.is_none() {
            reader = Reader::open(&directory)?;
        }
        while let Some(entry) = reader
            .as_mut()
            .map(Reader::next_entry)
            .transpose()?
            .flatten()
        {
            if args.admits(&entry) && !print(&entry, args.timestamps)? {
                return Ok(());
            }
        }
        if ended {
            return Ok(());
        }
        std::thread::sleep(PERIOD);
    }
}

impl Args {
    fn admits(&self, entry: &Entry) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        let time = entry.moment().unwrap_or_default();
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time <= until)
    }
}

/// Prints what is there; `false` when the reader has seen enough.
fn print_present(reader: &mut Reader, args: &Args) -> Result<bool> {
    let mut last = VecDeque::new();
    while let Some(entry) = reader.next_entry()? {
        if !args.admits(&entry) {
            continue;
        }
        match args.tail {
            Tail::All => {
                if !print(&entry, args.timestamps)? {
                    return Ok(false);
                }
            }
            Tail::Last(0) => {}
            Tail::Last(count) => {
                if last.len() == count {
                    last.pop_front();
                }
                last.push_back(entry);
            }
        }
    }
    for entry in &last {
        if !print(entry, args.timestamps)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn has_ended(store: &Store, container: &Container) -> Result<bool> {
    match store.container(&container.id) {
        Ok(now) => Ok(now.state != State::Running),
        Err(ContainerError::NoSuch(_)) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Prints to the stream that the program printed to; `false` when nobody reads it any more.
fn print(entry: &Entry, timestamps: bool) -> Result<bool> {
    let time = if timestamps { entry.time.as_str() } else { "" };
    let space = if timestamps { " " } else { "" };
    let text = format!("{time}{space}{}", entry.text);
    let written = match entry.stream.as_str() {
        "stderr" => io::stderr().write_all(text.as_bytes()),
        _ => {
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        }
    };
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("cannot write the log"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_numbers_or_all() {
        assert_eq!(tail("5"), Ok(Tail::Last(5)));
        assert_eq!(tail("all"), Ok(Tail::All));
        assert_eq!(tail("-1"), Ok(Tail::All));
    }
}
