//! `strata history`: the steps that built an image, as docker prints them.
//!
//! A configuration's history has an entry for each step, and says of those that made no layer that they did not
//! (image-spec, config.md): the others are the layers, in order. Nothing forces builders to keep the two in step.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};
use strata::store::Image;
use strata_oci::config::History;
use strata_oci::digest::Digest;

use super::find::local_image;
use super::layout::{self, Layout};
use crate::printer::{self, Table};
use crate::settings::Settings;

/// How wide a command is in the table unless it is wanted whole: docker's width.
const COMMAND_WIDTH: usize = 45;
/// Docker's word for an id that nobody has.
const MISSING: &str = "<missing>";

/// Show the steps that built an image, the last first
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Only ids
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
    /// Sizes and times for people; --human=false has bytes and RFC 3339
    #[arg(short = 'H', long, value_name = "BOOL", default_value_t = true, default_missing_value = "true",
        num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    human: bool,
    /// How to print: table, json, or a template such as '{{.CreatedBy}}'
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Layout,
    /// Name, id or beginning of an id
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// One step. As JSON, times are RFC 3339 as the builder wrote them, sizes bytes of files.
#[derive(Debug, PartialEq, Serialize)]
struct Step<'a> {
    /// The image's, for the last step: the steps before left none.
    id: Option<&'a Digest>,
    created: Option<&'a str>,
    created_by: &'a str,
    size: u64,
    comment: &'a str,
    /// The layer that the step made, if it made one.
    diff_id: Option<&'a Digest>,
}

pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    let store = settings.open_store()?;
    let image = local_image(&store, &args.image)?;
    let layers: Vec<(&Digest, u64)> = image
        .layers
        .iter()
        .map(|layer| (&layer.diff_id, layer.content_size))
        .collect();
    let mut steps = steps(&image.config.history, &layers);
    if let Some(last) = steps.first_mut() {
        last.id = Some(&image.id);
    }
    if let Layout::Template { table, template } = &args.format {
        let rows: Vec<Value> = steps.iter().map(|step| row(&image, step, &args)).collect();
        layout::print(*table, template, &HEADINGS, &rows)?;
    } else if args.format == Layout::Json {
        printer::json(&steps)?;
    } else if args.quiet {
        for step in &steps {
            printer::line(id(&image, step, args.no_trunc));
        }
    } else {
        table(&image, &steps, &args).print();
    }
    Ok(ExitCode::SUCCESS)
}

/// The steps, the last first. Layers that no entry is left for are steps that nobody described; entries that
/// no layer is left for made nothing.
fn steps<'a>(history: &'a [History], layers: &[(&'a Digest, u64)]) -> Vec<Step<'a>> {
    let mut layers = layers.iter();
    let mut steps: Vec<Step> = history
        .iter()
        .map(|entry| {
            let layer = match entry.empty_layer {
                true => None,
                false => layers.next(),
            };
            Step {
                id: None,
                created: entry.created.as_deref(),
                created_by: entry.created_by.as_deref().unwrap_or_default(),
                size: layer.map_or(0, |(_, size)| *size),
                comment: entry.comment.as_deref().unwrap_or_default(),
                diff_id: layer.map(|(diff_id, _)| *diff_id),
            }
        })
        .collect();
    steps.extend(layers.map(|(diff_id, size)| Step {
        id: None,
        created: None,
        created_by: "",
        size: *size,
        comment: "",
        diff_id: Some(diff_id),
    }));
    steps.reverse();
    steps
}

fn id(image: &Image, step: &Step, whole: bool) -> String {
    match step.id {
        None => MISSING.to_owned(),
        Some(_) => super::images::id(image, whole),
    }
}

/// docker's names of the columns, and their headings.
const HEADINGS: [(&str, &str); 6] = [
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

/// What a template may name of a step.
fn row(image: &Image, step: &Step, args: &Args) -> Value {
    let time = step.created.and_then(printer::parse_rfc3339);
    json!({
        "ID": id(image, step, args.no_trunc),
        "CreatedSince": time.map_or_else(|| "N/A".to_owned(), printer::ago),
        "CreatedAt": time.map_or_else(|| "N/A".to_owned(), printer::rfc3339),
        "CreatedBy": command(step.created_by, args.no_trunc),
        "Size": size(step, args),
        "Comment": step.comment,
    })
}

fn size(step: &Step, args: &Args) -> String {
    match args.human {
        true => printer::size(step.size),
        false => step.size.to_string(),
    }
}

fn table(image: &Image, steps: &[Step], args: &Args) -> Table {
    let mut table = Table::new(&["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]);
    for step in steps {
        let time = step.created.and_then(printer::parse_rfc3339);
        let created = match (time, args.human) {
            (Some(time), true) => printer::ago(time),
            (Some(time), false) => printer::rfc3339(time),
            (None, _) => "N/A".to_owned(),
        };
        table.row([
            id(image, step, args.no_trunc),
            created,
            command(step.created_by, args.no_trunc),
            size(step, args),
            step.comment.to_owned(),
        ]);
    }
    table
}

/// A command in one line, cut unless it is wanted whole.
fn command(text: &str, whole: bool) -> String {
    let mut text = text.replace(['\t', '\n', '\r'], " ");
    if !whole && text.chars().count() > COMMAND_WIDTH {
        text = text.chars().take(COMMAND_WIDTH - 1).collect();
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(created_by: &str, empty_layer: bool) -> History {
        History {
            created_by: Some(created_by.to_owned()),
            empty_layer,
            ..History::default()
        }
    }

    fn told<'a>(steps: &'a [Step]) -> Vec<(&'a str, u64)> {
        steps.iter().map(|s| (s.created_by, s.size)).collect()
    }

    #[test]
    fn sizes_are_those_of_the_steps_that_made_layers() {
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let layers = [(&one, 10), (&two, 20)];
        let history = [entry("ADD", false), entry("ENV", true), entry("RUN", false)];
        let found = steps(&history, &layers);
        assert_eq!(told(&found), [("RUN", 20), ("ENV", 0), ("ADD", 10)]);
        assert_eq!(found[0].diff_id, Some(&two));
        assert_eq!(found[1].diff_id, None);
    }

    #[test]
    fn a_history_that_is_too_short_or_too_long_loses_nothing() {
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let layers = [(&one, 10), (&two, 20)];
        let short = [entry("ADD", false)];
        assert_eq!(told(&steps(&short, &layers)), [("", 20), ("ADD", 10)]);
        assert_eq!(told(&steps(&[], &layers)), [("", 20), ("", 10)]);
        let long = [entry("ADD", false), entry("RUN", false)];
        assert_eq!(told(&steps(&long, &layers[..1])), [("RUN", 0), ("ADD", 10)]);
        assert_eq!(steps(&[], &[]), []);
    }

    #[test]
    fn commands_are_one_line_and_cut_as_docker_cuts_them() {
        assert_eq!(command("a\tb\nc", false), "a b c");
        let long = "é".repeat(46);
        let cut = command(&long, false);
        assert_eq!(cut.chars().count(), 45);
        assert!(cut.ends_with("é…"));
        assert_eq!(command(&long, true), long);
        assert_eq!(command(&"x".repeat(45), false), "x".repeat(45));
    }
}
