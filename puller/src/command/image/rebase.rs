//! `strata image rebase`: an image's own layers on a newer base.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use strata::commit::{self, Parts};
use strata::store::{Image, NewImage};
use strata_oci::Digest;

use crate::command::commit::{moment, new_name};
use crate::command::find::local_image;
use crate::printer;
use crate::settings::Settings;

/// Put an image's own layers on a newer base
///
/// No layer is read or written: what the image has above OLD-BASE is put above the layers of NEW-BASE. Settings that the image has
/// from its old base become those of the new one. Whether the program fits its new base is for you to know.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The image
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The image that it stands on
    #[arg(value_name = "OLD-BASE")]
    old: String,
    /// The image that it is to stand on
    #[arg(value_name = "NEW-BASE")]
    new: String,
    /// Name of the new image [default: none]
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

pub(super) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    let reference = args.reference.as_deref().map(new_name).transpose()?;
    let created = moment()?.created;
    let store = settings.open_store()?;
    let parts = |name: &str| -> Result<Parts> {
        let Image {
            manifest,
            config,
            config_bytes,
            ..
        } = local_image(&store, name)?;
        Ok(Parts {
            media_type: manifest.media_type,
            layers: manifest.layers,
            config,
            config_bytes,
        })
    };
    let (image, old, new) = (parts(&args.image)?, parts(&args.old)?, parts(&args.new)?);
    let rebased = commit::rebase(&image, &old, &new, None, &created)
        .with_context(|| format!("moving {} from {} to {}", args.image, args.old, args.new))?;
    let made = store.publish(
        Vec::new(),
        NewImage {
            reference,
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
