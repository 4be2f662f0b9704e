//! `strata export`: the file system of a container or an image as one archive.

use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use strata::commit::{self, Stack};
use strata::store::containers::{ContainerError, Kind};
use strata::store::{Image, Store};

use super::find::local_image;
use super::output::{Out, is_no_directory};
use crate::settings::Settings;

/// Write the file system of a container, or of an image, as a tar archive
///
/// Layers are merged: whoever unpacks the archive has the tree that a container sees.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name or id of a container, else of an image
    #[arg(value_name = "CONTAINER|IMAGE")]
    name: String,
}

pub(crate) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    ensure!(
        args.output.is_some() || !io::stdout().is_terminal(),
        "an archive is not for a terminal: use -o, or redirect the output"
    );
    if let Some(file) = &args.output {
        is_no_directory(file)?;
    }
    let store = settings.open_store()?;
    let (image, stack) = stack(&store, &args.name)?;
    let owners = commit::owners(&store, &image)?;
    let namespace = store.unpack_options().xattrs;
    let write = |out: &mut dyn Write| {
        let exported = commit::export(stack, namespace, &owners, out);
        exported.with_context(|| format!("exporting {}", args.name))
    };
    let buffered = |out: &mut dyn Write| {
        let mut out = BufWriter::with_capacity(1 << 18, out);
        write(&mut out)?;
        out.flush()
            .with_context(|| format!("exporting {}", args.name))
    };
    match &args.output {
        None => buffered(&mut io::stdout().lock())?,
        Some(file) => {
            let writing = || format!("writing {}", file.display());
            let mut out = Out::open(file).with_context(writing)?;
            buffered(&mut out)?;
            out.finish().with_context(writing)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What shows, and the image that it is of.
fn stack(store: &Store, name: &str) -> Result<(Image, Stack)> {
    let container = match store.container(name) {
        Ok(container) => container,
        Err(ContainerError::NoSuch(_)) => {
            let image = local_image(store, name)?;
            let stack = Stack::of_image(store.stack(&image)?);
            return Ok((image, stack));
        }
        Err(error) => return Err(error.into()),
    };
    let image = store.image(&container.manifest_digest.to_string())?;
    let image =
        image.with_context(|| format!("the image of container {} is gone", container.name))?;
    let lowers = store.stack(&image)?;
    let stack = match container.kind {
        Kind::ReadOnlyMount => Stack::of_image(lowers),
        _ => Stack::of_container(&store.container_dir(&container.id), lowers),
    };
    Ok((image, stack))
}
