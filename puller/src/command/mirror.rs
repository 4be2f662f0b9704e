//! `strata mirror`: repositories kept in step with others, once or on a schedule.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use strata::copy::CopyOptions;
use strata::mirror::{
    self, Destination, Glob, ImageReport, MirrorConfig, MirrorOptions, MirrorReport, Outcome,
    Repository, Sync, TagFilter,
};
use strata_oci::Platform;

use crate::command::remote::has_selector;
use crate::printer;
use crate::show::{ProgressArgs, Work};
use crate::transport::{TransportArgs, reference, until_interrupted};

/// Keep repositories in step with others
///
/// Either a file says which (see the documentation of the library's mirror module), or they are named, and
/// --to says where their copies are: below a registry or a path in one, or in an oci: directory.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the named repositories go: HOST[:PORT][/PATH] or oci:DIR
    #[arg(long, value_name = "TARGET")]
    to: Option<String>,
    /// Only tags that fit this pattern (* and ?); several times: any of them
    #[arg(long, value_name = "GLOB", requires = "to")]
    tags: Vec<String>,
    /// Not the tags that fit this pattern
    #[arg(long, value_name = "GLOB", requires = "to")]
    exclude: Vec<String>,
    /// Only tags that fit this regular expression as a whole
    #[arg(long, value_name = "REGEX", requires = "to", value_parser = mirror::whole_tag)]
    regex: Option<regex::Regex>,
    /// Only tags that are versions in this range, such as ">=1.2, <2"
    #[arg(long, value_name = "RANGE", requires = "to")]
    semver: Option<semver::VersionReq>,
    /// Only so many of the newest
    #[arg(long, value_name = "N", requires = "to", value_parser = clap::value_parser!(u32).range(1..))]
    newest: Option<u32>,
    /// Of an index, only the image for OS/ARCH[/VARIANT] [default: all of it]
    #[arg(long, value_name = "PLATFORM", requires = "to")]
    platform: Option<Platform>,
    /// Also signatures, SBOMs and other artifacts that belong to the images
    #[arg(long, requires = "to")]
    referrers: bool,
    /// Remove the tags of the target that the source does not have, or that are not chosen
    #[arg(long, requires = "to")]
    delete: bool,
    /// How many images at once [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    images: Option<u8>,
    /// How many blobs of each image at once [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    parallel: Option<u8>,
    /// At most so many bytes a second, such as 500k, 20M or 1G
    #[arg(long, value_name = "BYTES", value_parser = mirror::parse_rate)]
    limit_rate: Option<NonZeroU64>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Again and again, such as every 30m, 6h or 1d, until SIGTERM or SIGINT
    #[arg(long, value_name = "TIME", value_parser = time)]
    every: Option<Duration>,
    /// Print only what failed
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    progress: ProgressArgs,
    /// How to print the result
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: printer::Format,
    #[command(flatten)]
    transport: TransportArgs,
    /// The file; with --to, repositories: [HOST[:PORT]/]NAME, or one tag of one
    #[arg(required = true, value_name = "CONFIG|REPOSITORY")]
    what: Vec<String>,
}

/// `90s`, `30m`, `6h`, `1d`.
fn time(text: &str) -> Result<Duration, String> {
    let invalid = || format!("{text:?} is not a time such as 90s, 30m, 6h or 1d");
    let last = text.len().saturating_sub(1);
    let (number, unit) = text.split_at_checked(last).ok_or_else(invalid)?;
    let unit: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err(invalid()),
    };
    let number: u64 = number.parse().map_err(|_| invalid())?;
    let seconds = number
        .checked_mul(unit)
        .filter(|s| (1..=366 * 86400).contains(s));
    seconds.map(Duration::from_secs).ok_or_else(invalid)
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut plan = plan(args)?;
    let work = async {
        loop {
            let began = Instant::now();
            let report = round(args, &plan).await?;
            let Some(every) = args.every else {
                return Ok(report);
            };
            tokio::time::sleep(every.saturating_sub(began.elapsed())).await;
            // The file may have changed; a wrong one is no reason to stop.
            match self::plan(args) {
                Ok(fresh) => plan = fresh,
                Err(error) => printer::message(format_args!("{error:#}: going on as before")),
            }
        }
    };
    match until_interrupted(work)? {
        Ok(report) if report.failed > 0 => Ok(ExitCode::from(1)),
        Ok(_) => Ok(ExitCode::SUCCESS),
        // Ending is what a mirror on a schedule is told to do some day.
        Err(_) if args.every.is_some() => Ok(ExitCode::SUCCESS),
        Err(code) => Ok(code),
    }
}

