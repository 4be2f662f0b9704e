//! `strata save`: images of the store into an archive.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use strata::copy::{ArchiveKind, Copier, CopyOptions, Source, Target};
use strata::progress::Progress;
use strata::store::{Image, Name, Store};
use strata_oci::output::Output;

use super::find::local_image;
use super::output::{Out, is_no_directory};
use crate::settings::Settings;
use crate::show::{ProgressArgs, Work};
use crate::transport::{TransportArgs, until_interrupted};

/// Save images into an archive, to be loaded elsewhere
///
/// A docker archive holds the layers as they were before they were compressed, to the byte, and no registry is asked.
/// The OCI forms keep compressed layers: from the registries that have them, else compressed anew.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write to a file (oci-dir: a directory) instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What to write
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Form,
    /// Several images may go into one archive: they always may
    #[arg(short, long)]
    multi_image_archive: bool,
    /// Tell nothing of what happens
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    progress: ProgressArgs,
    #[command(flatten)]
    transport: TransportArgs,
    /// Names, ids or beginnings of ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Form {
    /// For docker load and podman load
    #[default]
    DockerArchive,
    /// An OCI layout in one file
    OciArchive,
    /// An OCI layout directory
    OciDir,
}

pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    let show = args.progress.begin(args.quiet, Work::Copy);
    ensure!(
        args.output.is_some() || args.form_is_file() && !io::stdout().is_terminal(),
        "an archive is not for a terminal, and a directory is no stream: use -o, or redirect the output"
    );
    if let Some(file) = args.output.as_deref().filter(|_| args.form_is_file()) {
        is_no_directory(file)?;
    }
    let store = settings.open_store()?;
    let mut images = Vec::new();
    for name in &args.images {
        let image = local_image(&store, name)?;
        let source = Source::Store {
            store: store.clone(),
            image: Box::new(image.clone()),
        };
        images.push((source, own_name(&image, name)));
    }
    let options = CopyOptions {
        source: args.transport.options(),
        plain: args.format == Form::DockerArchive,
        resumable: false,
        ..CopyOptions::default()
    };
    let done = until_interrupted(save(&args, &store, &images, options, show.part()));
    drop(show);
    Ok(match done? {
        Ok(()) => ExitCode::SUCCESS,
        Err(code) => code,
    })
}

impl Args {
    fn form_is_file(&self) -> bool {
        self.format != Form::OciDir
    }
}

/// The name under which an image was asked for; by its id it has none, as docker has it.
fn own_name(image: &Image, asked: &str) -> Option<String> {
    let full = Name::parse(asked).ok()?.full();
    image
        .references
        .contains(&full)
        .then_some(full)
        .filter(|full| !full.contains('@'))
}

type Named = (Source, Option<String>);

async fn save(
    args: &Args,
    store: &Store,
    images: &[Named],
    options: CopyOptions,
    progress: Arc<dyn Progress>,
) -> Result<()> {
    let copier = Copier::new(options, progress);
    let kind = match args.format {
        Form::DockerArchive => ArchiveKind::Docker,
        Form::OciArchive => ArchiveKind::Oci,
        Form::OciDir => {
            let dir = args
                .output
                .as_deref()
                .context("a directory is wanted: use -o")?;
            return directory(&copier, images, dir).await;
        }
    };
    let absent = Default::default();
    let stream: Box<dyn Write + Send> = match &args.output {
        None => Box::new(io::stdout()),
        Some(file) => {
            let writing = || format!("writing {}", file.display());
            if let Output::File(_) = Output::at(file).with_context(writing)? {
                let packed = copier.pack(images, file, kind, &absent).await;
                packed.with_context(writing)?;
                return Ok(());
            }
            Box::new(Out::open(file).with_context(writing)?)
        }
    };
    // Blobs are written side by side, each to its place, so a stream comes after them.
    let staging = store.stage()?;
    let file = staging.path().join("archive");
    copier
        .pack(images, &file, kind, &absent)
        .await
        .context("making the archive")?;
    let copied = tokio::task::spawn_blocking(move || {
        let mut stream = stream;
        let copied = File::open(&file).and_then(|mut file| io::copy(&mut file, &mut stream));
        drop(staging);
        copied
    });
    copied.await?.context("writing the archive")?;
    Ok(())
}

async fn directory(copier: &Copier, images: &[Named], dir: &Path) -> Result<()> {
    for (source, name) in images {
        let target = Target::Layout {
            dir: dir.to_owned(),
            name: name.clone(),
        };
        let copied = copier.copy(source, &target).await;
        copied.with_context(|| format!("writing {}", dir.display()))?;
    }
    Ok(())
}
