//! `strata system df`: what takes how much room.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};
use strata::store::containers::State;
use strata::store::{ImageUsage, Usage};

use crate::command::images::familiar;
use crate::printer::{self, Format, Table};
use crate::settings::Settings;

/// Show what takes how much room
///
/// Sizes of images are those of their layers' files, each layer counted once; containers, partial downloads and what was removed
/// and is not deleted yet are measured on disk.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Each image, with what it shares with others, and each container
    #[arg(id = "each", short = 'v')]
    verbose_list: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A line of the table.
struct Line {
    kind: &'static str,
    key: &'static str,
    total: usize,
    active: usize,
    size: u64,
    reclaimable: u64,
}

pub(super) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    let usage = settings.open_store()?.usage()?;
    match (args.format, args.verbose_list) {
        (Format::Json, verbose) => json(&usage, verbose)?,
        (Format::Table, false) => table(&usage),
        (Format::Table, true) => verbose(&usage),
    }
    Ok(ExitCode::SUCCESS)
}

fn lines(usage: &Usage) -> Vec<Line> {
    let running = |state: State| state == State::Running;
    let containers = &usage.containers;
    let downloads = &usage.downloads;
    let idle = |running: bool| if running { 0 } else { 1 };
    let mut lines = vec![
        Line {
            kind: "Images",
            key: "images",
            total: usage.images.len(),
            active: usage.images.iter().filter(|i| i.containers > 0).count(),
            size: usage.layers,
            reclaimable: usage.unused_layers,
        },
        Line {
            kind: "Containers",
            key: "containers",
            total: containers.len(),
            active: containers.iter().filter(|(c, _)| running(c.state)).count(),
            size: containers.iter().map(|(_, bytes)| bytes).sum(),
            reclaimable: containers
                .iter()
                .map(|(c, bytes)| bytes * idle(c.state != State::Exited))
                .sum(),
        },
        Line {
            kind: "Partial Downloads",
            key: "partial_downloads",
            total: downloads.len(),
            active: downloads.iter().filter(|d| d.active).count(),
            size: downloads.iter().map(|d| d.bytes).sum(),
            reclaimable: downloads.iter().map(|d| d.bytes * idle(d.active)).sum(),
        },
    ];
    if let (total @ 1.., size) = usage.kept_blobs {
        lines.push(Line {
            kind: "Kept Blobs",
            key: "kept_blobs",
            total,
            active: 0,
            size,
            reclaimable: size,
        });
    }
    if usage.trash > 0 {
        lines.push(Line {
            kind: "Removed, being deleted",
            key: "removed",
            total: 0,
            active: 0,
            size: usage.trash,
            reclaimable: usage.trash,
        });
    }
    lines
}

fn table(usage: &Usage) {
    let mut table = Table::new(&["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
    for line in lines(usage) {
        table.row([
            line.kind.to_owned(),
            line.total.to_string(),
            line.active.to_string(),
            printer::size(line.size),
            share(line.reclaimable, line.size),
        ]);
    }
    table.print();
}

/// `1.2GB (91%)`
fn share(part: u64, whole: u64) -> String {
    let part_of = printer::size(part);
    match u128::from(part) * 100 / u128::from(whole.max(1)) {
        _ if whole == 0 => part_of,
        percent => format!("{part_of} ({percent}%)"),
    }
}

fn verbose(usage: &Usage) {
    printer::line("Images space usage:\n");
    let mut images = Table::new(&[
        "REPOSITORY",
        "TAG",
        "IMAGE ID",
        "CREATED",
        "SIZE",
        "SHARED SIZE",
        "UNIQUE SIZE",
        "CONTAINERS",
    ]);
    for own in &usage.images {
        let image = &own.image;
        let created = image
            .created()
            .map_or(image.added, |time| time.unix_timestamp());
        for (repository, tag) in names(own) {
            images.row([
                repository,
                tag,
                image.id.short().to_owned(),
                printer::ago(created),
                printer::size(own.shared.saturating_add(own.unique)),
                printer::size(own.shared),
                printer::size(own.unique),
                own.containers.to_string(),
            ]);
        }
    }
    images.print();
    printer::line("\nContainers space usage:\n");
    let mut containers = Table::new(&[
        "CONTAINER ID",
        "IMAGE",
        "SIZE",
        "CREATED",
        "STATUS",
        "NAMES",
    ]);
    for (container, bytes) in &usage.containers {
        containers.row([
            container.short_id().to_owned(),
            container.image.clone(),
            printer::size(*bytes),
            printer::ago(container.created),
            container.state.name().to_owned(),
            container.name.clone(),
        ]);
    }
    containers.print();
    printer::line("\nPartial downloads space usage:\n");
    let mut downloads = Table::new(&["BLOB", "SIZE", "LAST BYTES", "ACTIVE"]);
    for download in &usage.downloads {
        downloads.row([
            download.name.chars().take(12).collect(),
            printer::size(download.bytes),
            printer::ago(download.touched),
            download.active.to_string(),
        ]);
    }
    downloads.print();
}

/// Repository and tag of each of an image's names.
fn names(own: &ImageUsage) -> Vec<(String, String)> {
    let split = |name: String| match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') && !name.contains('@') => {
            (repository.to_owned(), tag.to_owned())
        }
        _ => (name, "<none>".to_owned()),
    };
    let names: Vec<_> = familiar(&own.image.references)
        .into_iter()
        .map(split)
        .collect();
    match names.is_empty() {
        true => vec![("<none>".to_owned(), "<none>".to_owned())],
        false => names,
    }
}

fn json(usage: &Usage, verbose: bool) -> Result<()> {
    let mut all = serde_json::Map::new();
    for line in lines(usage) {
        let value = json!({
            "total": line.total, "active": line.active, "size": line.size, "reclaimable": line.reclaimable,
        });
        all.insert(line.key.to_owned(), value);
    }
    if verbose {
        let images = usage.images.iter().map(|own| {
            json!({
                "id": own.image.id, "names": familiar(&own.image.references), "shared_size": own.shared,
                "unique_size": own.unique, "size": own.shared.saturating_add(own.unique), "containers": own.containers,
            })
        });
        all["images"]["list"] = images.collect::<Vec<Value>>().into();
        let containers = usage.containers.iter().map(|(container, bytes)| {
            json!({
                "id": container.id, "name": container.name, "image": container.image, "size": bytes,
                "state": container.state.name(),
            })
        });
        all["containers"]["list"] = containers.collect::<Vec<Value>>().into();
        let downloads = usage.downloads.iter();
        let downloads =
            downloads.map(|d| json!({"blob": d.name, "size": d.bytes, "active": d.active}));
        all["partial_downloads"]["list"] = downloads.collect::<Vec<Value>>().into();
    }
    printer::json(&all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_whole_percents() {
        assert_eq!(share(0, 0), "0B");
        assert_eq!(share(0, 10), "0B (0%)");
        assert_eq!(share(910, 1000), "910B (91%)");
        assert_eq!(share(u64::MAX, u64::MAX), "18.4EB (100%)");
    }
}
