//! `strata image base`: on which images an image stands.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use strata::store::{Image, Name, Store};
use strata_oci::digest::Digest;

use crate::command::find::local_image;
use crate::command::images::familiar;
use crate::printer::{self, Format, Table};
use crate::settings::Settings;

/// What an image's author said of its base (image-spec, annotations.md).
const BASE_NAME: &str = "org.opencontainers.image.base.name";
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// Show which images here an image stands on, and whether their names have moved on
///
/// A base is an image whose layers are the lowest ones of the other. The one with most layers comes first. What the image itself
/// says of its base is told, too.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Name, id or beginning of an id
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// A base.
#[derive(Debug, Serialize)]
struct Base {
    /// Its name, or what the image calls it.
    name: Option<String>,
    /// Its image id, if it is here.
    id: Option<Digest>,
    /// How many layers the two have in common, if it is here.
    layers: Option<usize>,
    /// `current`: the name stands for what the image was made of; `moved`: for something else now; `unknown`: it is
    /// not here.
    state: &'static str,
}

pub(super) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    let store = settings.open_store()?;
    let image = local_image(&store, &args.image)?;
    let bases = bases(&store, &image)?;
    if args.format == Format::Json {
        printer::json(&bases)?;
        return Ok(ExitCode::SUCCESS);
    }
    if bases.is_empty() {
        printer::message(format_args!(
            "no image here is a base of {}, and it names none",
            args.image
        ));
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["BASE", "IMAGE ID", "LAYERS", "STATE"]);
    for base in &bases {
        let none = || "<none>".to_owned();
        table.row([
            base.name.clone().unwrap_or_else(none),
            base.id
                .as_ref()
                .map_or_else(none, |id| id.short().to_owned()),
            base.layers
                .map_or_else(|| "-".to_owned(), |n| n.to_string()),
            base.state.to_owned(),
        ]);
    }
    table.print();
    Ok(ExitCode::SUCCESS)
}

fn bases(store: &Store, image: &Image) -> Result<Vec<Base>> {
    let own = &image.config.rootfs.diff_ids;
    let mut below: Vec<Image> = store.images()?;
    below.retain(|other| {
        let layers = &other.config.rootfs.diff_ids;
        !layers.is_empty() && layers.len() < own.len() && own.starts_with(layers)
    });
    below.sort_by_key(|other| std::cmp::Reverse(other.layers.len()));
    let mut bases = Vec::new();
    for other in &below {
        let names = familiar(&other.references);
        let base = |name: Option<String>| Base {
            name,
            id: Some(other.id.clone()),
            layers: Some(other.layers.len()),
            state: "current",
        };
        match names.is_empty() {
            true => bases.push(base(None)),
            false => bases.extend(names.into_iter().map(|name| base(Some(name)))),
        }
    }
    if let Some(said) = said(store, image, &bases)? {
        bases.insert(0, said);
    }
    Ok(bases)
}

/// What the image says itself, unless that was found already.
fn said(store: &Store, image: &Image, found: &[Base]) -> Result<Option<Base>> {
    let annotations = &image.manifest.annotations;
    let Some(name) = annotations.get(BASE_NAME) else {
        return Ok(None);
    };
    let Ok(parsed) = Name::parse(name) else {
        return Ok(None);
    };
    let name = parsed.familiar();
    if found.iter().any(|base| base.name.as_ref() == Some(&name)) {
        return Ok(None);
    }
    let now = store.image_by_reference(&parsed.full())?;
    let then = annotations.get(BASE_DIGEST);
    let state = match (&now, then) {
        (Some((now, resolved)), Some(then))
            if *then != now.digest.to_string() && *then != resolved.to_string() =>
        {
            "moved"
        }
        (Some(_), _) => "current",
        (None, _) => "unknown",
    };
    Ok(Some(Base {
        name: Some(name),
        id: now.map(|(image, _)| image.id),
        layers: None,
        state,
    }))
}
