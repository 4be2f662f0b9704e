//! What credentials are for: a registry, or a namespace or repository on one.
//!
//! The keys of both clients' files name hosts (`registry.example:5000`), containers' also what is below them
//! (`registry.example/team/app`); docker's of old are addresses (`https://index.docker.io/v1/`).

use std::fmt;
use std::str::FromStr;

use super::CredentialsError;

/// docker's name for Docker Hub in files and towards helpers.
pub(super) const HUB_ADDRESS: &str = "https://index.docker.io/v1/";
const HUB: &str = "docker.io";

/// A registry's host, with the path of a namespace or repository if it is for no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// Reads what a person types.
    ///
    /// # Errors
    /// It begins with no host, or has a part that no name has.
    pub fn parse(text: &str) -> Result<Self, CredentialsError> {
        let canonical = canonical(text);
        let refused = || CredentialsError::Key(text.chars().take(255).collect());
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-:/[]".contains(&b);
        let (host, _) = canonical
            .split_once('/')
            .unwrap_or((canonical.as_str(), ""));
        let parts_named = canonical.split('/').all(|part| !part.is_empty());
        if host.is_empty() || !parts_named || !canonical.bytes().all(plain) {
            return Err(refused());
        }
        Ok(Self(canonical))
    }

    /// The registry's host.
    pub fn registry(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// The form that is stored, as containers' clients write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is for a whole registry.
    pub fn is_registry(&self) -> bool {
        !self.0.contains('/')
    }
}

impl FromStr for Key {
    type Err = CredentialsError;

    fn from_str(text: &str) -> Result<Self, CredentialsError> {
        Self::parse(text)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One form for all the ways to write a key.
pub(super) fn canonical(key: &str) -> String {
    let address = ["https://", "http://"]
        .iter()
        .find_map(|scheme| key.strip_prefix(scheme));
    let bare = address.unwrap_or(key).trim_end_matches('/');
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let host = match host.to_ascii_lowercase().as_str() {
        "index.docker.io" | "registry-1.docker.io" => HUB.to_owned(),
        _ => host.to_owned(),
    };
    // An address names a host, whatever stands behind it.
    if address.is_some() || matches!(path, "" | "v1" | "v2") {
        host
    } else {
        format!("{host}/{path}")
    }
}

/// The keys that are good for a repository, the most precise first.
pub(super) fn candidates(registry: &str, repository: &str) -> Vec<String> {
    let host = canonical(registry);
    let mut path = repository.trim_matches('/');
    let mut found = Vec::new();
    while !path.is_empty() {
        found.push(format!("{host}/{path}"));
        path = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    found.push(host);
    found
}

/// How helpers know a key: docker stores Docker Hub's under its old address.
pub(super) fn for_helper(key: &str) -> &str {
    if key == HUB { HUB_ADDRESS } else { key }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_ways_to_write_a_key_are_one() {
        for (written, canonical_form) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("index.docker.io", "docker.io"),
            ("docker.io", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("http://registry.test:5000/v2/", "registry.test:5000"),
            ("https://registry.test/any/path", "registry.test"),
            ("registry.test/team/app", "registry.test/team/app"),
            ("docker.io/team", "docker.io/team"),
            ("[::1]:5000", "[::1]:5000"),
        ] {
            assert_eq!(canonical(written), canonical_form);
            assert_eq!(Key::parse(written).expect("a key").as_str(), canonical_form);
        }
        for bad in ["", "/x", "a//b", "host name", "https://", "a\nb"] {
            assert!(Key::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_most_precise_key_comes_first() {
        assert_eq!(
            candidates("index.docker.io", "library/debian"),
            ["docker.io/library/debian", "docker.io/library", "docker.io"]
        );
        assert_eq!(candidates("localhost:5000", ""), ["localhost:5000"]);
    }

    proptest! {
        #[test]
        fn a_key_that_is_read_stays_what_it_is(text in "\\PC{0,40}|(https?://)?[a-z.:/0-9]{1,30}") {
            if let Ok(key) = Key::parse(&text) {
                prop_assert_eq!(Key::parse(key.as_str()).expect("again"), key.clone());
                prop_assert!(!key.registry().is_empty());
            }
        }
    }
}
