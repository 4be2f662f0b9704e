//! `strata top`: the processes of a container.

use std::collections::HashSet;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};
use strata::run::membership::processes;
use strata::store::containers::State;

use super::containers::find;
use crate::printer;
use crate::settings::Settings;

/// Show the processes of a running container, with the ids that they have outside
///
/// They are what ps(1) of this machine shows, by default with -ef.
#[derive(clap::Args)]
#[command(override_usage = "strata top CONTAINER [PS OPTIONS]")]
pub(crate) struct Args {
    /// Name or id
    container: String,
    /// Options of ps(1); the column PID has to be among those shown
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "PS OPTIONS"
    )]
    options: Vec<String>,
}

pub(crate) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    let store = settings.open_store()?;
    let container = find(&store, &args.container)?;
    ensure!(
        container.state == State::Running,
        "container {} is not running",
        args.container
    );
    let first = container.pid.context("the container has no process")?;
    let of_container: HashSet<i32> = processes(first)?.into_iter().collect();
    let default = ["-ef".to_owned()];
    let options = match args.options.is_empty() {
        true => &default[..],
        false => &args.options,
    };
    let shown = Command::new("ps")
        .args(options)
        .output()
        .context("running ps(1), which lists processes (Debian: procps)")?;
    if !shown.status.success() {
        bail!(
            "ps {}: {}",
            options.join(" "),
            String::from_utf8_lossy(&shown.stderr).trim()
        );
    }
    let text = String::from_utf8_lossy(&shown.stdout);
    let rows = select(&text, &of_container)
        .context("ps shows no column PID: it is needed to tell processes apart")?;
    let (headings, rows) = rows.split_first().context("ps shows nothing")?;
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let mut table = printer::Table::new(&headings);
    for row in rows {
        table.row(row.iter().cloned());
    }
    table.print();
    Ok(ExitCode::SUCCESS)
}

/// The heading and the rows of these processes, cut into columns; the last one has the rest of its line. `None`
/// without a column PID.
fn select(text: &str, wanted: &HashSet<i32>) -> Option<Vec<Vec<String>>> {
    let mut lines = text.lines();
    let headings: Vec<String> = lines
        .next()?
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let at = headings.iter().position(|heading| heading == "PID")?;
    let count = headings.len();
    let mut rows = vec![headings];
    for line in lines {
        let row = columns(line, count);
        let pid = row.get(at).and_then(|pid| pid.parse().ok());
        if pid.is_some_and(|pid| wanted.contains(&pid)) {
            rows.push(row);
        }
    }
    Some(rows)
}

fn columns(line: &str, count: usize) -> Vec<String> {
    let mut rest = line.trim();
    let mut columns = Vec::new();
    while columns.len() + 1 < count && !rest.is_empty() {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        columns.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    columns.push(rest.to_owned());
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_processes_are_shown_with_their_whole_command_lines() {
        let text = "UID   PID  CMD\nroot    1 init  --x\nroot   77 sleep 5\nroot  177 other\n";
        let rows = select(text, &HashSet::from([77, 1])).expect("has PID");
        assert_eq!(
            rows,
            [
                vec!["UID", "PID", "CMD"],
                vec!["root", "1", "init  --x"],
                vec!["root", "77", "sleep 5"]
            ]
        );
        assert!(select("UID CMD\nroot 1\n", &HashSet::new()).is_none());
        assert!(select("", &HashSet::new()).is_none());
    }
}
