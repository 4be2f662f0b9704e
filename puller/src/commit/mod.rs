//! Images that are made here: of what a container changed, as docker's `commit` makes them.
//!
//! The image's layers stay as they are and are not read but where the container has something else; one more is laid on
//! top of them, which becomes a layer of the store as any pulled one. A container that changed no file gives an image
//! of the same layers.

mod append;
mod archive;
mod base;
mod changes;
mod config;
mod error;
mod export;
mod health;
mod instruction;
mod manifest;
mod pack;
mod rebase;
mod settings;
mod squash;
mod still;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use strata_oci::config::{ContainerConfig, History};
use strata_oci::{Descriptor, Digest, media};

pub use append::{LayerSource, append};
pub use base::Base;
pub use config::Moment;
pub use error::CommitError;
pub use export::{Stack, export};
pub use instruction::{InstructionError, apply};
pub use manifest::Form;
pub use rebase::{Parts, Rebased, Rebasing, rebase};
pub use squash::squash;

use crate::driver::Writable;
use crate::layer::Owners;
use crate::push::{Compression, Format};
use crate::run::config::Config;
use crate::store::containers::{Container, Kind};
use crate::store::{Image, NewImage, Store, StoreError};
use changes::{Changes, Tree, Trees};
use config::Draft;
use pack::Packed;
use still::Still;

/// Mount points that every container gets, and files that are mounted over its own, as paths from the root: no changes of
/// its own, and docker does not tell them either.
pub const OF_EVERY_CONTAINER: [&str; 6] = [
    "dev",
    "proc",
    "sys",
    "etc/hosts",
    "etc/hostname",
    "etc/resolv.conf",
];

/// What the new image is to be.
#[derive(Debug, Clone)]
pub struct CommitOptions {
    /// Its name; without one it is dangling.
    pub reference: Option<String>,
    /// The comment of its step.
    pub message: Option<String>,
    /// Who made it.
    pub author: Option<String>,
    /// Whether the processes of a container that runs are held still meanwhile.
    pub pause: bool,
    /// Instructions, see [`apply`].
    pub changes: Vec<String>,
    /// The form of its manifest; that of the image below when not given.
    pub form: Option<Form>,
    /// How its layer is compressed.
    pub compression: Compression,
    /// When it is made.
    pub moment: Moment,
}

impl CommitOptions {
    /// The form of a manifest that stands on another image; docker's has no word for zstd.
    fn form_on(&self, base: &Image) -> Result<Form, CommitError> {
        let zstd = self.compression.format() == Format::Zstd;
        match (self.form, Form::of(&base.manifest.media_type)) {
            (Some(Form::Docker), _) if zstd => {
                Err(CommitError::Format(media::OCI_LAYER_ZSTD.to_owned()))
            }
            (Some(form), _) => Ok(form),
            (None, _) if zstd => Ok(Form::Oci),
            (None, form) => Ok(form),
        }
    }
}

/// Makes an image of a container. Nobody may start it, or remove it, meanwhile.
///
/// # Errors
/// See [`CommitError`]. After one, nothing of the image is in the store.
pub fn commit(
    store: &Store,
    container: &Container,
    options: &CommitOptions,
) -> Result<Image, CommitError> {
    if container.kind == Kind::ReadOnlyMount {
        return Err(CommitError::ReadOnly(container.name.clone()));
    }
    let base = store.image_by_digest(&container.manifest_digest)?;
    let base = base.ok_or_else(|| CommitError::ImageGone(container.name.clone()))?;
    let directory = store.container_dir(&container.id);
    // How it was created, if that is known: a mount was not.
    let kept = Config::read(&directory).map_err(|source| CommitError::Open {
        path: directory.clone(),
        source,
    })?;
    // Said before anything is read: an instruction that makes no sense costs nothing.
    let mut starts = match &kept {
        Some(kept) => settings::merged(&base.config.config, kept),
        None => base.config.config.clone(),
    };
    let command = starts.cmd.join(" ");
    for change in &options.changes {
        apply(change, &mut starts)?;
    }
    let form = options.form_on(&base)?;
    let diff_ids = &base.config.rootfs.diff_ids;
    // The image may lose its last container and its name while its layers are read.
    let _held = store.claim_layers(diff_ids)?;
    let still = match options.pause {
        true => Still::hold(store, container)?,
        false => None,
    };
    let layer = layer_of(store, &base, &directory, options)?;
    drop(still);
    let step = History {
        created: Some(options.moment.created.clone()),
        created_by: Some(command),
        author: options.author.clone(),
        comment: options.message.clone(),
        empty_layer: false,
    };
    let child = Child {
        base: &base,
        form,
        starts,
        step,
        reference: options.reference.clone(),
        created: options.moment.created.clone(),
        author: options.author.clone(),
        annotations: Base::here(store, &base, &container.image)?.annotate(BTreeMap::new()),
    };
    child.publish(store, layer)
}

