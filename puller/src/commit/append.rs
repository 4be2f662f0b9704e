//! A directory or an archive as one more layer of an image.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;

use strata_oci::config::History;

use super::changes::{self, Tree, Trees};
use super::error::CommitError;
use super::pack::{self, Packed};
use super::{Base, Child, CommitOptions, apply, archive};
use crate::layer::Owners;
use crate::store::{Image, Store};

/// What becomes a layer.
pub enum LayerSource {
    /// What is in a directory; the directory itself has no entry in the layer.
    Directory(PathBuf),
    /// A tar archive, plain or compressed by gzip, zstd, xz or bzip2: the layer is the archive, byte for byte. Whiteouts in it remove what is below.
    Archive(Box<dyn Read + Send>),
}

/// Makes an image of another one, `base`, which was called `name`, and a layer on top of it.
///
/// # Errors
/// See [`CommitError`]. After one, nothing of the image is in the store.
pub fn append(
    store: &Store,
    (base, name): (&Image, &str),
    source: LayerSource,
    options: &CommitOptions,
) -> Result<Image, CommitError> {
    let mut starts = base.config.config.clone();
    for change in &options.changes {
        apply(change, &mut starts)?;
    }
    let form = options.form_on(base)?;
    let _held = store.claim_layers(&base.config.rootfs.diff_ids)?;
    let layer = match source {
        LayerSource::Directory(path) => of_directory(store, path, options)?,
        LayerSource::Archive(mut archive) => pack::pack(store, options.compression, |out| {
            let plain = crate::inflate::inflate(&mut archive);
            let copied = plain.and_then(|mut plain| io::copy(&mut plain, out));
            copied.map(drop).map_err(CommitError::Write)
        })?,
    };
    let step = History {
        created: Some(options.moment.created.clone()),
        created_by: Some("strata image append".to_owned()),
        author: options.author.clone(),
        comment: options.message.clone(),
        empty_layer: false,
    };
    let child = Child {
        base,
        form,
        starts,
        step,
        reference: options.reference.clone(),
        created: options.moment.created.clone(),
        author: options.author.clone(),
        annotations: Base::here(store, base, name)?.annotate(BTreeMap::new()),
    };
    child.publish(store, Some(layer))
}

/// All that is in a directory is new.
fn of_directory(
    store: &Store,
    path: PathBuf,
    options: &CommitOptions,
) -> Result<Packed, CommitError> {
    let namespace = store.unpack_options().xattrs;
    let nothing = Tree::open(Vec::new(), namespace, false)?;
    let tree = Tree::open(vec![path], namespace, false)?;
    let mut found = changes::find(Trees {
        old: &nothing,
        new: &tree,
        links_tell: true,
        any_name: false,
        mount_points: &[],
    })?;
    found.remove(&b""[..]);
    pack::pack(store, options.compression, |out| {
        archive::write(
            &tree.merged,
            &found,
            &Owners::default(),
            options.moment.latest,
            out,
        )
    })
}
