//! How a layer is unpacked, and how far.

use serde::Deserialize;

use super::tar::ReaderLimits;
use crate::userns::Ids;

/// Who owns what is unpacked.
///
/// Whoever does not exist here is remembered in the layer's record alone: the archive that is made of it again names
/// them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ownership {
    /// Owners as the archive says.
    Keep,
    /// Rootless with these ids mapped: owners as the archive says where they exist, else root. Devices
    /// and attributes as with [`Ownership::Single`].
    Mapped(Ids),
    /// Rootless with a single id mapped: everything belongs to whoever unpacks. Devices cannot be
    /// made then and are left out, and so are extended attributes that need privilege.
    Single,
}

impl Ownership {
    /// Whose something is that the archive gives to `uid` and `gid`; `None`: whoever made it.
    pub(super) fn of(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        match self {
            Self::Keep => Some((uid, gid)),
            Self::Mapped(ids) => Some((
                if ids.has_user(uid) { uid } else { 0 },
                if ids.has_group(gid) { gid } else { 0 },
            )),
            Self::Single => None,
        }
    }
}

/// Where overlayfs finds its own marks (kernel documentation, overlayfs, "userxattr").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrNamespace {
    /// `trusted.overlay.`, for mounts made by root.
    Trusted,
    /// `user.overlay.`, for mounts made in a user namespace with `userxattr`.
    User,
}

impl XattrNamespace {
    /// The prefix of overlayfs' marks.
    pub(crate) fn overlay(self) -> &'static [u8] {
        match self {
            Self::Trusted => b"trusted.overlay.",
            Self::User => b"user.overlay.",
        }
    }

    /// The mark of a directory that hides the ones below it.
    pub(crate) fn opaque(self) -> &'static [u8] {
        match self {
            Self::Trusted => b"trusted.overlay.opaque",
            Self::User => b"user.overlay.opaque",
        }
    }

    /// The mark of a directory that was copied up, empty where nobody knows from where. Since Linux 4.15 overlayfs
    /// hides the whiteouts of a directory that it merges with others, or that has this mark; of any other it lists
    /// them as names that cannot be looked at.
    pub(crate) fn origin(self) -> &'static [u8] {
        match self {
            Self::Trusted => b"trusted.overlay.origin",
            Self::User => b"user.overlay.origin",
        }
    }
}

/// Bounds on a single layer: a digest proves who made it, not that it is harmless. `[limits]` of our configuration
/// file sets them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Entries in the archive.
    pub entries: u64,
    /// Bytes of the uncompressed archive, and of the files with their holes.
    pub bytes: u64,
    /// Uncompressed bytes for each compressed one, looked at beyond a 256th of `bytes`.
    pub ratio: u64,
    /// Bytes of one name or link target.
    pub path: u64,
    /// Bytes of one PAX header.
    pub pax: u64,
    /// Segments of one sparse file.
    pub segments: u64,
    /// Bytes of names kept in memory until the end: directories, whiteouts.
    pub names: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 8_000_000,
            bytes: 256 << 30,
            ratio: 500,
            // PATH_MAX with its NUL: longer names cannot be given to the kernel.
            path: 4095,
            pax: 1 << 20,
            segments: 1 << 16,
            names: 256 << 20,
        }
    }
}

impl Limits {
    /// For layers that were accepted before, whatever the limits were then.
    pub(crate) fn of_accepted() -> Self {
        Self {
            entries: u64::MAX,
            bytes: u64::MAX,
            ratio: u64::MAX,
            pax: u64::MAX,
            segments: u64::MAX,
            names: u64::MAX,
            ..Self::default()
        }
    }

    pub(crate) fn reader(&self) -> ReaderLimits {
        ReaderLimits {
            entries: self.entries,
            path: self.path,
            pax: self.pax,
            segments: self.segments,
        }
    }
}

/// How [`unpack`](super::unpack) works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnpackOptions {
    /// Who owns what is unpacked.
    pub ownership: Ownership,
    /// Where overlayfs' marks go.
    pub xattrs: XattrNamespace,
    /// Whether long runs of zeros become holes: archives do not say what was one.
    pub holes: bool,
    /// How far.
    pub limits: Limits,
    /// Whether this layer lets others have the processors first: of many that are unpacked at once the largest decides
    /// how long all takes.
    pub yielding: bool,
}
