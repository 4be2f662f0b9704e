//! `strata image`: the commands about images, under docker's grouped words. Each is the plain command of the same
//! name.

mod append;
mod base;
mod prune;
mod rebase;
mod squash;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use crate::command;
use crate::settings::Settings;

/// Commands about images
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Append(append::Args),
    Base(base::Args),
    Diff(command::diff::Args),
    History(command::history::Args),
    Inspect(command::inspect::Args),
    #[command(visible_alias = "list")]
    Ls(command::images::Args),
    Load(command::load::Args),
    Mount(command::mount::Args),
    Prune(prune::Args),
    Pull(command::pull::Args),
    Push(command::push::Args),
    Rebase(rebase::Args),
    #[command(visible_alias = "remove")]
    Rm(command::rmi::Args),
    Save(command::save::Args),
    Squash(squash::Args),
    Tag(command::tag::Args),
    Tree(command::tree::Args),
    #[command(visible_alias = "umount")]
    Unmount(command::umount::Args),
}

pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Append(args) => append::run(settings, args),
        Command::Base(args) => base::run(settings, &args),
        Command::Rebase(args) => rebase::run(settings, args),
        Command::Squash(args) => squash::run(settings, args),
        Command::Diff(args) => command::diff::run(settings, &args),
        Command::History(args) => command::history::run(settings, args),
        Command::Inspect(args) => command::inspect::run(settings, args),
        Command::Ls(args) => command::images::run(settings, args),
        Command::Load(args) => command::load::run(settings, args),
        Command::Mount(args) => command::mount::run(settings, args),
        Command::Prune(args) => prune::run(settings, &args),
        Command::Pull(args) => command::pull::run(settings, args),
        Command::Push(args) => command::push::run(settings, args),
        Command::Rm(args) => command::rmi::run(settings, args),
        Command::Save(args) => command::save::run(settings, args),
        Command::Tag(args) => command::tag::run(settings, args),
        Command::Tree(args) => command::tree::run(settings, &args),
        Command::Unmount(args) => command::umount::run(settings, args),
    }
}
