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
    Attach(command::attach::Args),
    Create(Box<command::create::Args>),
    Diff(command::diff::Args),
    Exec(command::exec::Args),
    Export(command::export::Args),
    Inspect(command::inspect::Args),
    Kill(command::kill::Args),
    Logs(command::logs::Args),
    #[command(visible_aliases = ["list", "ps"])]
    Ls(command::ps::Args),
    Mount(command::mount::Args),
    Pause(command::pause::PauseArgs),
    Port(command::port::Args),
    Prune(prune::Args),
    Rename(command::rename::Args),
    Restart(command::restart::Args),
    #[command(visible_alias = "remove")]
    Rm(command::rm::Args),
    Run(Box<command::run::Args>),
    Start(command::start::Args),
    Stats(command::stats::Args),
    Stop(command::stop::Args),
    Top(command::top::Args),
    #[command(visible_alias = "umount")]
    Unmount(command::umount::Args),
    Unpause(command::pause::UnpauseArgs),
    Wait(command::wait::Args),
}

pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Commit(args) => command::commit::run(settings, args),
        Command::Cp(args) => command::cp::run(settings, &args),
        Command::Attach(args) => command::attach::run(settings, args),
        Command::Create(args) => command::create::run(settings, &args),
        Command::Diff(args) => command::diff::run(settings, &args),
        Command::Exec(args) => command::exec::run(settings, args),
        Command::Export(args) => command::export::run(settings, &args),
        Command::Inspect(args) => command::inspect::run(settings, args),
        Command::Kill(args) => command::kill::run(settings, &args),
        Command::Logs(args) => command::logs::run(settings, &args),
        Command::Ls(args) => command::ps::run(settings, args),
        Command::Mount(args) => command::mount::run(settings, args),
        Command::Pause(args) => command::pause::pause(settings, &args),
        Command::Port(args) => command::port::run(settings, &args),
        Command::Prune(args) => prune::run(settings, &args),
        Command::Rename(args) => command::rename::run(settings, &args),
        Command::Restart(args) => command::restart::run(settings, &args),
        Command::Rm(args) => command::rm::run(settings, args),
        Command::Run(args) => command::run::run(settings, *args),
        Command::Start(args) => command::start::run(settings, args),
        Command::Stats(args) => command::stats::run(settings, &args),
        Command::Stop(args) => command::stop::run(settings, &args),
        Command::Top(args) => command::top::run(settings, &args),
        Command::Unmount(args) => command::umount::run(settings, args),
        Command::Unpause(args) => command::pause::unpause(settings, &args),
        Command::Wait(args) => command::wait::run(settings, &args),
    }
}
