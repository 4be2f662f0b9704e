//! `strata export`: the file system of a container or an image as one archive.

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use strata::commit::{self, Stack};
use strata::store::Store;
use strata::store::containers::{ContainerError, Kind};

use super::find::local_image;
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
    let stack = stack(&store, &args.name)?;
    let namespace = store.unpack_options().xattrs;
    let write = |out: &mut dyn Write| {
        let exported = commit::export(stack, namespace, out);
        exported.with_context(|| format!("exporting {}", args.name))
    };
    match &args.output {
        None => write(&mut BufWriter::with_capacity(1 << 18, io::stdout().lock()))?,
        Some(file) => {
            // A file that is there stays until the new one is whole.
            let mut part = file.clone().into_os_string();
            part.push(".part");
            let part = PathBuf::from(part);
            let shown = || format!("writing {}", part.display());
            let out = File::create(&part).with_context(shown)?;
            let written = write(&mut BufWriter::with_capacity(1 << 18, out));
            if let Err(error) = written {
                // The error that is told is why it is of no use.
                let _ = fs::remove_file(&part);
                return Err(error);
            }
            let named = fs::rename(&part, file);
            if named.is_err() {
                let _ = fs::remove_file(&part);
            }
            named.with_context(shown)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses a directory where a file is to be written, before all of it is.
pub(super) fn is_no_directory(file: &Path) -> Result<()> {
    ensure!(
        !file.is_dir(),
        "{} is a directory: name the file to write",
        file.display()
    );
    Ok(())
}

/// What shows.
fn stack(store: &Store, name: &str) -> Result<Stack> {
    let container = match store.container(name) {
        Ok(container) => container,
        Err(ContainerError::NoSuch(_)) => {
            return Ok(Stack::of_image(store.stack(&local_image(store, name)?)?));
        }
        Err(error) => return Err(error.into()),
    };
    let image = store.image(&container.manifest_digest.to_string())?;
    let image =
        image.with_context(|| format!("the image of container {} is gone", container.name))?;
    let lowers = store.stack(&image)?;
    Ok(match container.kind {
        Kind::ReadOnlyMount => Stack::of_image(lowers),
        _ => Stack::of_container(&store.container_dir(&container.id), lowers),
    })
}
