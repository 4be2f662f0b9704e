//! A name in a registry, and the client for it: for the commands that need no store.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, ensure};
use strata::fetch;
use strata::registry::{RawManifest, Registry};
use strata_oci::Platform;

use crate::printer::Format;
use crate::transport::{TransportArgs, until_interrupted};

/// What the commands about an image of a registry have in common.
#[derive(clap::Args)]
pub(crate) struct ImageArgs {
    /// Of an index, the image for OS/ARCH[/VARIANT] [default: the index itself]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: Format,
    #[command(flatten)]
    transport: TransportArgs,
    /// [HOST[:PORT]/]NAME[:TAG][@DIGEST]
    #[arg(value_name = "REF")]
    reference: String,
}

impl ImageArgs {
    /// Asks about it, and prints what `work` gives; SIGINT and SIGTERM end it.
    pub(crate) fn ask<T>(
        &self,
        work: impl AsyncFnOnce(&Remote, Option<&Platform>) -> Result<T>,
        print: impl FnOnce(&Remote, T) -> Result<()>,
    ) -> Result<ExitCode> {
        let remote = Remote::new(&self.reference, &self.transport)?;
        match until_interrupted(work(&remote, self.platform.as_ref()))? {
            Ok(found) => print(&remote, found)?,
            Err(code) => return Ok(code),
        }
        Ok(ExitCode::SUCCESS)
    }
}

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

    /// The manifest, or of an index the one that suits the platform.
    pub(crate) async fn manifest(&self, platform: Option<&Platform>) -> Result<RawManifest> {
        let (registry, repository) = (&self.registry, &self.repository);
        Ok(fetch::manifest(registry, repository, &self.selector, platform).await?)
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
