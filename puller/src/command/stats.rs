//! `strata stats`: how much running containers use.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};
use strata::run::cgroup::Cgroup;
use strata::run::usage::{Usage, machine_memory, usage};
use strata::store::Store;
use strata::store::containers::{Container, Kind, State};
use strata::userns::Privilege;

use super::containers::find;
use super::layout::{self, Layout};
use crate::printer;
use crate::settings::Settings;

/// Show how much of the machine containers use
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,
    /// Show it once instead of every second
    #[arg(long)]
    no_stream: bool,
    /// Whole ids
    #[arg(long)]
    no_trunc: bool,
    /// How to print: table, json, or a template such as '{{.Name}}: {{.CPUPerc}}'
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Layout,
    /// Names or ids [default: all that run]
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// One container's, as JSON. Bytes; `cpu_percent` is of one processor.
#[derive(Serialize)]
struct Shown<'a> {
    id: &'a str,
    name: &'a str,
    cpu_percent: f64,
    memory_usage: u64,
    memory_limit: u64,
    memory_percent: f64,
    block_read: u64,
    block_written: u64,
    pids: u64,
}

/// Between two looks: the share of a processor is what was used between them.
const PERIOD: Duration = Duration::from_secs(1);

pub(crate) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    let store = settings.open_store()?;
    for name in &args.containers {
        find(&store, name)?;
    }
    let mut before: HashMap<String, (Instant, Usage)> = HashMap::new();
    look(&store, args, &mut before)?;
    loop {
        std::thread::sleep(PERIOD);
        let shown = look(&store, args, &mut before)?;
        let rows: Vec<Shown> = shown
            .iter()
            .map(|(c, usage, cpu)| row(c, usage, *cpu))
            .collect();
        match &args.format {
            Layout::Json => printer::json(&rows)?,
            Layout::Table => table(&rows, args.no_trunc),
            Layout::Template { table, template } => {
                let cells = rows.iter().map(|row| named(row, args.no_trunc));
                layout::print(*table, template, &HEADINGS, &cells.collect::<Vec<_>>())?;
            }
        }
        if args.no_stream {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// What each uses now, and the percentage of a processor since the last look.
fn look(
    store: &Store,
    args: &Args,
    before: &mut HashMap<String, (Instant, Usage)>,
) -> Result<Vec<(Container, Usage, f64)>> {
    let mut containers = store.containers()?;
    containers.retain(|c| {
        let named = |name: &String| *name == c.name || c.id.starts_with(name.as_str());
        let wanted = match args.containers.is_empty() {
            true => args.all || c.state == State::Running,
            false => args.containers.iter().any(named),
        };
        c.kind == Kind::Container && wanted
    });
    let rootless = store.privilege() == Privilege::UserNamespace;
    let mut found = Vec::new();
    for container in containers {
        let now = Instant::now();
        let used = match container.pid {
            Some(pid) => usage(&Cgroup::find(&container.id, rootless), pid)?,
            None => Usage::default(),
        };
        let earlier = before.insert(container.id.clone(), (now, used.clone()));
        let share = earlier.map_or(0.0, |(then, earlier)| {
            let used = used.processor.saturating_sub(earlier.processor);
            100.0 * used.as_secs_f64() / now.duration_since(then).as_secs_f64().max(1e-3)
        });
        found.push((container, used, share));
    }
    Ok(found)
}

fn row<'a>(container: &'a Container, usage: &Usage, cpu_percent: f64) -> Shown<'a> {
    let memory_limit = match container.state {
        State::Running => usage.memory_limit.unwrap_or_else(machine_memory),
        _ => 0,
    };
    Shown {
        id: &container.id,
        name: &container.name,
        cpu_percent,
        memory_usage: usage.memory,
        memory_limit,
        memory_percent: match memory_limit {
            0 => 0.0,
            limit => 100.0 * usage.memory as f64 / limit as f64,
        },
        block_read: usage.read,
        block_written: usage.written,
        pids: usage.processes,
    }
}

/// docker's names of the columns, and their headings.
const HEADINGS: [(&str, &str); 9] = [
    ("Container", "CONTAINER"),
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

/// What a template may name of a row. The network is the host's, so that no part of it is the container's alone.
fn named(row: &Shown, whole: bool) -> Value {
    let [id, name, cpu, memory, memory_percent, block, pids] = cells(row, whole);
    json!({
        "Container": id,
        "ID": id,
        "Name": name,
        "CPUPerc": cpu,
        "MemUsage": memory,
        "MemPerc": memory_percent,
        "NetIO": "--",
        "BlockIO": block,
        "PIDs": pids,
    })
}

/// The table's columns.
fn cells(row: &Shown, whole: bool) -> [String; 7] {
    let id = match whole {
        true => row.id,
        false => &row.id[..row.id.len().min(12)],
    };
    [
        id.to_owned(),
        row.name.to_owned(),
        format!("{:.2}%", row.cpu_percent),
        format!(
            "{} / {}",
            binary(row.memory_usage),
            binary(row.memory_limit)
        ),
        format!("{:.2}%", row.memory_percent),
        format!(
            "{} / {}",
            printer::size(row.block_read),
            printer::size(row.block_written)
        ),
        row.pids.to_string(),
    ]
}

fn table(rows: &[Shown], whole: bool) {
    let mut table = printer::Table::new(&[
        "CONTAINER ID",
        "NAME",
        "CPU %",
        "MEM USAGE / LIMIT",
        "MEM %",
        "BLOCK I/O",
        "PIDS",
    ]);
    for row in rows {
        table.row(cells(row, whole));
    }
    table.print();
}

/// Bytes in binary units with four digits, as docker writes memory: `1.944GiB`.
fn binary(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    let whole = (value.max(1.0).log10().floor() as usize).min(3);
    let text = format!("{value:.0$}", 3 - whole);
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_written_as_docker_writes_it() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (2_087_000_000, "1.944GiB"),
            (13_000_000, "12.4MiB"),
        ] {
            assert_eq!(binary(bytes), text);
        }
    }
}
