//! `strata exec`: run a further command in a running container.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use strata::run::keys::{self, Keys};
use strata::run::{self, Attachment, Exec, Outcome, RunError, Signals, command};

use super::containers::{exit_code, find_running};
use crate::printer;
use crate::settings::Settings;

/// Run a command in a running container
///
/// Leaves with the command's exit status: 127 if it was not found, 126 if it could not be executed.
#[derive(clap::Args)]
#[command(override_usage = "strata exec [OPTIONS] CONTAINER COMMAND [ARG...]")]
pub(crate) struct Args {
    /// Do not wait for the command
    #[arg(short, long)]
    detach: bool,
    /// Keys that leave a command with a terminal running
    #[arg(long, value_name = "KEYS", default_value = keys::DEFAULT)]
    detach_keys: Keys,
    /// Set a variable; without a value, take it from here
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    env: Vec<OsString>,
    /// Set the variables that a file lists, one KEY=VALUE a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Pass standard input to the command
    #[arg(short, long)]
    interactive: bool,
    /// Give the command all capabilities
    #[arg(long)]
    privileged: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// User to run as: name or number, and group if wanted
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Directory to start in
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Name or id
    container: String,
    /// Command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND [ARG...]"
    )]
    command: Vec<OsString>,
}

pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    execute(settings, args)
        .map(ExitCode::from)
        .or_else(|error| Ok(exit_code(&error, 1)))
}

fn execute(settings: &Settings, args: Args) -> Result<u8> {
    let input = args.interactive && !args.detach;
    if args.tty && input && !run::on_terminal() {
        return Err(RunError::NoTerminal.into());
    }
    let store = settings.open_store()?;
    let container = find_running(&store, &args.container, "exec in")?;
    let directory = store.container_dir(&container.id);
    let exec = Exec {
        environment: variables(&args)?,
        arguments: args.command,
        working_directory: args.workdir.unwrap_or_default(),
        user: args.user,
        interactive: input,
        terminal: args.tty.then(run::terminal_size),
        privileged: args.privileged,
        detached: args.detach,
    };
    let signals = Signals::take(false)?;
    let mut connection = run::exec(&directory, exec)?;
    connection.joined(|words| printer::message(words))?;
    if args.detach {
        return Ok(0);
    }
    let attachment = Attachment {
        input,
        terminal: args.tty,
        keys: args.tty.then_some(args.detach_keys),
        signals_to: None,
    };
    match run::relay(&mut connection, attachment, &signals)? {
        Outcome::Exited(code) => Ok(code),
        Outcome::Detached => Ok(0),
    }
}

/// Variables from files first, so that those of the command line win; without a value, from here.
fn variables(args: &Args) -> Result<Vec<OsString>> {
    let mut given = Vec::new();
    for path in &args.env_file {
        let text = std::fs::read(path).with_context(|| format!("--env-file {}", path.display()))?;
        given.extend(
            command::environment_file(&text)
                .with_context(|| format!("--env-file {}", path.display()))?,
        );
    }
    given.extend(args.env.iter().cloned());
    Ok(command::environment(Vec::new(), &[], &given, |key| {
        std::env::var_os(key)
    }))
}
