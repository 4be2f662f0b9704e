//! `strata digest`: what a name stands for now.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;
use strata::registry::RegistryError;
use strata_oci::{Digest, Platform};

use crate::command::remote::{ImageArgs, Remote};
use crate::printer;

/// Print the digest that a name stands for
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    image: ImageArgs,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    args.image.ask(find, |remote, digest| {
        match args.image.format {
            printer::Format::Json => {
                printer::json(&json!({"name": remote.full, "digest": digest}))?;
            }
            printer::Format::Table => printer::line(digest),
        }
        Ok(())
    })
}

/// By HEAD where that is enough: it counts against no limit of pulls.
async fn find(remote: &Remote, platform: Option<&Platform>) -> Result<Digest> {
    if platform.is_none() {
        let head = remote
            .registry
            .head_manifest(&remote.repository, &remote.selector);
        match head.await? {
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
    Ok(remote.manifest(platform).await?.digest)
}
