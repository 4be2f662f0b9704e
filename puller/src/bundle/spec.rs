//! A container's configuration as the `config.json` of a bundle (runtime-spec, config.md and config-linux.md).

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};

use super::BundleError;
use super::linux::linux;
use crate::run::config::{Config, Mount, Network, Propagation, Source};
use crate::run::options::effective_capabilities;
use crate::run::{host_devices, user};
use crate::userns::{Ids, Mappings};

/// The version of the specification that this keeps to.
const VERSION: &str = "1.0.2";

/// Where a bundle's parts are.
#[derive(Debug)]
pub struct Place<'a> {
    /// The root file system as `config.json` says it.
    pub root: &'a Path,
    /// The same, from here.
    pub rootfs: &'a Path,
    /// Where the store keeps volumes.
    pub volumes: &'a Path,
    /// Files to be mounted: (host's, container's).
    pub files: &'a [(PathBuf, String)],
    /// Whether all this happens in a user namespace.
    pub rootless: bool,
    /// The ids of the user namespace that the runtime is to make; none when it runs in one already.
    pub ids: Option<Mappings>,
    /// Where in control groups the container goes; the runtime's own choice when not given.
    pub group: Option<String>,
}

/// The `config.json` of a container.
///
/// # Errors
/// The container's user is not known in the root file system; its filter of system calls cannot be applied.
pub fn runtime_spec(config: &Config, place: &Place) -> Result<Value, BundleError> {
    let root = open_root(place.rootfs)?;
    let rootless = place.rootless;
    let user = {
        let read = |path: &str| {
            user::read_accounts(&root, Path::new(path)).map_err(BundleError::io(
                "cannot read",
                &place.rootfs.join(&path[1..]),
            ))
        };
        let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
        user::resolve(&config.user, &passwd, &group)?.with_groups(&config.groups, &group)?
    };
    let texts = |strings: &[std::ffi::OsString]| -> Vec<String> {
        strings
            .iter()
            .map(|s| s.to_string_lossy().into_owned())
            .collect()
    };
    let mut environment = texts(&config.environment);
    if !environment.iter().any(|v| v.starts_with("HOME=")) {
        environment.push(format!("HOME={}", user.home));
    }
    let security = &config.security;
    let capabilities: Vec<String> = effective_capabilities(security)
        .iter()
        .map(|name| format!("CAP_{name}"))
        .collect();
    let held = if user.uid == 0 {
        capabilities.clone()
    } else {
        Vec::new()
    };
    let limits = config.resources.ulimits.iter().map(|(name, soft, hard)| {
        json!({ "type": format!("RLIMIT_{}", name.to_uppercase()), "soft": soft, "hard": hard })
    });
    let mut process = json!({
        "terminal": config.terminal,
        "user": { "uid": user.uid, "gid": user.gid },
        "args": texts(&config.arguments),
        "env": environment,
        "cwd": Path::new("/").join(&config.working_directory),
        "capabilities": { "bounding": capabilities, "effective": held, "permitted": held },
        "rlimits": limits.collect::<Vec<_>>(),
        "noNewPrivileges": security.no_new_privileges,
    });
    // Without ids of their own there is nobody to be a member of.
    if has_group(place, 1) {
        process["user"]["additionalGids"] = json!(user.all_groups());
    }
    if let Some(score) = config.resources.oom_score_adj {
        process["oomScoreAdj"] = json!(score);
    }
    let mut spec = json!({
        "ociVersion": VERSION,
        "process": process,
        "root": { "path": place.root, "readonly": config.read_only },
        "mounts": mounts(config, place, rootless),
        "linux": linux(config, place, rootless)?,
    });
    if !config.shares_name {
        spec["hostname"] = json!(config.hostname);
    }
    // In a user namespace it cannot be set as a parameter of the kernel, and later versions have this.
    if rootless && !config.domainname.is_empty() && !config.shares_name {
        spec["domainname"] = json!(config.domainname);
    }
    if !config.annotations.is_empty() {
        spec["annotations"] = json!(config.annotations);
    }
    Ok(spec)
}

/// Whether there is a group of this id where the container is to be.
fn has_group(place: &Place, id: u32) -> bool {
    match &place.ids {
        Some(ids) => ids.has_group(id.into()),
        None => !place.rootless || Ids::here().is_ok_and(|ids| ids.has_group(id)),
    }
}

fn open_root(rootfs: &Path) -> Result<OwnedFd, BundleError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(rootfs, flags, Mode::empty())
        .map_err(|error| BundleError::io("cannot open", rootfs)(error.into()))
}

fn mount(target: &str, kind: &str, source: impl Into<PathBuf>, options: &[&str]) -> Value {
    json!({ "destination": target, "type": kind, "source": source.into(), "options": options })
}

