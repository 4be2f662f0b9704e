//! A name in a registry, and the client for it: for the commands that need no store.

use std::sync::Arc;

use anyhow::{Result, ensure};
use strata::registry::Registry;

use crate::transport::TransportArgs;

/// What a reference names, and whom to ask about it.
pub(crate) struct Remote {
    pub(crate) registry: Arc<Registry>,
    pub(crate) repository: String,
    /// The digest, else the tag.
    pub(crate) selector: String,
    /// The whole name.
    pub(crate) full: String,
}

impl Remote {
    /// An image's name in docker's grammar.
    pub(crate) fn new(text: &str, transport: &TransportArgs) -> Result<Self> {
        let reference = transport.reference(text)?;
        let selector = reference.digest().or(reference.tag()).unwrap_or("latest");
        let registry = Registry::new(reference.registry(), &transport.options())?;
        Ok(Self {
            registry: Arc::new(registry),
            repository: reference.repository().to_owned(),
            selector: selector.to_owned(),
            full: reference.whole(),
        })
    }

    /// A repository's name, without a tag.
    pub(crate) fn repository(text: &str, transport: &TransportArgs) -> Result<Self> {
        ensure!(
            !has_selector(text),
            "{text:?} names an image: expected a repository, [HOST[:PORT]/]NAME"
        );
        Self::new(text, transport)
    }

    /// An image's name with its tag or digest written out: what is not said is not meant.
    pub(crate) fn explicit(text: &str, transport: &TransportArgs) -> Result<Self> {
        ensure!(
            has_selector(text),
            "{text:?} names a repository: say which of its images, {text}:TAG or {text}@DIGEST"
        );
        Self::new(text, transport)
    }
}

/// Whether a name ends with `:TAG` or `@DIGEST`.
pub(crate) fn has_selector(text: &str) -> bool {
    let last = text.rsplit('/').next().unwrap_or(text);
    // `localhost:5000` alone is a registry, but then no name either.
    last.contains([':', '@'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_and_images_are_told_apart() {
        for image in ["debian:12", "localhost:5000/app:v1", "app@sha256:00"] {
            assert!(has_selector(image), "{image}");
        }
        for repository in ["debian", "localhost:5000/app", "docker://a/b"] {
            assert!(!has_selector(repository), "{repository}");
        }
    }
}
