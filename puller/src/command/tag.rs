//! `strata tag`: give an image another name.

use std::process::ExitCode;

use anyhow::Result;

use super::find::local_image;
use crate::printer;
use crate::settings::Settings;

/// Give an image another name
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The image: a name, an id or the beginning of one
    #[arg(value_name = "IMAGE")]
    source: String,
    /// The new name; a name that stands for another image moves
    #[arg(value_name = "NAME[:TAG]")]
    target: String,
}

pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    let store = settings.open_store()?;
    let image = local_image(&store, &args.source)?;
    let tagged = store.tag(&image, &args.target)?;
    if let Some(dangling) = tagged.dangling {
        printer::message(format_args!("image {} has no name now", dangling.short()));
    }
    Ok(ExitCode::SUCCESS)
}