fn mounts(config: &Config, place: &Place, rootless: bool) -> Vec<Value> {
    let shm_size = format!("size={}", config.shm_size.unwrap_or(64 << 20));
    let tty_group = has_group(place, 5);
    let mut pts = vec![
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
    ];
    if tty_group {
        pts.push("gid=5");
    }
    let mut sys = vec!["nosuid", "noexec", "nodev"];
    if !config.security.privileged {
        sys.push("ro");
    }
    let sys = match rootless && config.network == Network::Host {
        true => mount(
            "/sys",
            "bind",
            "/sys",
            &[sys.as_slice(), &["rbind"]].concat(),
        ),
        false => mount("/sys", "sysfs", "sysfs", &sys),
    };
    let quiet = ["nosuid", "noexec", "nodev"];
    let shared = |target: &str, own: Value| match config.shares_ipc {
        true => Path::new(target).is_dir().then(|| {
            let options = ["bind", "nosuid", "noexec", "nodev"];
            mount(target, "bind", target, &options)
        }),
        false => Some(own),
    };
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &quiet),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount("/dev/pts", "devpts", "devpts", &pts),
    ];
    let shm = [quiet.as_slice(), &["mode=1777", &shm_size]].concat();
    mounts.extend(shared("/dev/shm", mount("/dev/shm", "tmpfs", "shm", &shm)));
    let queues = mount("/dev/mqueue", "mqueue", "mqueue", &quiet);
    mounts.extend(shared("/dev/mqueue", queues));
    mounts.push(sys);
    let own = |target: &str| config.mounts.iter().any(|known| known.target == target);
    let mut others: Vec<(String, Value)> = Vec::new();
    for (host, target) in place
        .files
        .iter()
        .filter(|(host, target)| !own(target) && host.exists())
    {
        // A file of the host's itself is not the container's to write.
        let writable = if config.read_only || host == Path::new(target) {
            "ro"
        } else {
            "rw"
        };
        let options = ["rbind", "rprivate", writable];
        others.push((target.clone(), mount(target, "bind", host, &options)));
    }
    for (host, inside, _) in config.devices.iter().filter(|_| rootless) {
        // One that is gone since it was asked for is missing in the container.
        for (path, target, _) in host_devices(host, Path::new(inside)).unwrap_or_default() {
            let target = target.to_string_lossy().into_owned();
            let options = ["bind", "nosuid", "noexec"];
            others.push((target.clone(), mount(&target, "bind", path, &options)));
        }
    }
    for wanted in &config.mounts {
        others.extend(one(wanted, place).map(|value| (wanted.target.clone(), value)));
    }
    others.sort_by_key(|(target, _)| target.matches('/').count());
    mounts.extend(others.into_iter().map(|(_, value)| value));
    mounts
}

