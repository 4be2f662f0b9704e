//! The file that says what a mirror keeps in step (TOML 1.0):
//!
//! ```toml
//! images = 2            # at once
//! parallel = 4          # blobs of each at once
//! rate = "20M"          # bytes a second, all together
//!
//! [[sync]]
//! source = "docker.io/library/debian"
//! destination = "registry.example.org/mirror/debian"   # or oci:DIR
//! tags = { glob = ["12*", "13*"], exclude = ["*-slim"], newest = 10 }
//! referrers = true
//! platforms = ["linux/amd64", "linux/arm64"]   # of each index only these; platform = "…": the one image alone
//! ```
//!
//! Keys that are not known are refused with their line: a filter that is misspelt would copy everything.

use std::num::NonZeroU64;

use semver::VersionReq;
use serde::Deserialize;
use strata_oci::Platform;

use super::filter::{Glob, TagFilter, whole_tag};
use super::{Destination, Repository, Sync};
use crate::copy::Platforms;

/// What the file says.
#[derive(Debug, Clone)]
pub struct MirrorConfig {
    /// How many images at once.
    pub images: Option<usize>,
    /// How many blobs of each at once.
    pub parallel: Option<usize>,
    /// Bytes a second.
    pub rate: Option<NonZeroU64>,
    /// What is kept in step.
    pub syncs: Vec<Sync>,
}

/// Why the file is not accepted: what is wrong, and the line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    images: Option<Count>,
    parallel: Option<Count>,
    rate: Option<Rate>,
    sync: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    source: Repository,
    destination: Destination,
    #[serde(default)]
    tags: Tags,
    platform: Option<Wanted>,
    platforms: Option<Several>,
    #[serde(default)]
    referrers: bool,
    #[serde(default)]
    delete: bool,
}

