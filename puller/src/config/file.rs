//! One file of rules about registries: containers' `registries.conf`, version 2 (containers-registries.conf(5)), and
//! our own, which has the same words and a few more.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ConfigError;
use super::prefix::Prefix;
use super::target::{Location, TlsFiles};
use crate::layer::Limits;

/// What a short name that could be several does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ShortNameMode {
    /// It is refused.
    Enforcing,
    /// The registries are asked in their order.
    Permissive,
    /// The same.
    Disabled,
}

/// When a mirror is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum MirrorUse {
    /// Always.
    #[default]
    All,
    /// For images that are named by digest.
    DigestOnly,
    /// For images that are named by tag.
    TagOnly,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    unqualified_search_registries: Option<Vec<String>>,
    short_name_mode: Option<ShortNameMode>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    #[serde(default)]
    registry: Vec<RawRule>,
    also_read: Option<Vec<String>>,
    hosts_dirs: Option<Vec<PathBuf>>,
    registries: Option<toml::Value>,
    limits: Option<toml::Value>,
    #[serde(flatten)]
    more: BTreeMap<String, toml::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawRule {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    insecure: Option<bool>,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<RawMirror>,
    realms: Option<Vec<String>>,
    connections: Option<NonZeroUsize>,
    #[serde(flatten)]
    tls: TlsFiles,
    #[serde(flatten)]
    more: BTreeMap<String, toml::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawMirror {
    location: String,
    insecure: Option<bool>,
    pull_from_mirror: Option<MirrorUse>,
    #[serde(default)]
    ns: bool,
    connections: Option<NonZeroUsize>,
    #[serde(flatten)]
    tls: TlsFiles,
    #[serde(flatten)]
    more: BTreeMap<String, toml::Value>,
}

/// The rule for the names that a prefix matches.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rule {
    pub(super) prefix: Prefix,
    /// Where they really are; none: where they say.
    pub(super) location: Option<Location>,
    pub(super) insecure: Option<bool>,
    pub(super) blocked: bool,
    pub(super) mirrors: Vec<Mirror>,
    pub(super) realms: Option<Vec<String>>,
    /// How many blobs and parts of blobs are fetched from it at once.
    pub(super) connections: Option<NonZeroUsize>,
    pub(super) tls: TlsFiles,
    /// Who says so.
    pub(super) file: PathBuf,
}

/// Another place that has them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mirror {
    pub(super) location: Location,
    pub(super) insecure: Option<bool>,
    pub(super) when: MirrorUse,
    pub(super) ns: bool,
    pub(super) connections: Option<NonZeroUsize>,
    pub(super) tls: TlsFiles,
}

/// What one or several files say together.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Rules {
    pub(super) search: Option<Vec<String>>,
    pub(super) mode: Option<ShortNameMode>,
    pub(super) aliases: BTreeMap<String, String>,
    pub(super) registries: Vec<Rule>,
    pub(super) also_read: Option<Vec<String>>,
    pub(super) hosts_dirs: Option<Vec<PathBuf>>,
    /// Of layers; ours alone says so.
    pub(super) limits: Option<Limits>,
}

