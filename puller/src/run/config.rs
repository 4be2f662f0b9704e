//! Everything that a container is to be, decided when it is created: the image's wishes and the person's,
//! merged. It is kept beside the writable layer (`containers/<id>/config.json`), so that a container can be started,
//! described and turned into a bundle at any later time by another process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::command;

/// What a container is to be. Fields that are missing in a file that an older version wrote have their defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The host name.
    pub hostname: String,
    /// The NIS domain, which is the rest of the host's full name; the host's own when empty.
    pub domainname: String,
    /// Program and arguments; see [`command::arguments`].
    pub arguments: Vec<OsString>,
    /// How many of those are the entrypoint's, if that was kept.
    pub entrypoint: Option<usize>,
    /// Variables, `K=V`; see [`command::environment`].
    pub environment: Vec<OsString>,
    /// Where the program starts, made when missing; empty is the root.
    pub working_directory: String,
    /// `user[:group]`, empty is root.
    pub user: String,
    /// Further groups, by name or number.
    pub groups: Vec<String>,
    /// Keep standard input open (`-i`); without it the program reads nothing.
    pub interactive: bool,
    /// Give the program a terminal (`-t`).
    pub terminal: bool,
    /// Whether the container goes when its program ends (`--rm`); its writable layer is then never synced.
    pub ephemeral: bool,
    /// A small first process that reaps children and passes signals on (`--init`).
    pub init: bool,
    /// The signal that asks the program to end.
    pub stop_signal: Option<i32>,
    /// Seconds between that signal and KILL; 10 when not given.
    pub stop_timeout: Option<u32>,
    /// The person's labels; the image's are the image's.
    pub labels: BTreeMap<String, String>,
    /// The container's network.
    pub network: Network,
    /// Further lines of /etc/hosts: (name, address).
    pub extra_hosts: Vec<(String, String)>,
    /// What resolv.conf says in place of the host's lines.
    pub resolver: Resolver,
    /// Whether System V objects, message queues and shared memory are the host's (`--ipc host`).
    pub shares_ipc: bool,
    /// Whether it has the host's name (`--uts host`).
    pub shares_name: bool,
    /// Parameters of the kernel that belong to the container's namespaces: (name with dots, value).
    pub sysctls: Vec<(String, String)>,
    /// What a bundle says beside.
    pub annotations: BTreeMap<String, String>,
    /// The root file system cannot be written (`--read-only`).
    pub read_only: bool,
    /// What is mounted into the container, in this order.
    pub mounts: Vec<Mount>,
    /// Devices of the host that it gets: (host's path, container's path, `rwm` of them).
    pub devices: Vec<(PathBuf, String, String)>,
    /// What the program may do.
    pub security: Security,
    /// How much it may use.
    pub resources: Resources,
    /// Bytes of /dev/shm; 64 MiB when not given.
    pub shm_size: Option<u64>,
    /// The runtime that runs it, `crun`, `runc` or a path; our own when not given.
    pub runtime: Option<String>,
    /// The name of the driver that stacks its layers, once one was chosen.
    pub driver: Option<String>,
    /// What is kept of what it prints.
    pub log: Log,
}

/// What is kept of what a container prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// How.
    pub driver: LogDriver,
    /// Bytes of one file, after which another one begins; no bound when not given.
    pub max_size: Option<u64>,
    /// Files, the one that is written to with them; of no meaning without a bound.
    pub max_files: u32,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            driver: LogDriver::default(),
            max_size: None,
            max_files: 1,
        }
    }
}

/// How it is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// In docker's files of JSON.
    #[default]
    JsonFile,
    /// Not at all.
    None,
}

impl LogDriver {
    /// docker's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::JsonFile => "json-file",
            Self::None => "none",
        }
    }
}

/// Lines of resolv.conf(5); none of a kind leaves the host's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resolver {
    /// Addresses of name servers.
    pub servers: Vec<String>,
    /// Domains to look in; `.` alone stands for none.
    pub search: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

/// Which network a container is in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The host's.
    #[default]
    Host,
    /// One of its own, with nothing in it but a loopback device that is up.
    None,
}

/// Something that is mounted into a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where: an absolute path in the container.
    pub target: String,
    /// What.
    pub source: Source,
    /// Whether it cannot be written through this mount.
    pub read_only: bool,
    /// mount(8) words beyond that: `nosuid`, `nodev`, `noexec`.
    pub options: Vec<String>,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A file or directory of the host.
    Bind {
        /// Its absolute path.
        path: PathBuf,
        /// With what is mounted below it.
        recursive: bool,
        /// Which mounts pass between it and the host.
        propagation: Propagation,
    },
    /// A volume of the store, filled from the image's directory while it is empty.
    Volume {
        /// Its name.
        name: String,
        /// Whether `rm -v` and `--rm` take it away: it was made for this container alone.
        anonymous: bool,
        /// Whether it stays empty (`nocopy`).
        no_copy: bool,
    },
    /// A file system in memory.
    Tmpfs {
        /// Bytes; half of the memory when not given.
        size: Option<u64>,
        /// The mode of its root; 1777 when not given.
        mode: Option<u32>,
    },
}

/// mount_namespaces(7), "SHARED SUBTREES".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// None pass.
    #[default]
    Private,
    /// Those of the host come in.
    Slave,
    /// They pass both ways.
    Shared,
}

