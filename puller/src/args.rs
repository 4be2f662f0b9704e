//! What can be typed: one clap enum; each command's own words are in its file under `command/`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::command;
use crate::settings::Settings;

/// Pull, push, mount and run container images, fetching only the layers that are missing.
#[derive(Parser)]
// Of an option that is given twice the last one counts, as with docker; lists stay lists.
#[command(
    name = "strata",
    version,
    propagate_version = true,
    args_override_self = true
)]
struct Args {
    /// Directory of the local store [default: /var/lib/strata for root, else $XDG_DATA_HOME/strata]
    #[arg(long, global = true, env = "STRATA_ROOT", value_name = "DIR")]
    root: Option<PathBuf>,
    /// How layers are stacked: overlay, fuse-overlayfs or vfs (copies) [default: the first of them that works]
    #[arg(long, global = true, env = "STRATA_DRIVER", value_name = "NAME")]
    driver: Option<strata::driver::Name>,
    /// Say more of what happens, on standard error
    #[arg(long, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Pull(command::pull::Args),
    Push(command::push::Args),
    Images(command::images::Args),
    Inspect(command::inspect::Args),
    History(command::history::Args),
    Tree(command::tree::Args),
    Diff(command::diff::Args),
    Tag(command::tag::Args),
    Rmi(command::rmi::Args),
    Mount(command::mount::Args),
    #[command(visible_alias = "unmount")]
    Umount(command::umount::Args),
    Run(Box<command::run::Args>),
    Create(Box<command::create::Args>),
    Start(command::start::Args),
    Exec(command::exec::Args),
    Attach(command::attach::Args),
    Logs(command::logs::Args),
    Stop(command::stop::Args),
    Kill(command::kill::Args),
    Restart(command::restart::Args),
    Pause(command::pause::PauseArgs),
    Unpause(command::pause::UnpauseArgs),
    Wait(command::wait::Args),
    Rename(command::rename::Args),
    Top(command::top::Args),
    Stats(command::stats::Args),
    Ps(command::ps::Args),
    Port(command::port::Args),
    Rm(command::rm::Args),
    Commit(command::commit::Args),
    Cp(command::cp::Args),
    Save(command::save::Args),
    Load(command::load::Args),
    Export(command::export::Args),
    Image(command::image::Args),
    Container(command::container::Args),
    System(command::system::Args),
    Bundle(Box<command::bundle::Args>),
    Volume(command::volume::Args),
    Info(command::info::Args),
    Version(command::version::Args),
    Unshare(command::unshare::Args),
    Copy(command::copy::Args),
    #[command(alias = "sync")]
    Mirror(command::mirror::Args),
    #[command(visible_alias = "ls", alias = "list-tags")]
    Tags(command::tags::Args),
    Manifest(command::manifest::Args),
    Digest(command::digest::Args),
    #[command(alias = "discover")]
    Referrers(command::referrers::Args),
    Blob(command::blob::Args),
    Delete(command::delete::Args),
    Login(command::login::Args),
    Logout(command::logout::Args),
}