impl Rules {
    /// Reads a file's text. Our `own` file may say more, and a word in it that means nothing is a mistake.
    pub(super) fn parse(text: &str, file: &Path, own: bool) -> Result<Self, ConfigError> {
        let wrong = |why: String| ConfigError::form(file, why);
        let document: Document = toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .map(|span| text[..span.start.min(text.len())].lines().count().max(1));
            let line = line
                .map(|line| format!("line {line}: "))
                .unwrap_or_default();
            wrong(format!("{line}{}", error.message()))
        })?;
        if document.registries.is_some() {
            return Err(wrong(
                "[registries.…] is version 1 of this format: write [[registry]] and unqualified-search-registries".to_owned(),
            ));
        }
        if own {
            let rules = document.registry.iter();
            let unknown = document.more.keys().chain(rules.flat_map(|rule| {
                rule.more
                    .keys()
                    .chain(rule.mirror.iter().flat_map(|mirror| mirror.more.keys()))
            }));
            if let Some(key) = unknown.into_iter().next() {
                return Err(wrong(format!("there is no setting {key:?}")));
            }
        }
        let registries = document
            .registry
            .into_iter()
            .map(|raw| raw.read(file).map_err(wrong));
        let registries = registries.collect::<Result<Vec<_>, _>>()?;
        if let Some(name) = also_unknown(document.also_read.as_deref()) {
            return Err(wrong(format!(
                "also-read: {name:?} is neither \"containers\" nor \"containerd\""
            )));
        }
        let limits = match document.limits.filter(|_| own) {
            Some(limits) => limits
                .try_into()
                .map_err(|error| wrong(format!("limits: {error}")))
                .map(Some)?,
            None => None,
        };
        Ok(Self {
            limits,
            search: document.unqualified_search_registries,
            mode: document.short_name_mode,
            aliases: document.aliases,
            registries,
            also_read: document.also_read,
            hosts_dirs: document.hosts_dirs,
        })
    }

    /// Takes over what a later file says: it replaces rules of the same prefix and adds the others.
    pub(super) fn merge(&mut self, later: Self) {
        self.search = later.search.or(self.search.take());
        self.mode = later.mode.or(self.mode);
        self.aliases.extend(later.aliases);
        for rule in later.registries {
            self.registries.retain(|old| old.prefix != rule.prefix);
            self.registries.push(rule);
        }
    }

    /// The most precise rule for `HOST/REPOSITORY`, and how much of it the rule's prefix is.
    pub(super) fn find(&self, name: &str) -> Option<(&Rule, usize)> {
        let all = self.registries.iter();
        let matching = all.filter_map(|rule| Some((rule, rule.prefix.matched(name)?)));
        matching.max_by_key(|(rule, _)| rule.prefix.len())
    }
}

fn also_unknown(names: Option<&[String]>) -> Option<&String> {
    let known = |name: &&String| !matches!(name.as_str(), "containers" | "containerd");
    names.unwrap_or_default().iter().find(known)
}

