//! Files that several layers have are kept once, when somebody asks for it; see [`layer::Duplicates`].

use std::io;

use strata_oci::digest::Digest;

use super::find::strings;
use super::lock::FileLock;
use super::{Store, StoreError, image};
use crate::layer::{Duplicates, LayerError, Shared, Sharing};
use crate::store::containers::ContainerError;

/// What to share.
#[derive(Debug, Clone)]
pub struct DedupOptions {
    /// How.
    pub sharing: Sharing,
    /// Bytes of the smallest file that is worth it.
    pub least: u64,
    /// Whether only to look.
    pub dry_run: bool,
}

/// What was shared, or would be.
#[derive(Debug, Default)]
pub struct DedupReport {
    /// In all.
    pub shared: Shared,
    /// Layers that were left as they are, and the containers and mounts that show them.
    pub in_use: Vec<(Digest, Vec<String>)>,
}

/// Why files are not shared.
#[derive(Debug, thiserror::Error)]
pub enum DedupError {
    /// No reflinks here.
    #[error(
        "the file system of the store cannot share blocks between files ({0}); with --hard-links identical files become \
         one file of several names, where their metadata are identical too"
    )]
    NoSharedBlocks(io::Error),
    /// A layer cannot be read or changed.
    #[error(transparent)]
    Layer(LayerError),
    /// The containers cannot be looked at.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// The index or a lock failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<LayerError> for DedupError {
    fn from(error: LayerError) -> Self {
        match error {
            LayerError::Io { source, .. } if source.kind() == io::ErrorKind::Unsupported => {
                Self::NoSharedBlocks(source)
            }
            error => Self::Layer(error),
        }
    }
}

impl Store {
    /// Lets files of the same content in different layers share their room. Blocking; layers that are there stay
    /// while it works. Ended in any way, it leaves whole layers; with [`Sharing::Links`] the time of one directory
    /// may be wrong after a power cut, which a check finds and repairs.
    pub fn dedup(&self, options: &DedupOptions) -> Result<DedupReport, DedupError> {
        let path = self.lock_path("dedup");
        let _only = FileLock::exclusive(&path).map_err(StoreError::io("lock", &path))?;
        // In the order in which all take layers.
        let all = strings(
            &self.db(),
            "SELECT diff_id FROM layers ORDER BY diff_id",
            &[],
        )?;
        let mut layers = Vec::new();
        for text in all {
            let diff_id = image::digest(&text)?;
            if let Some(held) = self.hold_layer(&diff_id)? {
                layers.push((diff_id, held));
            }
        }
        let trees: Vec<_> = layers
            .iter()
            .map(|(diff_id, _)| self.layer_dir(diff_id).join("fs"))
            .collect();
        let found = Duplicates::find(&trees, options.least, options.sharing)?;
        let mut report = DedupReport::default();
        let staging = self.stage()?;
        for tree in found.trees() {
            let diff_id = &layers[tree].0;
            // Overlayfs does not expect that names below it change (kernel documentation, overlayfs, "Changes to
            // underlying filesystems").
            let _unused = match options.sharing {
                Sharing::Blocks => None,
                Sharing::Links => match self.unused(diff_id)? {
                    Ok(unused) => Some(unused),
                    Err(users) => {
                        report.in_use.push((diff_id.clone(), users));
                        continue;
                    }
                },
            };
            let shared = match options.dry_run {
                true => found.of(tree),
                false => found.share(tree, staging.path())?,
            };
            report.shared.files += shared.files;
            report.shared.bytes = report.shared.bytes.saturating_add(shared.bytes);
        }
        Ok(report)
    }
}