/// What the program may do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// All capabilities, no system call filter, nothing masked, all devices.
    pub privileged: bool,
    /// Capabilities beyond docker's default set, `NET_ADMIN` or `ALL`.
    pub added: Vec<String>,
    /// Capabilities taken away, or `ALL`.
    pub dropped: Vec<String>,
    /// No program gains rights by being executed (PR_SET_NO_NEW_PRIVS(2const)).
    pub no_new_privileges: bool,
    /// The filter of system calls.
    pub seccomp: Seccomp,
    /// Neither masked nor read-only paths below /proc and /sys (`systempaths=unconfined`).
    pub unmasked: bool,
}

/// Which system calls are allowed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seccomp {
    /// Our list, the same in spirit as docker's.
    #[default]
    Default,
    /// All.
    Unconfined,
    /// What a file in docker's format said when the container was created: its text.
    Profile(String),
}

/// How much a container may use. What is not given is not limited.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of memory and swap together; -1 is unlimited.
    pub memory_swap: Option<i64>,
    /// Bytes of memory that it keeps when others run out of it.
    pub memory_reservation: Option<u64>,
    /// Processors, 1.5 for one and a half.
    pub cpus: Option<f64>,
    /// Relative weight, 2 to 262144.
    pub cpu_shares: Option<u64>,
    /// Which processors, `0-2,4`.
    pub cpuset: Option<String>,
    /// Microseconds in which the quota is used up, and the quota.
    pub cpu_period: Option<u64>,
    /// See `cpu_period`; 100 ms when only this is given.
    pub cpu_quota: Option<i64>,
    /// Which nodes of memory, `0-1`.
    pub cpuset_mems: Option<String>,
    /// Processes and threads.
    pub pids: Option<i64>,
    /// (name as in setrlimit(2) without RLIMIT_, lower case; soft; hard).
    pub ulimits: Vec<(String, u64, u64)>,
    /// -1000 to 1000 (proc_pid_oom_score_adj(5)).
    pub oom_score_adj: Option<i32>,
}

/// The file's name in a container's directory.
const FILE: &str = "config.json";

impl Config {
    /// The one that is kept in a container's directory; `None` when there is none.
    ///
    /// # Errors
    /// It cannot be read, or is no configuration.
    pub fn read(directory: &Path) -> io::Result<Option<Self>> {
        match fs::read(directory.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            text => Ok(Some(serde_json::from_slice(&text?)?)),
        }
    }

    /// Keeps it in a container's directory, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let new = directory.join("config.json.new");
        fs::write(&new, serde_json::to_vec(self)?)?;
        fs::rename(new, directory.join(FILE))
    }

    /// Names the host after the container's id if nobody gave it a name; one that shares the host's name has that.
    pub fn default_hostname(&mut self, short_id: &str) {
        if !self.hostname.is_empty() {
            return;
        }
        let of_host = match self.shares_name {
            true => fs::read_to_string("/proc/sys/kernel/hostname").ok(),
            false => None,
        };
        let short_id = of_host.as_deref().map_or(short_id, str::trim);
        self.hostname = short_id.to_owned();
        if command::value(&self.environment, "HOSTNAME").is_none() {
            self.environment.push(format!("HOSTNAME={short_id}").into());
        }
    }

    /// Whether names are looked up as on the host, and no others are known.
    pub fn names_are_the_hosts(&self) -> bool {
        self.network == Network::Host
            && self.extra_hosts.is_empty()
            && self.domainname.is_empty()
            && self.resolver == Resolver::default()
    }

    /// The seconds that a stop waits before it kills.
    pub fn stop_after(&self) -> u32 {
        self.stop_timeout.unwrap_or(10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_and_read_again() {
        use std::os::unix::ffi::OsStringExt as _;
        let dir = tempfile::tempdir().expect("tempdir");
        assert_eq!(Config::read(dir.path()).expect("nothing there"), None);
        let mut config = Config {
            arguments: vec![OsString::from_vec(vec![b'a', 0xff])],
            mounts: vec![Mount {
                target: "/x".into(),
                source: Source::Tmpfs {
                    size: None,
                    mode: Some(0o700),
                },
                read_only: true,
                options: vec!["noexec".into()],
            }],
            resources: Resources {
                ulimits: vec![("core".into(), 0, u64::MAX)],
                cpus: Some(1.5),
                ..Resources::default()
            },
            ..Config::default()
        };
        config.default_hostname("0123456789ab");
        config.write(dir.path()).expect("written");
        assert_eq!(Config::read(dir.path()).expect("there"), Some(config));
        fs::write(dir.path().join(FILE), "{\"init\":true}").expect("write");
        assert!(
            Config::read(dir.path()).expect("there").expect("read").init,
            "the rest has defaults"
        );
        fs::write(dir.path().join(FILE), "{").expect("write");
        assert!(Config::read(dir.path()).is_err());
    }

    #[test]
    fn the_host_is_named_by_the_person_or_the_id() {
        let mut config = Config::default();
        config.default_hostname("0123");
        assert_eq!(config.hostname, "0123");
        assert_eq!(config.environment, ["HOSTNAME=0123"]);
        config.default_hostname("4567");
        assert_eq!(config.hostname, "0123");
        let mut shared = Config {
            shares_name: true,
            ..Config::default()
        };
        shared.default_hostname("0123");
        let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("there");
        assert_eq!(shared.hostname, host.trim());
    }
}
