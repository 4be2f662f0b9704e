//! A container as `inspect` shows it, in docker's words.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use strata::driver::{Name, Writable};
use strata::run::config::{Config, Log, Mount, Network, Source};
use strata::run::log;
use strata::store::Store;
use strata::store::containers::{Container, State};

use crate::printer;

/// What docker says of a time that has not come.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Everything about a container. What has no meaning here is left out.
pub(super) fn describe(store: &Store, container: &Container) -> Result<Value> {
    let image = store.image_by_digest(&container.manifest_digest)?;
    let directory = store.container_dir(&container.id);
    // One that an older version made has none.
    let config = Config::read(&directory)?.unwrap_or_default();
    let time = |time: Option<i64>| time.map_or_else(|| NEVER.to_owned(), printer::rfc3339);
    let running = container.state == State::Running;
    let file = |name: &str| directory.join(name).to_string_lossy().into_owned();
    let driver = Name::recorded(&directory).map(Name::as_str);
    // Before the first start it may not have been chosen.
    let driver = driver.or(config.driver.as_deref()).unwrap_or_default();
    let mut lowers = Vec::new();
    if let Some(image) = &image {
        lowers = store.stack(image)?;
    }
    Ok(json!({
        "Id": container.id,
        "Name": container.name,
        "Kind": container.kind.name(),
        "Created": printer::rfc3339(container.created),
        "Path": container.command.first(),
        "Args": container.command.get(1..).unwrap_or_default(),
        "State": {
            "Status": container.status(),
            "Running": running,
            "Paused": container.paused,
            "Restarting": false,
            "OOMKilled": container.oom_killed,
            "Dead": false,
            "Pid": container.pid.unwrap_or(0),
            "ExitCode": container.exit_code.unwrap_or(0),
            "Error": container.error,
            "StartedAt": time(container.started),
            "FinishedAt": time(container.finished.filter(|_| !running)),
        },
        "Image": image.as_ref().map(|image| &image.id),
        "ImageName": container.image,
        "ImageDigest": container.manifest_digest,
        "ResolvConfPath": file("resolv.conf"),
        "HostnamePath": file("hostname"),
        "HostsPath": file("hosts"),
        "LogPath": log::path(&directory).to_string_lossy(),
        "Driver": driver,
        "Platform": "linux",
        // Nobody starts it again.
        "RestartCount": 0,
        "Directory": directory.to_string_lossy(),
        "GraphDriver": graph_driver(&directory, driver, &lowers),
        "HostConfig": host_config(container, &config),
        "NetworkSettings": network_settings(&config),
        "Mounts": mounts(store, &config),
        "Config": container_config(container, &config, image.as_ref().map(|i| &i.config.config)),
    }))
}

/// docker has them as the words that they were written as.
fn log_options(log: &Log) -> Value {
    let mut options = serde_json::Map::new();
    if let Some(bytes) = log.max_size {
        options.insert("max-size".to_owned(), bytes.to_string().into());
        options.insert("max-file".to_owned(), log.max_files.to_string().into());
    }
    options.into()
}

fn graph_driver(directory: &Path, driver: &str, lowers: &[std::path::PathBuf]) -> Value {
    let writable = Writable::of(directory);
    let lowers: Vec<_> = lowers.iter().map(|lower| lower.to_string_lossy()).collect();
    json!({
        "Name": driver,
        "Data": {
            "LowerDir": lowers.join(":"),
            "UpperDir": writable.upper.to_string_lossy(),
            "WorkDir": writable.work.to_string_lossy(),
            "MergedDir": writable.merged.to_string_lossy(),
        },
    })
}

