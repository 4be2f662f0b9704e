//! Why no image could be made of something here.

use std::io;
use std::path::PathBuf;

use super::instruction::InstructionError;
use crate::layer::LayerError;
use crate::run::RunError;
use crate::store::StoreError;
use crate::store::containers::ContainerError;

/// An image that was not made. Nothing of it is in the store.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Something of the container's cannot be read.
    #[error("cannot read {path} of the container: {source}", path = path.display())]
    Read {
        /// Where it is in the container.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A name that means something else in a layer.
    #[error(
        "{path} cannot be in a layer, where a name that begins with .wh. removes what is below: rename or remove it in the container", path = path.display()
    )]
    Marked {
        /// Where it is in the container.
        path: PathBuf,
    },
    /// A directory of the store's cannot be opened.
    #[error("cannot open {path}: {source}", path = path.display())]
    Open {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The archive could not be passed on.
    #[error("cannot write the layer: {0}")]
    Write(#[source] io::Error),
    /// The layer could not be unpacked into the store.
    #[error("cannot unpack the new layer: {0}")]
    Layer(#[from] LayerError),
    /// A mount that nobody can write to has nothing of its own.
    #[error("{0} is mounted read-only: it has no changes that an image could be made of")]
    ReadOnly(String),
    /// The image of the container is not there.
    #[error("the image of container {0} is gone")]
    ImageGone(String),
    /// Processes of the container go on although they were to stop.
    #[error(
        "cannot pause the container: {0}; --pause=false takes its files as they are at the time"
    )]
    Pause(#[source] RunError),
    /// A configuration that cannot be changed.
    #[error("the image's configuration cannot be changed: {0}")]
    Config(String),
    /// A change that makes no sense.
    #[error(transparent)]
    Instruction(#[from] InstructionError),
    /// Docker's manifests have no word for it.
    #[error("docker's manifests cannot name a layer of type {0}: use --format oci")]
    Format(String),
    /// An image does not begin with the layers of what is to be its base.
    #[error("the image does not stand on the old base: its lowest layers are others")]
    NotTheBase,
    /// Bases of different machines.
    #[error("the image is for {0} and the new base for {1}")]
    Platform(String, String),
    /// A time that is none.
    #[error("SOURCE_DATE_EPOCH is {0:?}: it has to be a number of seconds since 1970")]
    Epoch(String),
    /// The container.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}
