//! What is kept in step with what: repositories, and layout directories as their copies.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use oci_distribution::Reference;
use serde::Deserialize;
use strata_oci::location::Location;

use crate::config::{Config, is_short};
use crate::store::Name;

/// A repository of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Repository {
    /// The registry's name.
    pub registry: String,
    /// The repository's name there.
    pub name: String,
    /// What was written, if that had no registry.
    short: Option<String>,
}

/// Where the images of a repository go.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Destination {
    /// A repository, under the same tags.
    Repository(Repository),
    /// An OCI layout directory, under their whole names.
    Layout(PathBuf),
}

/// A text that names no repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a repository: {why}")]
pub struct PlaceError {
    text: String,
    why: String,
}

impl Repository {
    /// The repository called `name` at a registry.
    pub fn new(registry: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            registry: registry.into(),
            name: name.into(),
            short: None,
        }
    }

    /// What the rules about short names make of one that was written without a registry; where they give
    /// several, the first.
    ///
    /// # Errors
    /// The rules forbid it, or give no repository.
    pub fn resolved(&self, config: &Config) -> Result<Self, PlaceError> {
        let Some(short) = &self.short else {
            return Ok(self.clone());
        };
        let refuse = |why: String| PlaceError {
            text: short.clone(),
            why,
        };
        let names = config
            .full_names(short)
            .map_err(|e| refuse(e.to_string()))?;
        let first = names
            .first()
            .ok_or_else(|| refuse("it means nothing".to_owned()))?;
        first.parse()
    }

    /// The image under a tag.
    pub fn tagged(&self, tag: &str) -> Reference {
        Reference::with_tag(self.registry.clone(), self.name.clone(), tag.to_owned())
    }
}

impl Destination {
    /// The place below this one for a repository of another registry: `host/mirror` and
    /// `docker.io/library/debian` give `host/mirror/library/debian`.
    ///
    /// # Errors
    /// `root` is not the name of a registry, with or without a path, or an `oci:` directory.
    pub fn below(root: &str, source: &Repository) -> Result<Self, PlaceError> {
        match root.parse() {
            Ok(Location::Layout { .. }) => root.parse(),
            _ => {
                let root = root.strip_prefix("docker://").unwrap_or(root);
                format!("{}/{}", root.trim_end_matches('/'), source.name).parse()
            }
        }
    }
}

impl FromStr for Repository {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let refuse = |why: &str| PlaceError {
            text: text.chars().take(300).collect(),
            why: why.to_owned(),
        };
        let bare = text.strip_prefix("docker://").unwrap_or(text);
        let last = bare.rsplit('/').next().unwrap_or(bare);
        if last.contains([':', '@']) {
            return Err(refuse("expected [HOST[:PORT]/]NAME, without a tag"));
        }
        let name = Name::parse(bare).map_err(|_| refuse("expected [HOST[:PORT]/]NAME"))?;
        let (registry, name) = name
            .repository
            .split_once('/')
            .ok_or_else(|| refuse("it has no name"))?;
        // `docker://` says: as docker reads it.
        let short = bare == text && is_short(bare);
        Ok(Self {
            short: short.then(|| bare.to_owned()),
            ..Self::new(registry, name)
        })
    }
}

impl FromStr for Destination {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        match text.parse() {
            Ok(Location::Layout { dir, name: None }) => Ok(Self::Layout(dir)),
            _ => text.parse().map(Self::Repository),
        }
    }
}

impl TryFrom<String> for Repository {
    type Error = PlaceError;

    fn try_from(text: String) -> Result<Self, PlaceError> {
        text.parse()
    }
}

impl TryFrom<String> for Destination {
    type Error = PlaceError;

    fn try_from(text: String) -> Result<Self, PlaceError> {
        text.parse()
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.name)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(repository) => repository.fmt(f),
            Self::Layout(dir) => write!(f, "oci:{}", dir.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    #[test]
    fn repositories_have_no_tags() {
        let parse = |text: &str| text.parse::<Repository>().map(|r| r.to_string());
        assert_eq!(parse("debian").as_deref(), Ok("docker.io/library/debian"));
        assert_eq!(
            parse("docker://localhost:5000/a/b").as_deref(),
            Ok("localhost:5000/a/b")
        );
        for bad in ["", "a:v1", "host/a@sha256:00", "A/B", "oci:x:y"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn short_names_mean_what_the_rules_say() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("config.toml");
        let rules = "[aliases]\n\"tool\" = \"quay.io/team/tool\"\n";
        std::fs::write(&file, rules).expect("write");
        let config = Source::Machine(Some(file)).load().expect("valid");
        let resolved = |text: &str| {
            let parsed: Repository = text.parse().expect("a repository");
            parsed.resolved(&config).map(|r| r.to_string())
        };
        assert_eq!(resolved("tool").as_deref(), Ok("quay.io/team/tool"));
        assert_eq!(
            resolved("docker://tool").as_deref(),
            Ok("docker.io/library/tool")
        );
        assert_eq!(resolved("localhost/tool").as_deref(), Ok("localhost/tool"));
    }

    #[test]
    fn sources_go_below_a_root() {
        let source: Repository = "quay.io/team/app".parse().expect("a repository");
        let below = |root: &str| Destination::below(root, &source).map(|d| d.to_string());
        assert_eq!(
            below("localhost:5000").as_deref(),
            Ok("localhost:5000/team/app")
        );
        assert_eq!(
            below("host.test/mirror/").as_deref(),
            Ok("host.test/mirror/team/app")
        );
        assert_eq!(below("oci:/srv/x").as_deref(), Ok("oci:/srv/x"));
        assert!(below("host.test/UPPER").is_err());
    }
}
