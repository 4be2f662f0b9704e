//! Incremental layouts: those that leave out blobs which the other side has from an earlier one.
//!
//! A file of our own, `incremental.json`, lists what was left out, so that a third layout can build on the
//! second as on a whole one. Others pass it over (image-layout.md allows further files).

use std::collections::BTreeSet;
use std::io;

use serde::{Deserialize, Serialize};

use super::{Layout, LayoutError};
use crate::digest::{Algorithm, Digest};

/// The name of the list.
pub(super) const NAME: &str = "incremental.json";
/// A list of 800,000 digests.
const MAX: u64 = 64 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
struct List {
    absent: BTreeSet<Digest>,
}

/// The list's bytes; `None` when nothing was left out.
pub(super) fn list(absent: &BTreeSet<Digest>) -> Option<Vec<u8>> {
    let absent = absent.clone();
    if absent.is_empty() {
        return None;
    }
    // A set of texts cannot fail to become one.
    serde_json::to_vec(&List { absent }).ok()
}

impl Layout {
    /// The blobs that whoever has this layout, and those that it builds on, has: those in it and
    /// those that it left out.
    pub fn digests(&self) -> Result<BTreeSet<Digest>, LayoutError> {
        let mut all = self.left_out()?;
        match &self.packed {
            Some(entries) => all.extend(entries.keys().filter_map(|name| {
                let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
                format!("{algorithm}:{hex}").parse::<Digest>().ok()
            })),
            None => {
                for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                    let path = self.at.join("blobs").join(algorithm.name());
                    let entries = match std::fs::read_dir(&path) {
                        Ok(entries) => entries,
                        Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                        Err(source) => return Err(LayoutError::Io { path, source }),
                    };
                    for entry in entries.flatten() {
                        let text = format!("{algorithm}:{}", entry.file_name().to_string_lossy());
                        all.extend(text.parse::<Digest>());
                    }
                }
            }
        }
        Ok(all)
    }

    /// The blobs that this layout left out because an earlier one holds them.
    pub fn left_out(&self) -> Result<BTreeSet<Digest>, LayoutError> {
        match self.document(NAME, MAX) {
            Ok(bytes) => {
                let list: Result<List, _> = serde_json::from_slice(&bytes);
                let list = list.map_err(|error| LayoutError::NotALayout {
                    dir: self.at.clone(),
                    reason: format!("{NAME}: {error}"),
                })?;
                Ok(list.absent)
            }
            Err(LayoutError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(BTreeSet::new())
            }
            Err(error) => Err(error),
        }
    }
}
