//! What a manifest says of the image that its own stands on (image-spec, annotations.md,
//! `org.opencontainers.image.base.*`). Docker's manifests say nothing.

use std::collections::BTreeMap;

use strata_oci::Digest;

use super::error::CommitError;
use crate::store::{Image, Name, Store, Target};

const NAME: &str = "org.opencontainers.image.base.name";
const DIGEST: &str = "org.opencontainers.image.base.digest";

/// An image that another one stands on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Base {
    /// Its name in full, with a tag, if it has one.
    pub name: Option<String>,
    /// What the name stood for: an index or a manifest.
    pub digest: Option<Digest>,
}

impl Base {
    /// What annotations say. What is no name, or no digest, says nothing.
    pub fn said(annotations: &BTreeMap<String, String>) -> Self {
        let name = annotations.get(NAME);
        Self {
            name: name.and_then(|name| named(name)),
            digest: annotations
                .get(DIGEST)
                .and_then(|digest| digest.parse().ok()),
        }
    }

    /// An image of the store, under the name that was typed, or, where that was an id, any that it has.
    ///
    /// # Errors
    /// The store failed.
    pub fn here(store: &Store, image: &Image, typed: &str) -> Result<Self, CommitError> {
        let typed = named(typed).filter(|name| image.references.contains(name));
        let name = typed.or_else(|| image.references.iter().find_map(|name| named(name)));
        let mut digest = image.digest.clone();
        if let Some(name) = &name
            && let Some((_, resolved)) = store.image_by_reference(name)?
        {
            digest = resolved;
        }
        Ok(Self {
            name,
            digest: Some(digest),
        })
    }

    /// The annotations with this in the place of what they said.
    pub fn annotate(&self, mut annotations: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let digest = self.digest.as_ref().map(Digest::to_string);
        for (key, value) in [(NAME, self.name.clone()), (DIGEST, digest)] {
            match value {
                Some(value) => annotations.insert(key.to_owned(), value),
                None => annotations.remove(key),
            };
        }
        annotations
    }
}

/// The name in full; `None` for what names no tag.
fn named(name: &str) -> Option<String> {
    let name = Name::parse(name).ok()?;
    matches!(name.target, Target::Tag(_)).then(|| name.full())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_is_no_name_or_digest_says_nothing() {
        let digest = Digest::of(b"manifest");
        let base = Base {
            name: Some("docker.io/library/debian:12".to_owned()),
            digest: Some(digest.clone()),
        };
        let own = BTreeMap::from([("own".to_owned(), "kept".to_owned())]);
        let annotations = base.annotate(own.clone());
        assert_eq!(annotations.len(), 3);
        assert_eq!(Base::said(&annotations), base);
        assert_eq!(Base::default().annotate(annotations.clone()), own);
        let mut odd = annotations;
        odd.insert(NAME.to_owned(), "debian:12".to_owned());
        assert_eq!(Base::said(&odd), base, "a short name means the same");
        for bad in ["", "UPPER:case", &format!("debian@{digest}")] {
            odd.insert(NAME.to_owned(), bad.to_owned());
            odd.insert(DIGEST.to_owned(), "sha256:1".to_owned());
            assert_eq!(Base::said(&odd), Base::default(), "{bad}");
        }
    }
}
