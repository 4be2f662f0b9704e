//! The commands: one file each, and the flags that they share.

pub(crate) mod config;
pub(crate) mod health;
mod reload;
pub(crate) mod serve;
pub(crate) mod settings;

use stratad::config::{Inputs, Loaded};

/// What a command could not do, a line for each reason.
pub(crate) type Outcome = Result<(), Vec<String>>;

fn one(message: impl ToString) -> Vec<String> {
    vec![message.to_string()]
}

fn load(inputs: &Inputs) -> Result<Loaded, Vec<String>> {
    let failed = |problems: Vec<_>| problems.iter().map(ToString::to_string).collect();
    inputs.load().map_err(failed)
}
