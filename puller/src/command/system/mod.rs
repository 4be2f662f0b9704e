//! `strata system`: what concerns the store as a whole.

mod check;
mod dedup;
mod df;
mod prune;
mod sweep;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use crate::command::info;
use crate::settings::Settings;

/// Look after the store
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Check(check::Args),
    Dedup(dedup::Args),
    Df(df::Args),
    Info(info::Args),
    Prune(prune::Args),
    Sweep(sweep::Args),
}

pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Check(args) => check::run(settings, &args),
        Command::Dedup(args) => dedup::run(settings, &args),
        Command::Df(args) => df::run(settings, &args),
        Command::Info(args) => info::run(settings, &args),
        Command::Prune(args) => prune::run(settings, &args),
        Command::Sweep(args) => sweep::run(settings, &args),
    }
}
