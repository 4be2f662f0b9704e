//! `strata images`: list images.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};
use strata::store::{Image, Name, Target};

use super::layout::{self, Layout};
use crate::printer::{self, Table};
use crate::settings::Settings;

mod filter;

use filter::Filter;

/// List images
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only ids
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
    /// Whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Also the digests that the names were resolved to
    #[arg(long)]
    digests: bool,
    /// docker's word for its builds' intermediate images, of which there are none here
    #[arg(short, long = "all")]
    _all: bool,
    /// Only what this lets through: dangling=true, reference=FORM, label=KEY[=VALUE], before=IMAGE or since=IMAGE
    #[arg(short = 'f', long = "filter", value_name = "FILTER")]
    filters: Vec<Filter>,
    /// How to print: table, json, or a template such as '{{.Repository}}:{{.Tag}}'
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Layout,
    /// Only names of this REPOSITORY[:TAG]; * and ? stand for any characters but /
    #[arg(value_name = "REF")]
    filter: Option<String>,
}

/// One image as JSON. Times are RFC 3339, sizes are bytes.
#[derive(Serialize)]
struct Listed<'a> {
    id: String,
    digest: String,
    names: Vec<String>,
    repo_digests: Vec<String>,
    created: Option<&'a str>,
    added: String,
    size: u64,
    layers: usize,
    platform: String,
}

/// One line of the table: an image under one of its names.
struct Line<'a> {
    repository: String,
    tag: String,
    digest: String,
    image: &'a Image,
}

pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    let store = settings.open_store()?;
    let mut images = store.images()?;
    images.sort_by_key(|image| std::cmp::Reverse(created(image)));
    if let Some(filter) = &args.filter {
        for image in &mut images {
            image.references.retain(|full| matches(filter, full));
        }
        images.retain(|image| !image.references.is_empty());
    }
    filter::keep(&store, &mut images, &args.filters)?;
    if let Layout::Template { table, template } = &args.format {
        let lines = images.iter().flat_map(lines);
        let rows: Vec<Value> = lines.map(|line| row(line, args.no_trunc)).collect();
        layout::print(*table, template, &HEADINGS, &rows)?;
    } else if args.format == Layout::Json {
        let listed: Vec<Listed> = images.iter().map(listed).collect();
        printer::json(&listed)?;
    } else if args.quiet {
        let mut seen = std::collections::HashSet::new();
        for image in images.iter().filter(|image| seen.insert(&image.id)) {
            printer::line(id(image, args.no_trunc));
        }
    } else {
        table(&images, &args).print();
    }
    Ok(ExitCode::SUCCESS)
}

/// docker's names of the columns, and their headings.
const HEADINGS: [(&str, &str); 7] = [
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
];

/// What a template may name of a line.
fn row(line: Line<'_>, whole: bool) -> Value {
    json!({
        "Repository": line.repository,
        "Tag": line.tag,
        "Digest": line.digest,
        "ID": id(line.image, whole),
        "CreatedSince": printer::ago(created(line.image)),
        "CreatedAt": printer::rfc3339(created(line.image)),
        "Size": printer::size(line.image.size()),
    })
}

fn table(images: &[Image], args: &Args) -> Table {
    let mut headings = vec!["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"];
    if args.digests {
        headings.insert(2, "DIGEST");
    }
    let mut table = Table::new(&headings);
    for line in images.iter().flat_map(lines) {
        let mut cells = vec![
            line.repository,
            line.tag,
            id(line.image, args.no_trunc),
            printer::ago(created(line.image)),
            printer::size(line.image.size()),
        ];
        if args.digests {
            cells.insert(2, line.digest);
        }
        table.row(cells);
    }
    table
}

