//! `strata tags`: the tags of a repository.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use crate::command::remote::Remote;
use crate::printer;
use crate::transport::{TransportArgs, until_interrupted};

/// List the tags of a repository
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How to print the result
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: printer::Format,
    #[command(flatten)]
    transport: TransportArgs,
    /// [HOST[:PORT]/]NAME
    #[arg(value_name = "REPOSITORY")]
    repository: String,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let remote = Remote::repository(&args.repository, &args.transport)?;
    let work = async { Ok(remote.registry.tags(&remote.repository).await?) };
    let tags = match until_interrupted(work)? {
        Ok(tags) => tags,
        Err(code) => return Ok(code),
    };
    match args.format {
        printer::Format::Json => printer::json(&json!({"name": remote.repository, "tags": tags}))?,
        printer::Format::Table => {
            for tag in tags {
                printer::line(tag);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
