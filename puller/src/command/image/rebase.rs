//! `strata image rebase`: an image's own layers on a newer base, here or in a registry.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use oci_distribution::Reference;
use strata::commit::{self, Base, Parts, Rebasing};
use strata::copy::{Copier, CopyOptions};
use strata::fetch::Described;
use strata::progress::Progress;
use strata::store::{NewImage, Store};
use strata_oci::{Digest, Platform};

use crate::command::commit::{moment, new_name};
use crate::command::copy::report;
use crate::command::find::local_image;
use crate::printer;
use crate::settings::Settings;
use crate::show::{ProgressArgs, Work};
use crate::transport::{TransportArgs, reference, until_interrupted};

/// Put an image's own layers on a newer base
///
/// No layer is read or written: what the image has above OLD-BASE is put above the layers of NEW-BASE. Settings that the image has
/// from its old base become those of the new one. Whether the program fits its new base is for you to know.
///
/// An image that is in the store is moved there. Any other, and one that is written as docker://NAME, is moved in its registry:
/// only manifests and configurations are fetched, and the layers are mounted from the repositories that have them. Without a name
/// for the new image, the image's own tag in the registry moves.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The image that it stands on [default: what the image says itself, by org.opencontainers.image.base.digest]
    #[arg(
        long,
        visible_alias = "old_base",
        value_name = "IMAGE",
        conflicts_with = "old"
    )]
    old_base: Option<String>,
    /// The image that it is to stand on [default: what org.opencontainers.image.base.name stands for now]
    #[arg(
        long,
        visible_alias = "new_base",
        value_name = "IMAGE",
        conflicts_with = "new"
    )]
    new_base: Option<String>,
    /// Name of the new image
    #[arg(
        short,
        long,
        visible_alias = "rebased",
        value_name = "NAME",
        conflicts_with = "reference"
    )]
    tag: Option<String>,
    /// Which image of several, as OS/ARCH[/VARIANT] [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    #[command(flatten)]
    made: crate::command::commit::FormArgs,
    #[command(flatten)]
    progress: ProgressArgs,
    #[command(flatten)]
    transport: TransportArgs,
    /// The image
    #[arg(value_name = "IMAGE")]
    image: String,
    /// As --old-base
    #[arg(value_name = "OLD-BASE")]
    old: Option<String>,
    /// As --new-base
    #[arg(value_name = "NEW-BASE")]
    new: Option<String>,
    /// As --tag
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

/// What moves whereto, with what was not said taken from the image's annotations.
struct Bases {
    old: String,
    new: String,
}

impl Bases {
    fn of(args: &Args, image: &Parts) -> Result<Self> {
        let said = Base::said(&image.annotations);
        let old = args.old_base.clone().or(args.old.clone());
        let old = old.or_else(|| match (&said.name, &said.digest) {
            (Some(name), Some(digest)) => Some(format!("{}@{digest}", repository(name))),
            (None, Some(digest)) => Some(digest.to_string()),
            _ => None,
        });
        let old = old.with_context(|| {
            format!(
                "{} does not say on what it stands: name OLD-BASE and NEW-BASE (`strata image base {}` looks for the old one)",
                args.image, args.image
            )
        })?;
        let new = args.new_base.clone().or(args.new.clone()).or(said.name);
        let new = new.with_context(|| {
            format!(
                "{} does not say what its base is called: name NEW-BASE",
                args.image
            )
        })?;
        Ok(Self { old, new })
    }
}

/// A name without its tag.
fn repository(full: &str) -> &str {
    match full.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => full,
    }
}

pub(super) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    let store = settings.open_store()?;
    let wants_registry = args.image.starts_with("docker://");
    match wants_registry || store.image(&args.image)?.is_none() {
        true => {
            if !wants_registry {
                printer::message(format_args!(
                    "{} is not here: it is moved in its registry",
                    args.image
                ));
            }
            drop(store);
            in_registry(args)
        }
        false => here(&store, &args),
    }
}

fn name(args: &Args) -> Option<&str> {
    args.tag.as_deref().or(args.reference.as_deref())
}

fn here(store: &Arc<Store>, args: &Args) -> Result<ExitCode> {
    let new_name = name(args).map(new_name).transpose()?;
    let image = Parts::from(local_image(store, &args.image)?);
    let bases = Bases::of(args, &image)?;
    // The new base's layers have to be here; of the old one, nothing but their names counts.
    let new = crate::command::pull::ensure(store, &bases.new, args.progress)?;
    let old = match old_base(store, &bases.old)? {
        Some(old) => old,
        None => {
            let copier = Copier::new(options(args), Arc::new(strata::progress::Silent));
            let name = args.transport.reference(&bases.old)?;
            let platform = image.config.platform();
            match until_interrupted(async { Ok(copier.describe(&name, &platform).await?) }) {
                Ok(Ok(old)) => old.into(),
                Ok(Err(code)) => return Ok(code),
                Err(error) => {
                    let missing = format!("no such image: {}", bases.old);
                    return Err(error.context(missing));
                }
            }
        }
    };
    let how = Rebasing {
        form: args.made.form(),
        created: moment()?.created,
        base: Base::here(store, &new, &bases.new)?,
    };
    let new = Parts::from(new);
    if is_moved(args, &image, &new) {
        return Ok(stays(args, &bases));
    }
    let rebased = commit::rebase(&image, &old, &new, &how).with_context(|| told(args, &bases))?;
    let made = store.publish(
        Vec::new(),
        NewImage {
            reference: new_name,
            resolved: Digest::of(&rebased.manifest),
            manifest: rebased.manifest,
            media_type: rebased.media_type.to_owned(),
            config: rebased.config,
            origin: None,
        },
    )?;
    printer::line(&made.id);
    Ok(ExitCode::SUCCESS)
}

