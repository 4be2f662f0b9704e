//! `stratad config`: is the configuration right, and what does it say?

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use stratad::config::Inputs;

use super::settings::Settings;
use super::{Outcome, load, one};
use crate::say;

/// What to print, and how.
#[derive(Args)]
pub(crate) struct Show {
    /// How it is printed; TOML is a file that could be read again.
    #[arg(long, value_enum, default_value_t = Format::Toml)]
    format: Format,

    #[command(flatten)]
    settings: Settings,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Toml,
    Json,
}

/// Says everything that is wrong.
pub(crate) fn check(inputs: &Inputs) -> Outcome {
    let loaded = load(inputs)?;
    for warning in &loaded.warnings {
        say(&format!("warning: {warning}"));
    }
    let what = match &loaded.file {
        Some(path) => format!("{} is in order", path.display()),
        None => "there is no configuration file; what was said elsewhere is in order".to_owned(),
    };
    print(&what)
}

/// Prints each setting and where it comes from.
pub(crate) fn show(show: &Show) -> Outcome {
    let loaded = load(&show.settings.clone().inputs())?;
    match show.format {
        Format::Toml => print(loaded.toml().trim_end()),
        Format::Json => print(&format!("{:#}", loaded.json())),
    }
}

fn print(text: &str) -> Outcome {
    match writeln!(io::stdout(), "{text}") {
        // Whoever read it has had enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.map_err(|error| one(format!("cannot print: {error}"))),
    }
}
