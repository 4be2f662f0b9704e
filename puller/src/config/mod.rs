//! Where images are fetched from: mirrors, other locations, blocked names, certificates, short names.
//!
//! | source | read from | what it says |
//! |---|---|---|
//! | options on the command line | | how the registry that was named is reached |
//! | our own file | `--config`, else `$STRATA_CONFIG`, else `~/.config/strata/config.toml`, else `/etc/strata/config.toml`: the first that is there | all of the next one's words, and `realms`, `connections`, `ca`, `cert`, `key`, `ns`, `also-read`, `hosts-dirs`, `[limits]` |
//! | containers' files | `$CONTAINERS_REGISTRIES_CONF`, else `~/.config/containers/registries.conf`, else `/etc/containers/registries.conf`; then the `*.conf` in the directory of that name with `.d` behind it, the user's last | containers-registries.conf(5), version 2 |
//! | containerd's files | `/etc/containerd/certs.d/HOST/hosts.toml`, else `_default/hosts.toml` | containerd's docs/hosts.md |
//!
//! The first source that has a rule for a name decides alone about it; within one, the longest prefix. Aliases of short
//! names add up, and those of an earlier source win. Certificates that no rule names come from
//! `~/.config/containers/certs.d/HOST`, `/etc/containers/certs.d/HOST` or `/etc/docker/certs.d/HOST`. What a rule says is for
//! reading: a push goes to the registry that was named.

mod containerd;
mod error;
mod file;
mod prefix;
mod short;
pub(crate) mod target;

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::ConfigError;
pub(crate) use short::is_short;

use crate::layer::Limits;
use crate::userns::{self, Privilege};
use file::{MirrorUse, Rule, Rules};
use target::{Target, TlsFiles, When};

/// No file of rules is longer.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Where the configuration comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// This machine's files and the user's; of our own the one that is given, if one is.
    Machine(Option<PathBuf>),
    /// What was read before; a default one says nothing.
    Given(Arc<Config>),
}

impl Default for Source {
    fn default() -> Self {
        Self::Machine(None)
    }
}

impl Source {
    /// Reads it.
    ///
    /// # Errors
    /// A file cannot be read, or says what makes no sense.
    pub fn load(&self) -> Result<Arc<Config>, ConfigError> {
        match self {
            Self::Machine(own) => {
                let places = Places::of_user(own.clone());
                Config::read(&places).map(Arc::new)
            }
            Self::Given(config) => Ok(config.clone()),
        }
    }
}

/// All rules together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    own: Rules,
    containers: Rules,
    hosts_dirs: Vec<PathBuf>,
    certs_dirs: Vec<PathBuf>,
}

/// Where the files are.
#[derive(Debug, Clone, Default)]
struct Places {
    /// Ours, and whether it has to be there.
    own: Vec<(PathBuf, bool)>,
    /// Containers': the first that is there.
    containers: Vec<PathBuf>,
    drop_ins: Vec<PathBuf>,
    /// What podman has learnt of short names.
    learnt: Option<PathBuf>,
    certs_dirs: Vec<PathBuf>,
}

impl Places {
    fn of_user(own: Option<PathBuf>) -> Self {
        // The root of a user namespace is an ordinary user outside, and has that user's files.
        let inside = matches!(userns::current(), Ok(Some(Privilege::UserNamespace)));
        let root = rustix::process::geteuid().is_root() && !inside;
        Self::from_environment(own, root, |name| {
            let value = std::env::var_os(name).map(PathBuf::from);
            value.filter(|path| !path.as_os_str().is_empty())
        })
    }

    fn from_environment(
        own: Option<PathBuf>,
        root: bool,
        var: impl Fn(&str) -> Option<PathBuf>,
    ) -> Self {
        let dir = |name: &str| var(name).filter(|path| path.is_absolute());
        let in_home = |path: &str| dir("HOME").map(|home| home.join(path));
        let config = dir("XDG_CONFIG_HOME").or_else(|| in_home(".config"));
        let cache = dir("XDG_CACHE_HOME").or_else(|| in_home(".cache"));
        let in_config = |path: &str| config.as_ref().map(|dir| dir.join(path));
        let named = own.or_else(|| var("STRATA_CONFIG"));
        let own = match named {
            Some(path) => vec![(path, true)],
            None => in_config("strata/config.toml")
                .into_iter()
                .chain([PathBuf::from("/etc/strata/config.toml")])
                .map(|path| (path, false))
                .collect(),
        };
        let machine = PathBuf::from("/etc/containers/registries.conf");
        let users = in_config("containers/registries.conf");
        let (containers, drop_ins) = match var("CONTAINERS_REGISTRIES_CONF") {
            Some(path) => (vec![path.clone()], vec![beside(&path)]),
            None => {
                let all: Vec<PathBuf> = users.iter().cloned().chain([machine.clone()]).collect();
                let drop_ins = [beside(&machine)]
                    .into_iter()
                    .chain(users.as_deref().map(beside));
                (all, drop_ins.collect())
            }
        };
        let learnt = if root {
            Some(PathBuf::from("/var/cache"))
        } else {
            cache
        };
        Self {
            own,
            containers,
            drop_ins,
            learnt: learnt.map(|dir| dir.join("containers/short-name-aliases.conf")),
            certs_dirs: target::certs_dirs(config.as_deref()),
        }
    }
}

/// `registries.conf` -> `registries.conf.d`
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".d");
    PathBuf::from(name)
}

/// Where to ask for a repository.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    /// In their order, before the registry.
    pub(crate) mirrors: Vec<Target>,
    /// Where the registry really is; none: where its name says.
    pub(crate) registry: Option<Target>,
}

