//! `strata referrers`: the signatures, SBOMs and other artifacts that name an image as their subject.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;
use strata_oci::Platform;

use crate::command::remote::{ImageArgs, Remote};
use crate::printer;

/// List the signatures, SBOMs and other artifacts that belong to an image
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only those of this type
    #[arg(long, value_name = "TYPE")]
    artifact_type: Option<String>,
    #[command(flatten)]
    image: ImageArgs,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let find = async |remote: &Remote, platform: Option<&Platform>| {
        // Also of a digest the manifest is fetched: a name that is not there has no list.
        let raw = remote.manifest(platform).await?;
        let (registry, repository) = (&remote.registry, &remote.repository);
        let kind = args.artifact_type.as_deref();
        let found = registry.referrers(repository, &raw.digest, kind).await?;
        Ok((raw.digest, found.manifests))
    };
    args.image.ask(find, |remote, (subject, found)| {
        match args.image.format {
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
        Ok(())
    })
}