impl RawRule {
    fn read(self, file: &Path) -> Result<Rule, String> {
        let named = if self.prefix.is_empty() {
            &self.location
        } else {
            &self.prefix
        };
        if named.is_empty() {
            return Err("a [[registry]] has neither prefix nor location".to_owned());
        }
        let prefix = Prefix::parse(named)?;
        if self.location.is_empty()
            && !prefix.is_wildcard()
            && !self.mirror.is_empty()
            && self.prefix.is_empty()
        {
            return Err(format!("{named}: a location is missing"));
        }
        let by_digest = self.mirror_by_digest_only;
        let mirrors = self.mirror.into_iter().map(|raw| {
            if by_digest && raw.pull_from_mirror.is_some() {
                return Err(format!(
                    "{named}: mirror-by-digest-only and pull-from-mirror exclude each other"
                ));
            }
            let default = if by_digest {
                MirrorUse::DigestOnly
            } else {
                MirrorUse::All
            };
            Ok(Mirror {
                location: Location::parse(&raw.location)?,
                insecure: raw.insecure,
                when: raw.pull_from_mirror.unwrap_or(default),
                ns: raw.ns,
                connections: raw.connections,
                tls: raw.tls.checked()?,
            })
        });
        let mirrors = mirrors.collect::<Result<Vec<_>, String>>()?;
        let elsewhere =
            !self.location.is_empty() && self.location.trim_end_matches('/') != prefix.as_str();
        Ok(Rule {
            location: elsewhere
                .then(|| Location::parse(&self.location))
                .transpose()?,
            insecure: self.insecure,
            blocked: self.blocked,
            mirrors,
            realms: self.realms,
            connections: self.connections,
            tls: self.tls.checked()?,
            file: file.to_owned(),
            prefix,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Rules, String> {
        Rules::parse(text, Path::new("/x.conf"), true).map_err(|error| error.to_string())
    }

    #[test]
    fn a_usual_file() {
        let rules = parse(
            r#"
            unqualified-search-registries = ["docker.io", "quay.io"]
            short-name-mode = "permissive"
            [aliases]
            "fedora" = "registry.fedoraproject.org/fedora"
            [[registry]]
            prefix = "docker.io"
            location = "cache.test/hub"
            [[registry.mirror]]
            location = "a.test:5000"
            insecure = true
            [[registry.mirror]]
            location = "b.test/docker"
            pull-from-mirror = "digest-only"
            ns = true
            connections = 2
            ca = "/ca.pem"
            [[registry]]
            location = "docker.io/library"
            blocked = true
            "#,
        )
        .expect("well formed");
        assert_eq!(rules.mode, Some(ShortNameMode::Permissive));
        let (rule, end) = rules.find("docker.io/some/app").expect("a rule");
        assert_eq!((end, rule.blocked), (9, false));
        assert_eq!(
            rule.location,
            Some(Location::parse("cache.test/hub").expect("a place"))
        );
        assert_eq!(rule.mirrors.len(), 2);
        assert_eq!(rule.mirrors[0].insecure, Some(true));
        assert_eq!(rule.mirrors[1].when, MirrorUse::DigestOnly);
        assert!(rule.mirrors[1].ns);
        assert_eq!(rule.mirrors[1].connections, NonZeroUsize::new(2));
        let (rule, _) = rules.find("docker.io/library/debian").expect("a rule");
        assert!(rule.blocked && rule.location.is_none());
        assert!(rules.find("quay.io/a").is_none());
    }

    #[test]
    fn mistakes_are_named() {
        for (text, why) in [
            ("x = [", "line 1"),
            ("\n\nshort-name-mode = \"odd\"", "line 3"),
            ("[registries.search]\nregistries = []", "version 1"),
            (
                "[[registry]]\nblocked = true",
                "neither prefix nor location",
            ),
            (
                "[[registry]]\nlocation = \"https://a.test\"",
                "without scheme",
            ),
            (
                "[[registry]]\nlocation = \"a.test\"\ninsecur = true",
                "\"insecur\"",
            ),
            ("unqualified-search = []", "\"unqualified-search\""),
            ("also-read = [\"docker\"]", "\"docker\""),
            ("[[registry]]\nlocation = \"a.test\"\ncert = \"/c\"", "key"),
            (
                "[[registry]]\nlocation = \"a.test\"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = \"b.test\"\npull-from-mirror = \"all\"",
                "exclude",
            ),
        ] {
            let error = parse(text).expect_err(text);
            assert!(
                error.contains(why) && error.contains("/x.conf"),
                "{text}: {error}"
            );
        }
        // Containers' file may say more than we know.
        let theirs = "additional = 1\n[[registry]]\nlocation = \"a.test\"\nnew = true";
        assert!(Rules::parse(theirs, Path::new("x"), false).is_ok());
    }

    #[test]
    fn later_files_replace_rules_of_the_same_prefix() {
        let mut rules = parse("unqualified-search-registries = [\"a.test\"]\n[[registry]]\nlocation = \"a.test\"\nblocked = true\n[[registry]]\nlocation = \"b.test\"").expect("well formed");
        rules.merge(
            parse("[[registry]]\nlocation = \"a.test\"\n[aliases]\nx = \"c.test/x\"")
                .expect("well formed"),
        );
        assert!(!rules.find("a.test/x").expect("a rule").0.blocked);
        assert!(rules.find("b.test/x").is_some());
        assert_eq!(rules.search, Some(vec!["a.test".to_owned()]));
        assert_eq!(rules.aliases["x"], "c.test/x");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,60}|\\[\\[registry\\]\\]\n(prefix|location|insecure|blocked) = (true|\"[*a-z./:]{0,12}\")\n") {
            let _ = parse(&text);
        }
    }
}
