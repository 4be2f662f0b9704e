//! What is Linux's own of a `config.json`: namespaces, ids, devices, control groups, the filter of system calls
//! (runtime-spec, config-linux.md).

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{BundleError, Place};
use crate::run::config::{Config, Network, Resources};
use crate::run::{HIDDEN, READ_ONLY, host_devices, seccomp};

pub(super) fn linux(config: &Config, place: &Place, rootless: bool) -> Result<Value, BundleError> {
    let security = &config.security;
    let mut namespaces = vec!["mount", "pid"];
    if !config.shares_ipc {
        namespaces.push("ipc");
    }
    if !config.shares_name {
        namespaces.push("uts");
    }
    if config.network == Network::None {
        namespaces.push("network");
    }
    if place.ids.is_some() {
        namespaces.push("user");
    }
    let namespaces: Vec<Value> = namespaces
        .iter()
        .map(|kind| json!({ "type": kind }))
        .collect();
    let mut linux = Map::new();
    linux.insert("namespaces".into(), json!(namespaces));
    if !security.privileged && !security.unmasked {
        linux.insert("maskedPaths".into(), json!(HIDDEN));
        linux.insert("readonlyPaths".into(), json!(READ_ONLY));
    }
    if let Some(ids) = &place.ids {
        let maps = |ranges: &[(u64, u64, u64)]| -> Vec<Value> {
            let ranges = ranges.iter();
            ranges
                .map(|(inside, outside, count)| {
                    json!({ "containerID": inside, "hostID": outside, "size": count })
                })
                .collect()
        };
        linux.insert("uidMappings".into(), json!(maps(&ids.users)));
        linux.insert("gidMappings".into(), json!(maps(&ids.groups)));
    }
    let filter = seccomp::runtime_seccomp(security).map_err(BundleError::Seccomp)?;
    if let Some(filter) = filter {
        linux.insert("seccomp".into(), filter);
    }
    let (devices, rules) = devices(config);
    // In a user namespace nodes cannot be made; there the host's are mounted.
    if !devices.is_empty() && !rootless {
        linux.insert("devices".into(), json!(devices));
    }
    let mut resources = resources(&config.resources);
    if !rootless {
        resources.insert("devices".into(), json!(rules));
    }
    if let Some(group) = &place.group {
        linux.insert("cgroupsPath".into(), json!(group));
    }
    let mut sysctls: Map<String, Value> = config
        .sysctls
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    // A field of its own is in later versions of the specification only.
    if !config.domainname.is_empty() && !rootless {
        sysctls.insert("kernel.domainname".into(), json!(config.domainname));
    }
    if !sysctls.is_empty() {
        linux.insert("sysctl".into(), Value::Object(sysctls));
    }
    if !resources.is_empty() {
        linux.insert("resources".into(), Value::Object(resources));
    }
    Ok(Value::Object(linux))
}

/// The nodes to be made, and who may open what: nothing but these and what every container has.
fn devices(config: &Config) -> (Vec<Value>, Vec<Value>) {
    let open = config.security.privileged;
    let mut rules = vec![json!({ "allow": open, "access": "rwm" })];
    let mut devices = Vec::new();
    for (host, inside, access) in &config.devices {
        // One that is gone since it was asked for is missing in the container.
        for (_, target, found) in host_devices(host, Path::new(inside)).unwrap_or_default() {
            let kind = match found.file_type().is_block_device() {
                true => "b",
                false => "c",
            };
            let (major, minor) = (
                rustix::fs::major(found.rdev()),
                rustix::fs::minor(found.rdev()),
            );
            devices.push(json!({
                "path": target, "type": kind, "major": major, "minor": minor,
                "fileMode": found.mode() & 0o777, "uid": found.uid(), "gid": found.gid(),
            }));
            rules.push(json!({
                "allow": true, "type": kind, "major": major, "minor": minor, "access": access,
            }));
        }
    }
    (devices, rules)
}

fn resources(wanted: &Resources) -> Map<String, Value> {
    let mut resources = Map::new();
    if let Some(bytes) = wanted.memory {
        let mut memory = json!({ "limit": bytes });
        if let Some(both) = wanted.memory_swap {
            memory["swap"] = json!(both);
        }
        resources.insert("memory".into(), memory);
    }
    if let Some(bytes) = wanted.memory_reservation {
        resources.entry("memory").or_insert_with(|| json!({}))["reservation"] = json!(bytes);
    }
    let mut cpu = Map::new();
    if let Some(cpus) = wanted.cpus {
        cpu.insert("quota".into(), json!((cpus * 100_000.0) as i64));
        cpu.insert("period".into(), json!(100_000));
    }
    let others = [
        ("period", wanted.cpu_period.map(|n| json!(n))),
        ("quota", wanted.cpu_quota.map(|n| json!(n))),
        ("shares", wanted.cpu_shares.map(|n| json!(n))),
        ("cpus", wanted.cpuset.as_ref().map(|list| json!(list))),
        ("mems", wanted.cpuset_mems.as_ref().map(|list| json!(list))),
    ];
    for (key, value) in others {
        cpu.extend(value.map(|value| (key.to_owned(), value)));
    }
    if !cpu.is_empty() {
        resources.insert("cpu".into(), Value::Object(cpu));
    }
    if let Some(most) = wanted.pids {
        resources.insert("pids".into(), json!({ "limit": most }));
    }
    resources
}