/// An old base that is here, by its name, or by the digest that its name stood for.
fn old_base(store: &Store, name: &str) -> Result<Option<Parts>> {
    if let Some(image) = store.image(name)? {
        return Ok(Some(image.into()));
    }
    let digest = name.rsplit('@').next().and_then(|text| text.parse().ok());
    match digest {
        Some(digest) => Ok(store.image_by_digest(&digest)?.map(Parts::from)),
        None => Ok(None),
    }
}

fn options(args: &Args) -> CopyOptions {
    CopyOptions {
        source: args.transport.options(),
        target: args.transport.options(),
        ..CopyOptions::default()
    }
}

fn told(args: &Args, bases: &Bases) -> String {
    format!("moving {} from {} to {}", args.image, bases.old, bases.new)
}

/// Whether the image stands on the new base already. Who names the old one says that it does not.
fn is_moved(args: &Args, image: &Parts, new: &Parts) -> bool {
    let layers = &new.config.rootfs.diff_ids;
    args.old.is_none()
        && args.old_base.is_none()
        && !layers.is_empty()
        && image.config.rootfs.diff_ids.starts_with(layers)
}

fn stays(args: &Args, bases: &Bases) -> ExitCode {
    printer::message(format_args!(
        "{} stands on {} already: nothing was moved",
        args.image, bases.new
    ));
    ExitCode::SUCCESS
}

fn in_registry(args: Args) -> Result<ExitCode> {
    let began = Instant::now();
    let show = args.progress.begin(false, Work::Push);
    let done = until_interrupted(moved(&args, show.part()));
    drop(show);
    match done? {
        Ok(Some((full, found))) => {
            printer::line(full);
            printer::message(report::summary(&found, began));
            Ok(ExitCode::SUCCESS)
        }
        Ok(None) => Ok(ExitCode::SUCCESS),
        Err(code) => Ok(code),
    }
}

/// The new image's name and digest; `None` when there was nothing to move.
async fn moved(
    args: &Args,
    progress: Arc<dyn Progress>,
) -> Result<Option<(String, strata::copy::CopyReport)>> {
    let wanted = args.platform.clone().unwrap_or_else(Platform::host);
    let from = args.transport.reference(&args.image)?;
    let copier = Copier::new(options(args), progress);
    let found = copier.describe(&from, &wanted).await?;
    let to = match name(args) {
        Some(name) => reference(name)?,
        None => {
            ensure!(
                !found.is_of_index(),
                "{} stands for images of several platforms, of which one is moved: name the new image",
                args.image
            );
            from.clone()
        }
    };
    // What an image was moved to is known when it is moved.
    if name(args).is_some() && to.digest().is_some() {
        bail!(
            "{}: a new image needs a name with a tag, not a digest",
            to.whole()
        );
    }
    let image_layers = found.manifest.layers.clone();
    let platform = found.config.platform();
    let image = Parts::from(found);
    let bases = Bases::of(args, &image)?;
    let describe = async |name: &str| -> Result<(Reference, Described)> {
        let reference = args.transport.reference(name)?;
        let described = copier.describe(&reference, &platform).await;
        Ok((
            reference,
            described.with_context(|| format!("reading {name}"))?,
        ))
    };
    let (_, old) = describe(&bases.old).await?;
    let (new_at, new) = describe(&bases.new).await?;
    let base = Base {
        name: new_at.digest().is_none().then(|| new_at.whole()),
        digest: Some(new.resolved.clone()),
    };
    let sources = [(new_at, new.manifest.layers.clone()), (from, image_layers)];
    let (old, new) = (Parts::from(old), Parts::from(new));
    if is_moved(args, &image, &new) {
        stays(args, &bases);
        return Ok(None);
    }
    let how = Rebasing {
        form: args.made.form(),
        created: moment()?.created,
        base,
    };
    let rebased = commit::rebase(&image, &old, &new, &how).with_context(|| told(args, &bases))?;
    let report = copier.put_rebased(rebased, &sources, &to).await?;
    let digest = report.digest.as_ref().map(Digest::to_string);
    let name = match to.digest() {
        Some(_) => format!("{}/{}", to.registry(), to.repository()),
        None => to.whole(),
    };
    Ok(Some((
        format!("{name}@{}", digest.unwrap_or_default()),
        report,
    )))
}