/// `None`: a volume that is not kept anywhere.
fn one(wanted: &Mount, place: &Place) -> Option<Value> {
    let mut options: Vec<String> = wanted.options.clone();
    options.push(if wanted.read_only { "ro" } else { "rw" }.to_owned());
    let (kind, source) = match &wanted.source {
        Source::Bind {
            path,
            recursive,
            propagation,
        } => {
            options.push(if *recursive { "rbind" } else { "bind" }.to_owned());
            let propagation = match propagation {
                Propagation::Private => "rprivate",
                Propagation::Slave => "rslave",
                Propagation::Shared => "rshared",
            };
            options.push(propagation.to_owned());
            ("bind", path.clone())
        }
        Source::Volume { name, .. } => {
            let path = place.volumes.join(name).join("_data");
            if !path.is_dir() {
                return None;
            }
            options.push("rbind".to_owned());
            ("bind", path)
        }
        Source::Tmpfs { size, mode } => {
            options.extend(size.map(|bytes| format!("size={bytes}")));
            options.push(format!("mode={:o}", mode.unwrap_or(0o1777)));
            ("tmpfs", PathBuf::from("tmpfs"))
        }
    };
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    Some(mount(&wanted.target, kind, source, &options))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::config::Resources;
    use std::fs;

    fn rootfs() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::create_dir(dir.path().join("etc")).expect("mkdir");
        fs::write(
            dir.path().join("etc/passwd"),
            "www:x:33:34::/var/www:/bin/sh\n",
        )
        .expect("write");
        fs::write(dir.path().join("etc/group"), "video:x:44:www\n").expect("write");
        dir
    }

    fn spec(config: &Config, ids: Option<Mappings>) -> Result<Value, BundleError> {
        let dir = rootfs();
        let place = Place {
            root: Path::new("rootfs"),
            rootfs: dir.path(),
            volumes: Path::new("/volumes"),
            files: &[(PathBuf::from("/etc/hosts"), "/etc/hosts".to_owned())],
            rootless: ids.is_some(),
            ids,
            group: None,
        };
        runtime_spec(config, &place)
    }

    #[test]
    fn the_container_is_described_as_the_specification_has_it() {
        let config = Config {
            hostname: "box".into(),
            arguments: vec!["sh".into()],
            environment: vec!["A=1".into()],
            user: "www".into(),
            read_only: true,
            network: Network::None,
            resources: Resources {
                memory: Some(7),
                ulimits: vec![("nofile".into(), 5, u64::MAX)],
                ..Resources::default()
            },
            mounts: vec![Mount {
                target: "/etc/hosts".into(),
                source: Source::Tmpfs {
                    size: Some(9),
                    mode: None,
                },
                read_only: true,
                options: vec!["noexec".into()],
            }],
            ..Config::default()
        };
        let spec = spec(&config, None).expect("described");
        assert_eq!(
            spec["process"]["user"],
            json!({ "uid": 33, "gid": 34, "additionalGids": [34, 44] })
        );
        assert_eq!(spec["process"]["env"], json!(["A=1", "HOME=/var/www"]));
        assert_eq!(spec["process"]["cwd"], "/");
        assert_eq!(spec["process"]["rlimits"][0]["hard"], u64::MAX);
        assert_eq!(spec["process"]["capabilities"]["effective"], json!([]));
        assert_eq!(spec["root"], json!({ "path": "rootfs", "readonly": true }));
        assert_eq!(spec["linux"]["resources"]["memory"]["limit"], 7);
        assert_eq!(spec["linux"]["resources"]["devices"][0]["allow"], false);
        let namespaces = spec["linux"]["namespaces"].to_string();
        assert!(
            namespaces.contains("network") && !namespaces.contains("user"),
            "{namespaces}"
        );
        let mounts = spec["mounts"].as_array().expect("a list");
        let hosts: Vec<&Value> = mounts
            .iter()
            .filter(|m| m["destination"] == "/etc/hosts")
            .collect();
        assert_eq!(hosts.len(), 1, "the person's own goes before ours");
        assert_eq!(
            hosts[0]["options"],
            json!(["noexec", "ro", "size=9", "mode=1777"])
        );
        assert_eq!(spec["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
    }

    #[test]
    fn what_is_shared_set_and_limited_is_said() {
        let config = Config {
            shares_ipc: true,
            shares_name: true,
            sysctls: vec![("net.core.somaxconn".into(), "9".into())],
            annotations: [("a".to_owned(), "b".to_owned())].into(),
            devices: vec![("/dev/zero".into(), "/dev/nought".into(), "r".into())],
            resources: Resources {
                memory_reservation: Some(8),
                cpu_quota: Some(9),
                cpuset_mems: Some("0".into()),
                ..Resources::default()
            },
            ..Config::default()
        };
        let spec = spec(&config, None).expect("described");
        assert!(spec["hostname"].is_null());
        assert_eq!(spec["annotations"], json!({ "a": "b" }));
        let linux = &spec["linux"];
        assert_eq!(
            linux["namespaces"],
            json!([{ "type": "mount" }, { "type": "pid" }])
        );
        assert_eq!(linux["sysctl"], json!({ "net.core.somaxconn": "9" }));
        assert_eq!(linux["devices"][0]["path"], "/dev/nought");
        let rule = json!({ "allow": true, "type": "c", "major": 1, "minor": 5, "access": "r" });
        assert_eq!(linux["resources"]["devices"][1], rule);
        assert_eq!(linux["resources"]["memory"], json!({ "reservation": 8 }));
        assert_eq!(
            linux["resources"]["cpu"],
            json!({ "quota": 9, "mems": "0" })
        );
        let shm = spec["mounts"].as_array().expect("a list").iter();
        let shm: Vec<&Value> = shm.filter(|m| m["destination"] == "/dev/shm").collect();
        assert_eq!((shm.len(), &shm[0]["type"]), (1, &json!("bind")));
    }

    #[test]
    fn without_root_the_container_is_in_a_user_namespace() {
        let ids = Mappings {
            users: vec![(0, 1000, 1)],
            groups: vec![(0, 1000, 1)],
        };
        let spec = spec(&Config::default(), Some(ids)).expect("described");
        let linux = &spec["linux"];
        assert!(linux["namespaces"].to_string().contains("user"));
        assert_eq!(
            linux["uidMappings"],
            json!([{ "containerID": 0, "hostID": 1000, "size": 1 }])
        );
        assert!(linux["resources"].is_null() && !spec["mounts"].to_string().contains("gid=5"));
        let ids = Mappings {
            users: vec![(0, 1000, 1)],
            groups: vec![(0, 1000, 1)],
        };
        let config = Config {
            devices: vec![("/dev/zero".into(), "/dev/nought".into(), "rw".into())],
            domainname: "example.org".into(),
            ..Config::default()
        };
        let spec = self::spec(&config, Some(ids)).expect("described");
        assert!(spec["linux"]["devices"].is_null() && spec["linux"]["sysctl"].is_null());
        assert_eq!(spec["domainname"], "example.org");
        let mounts = spec["mounts"].as_array().expect("a list");
        let device = mounts.iter().find(|m| m["destination"] == "/dev/nought");
        let device = device.expect("mounted");
        assert_eq!(device["source"], "/dev/zero");
        assert!(!device["options"].to_string().contains("nodev"));
    }

    #[test]
    fn a_user_that_the_image_does_not_know_is_refused() {
        let config = Config {
            user: "nobody-here".into(),
            ..Config::default()
        };
        assert!(matches!(spec(&config, None), Err(BundleError::User(_))));
    }
}
