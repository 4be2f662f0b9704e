//! Putting right what a check found: another directory in a damaged layer's place, rubbish away.

use std::fs;
use std::io;
use std::path::Path;

use rusqlite::params;
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use strata_oci::cas::sync_dir;
use strata_oci::digest::Digest;
use strata_oci::{Descriptor, media};

use super::containers::ContainerError;
use super::find::strings;
use super::{LayerLock, Name, Staging, Store, StoreError, image};
use crate::layer::{self, LayerError, LayerMeta};

/// Why a sound layer could not take a damaged one's place.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// A running container, or a mount, would see files vanish.
    #[error("in use by {}: stop and remove, or unmount, first; then check again with --repair", .0.join(", "))]
    InUse(Vec<String>),
    /// The containers could not be looked at.
    #[error(transparent)]
    Containers(#[from] ContainerError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A blob that unpacks to a layer, and the repositories that may have it.
#[derive(Debug, Clone)]
pub(crate) struct LayerBlob {
    pub(crate) blob: Descriptor,
    /// Registry and repository, the likeliest first.
    pub(crate) places: Vec<(String, String)>,
}

impl Store {
    /// Unpacks a layer again, beside itself, from its own record and files. Whether it is the layer
    /// then is for the caller to compare.
    pub(crate) fn unpack_again(
        &self,
        diff_id: &Digest,
    ) -> Result<(Staging, LayerMeta), StoreError> {
        let staging = self.stage()?;
        let dir = self.layer_dir(diff_id);
        let (archive, mut to) = io::pipe().map_err(StoreError::io("make a pipe for", &dir))?;
        let options = self.unpack_options();
        let meta = std::thread::scope(|scope| {
            let writing = scope.spawn(move || layer::rebuild(&dir, &mut to));
            let meta = layer::unpack(archive, staging.path(), &options, &|_| {});
            let written = writing.join();
            written.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            meta
        });
        let meta = meta.map_err(|error: LayerError| StoreError::Layer(error))?;
        Ok((staging, meta))
    }

    /// Puts a staged directory, which the caller has proved to hold this layer, in the place of the one
    /// that is there; `_lock` is the layer's own, exclusive. At no instant is there none.
    pub(crate) fn replace_layer(
        &self,
        _lock: &LayerLock,
        staging: Staging,
        meta: &LayerMeta,
    ) -> Result<(), ReplaceError> {
        let diff_id = &meta.diff_id;
        let opaque = layer::hides_everything_below(staging.path(), self.unpack_options().xattrs)
            .map_err(StoreError::from)?;
        let sync = staging.sync_file_system();
        sync.map_err(StoreError::io("write to disk", staging.path()))?;
        let _unused = match self.unused(diff_id)? {
            Ok(unused) => unused,
            Err(users) => return Err(ReplaceError::InUse(users)),
        };
        let _index = self.lock_index()?;
        let to = self.layer_dir(diff_id);
        exchange(staging.path(), &to).map_err(StoreError::io("replace", &to))?;
        let layers = self.root.join("layers");
        sync_dir(&layers).map_err(StoreError::io("sync", &layers))?;
        let text = diff_id.to_string();
        let stale = {
            let mut db = self.db();
            let db = db.transaction().map_err(StoreError::from)?;
            let update = "UPDATE layers SET tar_size = ?2, content_size = ?3, entries = ?4,
                implied = ?5, opaque = ?6, rebuildable = ?7 WHERE diff_id = ?1";
            let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
            let values = params![
                text,
                number(meta.tar_size),
                number(meta.content_size),
                number(meta.entries),
                number(meta.implied.len() as u64),
                opaque,
                meta.rebuildable
            ];
            db.execute(update, values).map_err(StoreError::from)?;
            // What was made of the damaged layer's directories may be wrong too, and is made again.
            let stale = strings(
                &db,
                "DELETE FROM stacks WHERE chain_id IN (SELECT chain_id FROM images JOIN image_layers
                 USING (manifest_digest) WHERE diff_id = ?1) RETURNING chain_id",
                &[&text],
            )?;
            db.commit().map_err(StoreError::from)?;
            stale
        };
        for chain_id in stale {
            self.take_stack(&image::digest(&chain_id)?)?;
        }
        Ok(())
    }

    /// Forgets what mends a stack, so that it is made again when the stack is mounted next.
    ///
    /// # Errors
    /// Something shows the stack, or another one that has its topmost layer.
    pub fn forget_stack(&self, chain_id: &Digest) -> Result<(), ReplaceError> {
        let text = chain_id.to_string();
        let top = {
            let query = "SELECT diff_id FROM images JOIN image_layers USING (manifest_digest)
                WHERE chain_id = ?1 ORDER BY position DESC LIMIT 1";
            strings(&self.db(), query, &[&text])?
        };
        let _unused = match top.first() {
            Some(diff_id) => match self.unused(&image::digest(diff_id)?)? {
                Ok(unused) => Some(unused),
                Err(users) => return Err(ReplaceError::InUse(users)),
            },
            None => None,
        };
        let _index = self.lock_index()?;
        let delete = "DELETE FROM stacks WHERE chain_id = ?1";
        let deleted = self.db().execute(delete, [text]);
        deleted.map_err(StoreError::from)?;
        Ok(self.take_stack(chain_id)?)
    }

    fn take_stack(&self, chain_id: &Digest) -> Result<(), StoreError> {
        let path = self.root.join("stacks").join(chain_id.hex());
        let taken = self.trash.take(&path);
        taken.map(drop).map_err(StoreError::io("move away", &path))
    }

    /// The blobs that images say unpack to a layer, and where those may be had.
    pub(crate) fn blobs_of_layer(&self, diff_id: &Digest) -> Result<Vec<LayerBlob>, StoreError> {
        let text = diff_id.to_string();
        let manifests = {
            let query = "SELECT DISTINCT manifest_digest FROM image_layers WHERE diff_id = ?1";
            strings(&self.db(), query, &[&text])?
        };
        let mut found: Vec<LayerBlob> = Vec::new();
        for manifest in manifests {
            let Some(image) = self.image_by_digest(&image::digest(&manifest)?)? else {
                continue;
            };
            let pairs = image
                .manifest
                .layers
                .iter()
                .zip(&image.config.rootfs.diff_ids);
            let blobs = pairs.filter(|(_, other)| *other == diff_id);
            for (blob, _) in blobs.filter(|(b, _)| !media::is_nondistributable(&b.media_type)) {
                let mut places = self.origins(&blob.digest)?;
                let names = image
                    .repo_digests
                    .iter()
                    .filter_map(|name| Name::parse(name).ok());
                let own = names.filter_map(|name| {
                    let (registry, repository) = name.repository.split_once('/')?;
                    Some((registry.to_owned(), repository.to_owned()))
                });
                for place in own {
                    if !places.contains(&place) {
                        places.push(place);
                    }
                }
                match found
                    .iter_mut()
                    .find(|known| known.blob.digest == blob.digest)
                {
                    Some(known) => {
                        places.retain(|place| !known.places.contains(place));
                        known.places.append(&mut places);
                    }
                    None => found.push(LayerBlob {
                        blob: blob.clone(),
                        places,
                    }),
                }
            }
        }
        Ok(found)
    }
}

/// Exchanges two directories in one step where the file system can; else, or where there is none yet,
/// the second goes and the first takes its name.
fn exchange(staged: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, staged, CWD, to, RenameFlags::EXCHANGE) {
        Ok(()) => return Ok(()),
        Err(Errno::NOENT | Errno::INVAL | Errno::NOSYS) => {}
        Err(error) => return Err(error.into()),
    }
    let aside = staged.with_extension("old");
    match fs::rename(to, &aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(staged, to)?;
    // What was there goes with the staging directory.
    match fs::rename(&aside, staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
