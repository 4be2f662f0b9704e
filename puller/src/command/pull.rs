//! `strata pull`: fetch an image, only the layers that are missing here.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use oci_distribution::Reference;
use serde_json::json;
use strata::config::Source;
use strata::fetch::{self, PullOptions, PullReport};
use strata::store::{Image, Store};
use strata_oci::Platform;

use super::find::not_fetched;
use crate::printer;
use crate::settings::Settings;
use crate::show::{ProgressArgs, Show, Work};
use crate::transport::{Interrupted, TransportArgs, full_names, reference, until_interrupted};

/// Fetch images, only the layers that are missing here
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print nothing but the image's name
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    progress: ProgressArgs,
    /// Which image of several, as OS/ARCH[/VARIANT] [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// How many layers to fetch at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    parallel: u8,
    /// Keep the compressed layers that are fetched, too: a push then gives the same bytes without asking a registry
    #[arg(long)]
    keep_blobs: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: printer::Format,
    #[command(flatten)]
    transport: TransportArgs,
    /// Images to fetch: [HOST[:PORT]/]NAME[:TAG][@DIGEST]
    #[arg(required = true, value_name = "REF")]
    references: Vec<String>,
}

pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    let show = args.progress.begin(args.quiet, Work::Pull);
    let options = PullOptions {
        platform: args.platform.clone(),
        registry: args.transport.options(),
        parallel: args.parallel.into(),
        keep_blobs: args.keep_blobs,
    };
    let store = settings.open_store()?;
    for name in &args.references {
        let references = args.transport.references(name)?;
        match pull(&store, &references, &options, &show)? {
            Ok((full, report, text)) => print(&args, &full, &report, &text)?,
            Err(code) => return Ok(code),
        }
    }
    Ok(ExitCode::SUCCESS)
}

type Pulled = (String, PullReport, String);

/// Pulls the first of several that can be had.
fn pull(
    store: &Arc<Store>,
    references: &[Reference],
    options: &PullOptions,
    show: &Show,
) -> Result<std::result::Result<Pulled, ExitCode>> {
    let (last, first) = references.split_last().context("no image is named")?;
    for reference in first {
        match pull_one(store, reference, options, show) {
            Err(error) => printer::message(format_args!("{error:#}")),
            done => return done,
        }
    }
    pull_one(store, last, options, show)
}

fn pull_one(
    store: &Arc<Store>,
    reference: &Reference,
    options: &PullOptions,
    show: &Show,
) -> Result<std::result::Result<Pulled, ExitCode>> {
    let full = reference.whole();
    let began = Instant::now();
    let progress = show.part();
    let work = async {
        fetch::pull(store.clone(), reference, options, progress)
            .await
            .with_context(|| format!("pulling {full}"))
    };
    let done = until_interrupted(work)?;
    Ok(done.map(|report| {
        let text = summary(&report, began);
        (full, report, text)
    }))
}

/// `5 layers: 3 fetched (25.1MB), 2 reused (134MB) in 1.2s`
fn summary(report: &PullReport, began: Instant) -> String {
    let all = report.layers.len();
    let fetched = report.layers.iter().filter(|layer| layer.fetched).count();
    let noun = if all == 1 { "layer" } else { "layers" };
    format!(
        "{all} {noun}: {fetched} fetched ({}), {} reused ({}) in {:.1}s",
        printer::size(report.bytes_fetched),
        all - fetched,
        printer::size(report.bytes_reused),
        began.elapsed().as_secs_f64()
    )
}

fn print(args: &Args, full: &str, report: &PullReport, text: &str) -> Result<()> {
    match args.format {
        printer::Format::Json => {
            let layers = report.layers.iter().map(|layer| {
                json!({
                    "diffID": layer.diff_id,
                    "digest": layer.digest,
                    "size": layer.size,
                    "state": if layer.fetched { "fetched" } else { "reused" },
                })
            });
            printer::json(&json!({
                "image": full,
                "digest": report.resolved,
                "layers": layers.collect::<Vec<_>>(),
                "bytes_fetched": report.bytes_fetched,
                "bytes_reused": report.bytes_reused,
            }))?;
        }
        printer::Format::Table if args.quiet => printer::line(full),
        printer::Format::Table => {
            printer::line(format_args!("{full}@{}", report.resolved));
            printer::line(text);
        }
    }
    Ok(())
}

/// The image, if the store has it.
pub(crate) fn here(store: &Store, name: &str) -> Result<Option<Image>> {
    if let Some(image) = store.image(name)? {
        return Ok(Some(image));
    }
    // A short name may stand for another than docker's.
    for full in full_names(name, &Source::default())? {
        if let Some(image) = store.image(&full)? {
            return Ok(Some(image));
        }
    }
    Ok(None)
}

/// The image, pulled now if the store does not have it: docker's `--pull missing`.
pub(crate) fn ensure(store: &Arc<Store>, name: &str, progress: ProgressArgs) -> Result<Image> {
    match here(store, name)? {
        Some(image) => Ok(image),
        None => {
            always(store, name, None, progress).map_err(|error| not_fetched(store, name, error))
        }
    }
}

/// The image as its registry has it now; of several, the one for `platform` or this machine.
pub(crate) fn always(
    store: &Arc<Store>,
    name: &str,
    platform: Option<&Platform>,
    progress: ProgressArgs,
) -> Result<Image> {
    let names = full_names(name, &Source::default())?;
    let references: Vec<Reference> = names.iter().map(|n| reference(n)).collect::<Result<_>>()?;
    let show = progress.begin(false, Work::Pull);
    let options = PullOptions {
        platform: platform.cloned(),
        ..PullOptions::default()
    };
    match pull(store, &references, &options, &show)? {
        Ok((full, report, text)) => {
            printer::message(format_args!("{full}: {text}"));
            Ok(report.image)
        }
        Err(code) => {
            let image = name.to_owned();
            Err(Interrupted { image, code }.into())
        }
    }
}
