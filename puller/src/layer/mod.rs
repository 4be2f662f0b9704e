//! Layers: a compressed tar becomes a directory, and back.

use serde::{Deserialize, Serialize};
use strata_oci::digest::Digest;

/// An unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerMeta {
    /// The digest of the uncompressed archive, to its last byte.
    pub diff_id: Digest,
    /// The uncompressed archive's size in bytes.
    pub tar_size: u64,
    /// The sum of all regular files' bytes.
    pub content_size: u64,
    /// How many entries the archive has.
    pub entries: u64,
    /// Directories that no entry names.
    pub implied: Vec<String>,
    /// Whether the identical archive can be written again.
    pub rebuildable: bool,
}

/// Who owns what is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// Owners as the archive says.
    Keep,
    /// Everything belongs to whoever unpacks.
    Single,
}

/// Where overlayfs finds its own marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrNamespace {
    /// `trusted.overlay.`, for mounts made by root.
    Trusted,
    /// `user.overlay.`, for mounts made in a user namespace with `userxattr`.
    User,
}

/// Bounds on a single layer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {}

/// How a layer is unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnpackOptions {
    /// Who owns what is unpacked.
    pub ownership: Ownership,
    /// Where overlayfs' marks go.
    pub xattrs: XattrNamespace,
    /// How far.
    pub limits: Limits,
}