/// What is to be done, from the file or the command line.
fn plan(args: &Args) -> Result<MirrorConfig> {
    let mut plan = match &args.to {
        Some(to) => named(args, to)?,
        None => {
            let [file] = &args.what[..] else {
                anyhow::bail!("expected one file, or repositories with --to TARGET");
            };
            read(Path::new(file))?
        }
    };
    plan.images = args.images.map(usize::from).or(plan.images);
    plan.parallel = args.parallel.map(usize::from).or(plan.parallel);
    plan.rate = args.limit_rate.or(plan.rate);
    Ok(plan)
}

fn read(file: &Path) -> Result<MirrorConfig> {
    let text = std::fs::read_to_string(file).with_context(|| {
        let file = PathBuf::from(file);
        format!(
            "{}: not a readable file; to mirror a repository say --to TARGET",
            file.display()
        )
    })?;
    MirrorConfig::parse(&text).with_context(|| file.display().to_string())
}

fn named(args: &Args, to: &str) -> Result<MirrorConfig> {
    let globs = |texts: &[String]| texts.iter().map(Glob::new).collect::<Vec<_>>();
    let filter = TagFilter {
        globs: globs(&args.tags),
        exclude: globs(&args.exclude),
        regex: args.regex.clone(),
        semver: args.semver.clone(),
        newest: args.newest.and_then(|n| usize::try_from(n).ok()),
    };
    let mut syncs = Vec::new();
    for text in &args.what {
        let (source, tag) = match has_selector(text) {
            true => {
                let image = reference(text)?;
                ensure!(
                    image.digest().is_none(),
                    "{text:?}: a mirror keeps tags, not digests"
                );
                let name = image.repository().to_owned();
                let registry = image.registry().to_owned();
                (
                    Repository { registry, name },
                    image.tag().map(str::to_owned),
                )
            }
            false => (text.parse()?, None),
        };
        syncs.push(Sync {
            destination: Destination::below(to, &source)?,
            source,
            tag,
            filter: filter.clone(),
            platform: args.platform.clone(),
            referrers: args.referrers,
            delete: args.delete,
        });
    }
    Ok(MirrorConfig {
        images: None,
        parallel: None,
        rate: None,
        syncs,
    })
}

async fn round(args: &Args, plan: &MirrorConfig) -> Result<MirrorReport> {
    let began = Instant::now();
    let defaults = CopyOptions::default();
    let options = MirrorOptions {
        copy: CopyOptions {
            source: args.transport.options(),
            target: args.transport.options(),
            parallel: plan.parallel.unwrap_or(defaults.parallel),
            rate: plan.rate,
            ..defaults
        },
        images: plan.images.unwrap_or(3),
        dry_run: args.dry_run,
    };
    let json = matches!(args.format, printer::Format::Json);
    let images = std::sync::Mutex::new(Vec::new());
    let tell = |report: &ImageReport| {
        if json && let Ok(mut images) = images.lock() {
            images.push(value(report));
        }
        if let Outcome::Failed(error) = &report.outcome {
            printer::message(format_args!(
                "{} to {}: {error}",
                report.source, report.target
            ));
        } else if !args.quiet && !json {
            printer::line(line(report));
        }
    };
    // Each image has its line, its blobs only while they travel.
    let show = args.progress.begin(args.quiet, Work::Copy).briefly();
    let report = mirror::run(&plan.syncs, &options, show.part(), &tell).await;
    drop(show);
    if json {
        let images = images.into_inner().unwrap_or_default();
        printer::json(&json!({"images": images, "total": total(&report)}))?;
    } else if !args.quiet {
        printer::line(summary(&report, args.dry_run, began));
    }
    Ok(report)
}

fn line(report: &ImageReport) -> String {
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

fn summary(report: &MirrorReport, dry_run: bool, began: Instant) -> String {
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

fn value(report: &ImageReport) -> Value {
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

fn total(report: &MirrorReport) -> Value {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(time("6h"), Ok(Duration::from_secs(6 * 3600)));
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
        for bad in ["", "6", "h", "0s", "-1h", "6w", "9999d", "6é"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
