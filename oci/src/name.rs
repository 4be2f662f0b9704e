//! Repository names and tags (distribution-spec, "Pulling manifests").
//!
//! A name is `component(/component)*`, a component is lower-case letters and digits with single
//! separators between them; a tag is at most 128 characters of `[a-zA-Z0-9._-]`, the first not a dot
//! or a dash. Both are checked once, at the border, and trusted after it.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// Clients limit the whole reference to 255 characters; the specification lets a registry do so too.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// Why a text is not a repository name or a tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseNameError {
    /// Not a repository name.
    #[error(
        "repository name {0:?} is invalid: use lower-case letters and digits, separated by '/', '.', '_', '__' or '-', at most 255 characters"
    )]
    Repository(String),
    /// Not a tag.
    #[error(
        "tag {0:?} is invalid: use letters, digits, '.', '_' and '-', at most 128 characters, not starting with '.' or '-'"
    )]
    Tag(String),
}

/// A checked repository name, such as `library/debian`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Repository(Box<str>);

impl Repository {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Repository {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() <= MAX_NAME && text.split('/').all(is_component) {
            Ok(Self(text.into()))
        } else {
            let shown = text.chars().take(MAX_NAME).collect();
            Err(ParseNameError::Repository(shown))
        }
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends_well = bytes.first().copied().is_some_and(alphanumeric)
        && bytes.last().copied().is_some_and(alphanumeric);
    ends_well
        && bytes
            .split(|b| alphanumeric(*b))
            .all(|separator| match separator {
                b"" | b"." | b"_" | b"__" => true,
                dashes => dashes.iter().all(|b| *b == b'-'),
            })
}

/// A checked tag, such as `v1.2`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Tag(Box<str>);

impl Tag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let bytes = text.as_bytes();
        let valid = bytes.len() <= MAX_TAG
            && bytes.first().copied().is_some_and(word)
            && bytes.iter().all(|b| word(*b) || matches!(b, b'.' | b'-'));
        if valid {
            Ok(Self(text.into()))
        } else {
            let shown = text.chars().take(MAX_TAG).collect();
            Err(ParseNameError::Tag(shown))
        }
    }
}

macro_rules! display_as_text {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    )*};
}
display_as_text!(Repository, Tag);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn repository_names() {
        let long = "a".repeat(256);
        for good in [
            "a",
            "library/debian",
            "a.b/c_d/e__f/g---h",
            "0/1/2",
            &long[..255],
        ] {
            assert!(good.parse::<Repository>().is_ok(), "{good}");
        }
        for bad in [
            "", "/", "a/", "/a", "a//b", "A", "a..b", "a___b", "a._b", "-a", "a-", ".", "..",
            "a/../b", "a b", "a%2fb", "é", &long,
        ] {
            assert!(bad.parse::<Repository>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tags() {
        let long = "t".repeat(129);
        for good in ["latest", "v1.2-3_4", "_", "A", &long[..128]] {
            assert!(good.parse::<Tag>().is_ok(), "{good}");
        }
        for bad in ["", ".a", "-a", "a/b", "a:b", "é", "a b", &long] {
            assert!(bad.parse::<Tag>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_parses_can_leave_a_directory(text in "[a-z0-9./_%-]{0,40}") {
            if let Ok(name) = text.parse::<Repository>() {
                prop_assert!(name.as_str().split('/').all(|c| !c.is_empty() && c != "." && c != ".."));
            }
        }
    }
}
