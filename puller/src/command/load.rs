//! `strata load`: images of an archive into the store.

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use strata::copy::{self, Copier, CopyOptions, Held};
use strata::inflate::Compressed;
use strata::progress::Progress;
use strata::store::{Staging, Store};
use strata_oci::{Digest, Platform};

use super::images::familiar;
use crate::printer;
use crate::settings::Settings;
use crate::show::{ProgressArgs, Work};
use crate::transport::{platforms, reference, until_interrupted};

/// Load images from an archive that docker, podman, skopeo, buildah or strata saved
///
/// Read are docker archives, OCI archives and OCI layout directories, also compressed as a whole by gzip, zstd,
/// xz or bzip2.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Read a file, or a layout directory, instead of standard input
    #[arg(short, long, value_name = "FILE|DIR")]
    input: Option<PathBuf>,
    /// Tell nothing of what happens
    #[arg(short, long)]
    quiet: bool,
    /// Which image of several, as OS/ARCH[/VARIANT] [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    #[command(flatten)]
    progress: ProgressArgs,
}

/// What was loaded.
struct Loaded {
    id: Digest,
    names: Vec<String>,
}

pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    let show = args.progress.begin(args.quiet, Work::Pull);
    ensure!(
        args.input.is_some() || !io::stdin().is_terminal(),
        "there is no archive on a terminal: use -i, or redirect the input"
    );
    let store = settings.open_store()?;
    let (path, _spooled) = archive(&store, args.input.as_deref())?;
    let shown = args.input.as_deref().unwrap_or(Path::new("standard input"));
    let held = copy::contents(&path).with_context(|| format!("reading {}", shown.display()))?;
    ensure!(!held.is_empty(), "{} holds no image", shown.display());
    let options = CopyOptions {
        platforms: platforms(args.platform.as_slice()),
        plain: true,
        ..CopyOptions::default()
    };
    let done = until_interrupted(load(&store, &held, options, show.part()));
    drop(show);
    let (loaded, failure) = match done? {
        Ok(done) => done,
        Err(code) => return Ok(code),
    };
    for image in &loaded {
        for name in familiar(&image.names) {
            printer::line(format_args!("Loaded image: {name}"));
        }
        if image.names.is_empty() {
            printer::line(format_args!("Loaded image ID: {}", image.id));
        }
    }
    match failure {
        Some(error) => Err(error.context(format!("loading {}", shown.display()))),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// One after the other; those before a failure are there.
async fn load(
    store: &Arc<Store>,
    held: &[Held],
    options: CopyOptions,
    progress: Arc<dyn Progress>,
) -> Result<(Vec<Loaded>, Option<anyhow::Error>)> {
    let copier = Copier::new(options, progress);
    let mut loaded = Vec::new();
    for image in held {
        let first = image
            .names
            .first()
            .map(|name| reference(name))
            .transpose()?;
        let brought = match copier.to_store(&image.source, store, first.as_ref()).await {
            Ok(brought) => brought,
            Err(error) => return Ok((loaded, Some(error.into()))),
        };
        for name in image.names.iter().skip(1) {
            store.tag(&brought.image, name)?;
        }
        loaded.push(Loaded {
            id: brought.image.id,
            names: image.names.clone(),
        });
    }
    Ok((loaded, None))
}

/// A file whose parts can be read by their place: the one that was given, or, of a stream and of what is compressed
/// as a whole, a plain copy that goes with the staging directory.
fn archive(store: &Store, input: Option<&Path>) -> Result<(PathBuf, Option<Staging>)> {
    // A process reads its standard input by this path as long as it does not close it.
    let path = input.unwrap_or(Path::new("/proc/self/fd/0"));
    let shown = || match input {
        Some(path) => format!("reading {}", path.display()),
        None => "reading standard input".to_owned(),
    };
    let mut file = match input {
        Some(path) => File::open(path).with_context(shown)?,
        None => File::from(
            io::stdin()
                .as_fd()
                .try_clone_to_owned()
                .with_context(shown)?,
        ),
    };
    let kind = file.metadata().with_context(shown)?.file_type();
    if kind.is_dir() {
        return Ok((path.to_owned(), None));
    }
    ensure!(!kind.is_block_device(), "{} is no archive", path.display());
    let is_plain = input.is_some()
        && kind.is_file()
        && Compressed::of_file(&mut file)
            .with_context(shown)?
            .is_none();
    if is_plain {
        return Ok((path.to_owned(), None));
    }
    let staging = store.stage()?;
    let plain = staging.path().join("archive");
    let file = match input {
        // From its beginning again.
        Some(path) if kind.is_file() => File::open(path).with_context(shown)?,
        _ => file,
    };
    copy::spool(file, &plain).with_context(shown)?;
    Ok((plain, Some(staging)))
}
