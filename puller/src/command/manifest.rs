//! `strata manifest`: a manifest or index as its registry has it.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde_json::json;
use serde_json::value::RawValue;
use strata::fetch;
use strata_oci::Platform;

use crate::command::remote::Remote;
use crate::printer;
use crate::transport::{TransportArgs, until_interrupted};

/// Print a manifest or index, byte for byte
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Of an index, the image for OS/ARCH[/VARIANT] [default: the index itself]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// json: with digest, size and media type around it
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
    let Remote {
        registry,
        repository,
        selector,
        ..
    } = &remote;
    let platform = args.platform.as_ref();
    let work = async { Ok(fetch::manifest(registry, repository, selector, platform).await?) };
    let raw = match until_interrupted(work)? {
        Ok(raw) => raw,
        Err(code) => return Ok(code),
    };
    match args.format {
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
    Ok(ExitCode::SUCCESS)
}