impl Config {
    /// How far layers are unpacked.
    pub(crate) fn limits(&self) -> Limits {
        self.own.limits.clone().unwrap_or_default()
    }

    fn read(places: &Places) -> Result<Self, ConfigError> {
        let mut own = Rules::default();
        for (path, needed) in &places.own {
            match content(path)? {
                Some(text) => {
                    own = Rules::parse(&text, path, true)?;
                    break;
                }
                None if *needed => {
                    let source = io::Error::from(io::ErrorKind::NotFound);
                    let path = path.clone();
                    return Err(ConfigError::Read { path, source });
                }
                None => {}
            }
        }
        let reads = |name: &str| {
            let also = own.also_read.as_ref();
            also.is_none_or(|list| list.iter().any(|word| word == name))
        };
        let containers = if reads("containers") {
            containers_rules(places)?
        } else {
            Rules::default()
        };
        let default = || vec![PathBuf::from("/etc/containerd/certs.d")];
        let hosts_dirs = if reads("containerd") {
            own.hosts_dirs.clone().unwrap_or_else(default)
        } else {
            Vec::new()
        };
        Ok(Self {
            own,
            containers,
            hosts_dirs,
            certs_dirs: places.certs_dirs.clone(),
        })
    }

    fn rule(&self, name: &str) -> Option<(&Rule, usize)> {
        self.own.find(name).or_else(|| self.containers.find(name))
    }

    /// Where certificates for hosts are.
    pub(crate) fn certs_dirs(&self) -> &[PathBuf] {
        &self.certs_dirs
    }

    /// How the registry itself is reached, as far as there is something to say.
    pub(crate) fn registry(&self, registry: &str) -> Result<Target, ConfigError> {
        let mut own = Target::new(registry, String::new());
        if let Some((rule, _)) = self.rule(registry) {
            if rule.location.is_none() {
                own.insecure = rule.insecure;
                own.tls = rule.tls.clone();
                own.realms = rule.realms.clone();
                own.connections = rule.connections;
            }
        } else if let Some(file) = containerd::find(&self.hosts_dirs, registry) {
            let text = content(&file)?.unwrap_or_default();
            if let Some(server) = containerd::parse(&text, &file, registry)?.server {
                own = server;
            }
        }
        self.with_certs(own)
    }

    /// Where to ask for a repository of a registry.
    ///
    /// # Errors
    /// The name is blocked; or a file is wrong.
    pub(crate) fn plan(&self, registry: &str, repository: &str) -> Result<Plan, ConfigError> {
        let name = format!("{registry}/{repository}");
        let Some((rule, end)) = self.rule(&name) else {
            return self.containerd_plan(registry, repository);
        };
        if rule.blocked {
            let path = rule.file.clone();
            return Err(ConfigError::Blocked { name, path });
        }
        let rest = &name[end..];
        let mut mirrors = Vec::new();
        for mirror in &rule.mirrors {
            let place = &mirror.location;
            let mut target = Target::new(&place.host, place.repository(rest));
            target.insecure = mirror.insecure;
            target.tls = mirror.tls.clone();
            target.ns = mirror.ns.then(|| registry.to_owned());
            target.connections = mirror.connections;
            target.when = match mirror.when {
                MirrorUse::All => When::Always,
                MirrorUse::DigestOnly => When::NamedByDigest,
                MirrorUse::TagOnly => When::NamedByTag,
            };
            mirrors.push(self.with_certs(target)?);
        }
        let elsewhere = rule.location.as_ref().map(|place| {
            let mut target = Target::new(&place.host, place.repository(rest));
            target.insecure = rule.insecure;
            target.tls = rule.tls.clone();
            target.realms = rule.realms.clone();
            target.connections = rule.connections;
            self.with_certs(target)
        });
        Ok(Plan {
            mirrors,
            registry: elsewhere.transpose()?,
        })
    }

    fn containerd_plan(&self, registry: &str, repository: &str) -> Result<Plan, ConfigError> {
        let mut mirrors = Vec::new();
        if let Some(file) = containerd::find(&self.hosts_dirs, registry) {
            let text = content(&file)?.unwrap_or_default();
            for mut target in containerd::parse(&text, &file, registry)?.mirrors {
                target.repository = repository.to_owned();
                mirrors.push(self.with_certs(target)?);
            }
        }
        Ok(Plan {
            mirrors,
            registry: None,
        })
    }

    fn with_certs(&self, mut target: Target) -> Result<Target, ConfigError> {
        let found = TlsFiles::of_host(&self.certs_dirs, &target.host);
        let found = found.map_err(|why| ConfigError::Form {
            path: PathBuf::from("certs.d"),
            why,
        })?;
        target.tls = target.tls.or(found);
        Ok(target)
    }
}

fn containers_rules(places: &Places) -> Result<Rules, ConfigError> {
    let mut rules = Rules::default();
    for path in &places.containers {
        if let Some(text) = content(path)? {
            rules = Rules::parse(&text, path, false)?;
            break;
        }
    }
    for dir in &places.drop_ins {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        files.retain(|path| {
            path.extension()
                .is_some_and(|extension| extension == "conf")
        });
        files.sort();
        for path in files {
            if let Some(text) = content(&path)? {
                rules.merge(Rules::parse(&text, &path, false)?);
            }
        }
    }
    if let Some(path) = &places.learnt {
        match content(path) {
            Ok(Some(text)) => rules.merge(Rules::parse(&text, path, false)?),
            Ok(None) => {}
            // Only what another program remembers for itself: without it, names are asked for in full.
            Err(error) => tracing::debug!("{error}"),
        }
    }
    Ok(rules)
}

fn content(path: &Path) -> Result<Option<String>, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut text = String::new();
    file.take(MAX_FILE)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests;
