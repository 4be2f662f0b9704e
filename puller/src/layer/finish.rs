//! What waits until all entries are there: whiteouts, in overlayfs' form, and directories' metadata.
//!
//! A whiteout is a character device 0/0, a directory that hides lower ones carries an attribute
//! (kernel documentation, overlayfs, "whiteouts and opaque directories"). Both only concern lower
//! layers: what the layer itself has at a whited-out path stays, and if that is a directory, it is
//! made opaque. A directory with whiteouts is marked, since nothing may be beneath it: which layers are, only stacks
//! know.

use std::collections::{BTreeSet, HashSet};
use std::io::BufRead;

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;

use super::attributes::Metadata;
use super::error::LayerError;
use super::extract::Extractor;
use super::name;
use super::tree::{self, Found};

impl<R: BufRead> Extractor<'_, R> {
    /// Makes whiteouts and opaque marks.
    pub(super) fn white_out(&mut self) -> Result<(), LayerError> {
        let (mut opaque, mut holding) = (HashSet::new(), BTreeSet::new());
        for path in std::mem::take(&mut self.opaque) {
            // A directory that is itself removed, and not made again, has nothing to hide.
            let removed = name::ancestors(&path).any(|path| self.removed.contains(path));
            let create = !removed && !self.tree.is_behind_link(&path);
            if let Found::Directory(directory) = self.tree.find(&path, create)? {
                opaque.insert(directory.path.clone());
            }
        }
        // In order, so that parents come first: under a whiteout there is nothing to remove.
        for path in std::mem::take(&mut self.removed) {
            self.remove(&path, &mut opaque, &mut holding)?;
        }
        let open = |path: &[u8]| {
            let failed = LayerError::entry("open the directory", path);
            self.tree.open_directory(path).map_err(failed)
        };
        for path in &opaque {
            self.attributes.set_opaque(open(path)?, path)?;
        }
        for path in &holding {
            self.attributes.set_holds_whiteouts(open(path)?, path)?;
        }
        Ok(())
    }

    fn remove(
        &mut self,
        path: &[u8],
        opaque: &mut HashSet<Vec<u8>>,
        holding: &mut BTreeSet<Vec<u8>>,
    ) -> Result<(), LayerError> {
        let (parent, last) = name::split(path);
        // Inside an opaque directory nothing of a lower layer is left. overlayfs would list the
        // device, since it merges nothing there.
        let hidden = |real: &[u8]| name::ancestors(real).any(|above| opaque.contains(above));
        let parent = match self.tree.find(parent, false)? {
            Found::Directory(directory) => directory,
            Found::NotDirectory => return Ok(()),
            // The parent became a link: what it held went with it (so umoci writes it down).
            Found::Missing if self.tree.is_behind_link(parent) => return Ok(()),
            Found::Missing => match self.tree.find(parent, true)? {
                Found::Directory(directory) => directory,
                Found::Missing | Found::NotDirectory => return Ok(()),
            },
        };
        if hidden(&parent.path) {
            return Ok(());
        }
        let failed = |action| LayerError::entry::<Errno>(action, path);
        match tree::stat(parent.as_ref(), last).map_err(failed("look"))? {
            Some(stat) if tree::is_directory(&stat) => {
                let real = name::join(&parent.path, last);
                // Made anew, it has nothing of the one that was removed: not its metadata either.
                if self.tree.implied.remove(&real) {
                    self.directories.insert(real.clone(), implied());
                }
                opaque.insert(real);
                Ok(())
            }
            Some(_) => Ok(()),
            None => {
                let (kind, mode) = (FileType::CharacterDevice, Mode::empty());
                rustix::fs::mknodat(parent.as_ref(), last, kind, mode, 0).map_err(failed(
                    "make the whiteout (Linux 5.8 is needed without privilege, and a store that is not on an overlay file \
                     system: `--root` on a volume)",
                ))?;
                if !holding.contains(&parent.path) {
                    self.tree.hold(&parent.path)?;
                    holding.insert(parent.path.clone());
                }
                Ok(())
            }
        }
    }

    /// Owners, modes, attributes and times of directories; the deepest first, since a directory may
    /// lose the permission to look into it.
    pub(super) fn set_directories(&mut self) -> Result<(), LayerError> {
        let implied = implied();
        let named = self.directories.iter();
        let unnamed = self.tree.implied.iter().map(|path| (path, &implied));
        let mut all: Vec<_> = named.chain(unnamed).collect();
        if !self.directories.contains_key(&b""[..]) {
            all.push((&ROOT, &implied));
        }
        all.sort_unstable_by(|one, other| other.0.cmp(one.0));
        for (path, metadata) in all {
            let failed = LayerError::entry("open the directory", path);
            let directory = self.tree.open_directory(path).map_err(failed)?;
            self.attributes.set(&directory, path, metadata, true)?;
        }
        Ok(())
    }
}

/// Of a directory that no entry names.
fn implied() -> Metadata {
    Metadata {
        mode: 0o755,
        ..Metadata::default()
    }
}

static ROOT: Vec<u8> = Vec::new();
