//! Whose files are that could not be given to their owners: without ids granted to a user, everything on the disk
//! belongs to whoever unpacked it. The headers of the layers still say it, so what is made of such a tree gives back the
//! original owners.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use super::error::LayerError;
use super::meta::{LayerMeta, unescape};
use super::model::{Model, What};
use super::name;
use super::options::{Ownership, UnpackOptions};
use super::record::{self, RecordReader};
use super::tar::TarReader;

/// The owners that the layers of a stack give to what it shows, by path.
#[derive(Debug)]
pub struct Owners {
    ownership: Ownership,
    /// Without what belongs to root.
    by_path: BTreeMap<Vec<u8>, (u32, u32)>,
}

impl Default for Owners {
    /// Those on the disk are right.
    fn default() -> Self {
        let (ownership, by_path) = (Ownership::Keep, BTreeMap::new());
        Self { ownership, by_path }
    }
}

impl Owners {
    /// Of a stack of layers, the lowest first. Reads their records, but where owners are kept anyway.
    ///
    /// # Errors
    /// What of a layer's own files cannot be read.
    pub fn of(layers: &[PathBuf], options: &UnpackOptions) -> Result<Self, LayerError> {
        let mut owners = Self {
            ownership: options.ownership.clone(),
            ..Self::default()
        };
        if options.ownership != Ownership::Keep {
            for layer in layers {
                owners.lay(layer, options)?;
            }
        }
        Ok(owners)
    }

    /// The owner of what is at a path and belongs to `owner` on the disk: if that is what unpacking made of the
    /// original, the original.
    pub fn original(&self, path: &[u8], owner: (u32, u32)) -> (u32, u32) {
        match self.by_path.get(path) {
            Some(&(uid, gid)) if self.ownership.of(uid, gid).unwrap_or((0, 0)) == owner => {
                (uid, gid)
            }
            _ => owner,
        }
    }

    /// Lays one more layer over the others.
    fn lay(&mut self, layer: &Path, options: &UnpackOptions) -> Result<(), LayerError> {
        let implied: HashSet<Vec<u8>> = LayerMeta::load(layer)?
            .implied
            .iter()
            .map(|path| unescape(path))
            .collect();
        let path = layer.join(record::FILE);
        let record = RecordReader::open(layer).map_err(LayerError::io("read", &path))?;
        let mut reader = TarReader::new(record.headers(), options.limits.reader());
        let mut model = Model::new();
        while let Some(entry) = reader.next()? {
            reader.clear_raw();
            model.entry(entry, &options.ownership);
        }
        model.finish();
        // What is hidden first: a layer's whiteouts concern those below it alone.
        for (path, node) in model.all() {
            match &node.what {
                What::Directory { opaque: false } => {}
                What::Directory { opaque: true } => self.forget_below(path),
                _ => {
                    self.by_path.remove(path);
                    self.forget_below(path);
                }
            }
        }
        for (path, node) in model.all() {
            if node.what == What::Whiteout || implied.contains(path) {
                continue;
            }
            match (node.metadata.uid, node.metadata.gid) {
                (0, 0) => self.by_path.remove(path),
                owner => self.by_path.insert(path.to_vec(), owner),
            };
        }
        Ok(())
    }

    fn forget_below(&mut self, path: &[u8]) {
        if path.is_empty() {
            return self.by_path.clear();
        }
        let below: Vec<Vec<u8>> = self
            .by_path
            .range(name::below(path))
            .map(|(path, _)| path.clone())
            .collect();
        for path in below {
            self.by_path.remove(&path);
        }
    }
}
