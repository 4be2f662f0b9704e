//! `strata image squash`: the layers of an image, or those above its base, as one.

use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use strata::commit;
use strata::userns::Privilege;

use crate::command::commit::Made;
use crate::command::find::local_image;
use crate::printer;
use crate::settings::Settings;

/// Make one layer of an image's layers, or of those above its base
///
/// What lower layers hold and higher ones hide or replace is gone. Containers of the new image see the same files. With
/// SOURCE_DATE_EPOCH (seconds since 1970) set, the same image comes out each time.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Keep the layers of this image, on which the other one stands
    #[arg(short, long, value_name = "IMAGE")]
    base: Option<String>,
    #[command(flatten)]
    made: Made,
    /// The image
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Name of the new image [default: none]
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

pub(super) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    let options = args.made.options(args.reference.as_deref(), Vec::new())?;
    let store = settings.open_store()?;
    let image = local_image(&store, &args.image)?;
    let kept = match &args.base {
        None => 0,
        Some(name) => {
            let base = local_image(&store, name)?;
            let below = &base.config.rootfs.diff_ids;
            ensure!(
                image.config.rootfs.diff_ids.starts_with(below),
                "{} does not stand on {name}: its lowest layers are others",
                args.image
            );
            below.len()
        }
    };
    if store.privilege() == Privilege::UserNamespace {
        printer::message("without root, devices are left out of the new layer");
    }
    let squashed = commit::squash(&store, &image, kept, &options)
        .with_context(|| format!("squashing {}", args.image))?;
    printer::line(&squashed.id);
    Ok(ExitCode::SUCCESS)
}
