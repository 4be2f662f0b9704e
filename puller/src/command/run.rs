//! `strata run`: run a command in a new container.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use strata::run::keys::{self, Keys};
use strata::run::{self, RunError};

use super::containers::exit_code;
use super::create::create;
use super::options::ContainerArgs;
use super::start::{Attach, Start, start};
use crate::printer;
use crate::settings::Settings;

/// Run a command in a new container
///
/// Leaves with the command's exit status: 128 and the signal's number if a signal killed it, 127 if it was not
/// found, 126 if it could not be executed, 125 if strata itself failed.
#[derive(clap::Args)]
#[command(
    disable_help_flag = true,
    override_usage = "strata run [OPTIONS] REF [COMMAND [ARG...]]"
)]
pub(crate) struct Args {
    /// Leave the container running in the background, and print its id
    #[arg(short, long)]
    detach: bool,
    /// Keys that leave a container with a terminal running in the background
    #[arg(long, value_name = "KEYS", default_value = keys::DEFAULT)]
    detach_keys: Keys,
    /// Pass signals on to the command
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, default_missing_value = "true",
          num_args = 0..=1, require_equals = true)]
    sig_proxy: bool,
    /// Write the container's id to this new file
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    #[command(flatten)]
    container: ContainerArgs,
}

/// Any failure before the command runs is ours and not the command's: 125.
pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    run_new(settings, args).or_else(|error| Ok(exit_code(&error, 125)))
}

fn run_new(settings: &Settings, args: Args) -> Result<ExitCode> {
    let config = args.container.without_image()?;
    if config.terminal && config.interactive && !args.detach && !run::on_terminal() {
        return Err(RunError::NoTerminal.into());
    }
    let (store, created) = create(settings, &args.container, args.cidfile.as_deref(), true)?;
    let attach = (!args.detach).then_some(Attach {
        input: config.interactive,
        keys: args.detach_keys,
        forward_signals: args.sig_proxy,
    });
    let name = created.record.name.clone();
    let started = start(Start {
        settings,
        store: &store,
        id: &created.record.id,
        config: &created.config,
        lowers: created.lowers,
        lock: created.lock,
        attach,
    });
    match started.with_context(|| format!("container {name}"))? {
        Some(code) => Ok(ExitCode::from(code)),
        None if args.detach => {
            printer::line(&created.record.id);
            Ok(ExitCode::SUCCESS)
        }
        None => Ok(ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        let words = ["run"].iter().chain(words);
        Line::try_parse_from(words).map(|line| line.args)
    }

    #[test]
    fn options_of_the_run_are_read_and_end_at_the_image() {
        let args = parse(&[
            "-d",
            "--sig-proxy=false",
            "--detach-keys",
            "ctrl-x",
            "image",
            "-d",
        ]);
        let args = args.expect("parses");
        assert!(args.detach && !args.sig_proxy);
        assert_eq!(args.detach_keys, "ctrl-x".parse().expect("keys"));
        let args = parse(&["--sig-proxy", "image", "--detach"]).expect("parses");
        assert!(!args.detach && args.sig_proxy);
        assert!(parse(&["--detach-keys", "xx", "image"]).is_err());
    }
}
