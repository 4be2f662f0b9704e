//! `strata container`: the commands about containers, under docker's grouped words. Each is the plain command of the
//! same name.

mod prune;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use crate::command;
use crate::settings::Settings;

/// Commands about containers
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Commit(command::commit::Args),
    Cp(command::cp::Args),
    Diff(command::diff::Args),
    Export(command::export::Args),
    Inspect(command::inspect::Args),
    #[command(visible_aliases = ["list", "ps"])]
    Ls(command::ps::Args),
    Mount(command::mount::Args),
    Prune(prune::Args),
    #[command(visible_alias = "remove")]
    Rm(command::rm::Args),
    Run(Box<command::run::Args>),
    #[command(visible_alias = "umount")]
    Unmount(command::umount::Args),
}

pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Commit(args) => command::commit::run(settings, args),
        Command::Cp(args) => command::cp::run(settings, &args),
        Command::Diff(args) => command::diff::run(settings, &args),
        Command::Export(args) => command::export::run(settings, &args),
        Command::Inspect(args) => command::inspect::run(settings, args),
        Command::Ls(args) => command::ps::run(settings, args),
        Command::Mount(args) => command::mount::run(settings, args),
        Command::Prune(args) => prune::run(settings, &args),
        Command::Rm(args) => command::rm::run(settings, args),
        Command::Run(args) => command::run::run(settings, *args),
        Command::Unmount(args) => command::umount::run(settings, args),
    }
}
