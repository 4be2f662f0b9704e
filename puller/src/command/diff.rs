//! `strata diff`: what differs between two images, or between a container and its image.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use strata::commit::OF_EVERY_CONTAINER;
use strata::diff::{Aspect, Change, Differences, Options, Side, compare};
use strata::driver::{Name, Writable};
use strata::store::containers::ContainerError;
use strata::store::{Image, Layer, Store};
use strata_oci::digest::Digest;

use super::containers::unknown;
use super::find::local_image;
use crate::printer::{self, Format};
use crate::settings::Settings;

/// Show what differs between two images, or between a container and its image
///
/// Files are told as docker does: A added, C changed, D deleted. Of two images, only the layers that differ are looked
/// at.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only layers, no files
    #[arg(long, conflicts_with = "times")]
    layers: bool,
    /// Files differ, too, that were only modified at different times
    #[arg(long)]
    times: bool,
    /// Exit with 1 if there are differences
    #[arg(long)]
    exit_code: bool,
    /// Print nothing, only exit with 1 if there are differences
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Image, or name or id of a container
    #[arg(value_name = "IMAGE1|CONTAINER")]
    one: String,
    /// The other image
    #[arg(value_name = "IMAGE2")]
    other: Option<String>,
}

/// All of it, as JSON.
#[derive(Serialize)]
struct Report<'a> {
    /// Of two images.
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<Layers<'a>>,
    /// Unless only layers were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Vec<Told>>,
}

#[derive(Serialize)]
struct Layers<'a> {
    common: Vec<One<'a>>,
    deleted: Vec<One<'a>>,
    added: Vec<One<'a>>,
}

/// A layer; its size is the bytes of its files.
#[derive(Serialize)]
struct One<'a> {
    diff_id: &'a Digest,
    size: u64,
}

/// One path.
#[derive(Serialize)]
struct Told {
    change: &'static str,
    path: String,
    /// What differs, if both have it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    what: Vec<&'static str>,
}

pub(crate) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    let store = settings.open_store()?;
    let (one, other);
    let mut report = Report {
        layers: None,
        files: None,
    };
    match &args.other {
        None => {
            if args.layers {
                bail!(
                    "a container has the layers of its image and one of its own: --layers is for two images"
                );
            }
            report.files = Some(told(&of_container(&store, &args.one, args.times)?));
        }
        Some(name) => {
            (one, other) = (local_image(&store, &args.one)?, local_image(&store, name)?);
            report.layers = Some(layers(&one, &other));
            if !args.layers {
                report.files = Some(told(&of_images(&store, &one, &other, args.times)?));
            }
        }
    }
    let same_layers = report
        .layers
        .as_ref()
        .is_none_or(|l| l.added.is_empty() && l.deleted.is_empty());
    // Without a word about files, layers decide; their order may differ, too, and then files say it.
    let differs = match &report.files {
        Some(files) => !files.is_empty(),
        None => !same_layers,
    };
    if !args.quiet {
        match args.format {
            Format::Json => printer::json(&report)?,
            Format::Table => print(&report),
        }
    }
    let failed = differs && (args.exit_code || args.quiet);
    Ok(ExitCode::from(u8::from(failed)))
}

fn layers<'a>(one: &'a Image, other: &'a Image) -> Layers<'a> {
    let of = |image: &'a Image| -> HashSet<&'a Digest> {
        image.layers.iter().map(|l| &l.diff_id).collect()
    };
    let (here, there) = (of(one), of(other));
    let pick = |image: &'a Image, wanted: &dyn Fn(&Digest) -> bool| -> Vec<One<'a>> {
        let mut seen = HashSet::new();
        let layers = image.layers.iter();
        let layers = layers.filter(|l| wanted(&l.diff_id) && seen.insert(&l.diff_id));
        layers
            .map(
                |Layer {
                     diff_id,
                     content_size,
                     ..
                 }| One {
                    diff_id,
                    size: *content_size,
                },
            )
            .collect()
    };
    Layers {
        common: pick(one, &|diff_id| there.contains(diff_id)),
        deleted: pick(one, &|diff_id| !there.contains(diff_id)),
        added: pick(other, &|diff_id| !here.contains(diff_id)),
    }
}

