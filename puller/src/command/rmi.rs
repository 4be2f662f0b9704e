//! `strata rmi`: remove images.

use std::process::ExitCode;

use anyhow::Result;
use strata::store::StoreError;

use super::find::no_such_image;
use super::images::familiar;
use crate::printer;
use crate::settings::Settings;

/// Remove images
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Remove an image by its id although it has several names; pass over images that are not here
    #[arg(short, long)]
    force: bool,
    /// Names, ids or beginnings of ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    let store = settings.open_store()?;
    // A mount that is no more uses no image.
    super::mount::drop_stale(&store)?;
    let mut code = ExitCode::SUCCESS;
    let (mut layers, mut freed) = (0, 0u64);
    for name in &args.images {
        match store.remove_image(name, args.force) {
            Ok(removed) => {
                for name in familiar(&removed.untagged) {
                    printer::line(format_args!("Untagged: {name}"));
                }
                for id in &removed.images {
                    printer::line(format_args!("Deleted: {id}"));
                }
                layers += removed.layers.len();
                freed = freed.saturating_add(removed.freed);
            }
            Err(StoreError::NoSuchImage(_)) => {
                let error = no_such_image(&store, name)?;
                match args.force {
                    true => printer::message(error),
                    false => code = printer::failed(&error),
                }
            }
            Err(error) => code = printer::failed(&error.into()),
        }
    }
    if layers > 0 {
        let layers = match layers {
            1 => "1 layer".to_owned(),
            several => format!("{several} layers"),
        };
        printer::message(format_args!("{} freed ({layers})", printer::size(freed)));
    }
    Ok(code)
}