impl Entry {
    fn platforms(&self) -> Platforms {
        match (&self.platform, &self.platforms) {
            (Some(one), _) => Platforms::One(one.0.clone()),
            (None, Some(several)) => Platforms::Some(several.0.clone()),
            (None, None) => Platforms::All,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Tags {
    glob: Option<OneOrMore>,
    exclude: Option<OneOrMore>,
    regex: Option<Pattern>,
    semver: Option<VersionReq>,
    newest: Option<Count>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn globs(this: Option<Self>) -> Vec<Glob> {
        match this {
            None => Vec::new(),
            Some(Self::One(one)) => vec![Glob::new(one)],
            Some(Self::More(more)) => more.into_iter().map(Glob::new).collect(),
        }
    }
}

/// A whole number from 1 on.
#[derive(Deserialize)]
#[serde(try_from = "i64")]
struct Count(usize);

impl TryFrom<i64> for Count {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        let count = usize::try_from(number)
            .ok()
            .filter(|n| (1..=1_000_000).contains(n));
        count
            .map(Self)
            .ok_or_else(|| format!("{number} is not a number from 1 on"))
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Pattern(regex::Regex);

impl TryFrom<String> for Pattern {
    type Error = regex::Error;

    fn try_from(text: String) -> Result<Self, regex::Error> {
        whole_tag(&text).map(Self)
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Wanted(Platform);

impl TryFrom<String> for Wanted {
    type Error = strata_oci::platform::ParsePlatformError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

/// At least one.
#[derive(Deserialize)]
#[serde(try_from = "Vec<Wanted>")]
struct Several(Vec<Platform>);

impl TryFrom<Vec<Wanted>> for Several {
    type Error = &'static str;

    fn try_from(all: Vec<Wanted>) -> Result<Self, Self::Error> {
        match all.is_empty() {
            true => Err("no platform is wanted: leave it out to get all"),
            false => Ok(Self(all.into_iter().map(|wanted| wanted.0).collect())),
        }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Rate(NonZeroU64);

impl TryFrom<String> for Rate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parse_rate(&text).map(Self)
    }
}

/// Bytes with a unit: `500k`, `20M`, `1G`; decimal.
///
/// # Errors
/// Anything else, and nothing at all.
pub fn parse_rate(text: &str) -> Result<NonZeroU64, String> {
    let invalid = || format!("{text:?} is not a number of bytes such as 500k, 20M or 1G");
    let (number, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(end) => text.split_at(end),
        None => (text, ""),
    };
    let unit: u64 = match unit.to_ascii_lowercase().trim_end_matches('b') {
        "" => 1,
        "k" => 1_000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        _ => return Err(invalid()),
    };
    let number: u64 = number.parse().map_err(|_| invalid())?;
    let bytes = number.checked_mul(unit).and_then(NonZeroU64::new);
    bytes.ok_or_else(invalid)
}

impl MirrorConfig {
    /// Reads the file's text.
    ///
    /// # Errors
    /// It is not TOML, a key is not known or missing, or a value is not what it should be.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(text).map_err(|error| ConfigError(error.to_string()))?;
        let sync = |entry: Entry| Sync {
            platforms: entry.platforms(),
            source: entry.source,
            tag: None,
            destination: entry.destination,
            filter: TagFilter {
                globs: OneOrMore::globs(entry.tags.glob),
                exclude: OneOrMore::globs(entry.tags.exclude),
                regex: entry.tags.regex.map(|pattern| pattern.0),
                semver: entry.tags.semver,
                newest: entry.tags.newest.map(|count| count.0),
            },
            referrers: entry.referrers,
            delete: entry.delete,
        };
        let both = |entry: &&Entry| entry.platform.is_some() && entry.platforms.is_some();
        if let Some(entry) = file.sync.iter().find(both) {
            return Err(ConfigError(format!(
                "{}: platform (one image, without its index) and platforms (the index with these) cannot both be",
                entry.source
            )));
        }
        Ok(Self {
            images: file.images.map(|count| count.0),
            parallel: file.parallel.map(|count| count.0),
            rate: file.rate.map(|rate| rate.0),
            syncs: file.sync.into_iter().map(sync).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
images = 3
rate = "20M"

[[sync]]
source = "debian"
destination = "localhost:5000/mirror/debian"
tags = { glob = "12*", exclude = ["*-slim", "x"], semver = ">=12", newest = 2 }
platform = "linux/arm64"
referrers = true

[[sync]]
source = "docker://quay.io/a/b"
destination = "oci:/srv/layout"
platforms = ["linux/amd64", "linux/arm/v7"]
"#;

    #[test]
    fn a_file_is_read() {
        let config = MirrorConfig::parse(GOOD).expect("valid");
        assert_eq!((config.images, config.parallel), (Some(3), None));
        assert_eq!(config.rate.map(NonZeroU64::get), Some(20_000_000));
        let [first, second] = &config.syncs[..] else {
            panic!("two");
        };
        assert_eq!(first.source.to_string(), "docker.io/library/debian");
        assert_eq!(
            first.destination.to_string(),
            "localhost:5000/mirror/debian"
        );
        assert_eq!(
            (first.filter.exclude.len(), first.filter.newest),
            (2, Some(2))
        );
        assert!(first.referrers && !first.delete && first.filter.semver.is_some());
        assert_eq!(second.destination.to_string(), "oci:/srv/layout");
        assert!(second.filter.globs.is_empty());
        assert!(matches!(&first.platforms, Platforms::One(p) if p.architecture == "arm64"));
        assert!(matches!(&second.platforms, Platforms::Some(all) if all.len() == 2));
    }

    #[test]
    fn what_is_not_known_is_refused_with_its_line() {
        for (from, to, line, says) in [
            ("referrers = true", "referers = true", 10, "referers"),
            ("images = 3", "image = 3", 2, "image"),
            ("images = 3", "images = 0", 2, "from 1 on"),
            ("newest = 2", "latest = 2", 8, "latest"),
            (r#"">=12""#, r#"">>12""#, 8, ""),
            ("linux/arm64", "arm64", 9, "platform"),
            (
                r#"["linux/amd64", "linux/arm/v7"]"#,
                "[]",
                15,
                "no platform",
            ),
            (r#""20M""#, r#""fast""#, 3, "fast"),
            (r#""debian""#, r#""debian:12""#, 6, "debian:12"),
            ("source = \"debian\"\n", "", 5, "source"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let error = MirrorConfig::parse(&GOOD.replacen(from, to, 1));
            let error = error.expect_err(to).to_string();
            let place = format!("line {line}");
            assert!(
                error.contains(&place) && error.contains(says),
                "{to}: {error}"
            );
        }
    }

    #[test]
    fn one_platform_or_several_and_not_both() {
        let both = GOOD.replace("platforms", "platform = \"linux/s390x\"\nplatforms");
        let error = MirrorConfig::parse(&both).expect_err("both").to_string();
        assert!(error.contains("quay.io/a/b"), "{error}");
    }

    #[test]
    fn rates_have_units() {
        let bytes = |text| parse_rate(text).map(NonZeroU64::get);
        assert_eq!(bytes("500k"), Ok(500_000));
        assert_eq!(bytes("20MB"), Ok(20_000_000));
        assert_eq!(bytes("7"), Ok(7));
        for bad in ["", "0", "k", "1x", "-1", "99999999999999999999G"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }
}
