//! `strata mirror`: repositories kept in step with others, once or on a schedule.

mod plan;
mod report;

use std::num::NonZeroU64;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use strata::copy::CopyOptions;
use strata::mirror::{self, ImageReport, MirrorConfig, MirrorOptions, MirrorReport, Outcome};
use strata::registry::RegistryOptions;
use strata_oci::Platform;

use crate::printer;
use crate::show::{ProgressArgs, Work};
use crate::transport::{SideArgs, TransportArgs, until_interrupted};

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
    /// Of an index, only the image for OS/ARCH[/VARIANT], without the index; several times: the index as it
    /// is, with these images alone [default: all of it]
    #[arg(long, value_name = "PLATFORM", requires = "to")]
    platform: Vec<Platform>,
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
    #[arg(long, value_name = "TIME", value_parser = plan::time)]
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
    #[command(flatten)]
    sides: SideArgs,
    /// The file; with --to, repositories: [HOST[:PORT]/]NAME, or one tag of one
    #[arg(required = true, value_name = "CONFIG|REPOSITORY")]
    what: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut plan = plan::plan(args)?;
    let sides = args.sides.options(&args.transport)?;
    let work = async {
        loop {
            let began = Instant::now();
            let report = round(args, &plan, sides.clone()).await?;
            let Some(every) = args.every else {
                return Ok(report);
            };
            tokio::time::sleep(every.saturating_sub(began.elapsed())).await;
            // The file may have changed; a wrong one is no reason to stop.
            match plan::plan(args) {
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

async fn round(
    args: &Args,
    plan: &MirrorConfig,
    (source, target): (RegistryOptions, RegistryOptions),
) -> Result<MirrorReport> {
    let began = Instant::now();
    let defaults = CopyOptions::default();
    let options = MirrorOptions {
        copy: CopyOptions {
            source,
            target,
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
            images.push(report::value(report));
        }
        if let Outcome::Failed(error) = &report.outcome {
            printer::message(format_args!(
                "{} to {}: {error}",
                report.source, report.target
            ));
        } else if !args.quiet && !json {
            printer::line(report::line(report));
        }
    };
    // Each image has its line, its blobs only while they travel.
    let show = args.progress.begin(args.quiet, Work::Copy).briefly();
    let report = mirror::run(&plan.syncs, &options, show.part(), &tell).await;
    drop(show);
    if json {
        let images = images.into_inner().unwrap_or_default();
        printer::json(&json!({"images": images, "total": report::total(&report)}))?;
    } else if !args.quiet {
        printer::line(report::summary(&report, args.dry_run, began));
    }
    Ok(report)
}
