//! `strata referrers`: the signatures, SBOMs and other artifacts that name an image as their subject.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;
use strata::fetch;
use strata_oci::Platform;

use crate::command::remote::Remote;
use crate::printer;
use crate::transport::{TransportArgs, until_interrupted};

/// List the signatures, SBOMs and other artifacts that belong to an image
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only those of this type
    #[arg(long, value_name = "TYPE")]
    artifact_type: Option<String>,
    /// Of an index, those of the image for OS/ARCH[/VARIANT] [default: of the index itself]
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
    let work = async {
        let (registry, repository) = (&remote.registry, &remote.repository);
        let platform = args.platform.as_ref();
        // Also of a digest the manifest is fetched: a name that is not there has no list.
        let raw = fetch::manifest(registry, repository, &remote.selector, platform).await?;
        let kind = args.artifact_type.as_deref();
        let found = registry.referrers(repository, &raw.digest, kind).await?;
        Ok((raw.digest, found.manifests))
    };
    let (subject, found) = match until_interrupted(work)? {
        Ok(found) => found,
        Err(code) => return Ok(code),
    };
    match args.format {
        printer::Format::Json => printer::json(&json!({
            "name": remote.full,
            "subject": subject,
            "referrers": found,
        }))?,
        printer::Format::Table => {
            let mut table = printer::Table::new(&["DIGEST", "ARTIFACT TYPE", "SIZE"]);
            for entry in found {
                let kind = entry.artifact_type.unwrap_or(entry.media_type);
                let size = printer::size(entry.size);
                table.row([entry.digest.to_string(), kind, size]);
            }
            table.print();
        }
    }
    Ok(ExitCode::SUCCESS)
}
