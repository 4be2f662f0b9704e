//! `strata version`: docker's words for what `--version` says. There is no daemon, so that client and server are one.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;
use strata_oci::Platform;

use crate::printer;
use crate::template::Template;

/// Show the version
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print what a template makes of it, as '{{.Server.Version}}' or '{{json .}}'
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<Template>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let (version, host) = (env!("CARGO_PKG_VERSION"), Platform::host());
    match &args.format {
        Some(template) => {
            let side = json!({ "Version": version, "Os": host.os, "Arch": host.architecture });
            let both = json!({ "Client": side, "Server": side });
            printer::line(template.render(&both)?);
        }
        None => {
            printer::line(format_args!("Version: {version}"));
            printer::line(format_args!("OS/Arch: {}/{}", host.os, host.architecture));
        }
    }
    Ok(ExitCode::SUCCESS)
}
