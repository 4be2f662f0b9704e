//! `strata image append`: a directory or an archive as one more layer of an image.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use strata::commit::{self, LayerSource};

use crate::command::commit::Made;
use crate::command::find::local_image;
use crate::printer;
use crate::settings::Settings;

/// Put a directory or a tar archive as a layer on an image
///
/// An archive (plain, or compressed by gzip, zstd, xz or bzip2) is the layer as it is; whiteouts in it remove what is below. With SOURCE_DATE_EPOCH (seconds
/// since 1970) set, the same directory gives the same image.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Change how containers of the image start, in a Dockerfile's words
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    #[command(flatten)]
    made: Made,
    /// The image below
    #[arg(value_name = "IMAGE")]
    image: String,
    /// What becomes a layer; - is an archive on standard input
    #[arg(value_name = "DIR|TAR|-")]
    source: PathBuf,
    /// Name of the new image [default: none]
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

pub(super) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    let options = args.made.options(args.reference.as_deref(), args.change)?;
    let shown = args.source.display();
    let source = if args.source.as_os_str() == "-" {
        ensure!(
            !io::stdin().is_terminal(),
            "there is no archive on a terminal: redirect the input"
        );
        LayerSource::Archive(Box::new(io::stdin()))
    } else {
        let found = fs::metadata(&args.source).with_context(|| format!("reading {shown}"))?;
        if found.is_dir() {
            LayerSource::Directory(args.source.clone())
        } else {
            let file = File::open(&args.source).with_context(|| format!("reading {shown}"))?;
            LayerSource::Archive(Box::new(file))
        }
    };
    let store = settings.open_store()?;
    let base = local_image(&store, &args.image)?;
    let image = commit::append(&store, (&base, &args.image), source, &options)
        .with_context(|| format!("putting {shown} on {}", args.image))?;
    printer::line(&image.id);
    Ok(ExitCode::SUCCESS)
}