fn lines(image: &Image) -> Vec<Line<'_>> {
    let none = || "<none>".to_owned();
    let names = image
        .references
        .iter()
        .filter_map(|full| Name::parse(full).ok());
    let mut lines: Vec<Line> = names
        .map(|name| Line {
            repository: name.familiar_repository().to_owned(),
            digest: resolved(image, &name).unwrap_or_else(none),
            tag: match name.target {
                Target::Tag(tag) => tag,
                Target::Digest(_) => none(),
            },
            image,
        })
        .collect();
    if lines.is_empty() {
        lines.push(Line {
            repository: none(),
            tag: none(),
            digest: none(),
            image,
        });
    }
    lines
}

fn resolved(image: &Image, name: &Name) -> Option<String> {
    let of_repository = |full: &&String| {
        let rest = full.strip_prefix(name.repository.as_str());
        rest.is_some_and(|rest| rest.starts_with('@'))
    };
    let full = image.repo_digests.iter().find(of_repository)?;
    full.split_once('@').map(|(_, digest)| digest.to_owned())
}

fn listed(image: &Image) -> Listed<'_> {
    Listed {
        id: image.id.to_string(),
        digest: image.digest.to_string(),
        names: familiar(&image.references),
        repo_digests: familiar(&image.repo_digests),
        created: image.config.created.as_deref(),
        added: printer::rfc3339(image.added),
        size: image.size(),
        layers: image.layers.len(),
        platform: image.config.platform().to_string(),
    }
}

/// Full names as people know them.
pub(super) fn familiar(full: &[String]) -> Vec<String> {
    let names = full.iter().map(|full| match Name::parse(full) {
        Ok(name) => name.familiar(),
        Err(_) => full.clone(),
    });
    names.collect()
}

/// When the image was built; when it came here if it does not say.
fn created(image: &Image) -> i64 {
    image
        .created()
        .map_or(image.added, |time| time.unix_timestamp())
}

/// An image's id.
pub(super) fn id(image: &Image, whole: bool) -> String {
    if whole {
        image.id.to_string()
    } else {
        image.id.short().to_owned()
    }
}

/// Whether a full name is meant by a filter: a repository for all its tags, or a repository and a tag.
fn matches(filter: &str, full: &str) -> bool {
    let Ok(name) = Name::parse(full) else {
        return false;
    };
    let whole = name.familiar();
    [
        filter,
        filter.strip_prefix("docker.io/library/").unwrap_or(filter),
    ]
    .iter()
    .any(|filter| {
        [name.familiar_repository(), &whole, &name.repository, full]
            .iter()
            .any(|text| glob(filter.as_bytes(), text.as_bytes()))
    })
}

/// `*` any characters but `/`, `?` one of them. Looks back to the last `*` only: linear in practice,
/// and never more than the product of the lengths.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == text[t] || (c == b'?' && text[t] != b'/') => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) if text[from] != b'/' => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                _ => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn filters_mean_repositories_or_tags() {
        let debian = "docker.io/library/debian:12";
        for filter in [
            "debian",
            "debian:12",
            "deb*",
            "debian:1?",
            "docker.io/library/debian",
            "*:12",
        ] {
            assert!(matches(filter, debian), "{filter}");
        }
        for filter in ["debia", "debian:13", "*/debian:13", "ubuntu", ""] {
            assert!(!matches(filter, debian), "{filter}");
        }
        assert!(matches("localhost:5000/*", "localhost:5000/app:v1"));
        assert!(!matches("localhost:5000/*", "localhost:5000/a/b:v1"));
    }

    proptest! {
        #[test]
        fn a_text_matches_itself_and_stars_around_it(text in "[a-z:.]{0,12}", cut in 0usize..12) {
            let cut = cut.min(text.len());
            let starred = format!("{}*{}", &text[..cut], &text[cut..]);
            prop_assert!(glob(text.as_bytes(), text.as_bytes()));
            prop_assert!(glob(starred.as_bytes(), text.as_bytes()));
            let other = format!("{text}x");
            prop_assert!(!glob(text.as_bytes(), other.as_bytes()));
        }
    }
}
