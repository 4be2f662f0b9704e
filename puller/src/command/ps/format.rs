//! What templates of `strata ps --format` may name: docker's names for what there is of a container.

use serde_json::{Value, json};
use strata::run::config::{Config, Network, Source};
use strata::store::Store;
use strata::store::containers::Container;

use super::{Args, command, id, size, status};
use crate::printer;

/// docker's names of the columns, and their headings.
pub(super) const HEADINGS: [(&str, &str); 14] = [
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
