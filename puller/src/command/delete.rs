//! `strata delete`: remove a tag, or a manifest with all its tags, from a registry.

use std::process::ExitCode;

use anyhow::Result;
use strata::registry::RegistryError;

use crate::command::remote::Remote;
use crate::printer;
use crate::transport::{TransportArgs, until_interrupted};

/// Remove a tag, or by its digest a manifest with all its tags, from a registry
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print nothing
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    transport: TransportArgs,
    /// [HOST[:PORT]/]NAME:TAG or [HOST[:PORT]/]NAME@DIGEST; the tag has to be written
    #[arg(required = true, value_name = "REF")]
    references: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    for text in &args.references {
        let remote = Remote::explicit(text, &args.transport)?;
        let work = async {
            let gone = remote
                .registry
                .delete_manifest(&remote.repository, &remote.selector);
            if gone.await? {
                return Ok(());
            }
            let what = format!("manifest {}", remote.full);
            let message = String::new();
            Err(RegistryError::NotFound { what, message }.into())
        };
        if let Err(code) = until_interrupted(work)? {
            return Ok(code);
        }
        if !args.quiet {
            printer::line(format_args!("deleted {}", remote.full));
        }
    }
    Ok(ExitCode::SUCCESS)
}
