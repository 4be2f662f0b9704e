//! A stack of layers as one archive: what a container sees, without its layers. Names come in the order of their bytes, so
//! the same tree gives the same archive.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::archive;
use super::changes::{self, Tree, Trees};
use super::error::CommitError;
use crate::driver::{Name, Writable};
use crate::layer::{Owners, XattrNamespace};

/// The layers of a container, and how they are to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// The directories, the topmost first.
    pub layers: Vec<PathBuf>,
    /// Whether names may be marks of fuse-overlayfs.
    pub marks: bool,
    /// Whether the writable layer is a copy of all.
    pub is_copy: bool,
}

impl Stack {
    /// Layers that nobody writes to.
    pub fn of_image(layers: Vec<PathBuf>) -> Self {
        Self {
            layers,
            marks: false,
            is_copy: false,
        }
    }

    /// The image's layers with the writable one of a container in its directory; without it, where there is none.
    pub fn of_container(directory: &Path, lowers: Vec<PathBuf>) -> Self {
        let upper = Writable::of(directory).upper;
        if !upper.is_dir() {
            return Self::of_image(lowers);
        }
        let made_by = Name::recorded(directory);
        let is_copy = made_by == Some(Name::Vfs);
        let mut layers = vec![upper];
        if !is_copy {
            layers.extend(lowers);
        }
        Self {
            layers,
            marks: made_by == Some(Name::FuseOverlayfs),
            is_copy,
        }
    }

    pub(super) fn open(self, namespace: XattrNamespace) -> Result<Tree, CommitError> {
        Tree::open(self.layers, namespace, self.marks)
    }
}

/// Writes the archive. Sockets are left out, as by all who write archives. What changes meanwhile is in it as it was
/// seen, file by file.
///
/// # Errors
/// What cannot be read, and what `out` says.
pub fn export(
    stack: Stack,
    namespace: XattrNamespace,
    owners: &Owners,
    out: &mut dyn Write,
) -> Result<(), CommitError> {
    let nothing = Tree::open(Vec::new(), namespace, false)?;
    let tree = stack.open(namespace)?;
    let mut found = changes::find(Trees {
        old: &nothing,
        new: &tree,
        links_tell: false,
        any_name: true,
        mount_points: &[],
    })?;
    found.remove(&b""[..]);
    archive::write(&tree.merged, &found, owners, None, out)
}
