//! `strata tree`: which images stand on which layers.
//!
//! Images that begin with the same layers share them. Drawn from the lowest layer up, that is a forest: a node is a
//! run of layers that the same images have, and an image is at the node of its last layer.

use std::collections::HashMap;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use strata::store::{Image, Layer};
use strata_oci::digest::Digest;

use super::find::local_image;
use super::images::{familiar, id};
use crate::printer::{self, Format};
use crate::settings::Settings;

/// Show which images stand on which layers, and what they share
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Whole ids and digests
    #[arg(long)]
    no_trunc: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Only these and the images that share their base
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

/// A run of layers that the same images have. Sizes are bytes of files.
#[derive(Serialize)]
struct Node<'a> {
    #[serde(serialize_with = "layers")]
    layers: Vec<&'a Layer>,
    size: u64,
    /// How many images stand on it.
    used_by: usize,
    /// Those whose last layer this is.
    images: Vec<Ends<'a>>,
    children: Vec<Node<'a>>,
}

/// An image at the node of its last layer.
#[derive(Serialize)]
struct Ends<'a> {
    id: &'a Digest,
    names: Vec<String>,
    /// With everything below.
    size: u64,
    /// What would be free without it.
    unique: u64,
    #[serde(skip)]
    image: &'a Image,
}

/// All of it, as JSON.
#[derive(Serialize)]
struct Forest<'a> {
    roots: Vec<Node<'a>>,
    #[serde(flatten)]
    sums: Sums,
}

/// Each layer once. A layer is shared if several images have it, wherever.
#[derive(Debug, PartialEq, Serialize)]
struct Sums {
    images: usize,
    layers: usize,
    size: u64,
    shared: u64,
    unique: u64,
    /// What the images would take if each had its layers alone.
    apart: u64,
}

fn layers<S: serde::Serializer>(layers: &[&Layer], to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct One<'a> {
        diff_id: &'a Digest,
        size: u64,
    }
    to.collect_seq(layers.iter().map(|layer| One {
        diff_id: &layer.diff_id,
        size: layer.content_size,
    }))
}

pub(crate) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    let store = settings.open_store()?;
    let mut images = store.images()?;
    images.sort_by(|a, b| (&a.references, &a.id).cmp(&(&b.references, &b.id)));
    if !args.images.is_empty() {
        let mut bases = Vec::new();
        for name in &args.images {
            let found = local_image(&store, name)?;
            bases.push((found.digest.clone(), base(&found).cloned()));
        }
        images.retain(|image| {
            let shares = |(digest, of): &(Digest, Option<Digest>)| {
                *digest == image.digest || (of.is_some() && base(image) == of.as_ref())
            };
            bases.iter().any(shares)
        });
    }
    let images: Vec<&Image> = images.iter().collect();
    let users = users(&images);
    let forest = Forest {
        roots: grow(&images, 0, &users),
        sums: sums(&images, &users),
    };
    match args.format {
        Format::Json => printer::json(&forest)?,
        Format::Table => {
            for line in draw(&forest.roots, args.no_trunc) {
                printer::line(printer::plain(&line));
            }
            printer::line(words(&forest.sums));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn base(image: &Image) -> Option<&Digest> {
    image.layers.first().map(|layer| &layer.diff_id)
}

/// How many images have each layer, and its size.
type Users<'a> = HashMap<&'a Digest, (usize, u64)>;

fn users<'a>(images: &[&'a Image]) -> Users<'a> {
    let mut users = Users::new();
    for image in images {
        for (diff_id, size) in distinct(image) {
            users.entry(diff_id).or_insert((0, size)).0 += 1;
        }
    }
    users
}

/// An image may have a layer twice, and the store has it once.
fn distinct(image: &Image) -> HashMap<&Digest, u64> {
    let layers = image.layers.iter();
    layers
        .map(|layer| (&layer.diff_id, layer.content_size))
        .collect()
}

fn sums(images: &[&Image], users: &Users) -> Sums {
    let total = |wanted: &dyn Fn(usize) -> bool| -> u64 {
        let sizes = users.values().filter(|(users, _)| wanted(*users));
        sizes.fold(0, |sum, (_, size)| sum.saturating_add(*size))
    };
    Sums {
        images: images.len(),
        layers: users.len(),
        size: total(&|_| true),
        shared: total(&|users| users > 1),
        unique: total(&|users| users == 1),
        apart: images
            .iter()
            .fold(0, |sum, image| sum.saturating_add(image.size())),
    }
}

