//! `strata inspect`: show everything about an image or a container, as JSON in docker's words.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};
use strata::store::containers::ContainerError;
use strata::store::{Image, Name, Store, Target};

use super::containers::unknown;
use super::find::{meant, near_containers, near_images, no_such_image};
use super::images::familiar;
use crate::printer;
use crate::settings::Settings;
use crate::template::Template;

mod container;

/// Show everything about an image or a container, as JSON
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only one of these
    #[arg(long = "type", value_enum)]
    kind: Option<Kind>,
    /// Print what a template makes of each, as '{{.State.Status}}' or '{{json .Config}}'
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<Template>,
    /// Names, ids or beginnings of ids
    #[arg(required = true, value_name = "NAME|ID")]
    names: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Image,
    Container,
}

pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    let store = settings.open_store()?;
    let mut found = Vec::new();
    let mut code = ExitCode::SUCCESS;
    for name in &args.names {
        match find(&store, name, args.kind) {
            Ok(value) => found.push(value),
            Err(error) => code = printer::failed(&error),
        }
    }
    match &args.format {
        None => printer::json(&found)?,
        Some(template) => {
            for value in &found {
                printer::line(template.render(value)?);
            }
        }
    }
    Ok(code)
}

/// A container goes before an image of the same name, as docker has it.
fn find(store: &Store, name: &str, kind: Option<Kind>) -> Result<Value> {
    if kind != Some(Kind::Image) {
        match store.container(name) {
            Ok(found) => return container::describe(store, &found),
            Err(ContainerError::NoSuch(_)) if kind.is_none() => {}
            Err(ContainerError::NoSuch(_)) => return Err(unknown(store, name)?),
            Err(error) => return Err(error.into()),
        }
    }
    match store.image(name)? {
        Some(found) => Ok(image(store, &found)),
        None if kind.is_none() => {
            let mut near = near_containers(store, name)?;
            near.extend(near_images(store, name)?);
            let hint = meant(near).map_or_else(String::new, |hint| format!("; {hint}"));
            anyhow::bail!("no such image or container: {name}{hint}")
        }
        None => Err(no_such_image(store, name)?),
    }
}

fn image(store: &Store, image: &Image) -> Value {
    let tags: Vec<String> = image
        .references
        .iter()
        .filter_map(|full| Name::parse(full).ok())
        .filter(|name| matches!(name.target, Target::Tag(_)))
        .map(|name| name.familiar())
        .collect();
    // As it was written: what this program has no word for stays.
    let config: Value = serde_json::from_slice(&image.config_bytes).unwrap_or_default();
    let text = |name: &str| config.get(name).and_then(Value::as_str).unwrap_or_default();
    let last = image.config.history.last();
    let comment = match (
        text("comment"),
        last.and_then(|step| step.comment.as_deref()),
    ) {
        ("", Some(of_last_step)) => of_last_step,
        (own, _) => own,
    };
    let blobs = &image.manifest.layers;
    let layers: Vec<Value> = image
        .layers
        .iter()
        .zip(blobs)
        .map(|(layer, blob)| {
            json!({
                "DiffID": layer.diff_id,
                "Size": layer.content_size,
                "TarSize": layer.tar_size,
                "Entries": layer.entries,
                "Digest": blob.digest,
                "BlobSize": blob.size,
                "MediaType": blob.media_type,
                "Directory": store.layer_dir(&layer.diff_id).to_string_lossy(),
            })
        })
        .collect();
    json!({
        "Id": image.id,
        "RepoTags": tags,
        "RepoDigests": familiar(&image.repo_digests),
        "Digest": image.digest,
        "MediaType": image.manifest.media_type,
        "Created": image.config.created,
        "Added": printer::rfc3339(image.added),
        "Comment": comment,
        "Parent": text("parent"),
        "Author": image.config.author.as_deref().unwrap_or_default(),
        "Architecture": image.config.architecture,
        "Variant": image.config.variant,
        "Os": image.config.os,
        "Config": starts(config.get("config")),
        "Size": image.size(),
        // The same since docker 1.10.
        "VirtualSize": image.size(),
        "RootFS": { "Type": "layers", "Layers": image.config.rootfs.diff_ids },
        "Layers": layers,
    })
}

/// An image's settings with those that it leaves out, which scripts ask for all the same, empty.
fn starts(written: Option<&Value>) -> Value {
    let mut starts = json!({
        "User": "",
        "ExposedPorts": {},
        "Env": [],
        "Entrypoint": [],
        "Cmd": [],
        "Volumes": {},
        "WorkingDir": "",
        "Labels": {},
        "OnBuild": [],
    });
    let written = written.and_then(Value::as_object);
    for (name, value) in written.into_iter().flatten() {
        if !value.is_null() {
            starts[name.as_str()] = value.clone();
        }
    }
    starts
}
