//! `strata system dedup`: files that several layers have are kept once.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;
use strata::layer::Sharing;
use strata::store::DedupOptions;

use crate::printer::{self, Format};
use crate::settings::Settings;

/// Keep files once that several layers have
///
/// Identical files share their blocks where the file system can do that (Btrfs, XFS, bcachefs); running containers are not disturbed.
/// What shares blocks already is counted again.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Make identical files one file of several names: works on every file system, for files whose mode, owner, time and attributes are
    /// the same too; a container sees them as links of one file until it writes to one; layers that a running container or a mount shows
    /// are left as they are
    #[arg(long)]
    hard_links: bool,
    /// Only say what would be shared
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Leave smaller files alone, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(1..))]
    min_size: u64,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    let report = settings.open_store()?.dedup(&DedupOptions {
        sharing: match args.hard_links {
            true => Sharing::Links,
            false => Sharing::Blocks,
        },
        least: args.min_size,
        dry_run: args.dry_run,
    })?;
    for (layer, users) in &report.in_use {
        let users = users.join(", ");
        printer::message(format!("layer {layer} stays as it is: {users} shows it"));
    }
    let (files, bytes) = (report.shared.files, report.shared.bytes);
    match args.format {
        Format::Json => {
            let in_use = report.in_use.iter();
            let in_use: Vec<_> = in_use
                .map(|(layer, users)| json!({"layer": layer, "shown_by": users}))
                .collect();
            printer::json(&json!({
                "files": files, "bytes": bytes, "dry_run": args.dry_run, "left_layers": in_use,
            }))?;
        }
        Format::Table => {
            let word = if args.dry_run {
                "Would share"
            } else {
                "Shared"
            };
            let plural = if files == 1 { "file" } else { "files" };
            printer::line(format!(
                "{word}: {files} {plural}, {}",
                printer::size(bytes)
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}
