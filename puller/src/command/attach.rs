//! `strata attach`: be connected to a running container's input and output.

use std::process::ExitCode;

use anyhow::{Result, bail};
use strata::run::keys::{self, Keys};
use strata::run::{self, Attachment, Outcome, Signals};
use strata::store::Store;
use strata::store::containers::{Container, State};

use super::containers::{config, find};
use crate::printer;
use crate::settings::Settings;

/// Show what a running container prints, and pass input and signals to it
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Keys that leave a container with a terminal running in the background
    #[arg(long, value_name = "KEYS", default_value = keys::DEFAULT)]
    detach_keys: Keys,
    /// Do not pass standard input on
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on to the command
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, default_missing_value = "true",
          num_args = 0..=1, require_equals = true)]
    sig_proxy: bool,
    /// Name or id
    container: String,
}

pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    let store = settings.open_store()?;
    let container = find(&store, &args.container)?;
    match (container.state, container.paused) {
        (State::Running, false) => {}
        (State::Running, true) => {
            bail!("you cannot attach to a paused container, unpause it first")
        }
        _ => bail!("you cannot attach to a stopped container, start it first"),
    }
    let code = attach(
        &store,
        &container,
        !args.no_stdin,
        args.detach_keys,
        args.sig_proxy,
    )?;
    Ok(ExitCode::from(code))
}

/// Is attached until the program ends: its exit code. 1 for who leaves before.
pub(super) fn attach(
    store: &Store,
    container: &Container,
    input: bool,
    keys: Keys,
    forward_signals: bool,
) -> Result<u8> {
    let config = config(store, container)?;
    let input = input && config.interactive;
    if config.terminal && input && !run::on_terminal() {
        return Err(run::RunError::NoTerminal.into());
    }
    let directory = store.container_dir(&container.id);
    let signals = Signals::take(forward_signals)?;
    let mut connection = run::attach(&directory, input)?;
    let attachment = Attachment {
        input,
        terminal: config.terminal,
        keys: config.terminal.then_some(keys),
        signals_to: forward_signals.then_some(directory),
    };
    match run::relay(&mut connection, attachment, &signals)? {
        Outcome::Exited(code) => Ok(code),
        Outcome::Detached => {
            printer::progress("read escape sequence");
            Ok(1)
        }
    }
}