fn host_config(container: &Container, config: &Config) -> Value {
    let (security, resources) = (&config.security, &config.resources);
    let hosts = config.extra_hosts.iter();
    let hosts: Vec<String> = hosts.map(|(name, at)| format!("{name}:{at}")).collect();
    let ulimits: Vec<Value> = resources
        .ulimits
        .iter()
        .map(|(name, soft, hard)| json!({ "Name": name, "Soft": soft, "Hard": hard }))
        .collect();
    json!({
        "AutoRemove": container.ephemeral,
        "NetworkMode": network(config),
        "PortBindings": {},
        "ExtraHosts": hosts,
        "Binds": binds(config),
        "RestartPolicy": { "Name": "no", "MaximumRetryCount": 0 },
        "LogConfig": { "Type": config.log.driver.name(), "Config": log_options(&config.log) },
        "CapAdd": security.added,
        "CapDrop": security.dropped,
        "Privileged": security.privileged,
        "ReadonlyRootfs": config.read_only,
        "GroupAdd": config.groups,
        "Init": config.init,
        "ShmSize": config.shm_size.unwrap_or(64 * 1024 * 1024),
        "Memory": resources.memory.unwrap_or(0),
        "MemorySwap": resources.memory_swap.unwrap_or(0),
        "NanoCpus": resources.cpus.map_or(0, |cpus| (cpus * 1e9) as u64),
        "CpuShares": resources.cpu_shares.unwrap_or(0),
        "CpusetCpus": resources.cpuset.as_deref().unwrap_or_default(),
        "PidsLimit": resources.pids,
        "OomScoreAdj": resources.oom_score_adj.unwrap_or(0),
        "Ulimits": ulimits,
        "Runtime": config.runtime.as_deref().unwrap_or("strata"),
    })
}

fn network(config: &Config) -> &'static str {
    match config.network {
        Network::Host => "host",
        Network::None => "none",
    }
}

/// Neither of the networks that there are gives a container an address of its own, and docker then has these empty.
fn network_settings(config: &Config) -> Value {
    json!({
        "Ports": {},
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "GlobalIPv6Address": "",
        "MacAddress": "",
        "Networks": {
            network(config): {
                "NetworkID": "",
                "Gateway": "",
                "IPAddress": "",
                "IPPrefixLen": 0,
                "GlobalIPv6Address": "",
                "MacAddress": "",
            },
        },
    })
}

/// What was mounted of the host's files and of volumes with names, as `-v` takes it.
fn binds(config: &Config) -> Vec<String> {
    let bind = |mount: &Mount| {
        let source = match &mount.source {
            Source::Bind { path, .. } => path.to_string_lossy().into_owned(),
            Source::Volume {
                name,
                anonymous: false,
                ..
            } => name.clone(),
            Source::Volume { .. } | Source::Tmpfs { .. } => return None,
        };
        let mode = if mount.read_only { ":ro" } else { "" };
        Some(format!("{source}:{}{mode}", mount.target))
    };
    config.mounts.iter().filter_map(bind).collect()
}

fn mounts(store: &Store, config: &Config) -> Vec<Value> {
    let mount = |mount: &Mount| {
        let (kind, name, source) = match &mount.source {
            Source::Bind { path, .. } => ("bind", None, path.to_string_lossy().into_owned()),
            Source::Volume { name, .. } => {
                let path = store.volumes_dir().join(name).join("_data");
                ("volume", Some(name), path.to_string_lossy().into_owned())
            }
            Source::Tmpfs { .. } => ("tmpfs", None, String::new()),
        };
        let mut value = json!({
            "Type": kind,
            "Source": source,
            "Destination": mount.target,
            "Mode": mount.options.join(","),
            "RW": !mount.read_only,
        });
        if let Some(name) = name {
            value["Name"] = name.as_str().into();
        }
        value
    };
    config.mounts.iter().map(mount).collect()
}

fn container_config(
    container: &Container,
    config: &Config,
    image: Option<&strata_oci::config::ContainerConfig>,
) -> Value {
    let text = |words: &[std::ffi::OsString]| -> Vec<String> {
        words
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect()
    };
    // docker shows the image's labels among the container's; the container's own win.
    let mut labels = image.map(|image| image.labels.clone()).unwrap_or_default();
    labels.extend(config.labels.clone());
    let (ports, volumes) = image
        .map(|image| (image.exposed_ports.clone(), image.volumes.clone()))
        .unwrap_or_default();
    let words = &container.command;
    let (entrypoint, command) = words.split_at(config.entrypoint.unwrap_or(0).min(words.len()));
    json!({
        "Hostname": config.hostname,
        "Domainname": config.domainname,
        "User": config.user,
        "Tty": config.terminal,
        "OpenStdin": config.interactive,
        "Env": text(&config.environment),
        "Entrypoint": entrypoint,
        "Cmd": command,
        "ExposedPorts": ports,
        "Volumes": volumes,
        "Image": container.image,
        "WorkingDir": config.working_directory,
        "Labels": labels,
        "StopSignal": config.stop_signal,
        "StopTimeout": config.stop_after(),
    })
}