fn of_images(store: &Store, one: &Image, other: &Image, times: bool) -> Result<Differences> {
    let side = |image: &Image| -> Result<Side> {
        Ok(Side::open(
            store.stack(image)?,
            store.unpack_options().xattrs,
        )?)
    };
    let options = Options {
        times,
        ignored: &[],
    };
    compare(&side(one)?, &side(other)?, options).context("comparing the images")
}

fn of_container(store: &Store, name: &str, times: bool) -> Result<Differences> {
    let container = match store.container(name) {
        Err(ContainerError::NoSuch(_)) if store.image(name)?.is_some() => {
            bail!("{name} is an image: name another one to compare it with")
        }
        Err(ContainerError::NoSuch(_)) => return Err(unknown(store, name)?),
        found => found?,
    };
    let image = store.image_by_digest(&container.manifest_digest)?;
    let image = image.with_context(|| format!("the image of container {name} is gone"))?;
    let directory = store.container_dir(&container.id);
    let lowers = store.stack(&image)?;
    let mut stack: Vec<PathBuf> = Vec::new();
    let upper = Writable::of(&directory).upper;
    if upper.exists() {
        stack.push(upper);
    }
    // A copy is whole by itself.
    if stack.is_empty() || Name::recorded(&directory) != Some(Name::Vfs) {
        stack.extend(lowers.iter().cloned());
    }
    let namespace = store.unpack_options().xattrs;
    let options = Options {
        times,
        ignored: &OF_EVERY_CONTAINER,
    };
    compare(
        &Side::open(lowers, namespace)?,
        &Side::open(stack, namespace)?,
        options,
    )
    .with_context(|| format!("comparing container {name} with its image"))
}

fn told(differences: &Differences) -> Vec<Told> {
    let one = |(path, (change, what)): (&Vec<u8>, &(Change, Vec<Aspect>))| Told {
        change: match change {
            Change::Added => "added",
            Change::Changed => "changed",
            Change::Deleted => "deleted",
        },
        path: Path::new("/")
            .join(OsStr::from_bytes(path))
            .to_string_lossy()
            .into_owned(),
        what: what.iter().map(|aspect| word(*aspect)).collect(),
    };
    differences.iter().map(one).collect()
}

fn word(aspect: Aspect) -> &'static str {
    match aspect {
        Aspect::Type => "type",
        Aspect::Mode => "mode",
        Aspect::Owner => "owner",
        Aspect::Size => "size",
        Aspect::Content => "content",
        Aspect::Target => "target",
        Aspect::Device => "device",
        Aspect::Xattrs => "xattrs",
        Aspect::Time => "time",
        Aspect::Entries => "entries",
    }
}

fn print(report: &Report) {
    if let Some(layers) = &report.layers {
        let common = layers
            .common
            .iter()
            .fold(0u64, |sum, layer| sum.saturating_add(layer.size));
        let count = match layers.common.len() {
            1 => "1 layer".to_owned(),
            several => format!("{several} layers"),
        };
        printer::line(format_args!("= {count} in both, {}", printer::size(common)));
        for (sign, layers) in [('-', &layers.deleted), ('+', &layers.added)] {
            for One { diff_id, size } in layers {
                printer::line(format_args!(
                    "{sign} {}  {}",
                    diff_id.short(),
                    printer::size(*size)
                ));
            }
        }
    }
    for Told { change, path, .. } in report.files.iter().flatten() {
        let letter = change.chars().next().unwrap_or('?').to_ascii_uppercase();
        printer::line(format_args!("{letter} {}", printer::plain(path)));
    }
}
