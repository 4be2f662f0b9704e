//! Which tags of a repository are meant: by pattern, by version, the newest.

use regex::Regex;
use semver::{BuildMetadata, Prerelease, Version, VersionReq};
use strata_oci::layout::is_companion_tag;

/// A choice of tags. Each part that is given has to agree; without any, all tags are meant. Tags that are made
/// from digests (signatures and referrers) are never: those come along with their images.
#[derive(Debug, Clone, Default)]
pub struct TagFilter {
    /// One of these has to fit, if there are any.
    pub globs: Vec<Glob>,
    /// None of these may fit.
    pub exclude: Vec<Glob>,
    /// This has to fit the whole tag.
    pub regex: Option<Regex>,
    /// The tag has to be a version in this range. Versions with a suffix (`1.2-alpine`) count as before
    /// their release: a range has to name such a one to hold any.
    pub semver: Option<VersionReq>,
    /// Of those that are left, so many: by version, the highest, if any tag is a version, else the
    /// last of the registry's list.
    pub newest: Option<usize>,
}

/// A pattern of a shell: `*` any text, `?` any character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// Every text is a pattern.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// Whether the whole text fits. Takes time in proportion to both lengths at most.
    pub fn fits(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        // Where the last star stands, and the text that it does not hold yet.
        let mut back: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    back = Some((p, t));
                    p += 1;
                }
                Some(&c) if c == b'?' || c == text[t] => {
                    p += 1;
                    t += 1;
                }
                _ => match back {
                    Some((star, held)) => {
                        back = Some((star, held + 1));
                        p = star + 1;
                        t = held + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|c| *c == b'*')
    }
}

/// A pattern for whole tags.
///
/// # Errors
/// It is not a regular expression.
pub fn whole_tag(pattern: &str) -> Result<Regex, regex::Error> {
    Regex::new(&format!("^(?:{pattern})$"))
}

impl TagFilter {
    /// The tags that are meant, in the order that they came in.
    pub fn select(&self, tags: &[String]) -> Vec<String> {
        let mut chosen: Vec<&String> = tags.iter().filter(|tag| self.fits(tag)).collect();
        if let Some(newest) = self.newest {
            let mut versions: Vec<(Version, &String)> = chosen
                .iter()
                .filter_map(|tag| Some((version(tag)?, *tag)))
                .collect();
            let kept: Vec<&String> = if versions.is_empty() {
                chosen.iter().rev().take(newest).copied().collect()
            } else {
                versions.sort_by(|a, b| b.cmp(a));
                versions.iter().take(newest).map(|(_, tag)| *tag).collect()
            };
            chosen.retain(|tag| kept.contains(tag));
        }
        chosen.into_iter().cloned().collect()
    }

    fn fits(&self, tag: &str) -> bool {
        let globs = self.globs.is_empty() || self.globs.iter().any(|glob| glob.fits(tag));
        let regex = self.regex.as_ref().is_none_or(|regex| regex.is_match(tag));
        let range = self.semver.as_ref();
        let range = range.is_none_or(|range| version(tag).is_some_and(|v| range.matches(&v)));
        let excluded = self.exclude.iter().any(|glob| glob.fits(tag));
        globs && regex && range && !excluded && !is_companion_tag(tag)
    }
}

/// A tag as a version: `v1.2` is 1.2.0, `1.2.3-alpine` is before 1.2.3. A number without dots of more
/// than four digits is a date or a build.
pub(super) fn version(tag: &str) -> Option<Version> {
    let text = tag.strip_prefix('v').unwrap_or(tag);
    let (numbers, suffix) = match text.find(['-', '_']) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, ""),
    };
    let parts: Vec<&str> = numbers.split('.').collect();
    if parts.len() > 3 || (parts.len() == 1 && numbers.len() > 4) {
        return None;
    }
    let number = |at: usize| match parts.get(at) {
        Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        Some(_) => None,
        None => Some(0),
    };
    Some(Version {
        major: number(0)?,
        minor: number(1)?,
        patch: number(2)?,
        pre: Prerelease::new(&suffix.replace('_', "-")).ok()?,
        build: BuildMetadata::EMPTY,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tags(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn globs() {
        for (pattern, text) in [
            ("*", ""),
            ("12*", "12.1"),
            ("*-slim", "a-slim"),
            ("v?.*", "v1.2"),
            ("a*b*c", "aXbYbZc"),
        ] {
            assert!(Glob::new(pattern).fits(text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("12", "12.1"),
            ("?", ""),
            ("a*b", "abc"),
            ("v?", "v12"),
        ] {
            assert!(!Glob::new(pattern).fits(text), "{pattern} {text}");
        }
    }

    #[test]
    fn versions() {
        let text = |tag| version(tag).map(|v| v.to_string());
        assert_eq!(text("v1.2").as_deref(), Some("1.2.0"));
        assert_eq!(text("12").as_deref(), Some("12.0.0"));
        assert_eq!(
            text("1.2.3-alpine3.19").as_deref(),
            Some("1.2.3-alpine3.19")
        );
        for none in ["latest", "20240101", "1.2.3.4", "v", "1..2", ""] {
            assert_eq!(text(none), None, "{none}");
        }
    }

    #[test]
    fn every_part_has_to_agree() {
        let all = tags("latest 1.0 1.1 1.2 1.10 2.0 2.0-alpine edge");
        let everything = TagFilter::default();
        assert_eq!(everything.select(&all), all);
        let range = VersionReq::parse(">=1.1, <2").ok();
        let semver = TagFilter {
            semver: range,
            ..TagFilter::default()
        };
        assert_eq!(semver.select(&all), tags("1.1 1.2 1.10"));
        let newest = TagFilter {
            newest: Some(2),
            ..semver.clone()
        };
        assert_eq!(newest.select(&all), tags("1.2 1.10"));
        let glob = TagFilter {
            globs: vec![Glob::new("1.*"), Glob::new("edge")],
            exclude: vec![Glob::new("1.1")],
            ..TagFilter::default()
        };
        assert_eq!(glob.select(&all), tags("1.0 1.2 1.10 edge"));
        let regex = TagFilter {
            regex: whole_tag("[a-z]+").ok(),
            ..TagFilter::default()
        };
        assert_eq!(regex.select(&all), tags("latest edge"));
        let last = TagFilter {
            newest: Some(1),
            ..regex
        };
        assert_eq!(last.select(&all), tags("edge"));
    }

    #[test]
    fn signatures_are_no_images() {
        let hex = "0".repeat(64);
        let all = vec![
            format!("sha256-{hex}.sig"),
            format!("sha256-{hex}"),
            "sha256-x".to_owned(),
        ];
        assert_eq!(TagFilter::default().select(&all), ["sha256-x"]);
    }

    proptest! {
        #[test]
        fn no_tag_makes_it_panic(tag in "[a-zA-Z0-9._-]{0,20}", pattern in "[a*?]{0,8}") {
            let _ = version(&tag);
            let _ = Glob::new(pattern).fits(&tag);
        }
    }
}