/// The owners that an image's layers give to its files, where the store cannot.
///
/// # Errors
/// A layer whose record cannot be read.
pub fn owners(store: &Store, image: &Image) -> Result<Owners, StoreError> {
    let diff_ids = image.config.rootfs.diff_ids.iter();
    let layers: Vec<PathBuf> = diff_ids.map(|diff_id| store.layer_dir(diff_id)).collect();
    Ok(Owners::of(&layers, &store.unpack_options())?)
}

/// The layer between a container and its image; `None` when the trees are the same.
fn layer_of(
    store: &Store,
    base: &Image,
    directory: &Path,
    options: &CommitOptions,
) -> Result<Option<Packed>, CommitError> {
    // One that was never started has no writable layer.
    if !Writable::of(directory).upper.is_dir() {
        return Ok(None);
    }
    let lowers = store.stack(base)?;
    let namespace = store.unpack_options().xattrs;
    let old = Tree::open(lowers.clone(), namespace, false)?;
    let stack = Stack::of_container(directory, lowers);
    let links_tell = !stack.is_copy;
    let new = stack.open(namespace)?;
    let found: Changes = changes::find(Trees {
        old: &old,
        new: &new,
        links_tell,
        any_name: false,
        // Where it has volumes and other mounts, docker keeps the empty directories.
        mount_points: &OF_EVERY_CONTAINER.map(|path| path.as_bytes().to_vec()),
    })?;
    if found.is_empty() {
        return Ok(None);
    }
    let owners = owners(store, base)?;
    let packed = pack::pack(store, options.compression, |out| {
        archive::write(&new.merged, &found, &owners, options.moment.latest, out)
    })?;
    Ok(Some(packed))
}

/// An image that has all layers of another one.
struct Child<'a> {
    base: &'a Image,
    form: Form,
    starts: ContainerConfig,
    step: History,
    reference: Option<String>,
    created: String,
    author: Option<String>,
    annotations: BTreeMap<String, String>,
}

impl Child<'_> {
    /// Shows it, with a layer of its own if there is one.
    fn publish(self, store: &Store, layer: Option<Packed>) -> Result<Image, CommitError> {
        let mut draft = Draft::of(&self.base.config_bytes)?;
        draft.created(&self.created);
        draft.author(self.author.as_deref());
        draft.starts(&self.starts);
        draft.step(self.step, layer.as_ref().map(|layer| &layer.meta.diff_id));
        let config = draft.bytes()?;
        let mut layers: Vec<Descriptor> = self.base.manifest.layers.clone();
        layers.extend(layer.iter().map(|layer| layer.blob.clone()));
        let written = manifest::write(self.form, &config, &layers, &self.annotations)?;
        let staged = layer.map(|layer| (layer.staging, layer.meta));
        let image = NewImage {
            reference: self.reference,
            resolved: Digest::of(&written.bytes),
            manifest: written.bytes,
            media_type: written.media_type.to_owned(),
            config,
            origin: None,
        };
        Ok(store.publish(staged.into_iter().collect(), image)?)
    }
}
