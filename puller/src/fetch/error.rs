//! Why a pull fails.

use std::io;

use strata_oci::manifest::ManifestError;
use strata_oci::verify::VerifyError;
use strata_oci::{Digest, Platform};

use crate::layer::LayerError;
use crate::registry::RegistryError;
use crate::store::StoreError;

/// A pull that failed. Nothing of it is visible in the store.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest is not one that is accepted.
    #[error("manifest {digest}: {source}")]
    Manifest {
        /// Its digest.
        digest: Digest,
        /// Why not.
        source: ManifestError,
    },
    /// A manifest that is not what the index says.
    #[error("manifest {digest} is not what its index says: {why}")]
    Child {
        /// Its digest.
        digest: Digest,
        /// How it differs.
        why: String,
    },
    /// Indexes in indexes without end.
    #[error("index {0} holds indexes in indexes: no image is so deep")]
    Nested(Digest),
    /// The index has nothing for the platform.
    #[error("there is no image for {wanted}; offered: {}", offers(.offered))]
    Platform {
        /// What was asked for.
        wanted: Platform,
        /// What there is.
        offered: Vec<Platform>,
    },
    /// An artifact: it has no file system.
    #[error("manifest {digest} is not a container image but an artifact of type {kind:?}")]
    Artifact {
        /// The manifest's digest.
        digest: Digest,
        /// Its config's or its own artifact type.
        kind: String,
    },
    /// The configuration cannot be read, or does not fit the manifest.
    #[error("the image's configuration {digest} is not valid: {why}")]
    Config {
        /// The configuration's digest.
        digest: Digest,
        /// What is wrong.
        why: String,
    },
    /// A layer could not be had.
    #[error("layer {digest}: {cause}")]
    Layer {
        /// The digest of the layer's blob.
        digest: Digest,
        /// Why.
        #[source]
        cause: LayerFailure,
    },
    /// A worker thread ended without an answer.
    #[error("the pull was interrupted")]
    Interrupted,
}

/// Why a layer could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LayerFailure {
    /// A type that is not a file system's.
    #[error("its type {0:?} is not a file-system layer's")]
    Type(String),
    /// Transfer.
    #[error(transparent)]
    Transfer(#[from] RegistryError),
    /// The bytes are not those that the manifest names.
    #[error("the registry's {0}")]
    Content(#[from] VerifyError),
    /// An incremental archive left it out, and it is not here either.
    #[error(
        "the source does not hold it, and it is not here: copy what the source builds on first"
    )]
    Absent,
    /// The unpacked content is not what the configuration names.
    #[error("its unpacked content has digest {actual}, but the configuration says {expected}")]
    DiffId {
        /// The configuration's diffID.
        expected: Digest,
        /// What came out.
        actual: Digest,
    },
    /// Unpacking.
    #[error("{}", causes(.0))]
    Unpack(LayerError),
    /// The file that the download is kept in.
    #[error("the download cannot be kept: {0}")]
    Keep(#[from] io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A worker thread ended without an answer.
    #[error("it was interrupted")]
    Interrupted,
}

impl LayerFailure {
    /// Whether the bytes themselves are at fault: there is no use in keeping them.
    pub(super) fn is_of_the_bytes(&self) -> bool {
        match self {
            Self::Content(_) | Self::DiffId { .. } => true,
            Self::Unpack(error) => matches!(
                error,
                LayerError::Compression { .. }
                    | LayerError::Memory { .. }
                    | LayerError::Format(_)
                    | LayerError::Tar(_)
                    | LayerError::Limit { .. }
                    | LayerError::Refused { .. }
            ),
            _ => false,
        }
    }
}

impl PullError {
    /// Whether the request was refused for a reason that the message gives, as against a failure of
    /// the machine or of this program.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Store(error) => error.is_refusal(),
            Self::Interrupted => false,
            _ => true,
        }
    }
}

fn offers(offered: &[Platform]) -> String {
    if offered.is_empty() {
        return "none".to_owned();
    }
    let texts: Vec<String> = offered.iter().take(40).map(Platform::to_string).collect();
    texts.join(", ")
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
