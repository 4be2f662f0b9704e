//! What a copy did, for people and for programs.

use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};
use strata::copy::CopyReport;
use strata::progress::How;
use strata_oci::Digest;

use super::Args;
use crate::printer;

fn word(how: How) -> &'static str {
    match how {
        How::Uploaded | How::Fetched => "copied",
        How::Mounted => "mounted",
        How::Reused | How::Verified => "present",
        How::LeftOut => "left out",
    }
}

pub(super) fn print(args: &Args, reports: &[(String, CopyReport)], began: Instant) -> Result<()> {
    match args.format {
        printer::Format::Json => {
            let images: Vec<Value> = reports.iter().map(|(name, r)| value(name, r)).collect();
            printer::json(&json!({ "images": images }))?;
        }
        printer::Format::Table => {
            for (name, report) in reports {
                let digest = report.digest.as_ref().map(Digest::to_string);
                let digest = digest.unwrap_or_default();
                if args.quiet {
                    printer::line(digest);
                    continue;
                }
                let mark = if name.contains('@') { "" } else { "@" };
                let shown = if mark.is_empty() { "" } else { &*digest };
                printer::line(format_args!("{name}{mark}{shown}"));
                printer::line(summary(report, began));
            }
        }
    }
    Ok(())
}

/// `2 manifests; 5 blobs: 3 copied (25.1MB), 2 present (134MB) in 1.2s`
pub(crate) fn summary(report: &CopyReport, began: Instant) -> String {
    let took = began.elapsed().as_secs_f64();
    if report.unchanged {
        return format!("unchanged in {took:.1}s");
    }
    let ways = [
        ("copied", vec![How::Uploaded, How::Fetched]),
        ("mounted", vec![How::Mounted]),
        ("present", vec![How::Reused]),
        ("left out", vec![How::LeftOut]),
    ];
    let parts = ways.iter().filter_map(|(word, ways)| {
        let (count, bytes) = report.total(ways);
        let shown = *word == "copied" || count > 0;
        shown.then(|| format!("{count} {word} ({})", printer::size(bytes)))
    });
    let parts: Vec<String> = parts.collect();
    let (manifests, blobs) = (report.manifests, report.blobs.len());
    format!(
        "{manifests} manifests, {blobs} blobs: {} in {took:.1}s",
        parts.join(", ")
    )
}

fn value(name: &str, report: &CopyReport) -> Value {
    let blobs = report
        .blobs
        .iter()
        .map(|blob| json!({"digest": blob.digest, "size": blob.size, "state": word(blob.how)}));
    let bytes = |ways: &[How]| report.total(ways).1;
    json!({
        "target": name,
        "digest": report.digest,
        "unchanged": report.unchanged,
        "manifests": report.manifests,
        "referrers": report.referrers,
        "blobs": blobs.collect::<Vec<_>>(),
        "bytes_copied": report.bytes,
        "bytes_mounted": bytes(&[How::Mounted]),
        "bytes_present": bytes(&[How::Reused]),
        "bytes_left_out": bytes(&[How::LeftOut]),
    })
}
