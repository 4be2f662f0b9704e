//! `--format` of `strata ps`: docker's templates, with docker's names for what there is of a container.

use std::str::FromStr;

use anyhow::Result;
use serde_json::{Value, json};
use strata::run::config::{Config, Network, Source};
use strata::store::Store;
use strata::store::containers::Container;

use super::{Args, command, id, size, status};
use crate::printer;
use crate::template::{Template, TemplateError};

/// How containers are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// As somebody wishes, in aligned columns with headings or not.
    Template {
        /// With columns, which tabulators separate.
        table: bool,
        /// A line.
        template: Template,
    },
}

impl FromStr for Format {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let text = text.trim();
        let (table, rest) = match text.strip_prefix("table ") {
            Some(rest) => (true, rest.trim_start()),
            None => (false, text),
        };
        match text {
            "" | "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            _ => Ok(Self::Template {
                table,
                template: rest.replace("\\t", "\t").replace("\\n", "\n").parse()?,
            }),
        }
    }
}

/// docker's names of the columns, and their headings.
const HEADINGS: [(&str, &str); 14] = [
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("Status", "STATUS"),
    ("State", "STATE"),
    ("Size", "SIZE"),
    ("Names", "NAMES"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
];

/// What there is of a container.
pub(super) fn row(store: &Store, container: &Container, args: &Args) -> Value {
    // One of an older version has no config.
    let config = Config::read(&store.container_dir(&container.id));
    let config = config.ok().flatten().unwrap_or_default();
    let labels = config.labels.iter().map(|(k, v)| format!("{k}={v}"));
    let mounts = config.mounts.iter().map(|mount| match &mount.source {
        Source::Bind { path, .. } => path.to_string_lossy().into_owned(),
        Source::Volume { name, .. } => name.clone(),
        Source::Tmpfs { .. } => mount.target.clone(),
    });
    let volumes = config.mounts.iter();
    let volumes = volumes.filter(|mount| matches!(mount.source, Source::Volume { .. }));
    json!({
        "ID": id(container, args.no_trunc),
        "Image": container.image,
        "Command": command(&container.command, args.no_trunc),
        "CreatedAt": printer::rfc3339(container.created),
        "RunningFor": printer::ago(container.created),
        "Ports": "",
        "Status": status(container),
        "State": container.status(),
        // It costs a look at every file.
        "Size": if args.size { printer::size(size(store, container)) } else { "0B".to_owned() },
        "Names": container.name,
        "Labels": labels.collect::<Vec<_>>().join(","),
        "Mounts": mounts.collect::<Vec<_>>().join(","),
        "LocalVolumes": volumes.count().to_string(),
        "Networks": match config.network {
            Network::Host => "host",
            Network::None => "none",
        },
    })
}

/// Prints a line for each row.
pub(super) fn print(table: bool, template: &Template, rows: &[Value]) -> Result<()> {
    if !table {
        for row in rows {
            printer::line(template.render(row)?);
        }
        return Ok(());
    }
    let headings: Value = HEADINGS
        .iter()
        .map(|(name, heading)| (*name, *heading))
        .collect();
    let headings = template.render(&headings)?;
    let headings: Vec<&str> = headings.split('\t').collect();
    let mut table = printer::Table::new(&headings);
    for row in rows {
        table.row(template.render(row)?.split('\t').map(str::to_owned));
    }
    table.print();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_words_or_templates() {
        let read = |text: &str| text.parse::<Format>();
        assert_eq!(read("table"), Ok(Format::Table));
        assert_eq!(read("json"), Ok(Format::Json));
        let columns = read("table {{.ID}}\\t{{.Names}}").expect("understood");
        let Format::Template { table, template } = columns else {
            panic!("a template");
        };
        let row = json!({ "ID": "a", "Names": "b" });
        assert!(table);
        assert_eq!(template.render(&row).as_deref(), Ok("a\tb"));
        assert!(read("{{.ID").is_err());
    }
}
