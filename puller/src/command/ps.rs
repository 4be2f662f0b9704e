//! `strata ps`: list containers.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use strata::store::containers::{Container, Kind, State};

use crate::printer;
use crate::settings::Settings;

/// List containers
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also those that have ended
    #[arg(short, long)]
    all: bool,
    /// Only ids
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
    /// Whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// One container as JSON. Times are RFC 3339.
#[derive(Serialize)]
struct Listed<'a> {
    id: &'a str,
    name: &'a str,
    image: &'a str,
    image_digest: String,
    command: &'a [String],
    state: &'static str,
    status: String,
    pid: Option<i32>,
    exit_code: Option<u8>,
    created: String,
    started: Option<String>,
    finished: Option<String>,
}

pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    let store = settings.open_store()?;
    let mut containers = store.containers()?;
    containers.retain(|c| c.kind == Kind::Container && (args.all || c.state == State::Running));
    if args.quiet {
        for container in &containers {
            printer::line(id(container, args.no_trunc));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if args.format == Format::Json {
        let listed: Vec<Listed> = containers.iter().map(listed).collect();
        printer::line(serde_json::to_string_pretty(&listed)?);
        return Ok(ExitCode::SUCCESS);
    }
    let header = [
        "CONTAINER ID",
        "IMAGE",
        "COMMAND",
        "CREATED",
        "STATUS",
        "NAMES",
    ];
    let mut rows = vec![header.map(str::to_owned)];
    for container in &containers {
        rows.push([
            id(container, args.no_trunc).to_owned(),
            container.image.clone(),
            command(&container.command, args.no_trunc),
            format!("{} ago", elapsed(container.created)),
            status(container),
            container.name.clone(),
        ]);
    }
    for row in table(&rows) {
        printer::line(row);
    }
    Ok(ExitCode::SUCCESS)
}

/// Lines with their columns below each other.
fn table<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let widths: [usize; N] = std::array::from_fn(|column| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    });
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(widths);
            let line: String = cells
                .map(|(cell, width)| format!("{cell:width$}   "))
                .collect();
            line.trim_end().to_owned()
        })
        .collect()
}

/// How long ago a moment was, in the largest unit that fits: docker's words.
fn elapsed(since: i64) -> String {
    let seconds = time::OffsetDateTime::now_utc().unix_timestamp() - since;
    in_words(seconds.max(0))
}

fn in_words(seconds: i64) -> String {
    let units = [("day", 86400), ("hour", 3600), ("minute", 60)];
    let (count, unit) = units
        .into_iter()
        .map(|(unit, length)| (seconds / length, unit))
        .find(|(count, unit)| *count > if *unit == "day" { 1 } else { 0 })
        .unwrap_or((seconds, "second"));
    match (count, unit) {
        (0, _) => "less than a second".to_owned(),
        (1, unit) => format!("1 {unit}"),
        (count, unit) => format!("{count} {unit}s"),
    }
}

fn rfc3339(seconds: i64) -> String {
    let moment = time::OffsetDateTime::from_unix_timestamp(seconds).ok();
    let text = moment.and_then(|m| {
        m.format(&time::format_description::well_known::Rfc3339)
            .ok()
    });
    text.unwrap_or_default()
}

fn id(container: &Container, whole: bool) -> &str {
    if whole {
        &container.id
    } else {
        container.short_id()
    }
}

fn listed(container: &Container) -> Listed<'_> {
    Listed {
        id: &container.id,
        name: &container.name,
        image: &container.image,
        image_digest: container.manifest_digest.to_string(),
        command: &container.command,
        state: container.state.name(),
        status: status(container),
        pid: container.pid,
        exit_code: container.exit_code,
        created: rfc3339(container.created),
        started: container.started.map(rfc3339),
        finished: container.finished.map(rfc3339),
    }
}

fn status(container: &Container) -> String {
    let since = |moment: Option<i64>| elapsed(moment.unwrap_or(container.created));
    match container.state {
        State::Created => "Created".to_owned(),
        State::Running => format!("Up {}", since(container.started)),
        State::Exited => {
            let code = container.exit_code.unwrap_or_default();
            format!("Exited ({code}) {} ago", since(container.finished))
        }
    }
}

/// The command in quotes, on one line, at most 20 characters of it: docker's way.
fn command(words: &[String], whole: bool) -> String {
    let text: String = words
        .join(" ")
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    match text.char_indices().nth(19) {
        Some((cut, _)) if !whole && text.chars().count() > 20 => format!("\"{}…\"", &text[..cut]),
        _ => format!("\"{text}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_the_largest_unit_that_fits() {
        let cases = [
            (0, "less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "1 minute"),
            (7199, "1 hour"),
            (36 * 3600, "36 hours"),
            (48 * 3600, "2 days"),
        ];
        for (seconds, words) in cases {
            assert_eq!(in_words(seconds), words);
        }
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn columns_are_below_each_other() {
        let rows = [
            ["A".to_owned(), "B".to_owned()],
            ["long".to_owned(), "x".to_owned()],
        ];
        assert_eq!(table(&rows), ["A      B", "long   x"]);
    }

    #[test]
    fn long_commands_are_cut_and_stay_on_one_line() {
        let words = |text: &str| vec![text.to_owned()];
        assert_eq!(command(&words("sh"), false), "\"sh\"");
        assert_eq!(
            command(&words(&"ä".repeat(20)), false),
            format!("\"{}\"", "ä".repeat(20))
        );
        assert_eq!(
            command(&words(&"ä".repeat(21)), false),
            format!("\"{}…\"", "ä".repeat(19))
        );
        assert_eq!(command(&words(&"x".repeat(50)), true).len(), 52);
        assert_eq!(command(&words("a\nb\x1b[31m"), false), "\"a b [31m\"");
    }
}
