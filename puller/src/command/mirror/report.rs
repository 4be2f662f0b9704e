//! What a mirror did, for people and for programs.

use std::time::Instant;

use serde_json::{Value, json};
use strata::mirror::{ImageReport, MirrorReport, Outcome};

use crate::printer;

pub(super) fn line(report: &ImageReport) -> String {
    let (source, target) = (&report.source, &report.target);
    match &report.outcome {
        Outcome::Copied(done) if done.unchanged => format!("unchanged  {target}"),
        Outcome::Copied(done) => format!(
            "copied     {source} -> {target} ({} travelled)",
            printer::size(done.bytes)
        ),
        Outcome::WouldCopy => format!("would copy {source} -> {target}"),
        Outcome::Deleted => format!("deleted    {target}"),
        Outcome::WouldDelete => format!("would delete {target}"),
        Outcome::Failed(error) => format!("failed     {target}: {error}"),
    }
}

pub(super) fn summary(report: &MirrorReport, dry_run: bool, began: Instant) -> String {
    let blobs = |(count, bytes): (usize, u64)| format!("{count} ({})", printer::size(bytes));
    let changed = match dry_run {
        true => format!("{} would be copied", report.images - report.unchanged),
        false => format!("{} copied", report.copied),
    };
    format!(
        "{} images: {changed}, {} unchanged, {} deleted, {} failed; blobs: {} travelled, {} mounted, {} shared in {:.1}s",
        report.images,
        report.unchanged,
        report.deleted,
        report.failed,
        blobs(report.travelled),
        blobs(report.mounted),
        blobs(report.shared),
        began.elapsed().as_secs_f64()
    )
}

pub(super) fn value(report: &ImageReport) -> Value {
    let (state, done) = match &report.outcome {
        Outcome::Copied(done) if done.unchanged => ("unchanged", Some(done)),
        Outcome::Copied(done) => ("copied", Some(done)),
        Outcome::WouldCopy => ("would copy", None),
        Outcome::Deleted => ("deleted", None),
        Outcome::WouldDelete => ("would delete", None),
        Outcome::Failed(_) => ("failed", None),
    };
    let error = match &report.outcome {
        Outcome::Failed(error) => Some(error.to_string()),
        _ => None,
    };
    json!({
        "source": report.source,
        "target": report.target,
        "state": state,
        "digest": done.and_then(|done| done.digest.as_ref()),
        "bytes_copied": done.map(|done| done.bytes),
        "error": error,
    })
}

pub(super) fn total(report: &MirrorReport) -> Value {
    let blobs = |(count, bytes): (usize, u64)| json!({"blobs": count, "bytes": bytes});
    json!({
        "images": report.images,
        "copied": report.copied,
        "unchanged": report.unchanged,
        "deleted": report.deleted,
        "failed": report.failed,
        "travelled": blobs(report.travelled),
        "mounted": blobs(report.mounted),
        "shared": blobs(report.shared),
    })
}
