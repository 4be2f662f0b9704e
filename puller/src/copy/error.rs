//! Why a copy fails.

use std::io;
use std::path::PathBuf;

use strata_oci::layout::LayoutError;
use strata_oci::verify::VerifyError;
use strata_oci::{Descriptor, Digest};

use crate::fetch::PullError;
use crate::push::PushError;
use crate::registry::RegistryError;
use crate::store::StoreError;

/// A copy that failed. The target names nothing that it did not name before: names move last.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A layout or an archive.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// What the source names is not an image or index that is accepted, or not for the platform.
    #[error(transparent)]
    Image(#[from] PullError),
    /// The store's image, or the docker archive, cannot be made ready.
    #[error(transparent)]
    Local(#[from] PushError),
    /// More than any image has.
    #[error("{what} {of}: more than {max} are no image that is copied")]
    TooMany {
        /// Of what there are too many.
        what: &'static str,
        /// Where.
        of: Digest,
        /// How many would be accepted.
        max: usize,
    },
    /// Indexes in indexes without end.
    #[error("index {0} holds indexes in indexes: no image is so deep")]
    Nested(Digest),
    /// Blobs that an incremental archive left out, and that the target does not have.
    #[error(
        "the source does not hold {} that the target lacks, the first is {}: copy what it builds on first",
        blobs(.0.len()),
        .0[0].digest
    )]
    Missing(Vec<Descriptor>),
    /// The bytes of a blob are not those that its descriptor names.
    #[error("blob {digest}: {source}")]
    Content {
        /// Which one.
        digest: Digest,
        /// How it differs.
        source: VerifyError,
    },
    /// An index, where only one image has a place.
    #[error(
        "{0} is not one container image, and a docker archive holds nothing else: say --platform"
    )]
    NotOneImage(Digest),
    /// An index that lists images which are not there, because they were not wanted.
    #[error(
        "the target does not accept index {index} without the images for other platforms: copy all of them, or one alone, or allow it there: {source}"
    )]
    Sparse {
        /// Which one.
        index: Digest,
        /// The registry's words.
        source: RegistryError,
    },
    /// Images for several platforms, where one image has a place.
    #[error(
        "{0} platforms are wanted, and the store has one image under each name: say --platform once"
    )]
    NotOnePlatform(usize),
    /// The local store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A digest in the target that is not the source's.
    #[error("the source has digest {actual}, so it cannot be copied to {wanted}: copy it to a tag")]
    Target {
        /// What the target says.
        wanted: String,
        /// The source's.
        actual: Digest,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A worker thread ended without an answer.
    #[error("the copy was interrupted")]
    Interrupted,
}

fn blobs(count: usize) -> String {
    match count {
        1 => "one blob".to_owned(),
        count => format!("{count} blobs"),
    }
}
