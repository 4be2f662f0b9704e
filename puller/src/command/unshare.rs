//! `strata unshare`: run a command in the user namespace of a rootless store.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::Result;
use strata::userns;

use crate::settings::Settings;

/// Run a command where the mounts of a rootless store can be seen
///
/// Opens a user and mount namespace, in which you are root of your own files and `strata mount` lasts until
/// the command ends. For root, the command just runs.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Command and its arguments [default: your shell]
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND [ARG...]"
    )]
    command: Vec<OsString>,
}

pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    userns::enter()?;
    let shell = || vec![std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into())];
    let command = if args.command.is_empty() {
        shell()
    } else {
        args.command
    };
    let Some((program, arguments)) = command.split_first() else {
        return Ok(ExitCode::FAILURE);
    };
    // Inside, the user looks like root, whose default store is another one.
    let error = Command::new(program)
        .args(arguments)
        .env("STRATA_ROOT", settings.root())
        .exec();
    let code = match error.kind() {
        std::io::ErrorKind::NotFound => 127,
        _ => 126,
    };
    crate::printer::failed(
        &anyhow::Error::from(error).context(program.to_string_lossy().into_owned()),
    );
    Ok(ExitCode::from(code))
}
