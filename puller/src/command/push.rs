//! `strata push`: send an image to a registry, only what it lacks.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::json;
use strata::progress::How;
use strata::push::{self, Compression, Format, PushOptions, PushReport, Source};
use strata::store::Store;
use strata_oci::location::Location;

use super::find::local_image;
use crate::printer;
use crate::settings::Settings;
use crate::show::{ProgressArgs, Work};
use crate::transport::{TransportArgs, reference, until_interrupted};

/// Send an image to a registry, only what it lacks
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print nothing but the digest
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    progress: ProgressArgs,
    /// How many blobs to send at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    parallel: u8,
    /// How to compress the layers that have to be compressed here [default: gzip]
    #[arg(long, value_name = "gzip|zstd")]
    compression_format: Option<Format>,
    /// How hard to try: gzip 1 to 9 [default: 6], zstd 1 to 22 [default: 3]
    #[arg(long, value_name = "LEVEL", allow_negative_numbers = true)]
    compression_level: Option<i32>,
    /// Compress layers that are compressed otherwise, too
    #[arg(long, requires = "compression_format")]
    force_compression: bool,
    /// Fail if the image would get another digest
    #[arg(long, conflicts_with = "force_compression")]
    preserve_digests: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: printer::Format,
    #[command(flatten)]
    transport: TransportArgs,
    /// Image of the local store, oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:REF]
    #[arg(value_name = "SOURCE")]
    source: String,
    /// Where to: [HOST[:PORT]/]NAME[:TAG] [default: the local image's own name]
    #[arg(value_name = "TARGET")]
    target: Option<String>,
}

pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    let show = args.progress.begin(args.quiet, Work::Push);
    let format = args.compression_format.unwrap_or(Format::Gzip);
    let compression = Compression::new(format, args.compression_level)?;
    let location: Location = args.source.parse()?;
    let target = match (&args.target, &location) {
        (Some(target), _) => target,
        (None, Location::Name(name) | Location::Store(name) | Location::Registry(name)) => name,
        (None, _) => anyhow::bail!("say where to push {}: strata push {0} TARGET", args.source),
    };
    let target = reference(target)?;
    let store = settings.open_store()?;
    let source = find(&store, location)?;
    let options = PushOptions {
        registry: args.transport.options(),
        parallel: args.parallel.into(),
        compression,
        force_compression: args.force_compression,
        preserve_digests: args.preserve_digests,
    };
    let began = Instant::now();
    let full = target.whole();
    let work = async {
        push::push(store, &source, &target, &options, show.part())
            .await
            .with_context(|| format!("pushing {full}"))
    };
    let done = until_interrupted(work);
    drop(show);
    match done? {
        Ok(report) => print(&args, &full, &report, began)?,
        Err(code) => return Ok(code),
    }
    Ok(ExitCode::SUCCESS)
}

fn find(store: &Arc<Store>, location: Location) -> Result<Source> {
    Ok(match location {
        Location::Layout { dir, name } => Source::Layout { dir, name },
        Location::DockerArchive { file, reference } => Source::DockerArchive { file, reference },
        Location::OciArchive { file, name } => Source::OciArchive { file, name },
        Location::Name(name) | Location::Store(name) | Location::Registry(name) => {
            Source::Image(Box::new(local_image(store, &name)?))
        }
    })
}

fn word(how: How) -> &'static str {
    match how {
        How::Uploaded | How::Fetched => "pushed",
        How::Mounted => "mounted",
        How::Reused | How::LeftOut | How::Verified => "reused",
    }
}

fn print(args: &Args, full: &str, report: &PushReport, began: Instant) -> Result<()> {
    let total = |wanted: &[How]| {
        let blobs = report.blobs.iter().filter(|b| wanted.contains(&b.how));
        blobs.fold((0u64, 0u64), |(n, bytes), b| (n + 1, bytes + b.size))
    };
    let pushed = total(&[How::Uploaded, How::Fetched]);
    let (mounted, reused) = (total(&[How::Mounted]), total(&[How::Reused]));
    match args.format {
        printer::Format::Json => {
            let blobs = report.blobs.iter().map(
                |blob| json!({"digest": blob.digest, "size": blob.size, "state": word(blob.how)}),
            );
            printer::json(&json!({
                "image": full,
                "digest": report.digest,
                "blobs": blobs.collect::<Vec<_>>(),
                "bytes_pushed": pushed.1,
                "bytes_mounted": mounted.1,
                "bytes_reused": reused.1,
            }))?;
        }
        printer::Format::Table if args.quiet => printer::line(&report.digest),
        printer::Format::Table => {
            printer::line(format_args!("{full}@{}", report.digest));
            printer::line(format_args!(
                "{} blobs: {} pushed ({}), {} mounted ({}), {} reused ({}) in {:.1}s",
                report.blobs.len(),
                pushed.0,
                printer::size(pushed.1),
                mounted.0,
                printer::size(mounted.1),
                reused.0,
                printer::size(reused.1),
                began.elapsed().as_secs_f64()
            ));
        }
    }
    Ok(())
}