/// Parses the command line, runs the command and turns its outcome into an exit code.
pub(crate) fn parse_and_run() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return misused(&error),
    };
    crate::logs::start(args.verbose);
    let settings = match Settings::new(args.root, args.driver) {
        Ok(settings) => settings,
        Err(error) => return crate::printer::failed(&error),
    };
    let outcome = match args.command {
        Command::Pull(args) => command::pull::run(&settings, args),
        Command::Push(args) => command::push::run(&settings, args),
        Command::Images(args) => command::images::run(&settings, args),
        Command::Inspect(args) => command::inspect::run(&settings, args),
        Command::History(args) => command::history::run(&settings, args),
        Command::Tree(args) => command::tree::run(&settings, &args),
        Command::Diff(args) => command::diff::run(&settings, &args),
        Command::Tag(args) => command::tag::run(&settings, args),
        Command::Rmi(args) => command::rmi::run(&settings, args),
        Command::Mount(args) => command::mount::run(&settings, args),
        Command::Umount(args) => command::umount::run(&settings, args),
        Command::Run(args) => command::run::run(&settings, *args),
        Command::Create(args) => command::create::run(&settings, &args),
        Command::Start(args) => command::start::run(&settings, args),
        Command::Exec(args) => command::exec::run(&settings, args),
        Command::Attach(args) => command::attach::run(&settings, args),
        Command::Logs(args) => command::logs::run(&settings, &args),
        Command::Stop(args) => command::stop::run(&settings, &args),
        Command::Kill(args) => command::kill::run(&settings, &args),
        Command::Restart(args) => command::restart::run(&settings, &args),
        Command::Pause(args) => command::pause::pause(&settings, &args),
        Command::Unpause(args) => command::pause::unpause(&settings, &args),
        Command::Wait(args) => command::wait::run(&settings, &args),
        Command::Rename(args) => command::rename::run(&settings, &args),
        Command::Top(args) => command::top::run(&settings, &args),
        Command::Stats(args) => command::stats::run(&settings, &args),
        Command::Ps(args) => command::ps::run(&settings, args),
        Command::Port(args) => command::port::run(&settings, &args),
        Command::Rm(args) => command::rm::run(&settings, args),
        Command::Commit(args) => command::commit::run(&settings, args),
        Command::Cp(args) => command::cp::run(&settings, &args),
        Command::Save(args) => command::save::run(&settings, args),
        Command::Load(args) => command::load::run(&settings, args),
        Command::Export(args) => command::export::run(&settings, &args),
        Command::Image(args) => command::image::run(&settings, args),
        Command::Container(args) => command::container::run(&settings, args),
        Command::System(args) => command::system::run(&settings, args),
        Command::Bundle(args) => command::bundle::run(&settings, &args),
        Command::Volume(args) => command::volume::run(&settings, args),
        Command::Info(args) => command::info::run(&settings, &args),
        Command::Version(args) => command::version::run(&args),
        Command::Unshare(args) => command::unshare::run(&settings, args),
        Command::Copy(args) => command::copy::run(&settings, &args),
        Command::Mirror(args) => command::mirror::run(&args),
        Command::Tags(args) => command::tags::run(&args),
        Command::Manifest(args) => command::manifest::run(&args),
        Command::Digest(args) => command::digest::run(&args),
        Command::Referrers(args) => command::referrers::run(&args),
        Command::Blob(args) => command::blob::run(&args),
        Command::Delete(args) => command::delete::run(&args),
        Command::Login(args) => command::login::run(args),
        Command::Logout(args) => command::logout::run(args),
    };
    let code = outcome.unwrap_or_else(|error| crate::printer::failed(&error));
    settings.clean_up();
    code
}

/// Says what is wrong, or the help that was asked for. Of what starts programs, a command line that is none has docker's
/// exit code for failures that are not the program's.
fn misused(error: &clap::Error) -> ExitCode {
    // Nobody is left to be told.
    let _ = error.print();
    match error.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if starts_programs(std::env::args().skip(1)) => ExitCode::from(125),
        code => ExitCode::from(u8::try_from(code).unwrap_or(2)),
    }
}

fn starts_programs(mut words: impl Iterator<Item = String>) -> bool {
    while let Some(word) = words.next() {
        match word.as_str() {
            "--root" | "--driver" => drop(words.next()),
            "run" | "create" | "exec" => return true,
            "container" => {}
            word if word.starts_with('-') => {}
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_starts_programs_is_told_from_the_rest() {
        let is = |line: &str| starts_programs(line.split(' ').map(str::to_owned));
        assert!(is("run --no-such") && is("--root run container run --x") && is("exec"));
        assert!(!is("images run") && !is("--root run images") && !is("container ls"));
    }
}
