//! `strata manifest`: a manifest or index as its registry has it.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde_json::json;
use serde_json::value::RawValue;

use crate::command::remote::{ImageArgs, Remote};
use crate::printer;

/// Print a manifest or index, byte for byte; as JSON with digest, size and media type around it
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    image: ImageArgs,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    args.image.ask(Remote::manifest, |remote, raw| {
        match args.image.format {
            printer::Format::Table => drop(printer::bytes(&raw.bytes)?),
            printer::Format::Json => {
                let document: &RawValue =
                    serde_json::from_slice(&raw.bytes).context("the manifest is not JSON")?;
                printer::json(&json!({
                    "name": remote.full,
                    "digest": raw.digest,
                    "size": raw.bytes.len(),
                    "mediaType": raw.media_type,
                    "manifest": document,
                }))?;
            }
        }
        Ok(())
    })
}
