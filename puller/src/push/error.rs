//! Why a push fails.

use std::io;

use strata_oci::Digest;
use strata_oci::archive::ArchiveError;
use strata_oci::layout::LayoutError;

use crate::registry::RegistryError;
use crate::store::StoreError;

/// A push that failed. The target names nothing that was not there before: its tag moves last.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The OCI layout that is pushed.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The docker archive that is pushed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A layer of the source is not what its configuration says.
    #[error(
        "layer {number} of the archive has diffID {actual}, but the configuration says {expected}"
    )]
    DiffId {
        /// Which one, the lowest is 1.
        number: usize,
        /// The configuration's.
        expected: Digest,
        /// The content's.
        actual: Digest,
    },
    /// A layer whose bytes nobody has any more.
    #[error(
        "layer {digest} cannot be had: its blob was not kept, {asked}, and its archive cannot be written again: {why}"
    )]
    Gone {
        /// Its blob.
        digest: Digest,
        /// Which registries were asked.
        asked: String,
        /// Why it cannot be rebuilt.
        why: String,
    },
    /// Layers that nobody has any more, or that are to be compressed otherwise, where no digest may change.
    #[error("the image cannot keep its digest: {} would be compressed anew, and the blobs of before cannot be had", list(.layers))]
    Changed {
        /// The blobs' digests.
        layers: Vec<Digest>,
    },
    /// What is finished is not compressed anew.
    #[error(
        "the image of an OCI layout is pushed as it is: to compress its layers otherwise, pull it and push it from the store"
    )]
    Finished,
    /// A digest in the target that is not the image's.
    #[error(
        "the image has digest {actual}, so it cannot be pushed as {wanted}: push it under a tag"
    )]
    Target {
        /// What the target says.
        wanted: String,
        /// The image's.
        actual: Digest,
    },
    /// Indexes in indexes without end.
    #[error("the layout holds indexes in indexes: no image is so deep")]
    Nested,
    /// A local file cannot be read or written.
    #[error("{what}: {source}")]
    Local {
        /// What was done.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A worker thread ended without an answer.
    #[error("the push was interrupted")]
    Interrupted,
}

fn list(layers: &[Digest]) -> String {
    let names: Vec<String> = layers.iter().map(Digest::to_string).collect();
    match names.as_slice() {
        [one] => format!("layer {one}"),
        _ => format!("layers {}", names.join(", ")),
    }
}
