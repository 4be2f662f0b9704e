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
    #[arg(long, value_enum, default_value_t)]
    format: printer::Format,
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
    if args.format == printer::Format::Json {
        let listed: Vec<Listed> = containers.iter().map(listed).collect();
        printer::json(&listed)?;
        return Ok(ExitCode::SUCCESS);
    }
    let headings = [
        "CONTAINER ID",
        "IMAGE",
        "COMMAND",
        "CREATED",
        "STATUS",
        "NAMES",
    ];
    let mut table = printer::Table::new(&headings);
    for container in &containers {
        table.row([
            id(container, args.no_trunc).to_owned(),
            container.image.clone(),
            command(&container.command, args.no_trunc),
            printer::ago(container.created),
            status(container),
            container.name.clone(),
        ]);
    }
    table.print();
    Ok(ExitCode::SUCCESS)
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
        created: printer::rfc3339(container.created),
        started: container.started.map(printer::rfc3339),
        finished: container.finished.map(printer::rfc3339),
    }
}

fn status(container: &Container) -> String {
    let ago = |moment: Option<i64>| printer::ago(moment.unwrap_or(container.created));
    match container.state {
        State::Created => "Created".to_owned(),
        State::Running => format!("Up {}", ago(container.started).trim_end_matches(" ago")),
        State::Exited => {
            let code = container.exit_code.unwrap_or_default();
            format!("Exited ({code}) {}", ago(container.finished))
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
