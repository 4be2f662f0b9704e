//! The `stratad` command: what was typed, to the command that does it.

mod command;
mod notify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use command::settings::Settings;
use stratad::telemetry::log::say;

/// A registry for container images.
#[derive(Parser)]
#[command(name = "stratad", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the registry until SIGTERM or SIGINT; SIGHUP reads the configuration file anew.
    Serve(Settings),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(Config),
    /// Ask the server that runs with this configuration whether it is ready to serve.
    Health(command::health::Health),
}

#[derive(Subcommand)]
enum Config {
    /// Say everything that is wrong with the configuration; the exit status is 1 if anything is.
    Check(Settings),
    /// Print each setting and where it comes from.
    Show(command::config::Show),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(settings) => command::serve::run(&settings.inputs()),
        Command::Config(Config::Check(settings)) => command::config::check(&settings.inputs()),
        Command::Config(Config::Show(show)) => command::config::show(&show),
        Command::Health(health) => command::health::run(&health),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(messages) => {
            messages.iter().for_each(|message| say(message));
            ExitCode::FAILURE
        }
    }
}
