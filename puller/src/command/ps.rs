//! `strata ps`: list containers.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use strata::driver::Writable;
use strata::run::config::Config;
use strata::store::containers::{Container, Kind, State};
use strata::store::{Store, disk_usage};

use super::layout::{self, Layout};
use crate::printer;
use crate::settings::Settings;

mod filter;
mod format;

use filter::Filter;

/// List containers
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,
    /// Only what this lets through: name=, id=, status=, label=KEY[=VALUE], ancestor=IMAGE, exited=CODE, before=, since=,
    /// volume= or network=
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<Filter>,
    /// Only the last so many, running or not
    #[arg(short = 'n', long, value_name = "NUMBER")]
    last: Option<usize>,
    /// Only the last one, running or not
    #[arg(short, long)]
    latest: bool,
    /// Only ids
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
    /// Whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// With what their writable layers take on disk
    #[arg(short, long)]
    size: bool,
    /// How to print: table, json, or a template such as '{{.ID}} {{.Names}}' or 'table {{.Names}}\t{{.Status}}'
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Layout,
}

/// One container as JSON. Times are RFC 3339, sizes bytes.
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
    labels: std::collections::BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    let store = settings.open_store()?;
    let containers = choose(&store, &args)?;
    if args.quiet {
        for container in &containers {
            printer::line(id(container, args.no_trunc));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Layout::Template { table, template } = &args.format {
        let rows: Vec<_> = containers
            .iter()
            .map(|c| format::row(&store, c, &args))
            .collect();
        layout::print(*table, template, &format::HEADINGS, &rows)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.format == Layout::Json {
        let listed: Vec<Listed> = containers
            .iter()
            .map(|container| listed(&store, container, args.size))
            .collect();
        printer::json(&listed)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut headings = vec![
        "CONTAINER ID",
        "IMAGE",
        "COMMAND",
        "CREATED",
        "STATUS",
        "NAMES",
    ];
    if args.size {
        headings.push("SIZE");
    }
    let mut table = printer::Table::new(&headings);
    for container in &containers {
        let mut row = vec![
            id(container, args.no_trunc).to_owned(),
            container.image.clone(),
            command(&container.command, args.no_trunc),
            printer::ago(container.created),
            status(container),
            container.name.clone(),
        ];
        if args.size {
            row.push(printer::size(size(&store, container)));
        }
        table.row(row);
    }
    table.print();
    Ok(ExitCode::SUCCESS)
}

/// Those to be listed, the newest first.
fn choose(store: &Store, args: &Args) -> Result<Vec<Container>> {
    let mut containers = store.containers()?;
    containers.retain(|container| container.kind == Kind::Container);
    let last = args.last.or(args.latest.then_some(1));
    // Who asks for a state means all that are in it.
    let all = args.all || last.is_some() || args.filter.iter().any(Filter::is_about_state);
    let admitted = filter::choose(store, &containers, &args.filter)?;
    let mut admitted = admitted.into_iter();
    containers.retain(|container| {
        admitted.next().unwrap_or(false) && (all || container.state == State::Running)
    });
    containers.truncate(last.unwrap_or(usize::MAX));
    Ok(containers)
}

fn id(container: &Container, whole: bool) -> &str {
    if whole {
        &container.id
    } else {
        container.short_id()
    }
}

fn size(store: &Store, container: &Container) -> u64 {
    disk_usage(&Writable::of(&store.container_dir(&container.id)).upper)
}

fn listed<'a>(store: &Store, container: &'a Container, with_size: bool) -> Listed<'a> {
    let config = Config::read(&store.container_dir(&container.id));
    Listed {
        id: &container.id,
        name: &container.name,
        image: &container.image,
        image_digest: container.manifest_digest.to_string(),
        command: &container.command,
        state: container.status(),
        status: status(container),
        pid: container.pid,
        exit_code: container.exit_code,
        created: printer::rfc3339(container.created),
        started: container.started.map(printer::rfc3339),
        finished: container.finished.map(printer::rfc3339),
        labels: config.ok().flatten().unwrap_or_default().labels,
        size: with_size.then(|| size(store, container)),
    }
}

fn status(container: &Container) -> String {
    let ago = |moment: Option<i64>| printer::ago(moment.unwrap_or(container.created));
    match container.state {
        State::Created => "Created".to_owned(),
        State::Running => {
            let paused = if container.paused { " (Paused)" } else { "" };
            format!(
                "Up {}{paused}",
                ago(container.started).trim_end_matches(" ago")
            )
        }
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