/// The nodes above `depth` layers that all of `images` have in common.
fn grow<'a>(images: &[&'a Image], depth: usize, users: &Users) -> Vec<Node<'a>> {
    let mut groups: Vec<Vec<&'a Image>> = Vec::new();
    let mut group_of: HashMap<&Digest, usize> = HashMap::new();
    for image in images {
        match image.layers.get(depth) {
            Some(layer) => {
                let group = *group_of.entry(&layer.diff_id).or_insert_with(|| {
                    groups.push(Vec::new());
                    groups.len() - 1
                });
                groups[group].push(image);
            }
            // Only an image without layers has none here: the others end at the node below.
            None if depth == 0 => groups.push(vec![image]),
            None => {}
        }
    }
    groups
        .into_iter()
        .map(|group| node(&group, depth, users))
        .collect()
}

fn node<'a>(images: &[&'a Image], depth: usize, users: &Users) -> Node<'a> {
    let mut run: Vec<&Layer> = Vec::new();
    let together = |at: usize| {
        let mut ids = images
            .iter()
            .map(|image| image.layers.get(at).map(|l| &l.diff_id));
        let first = ids.next().flatten();
        first.is_some() && ids.all(|id| id == first)
    };
    // Up to where an image ends or they part.
    while together(depth + run.len()) {
        let Some(layer) = images
            .first()
            .and_then(|image| image.layers.get(depth + run.len()))
        else {
            break;
        };
        run.push(layer);
    }
    let end = depth + run.len();
    let ends = images.iter().filter(|image| image.layers.len() == end);
    let sizes = run.iter().map(|layer| layer.content_size);
    Node {
        size: sizes.fold(0, u64::saturating_add),
        used_by: images.len(),
        images: ends.map(|image| ends_here(image, users)).collect(),
        children: if run.is_empty() {
            Vec::new()
        } else {
            grow(images, end, users)
        },
        layers: run,
    }
}

fn ends_here<'a>(image: &'a Image, users: &Users) -> Ends<'a> {
    let own = distinct(image).into_iter();
    let own = own.filter(|(diff_id, _)| users.get(diff_id).is_some_and(|(users, _)| *users == 1));
    Ends {
        id: &image.id,
        names: familiar(&image.references),
        size: image.size(),
        unique: own.fold(0, |sum, (_, size)| sum.saturating_add(size)),
        image,
    }
}

/// A line for each node and each image.
fn draw(roots: &[Node], whole: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for root in roots {
        draw_node(root, "", "", whole, &mut lines);
        lines.push(String::new());
    }
    lines
}

/// `head` is in front of the node's own line, `rest` in front of those below it.
fn draw_node(node: &Node, head: &str, rest: &str, whole: bool, lines: &mut Vec<String>) {
    let mut line = match node.layers.last() {
        None => format!("{head}no layers"),
        Some(last) => {
            let name = match whole {
                true => last.diff_id.to_string(),
                false => last.diff_id.short().to_owned(),
            };
            let run = match node.layers.len() {
                1 => String::new(),
                several => format!("{several} layers, "),
            };
            format!("{head}{name}  {run}{}", printer::size(node.size))
        }
    };
    if node.used_by > 1 {
        line.push_str(&format!("  shared by {} images", node.used_by));
    }
    lines.push(line);
    let last = (node.images.len() + node.children.len()).saturating_sub(1);
    let branch = |index: usize| match index == last {
        true => (format!("{rest}└─ "), format!("{rest}   ")),
        false => (format!("{rest}├─ "), format!("{rest}│  ")),
    };
    for (index, end) in node.images.iter().enumerate() {
        let names = match end.names.is_empty() {
            true => "<none>".to_owned(),
            false => end.names.join(", "),
        };
        lines.push(format!(
            "{}● {names} ({})  {}, {} its own",
            branch(index).0,
            id(end.image, whole),
            printer::size(end.size),
            printer::size(end.unique)
        ));
    }
    for (index, child) in node.children.iter().enumerate() {
        let (head, rest) = branch(node.images.len() + index);
        draw_node(child, &head, &rest, whole, lines);
    }
}

fn words(sums: &Sums) -> String {
    let count = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        several => format!("{several} {what}s"),
    };
    format!(
        "{}, {}: {} in all, {} shared, {} unique ({} if nothing were shared)",
        count(sums.images, "image"),
        count(sums.layers, "layer"),
        printer::size(sums.size),
        printer::size(sums.shared),
        printer::size(sums.unique),
        printer::size(sums.apart)
    )
}
