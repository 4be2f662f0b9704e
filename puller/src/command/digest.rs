//! `strata digest`: what a name stands for now.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;
use strata::fetch;
use strata::registry::RegistryError;
use strata_oci::{Digest, Platform};

use crate::command::remote::Remote;
use crate::printer;
use crate::transport::{TransportArgs, until_interrupted};

/// Print the digest that a name stands for
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Of an index, the image for OS/ARCH[/VARIANT] [default: the index itself]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: printer::Format,
    #[command(flatten)]
    transport: TransportArgs,
    /// [HOST[:PORT]/]NAME[:TAG][@DIGEST]
    #[arg(value_name = "REF")]
    reference: String,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let remote = Remote::new(&args.reference, &args.transport)?;
    let digest = match until_interrupted(find(&remote, args.platform.as_ref()))? {
        Ok(digest) => digest,
        Err(code) => return Ok(code),
    };
    match args.format {
        printer::Format::Json => printer::json(&json!({"name": remote.full, "digest": digest}))?,
        printer::Format::Table => printer::line(digest),
    }
    Ok(ExitCode::SUCCESS)
}

/// By HEAD where that is enough: it counts against no limit of pulls.
async fn find(remote: &Remote, platform: Option<&Platform>) -> Result<Digest> {
    let (registry, repository) = (&remote.registry, &remote.repository);
    if platform.is_none() {
        match registry.head_manifest(repository, &remote.selector).await? {
            Some(head) => {
                if let Some(digest) = head.digest {
                    return Ok(digest);
                }
            }
            None => {
                let what = format!("manifest {}", remote.full);
                let message = String::new();
                return Err(RegistryError::NotFound { what, message }.into());
            }
        }
    }
    let raw = fetch::manifest(registry, repository, &remote.selector, platform).await?;
    Ok(raw.digest)
}
