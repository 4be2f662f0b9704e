//! Owner, mode, extended attributes and times, in the only order that keeps them all: chown(2) takes
//! set-id bits and file capabilities away, and anything done later changes times.

use std::borrow::Cow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::error::LayerError;
use super::options::{Ownership, UnpackOptions, XattrNamespace};
use super::tar::Time;

const SET_ID: u32 = 0o6000;

/// Extended attributes: name and value.
pub(super) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Whether an attribute belongs to the machine and not to the image: a policy's label, and XFS's own form of an ACL,
/// which it shows beside the one that everybody knows (`trusted.SGI_ACL_FILE`, fs/xfs/xfs_xattr.c).
pub(crate) fn is_of_the_machine(name: &[u8]) -> bool {
    name == b"security.selinux" || name.starts_with(b"trusted.SGI_")
}

/// What an entry says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Metadata {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    pub(super) xattrs: Xattrs,
}

impl Metadata {
    /// The permissions that an ACL of this entry says: its group's are those of the mask (acl(5), "CORRESPONDENCE
    /// BETWEEN ACL ENTRIES AND FILE PERMISSION BITS"; the bytes are those of `linux/posix_acl_xattr.h`).
    pub(super) fn acl_mode(&self) -> Option<u32> {
        let own = |(name, _): &&(Vec<u8>, Vec<u8>)| name == b"system.posix_acl_access";
        let (_, acl) = self.xattrs.iter().rev().find(own)?;
        let entries = acl.strip_prefix(&2_u32.to_le_bytes())?.chunks_exact(8);
        let of = |tag: u16| {
            let mut found = entries
                .clone()
                .filter(|entry| entry[..2] == tag.to_le_bytes());
            found.next().map(|entry| u32::from(entry[2] & 7))
        };
        let (owner, group, mask, other) = (of(0x01)?, of(0x04)?, of(0x10), of(0x20)?);
        Some(owner << 6 | mask.unwrap_or(group) << 3 | other)
    }
}

/// What the thread that writes has of its own.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Thread {
    /// A umask of 0: new files get exactly the mode that is asked for.
    pub(super) exact_modes: bool,
    /// The layer as its root, without a /proc, and so a working directory too.
    pub(super) own_root: bool,
}

/// Puts metadata on what was made.
pub(super) struct Attributes {
    ownership: Ownership,
    namespace: XattrNamespace,
    /// Who new files belong to.
    uid: u32,
    gid: u32,
    thread: Thread,
}

impl Attributes {
    pub(super) fn new(options: &UnpackOptions, thread: Thread) -> Self {
        Self {
            ownership: options.ownership.clone(),
            namespace: options.xattrs,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            thread,
        }
    }

    /// The mode to make something with: set-id bits come last, since a write takes them away again.
    pub(super) fn first_mode(mode: u32) -> Mode {
        Mode::from_raw_mode(mode & !SET_ID)
    }

    /// An open file made with [`Attributes::first_mode`], or a directory made with another mode.
    pub(super) fn set(
        &self,
        fd: impl AsFd,
        path: &[u8],
        metadata: &Metadata,
        directory: bool,
    ) -> Result<(), LayerError> {
        let failed = |action| LayerError::entry::<Errno>(action, path);
        let fd = fd.as_fd();
        if let Some((uid, gid)) = self.owner(metadata) {
            rustix::fs::fchown(fd, Some(uid), Some(gid)).map_err(failed(OWNER))?;
        }
        if directory || self.has_to_set_mode(metadata) {
            let mode = Mode::from_raw_mode(metadata.mode);
            rustix::fs::fchmod(fd, mode).map_err(failed(MODE))?;
        }
        self.xattrs(path, metadata, true, |name, value| {
            rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty())
        })?;
        rustix::fs::futimens(fd, &times(metadata.mtime)).map_err(failed(TIMES))
    }

    /// Anything that is not opened: links, devices, fifos.
    pub(super) fn set_at(
        &self,
        parent: impl AsFd,
        last: &[u8],
        path: &[u8],
        metadata: &Metadata,
        symlink: bool,
    ) -> Result<(), LayerError> {
        let failed = |action| LayerError::entry::<Errno>(action, path);
        let parent = parent.as_fd();
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        if let Some((uid, gid)) = self.owner(metadata) {
            rustix::fs::chownat(parent, last, Some(uid), Some(gid), nofollow)
                .map_err(failed(OWNER))?;
        }
        if !symlink && self.has_to_set_mode(metadata) {
            // It was made a moment ago, in a private directory, and is no link.
            let mode = Mode::from_raw_mode(metadata.mode);
            rustix::fs::chmodat(parent, last, mode, AtFlags::empty()).map_err(failed(MODE))?;
        }
        self.xattrs(path, metadata, false, |name, value| {
            let there = self.in_directory(parent, last)?;
            rustix::fs::lsetxattr(there, name, value, XattrFlags::empty())
        })?;
        rustix::fs::utimensat(parent, last, &times(metadata.mtime), nofollow).map_err(failed(TIMES))
    }

    /// A path for calls that know no directory descriptors (before setxattrat(2) of Linux 6.13): its last part is not
    /// followed.
    fn in_directory(&self, parent: BorrowedFd, last: &[u8]) -> Result<Vec<u8>, Errno> {
        if self.thread.own_root {
            rustix::process::fchdir(parent)?;
            return Ok(last.to_vec());
        }
        let parent = format!("/proc/self/fd/{}/", parent.as_raw_fd());
        Ok([parent.as_bytes(), last].concat())
    }

    /// The owner to set, if it is another one than new files have.
    fn owner(&self, metadata: &Metadata) -> Option<(Uid, Gid)> {
        let (uid, gid) = self.ownership.of(metadata.uid, metadata.gid)?;
        let differs = (uid, gid) != (self.uid, self.gid);
        differs.then(|| (Uid::from_raw(uid), Gid::from_raw(gid)))
    }

    fn has_to_set_mode(&self, metadata: &Metadata) -> bool {
        !self.thread.exact_modes || metadata.mode & SET_ID != 0
    }

    fn xattrs(
        &self,
        path: &[u8],
        metadata: &Metadata,
        holds_user_xattrs: bool,
        set: impl Fn(&[u8], &[u8]) -> Result<(), Errno>,
    ) -> Result<(), LayerError> {
        for (name, value) in &metadata.xattrs {
            if is_of_the_machine(name) {
                continue;
            }
            match set(&escaped(self.namespace, name), value) {
                Ok(()) => {}
                Err(error) if self.may_lack(name, error, holds_user_xattrs) => {}
                Err(error) => {
                    return Err(LayerError::entry("set an extended attribute", path)(error));
                }
            }
        }
        Ok(())
    }

    /// Whether an attribute that cannot be set may be left out: without privilege, all those that
    /// need it; always, those of namespaces that the file system does not have, capabilities apart.
    fn may_lack(&self, name: &[u8], error: Errno, holds_user_xattrs: bool) -> bool {
        if self.ownership != Ownership::Keep {
            // EINVAL: a capability or ACL names ids that are not mapped.
            return matches!(error, Errno::PERM | Errno::NOTSUP | Errno::INVAL);
        }
        match error {
            Errno::NOTSUP => name != b"security.capability",
            // xattr(7): only files and directories have user attributes.
            Errno::PERM => !holds_user_xattrs && name.starts_with(b"user."),
            _ => false,
        }
    }

    /// Marks a directory as one that holds whiteouts; see [`XattrNamespace::origin`]. Where no attributes can be set
    /// overlayfs cannot be used either.
    pub(super) fn set_holds_whiteouts(&self, fd: impl AsFd, path: &[u8]) -> Result<(), LayerError> {
        match rustix::fs::fsetxattr(fd, self.namespace.origin(), b"", XattrFlags::empty()) {
            Err(Errno::NOTSUP) | Ok(()) => Ok(()),
            Err(error) => Err(LayerError::entry("set overlayfs' origin mark", path)(error)),
        }
    }

    /// Marks a directory as hiding the ones below it.
    pub(super) fn set_opaque(&self, fd: impl AsFd, path: &[u8]) -> Result<(), LayerError> {
        rustix::fs::fsetxattr(fd, self.namespace.opaque(), b"y", XattrFlags::empty()).map_err(
            LayerError::entry(
                "set overlayfs' opaque mark (an extended attribute of the store's file system)",
                path,
            ),
        )
    }
}

const OWNER: &str =
    "set the owner (rootless needs a mapping for it, see subuid(5), or a single-id mapping)";
const MODE: &str = "set the mode";
const TIMES: &str = "set the times";

/// An image's own overlayfs marks would be taken for the layer's: overlayfs shows
/// `trusted.overlay.overlay.x` of a layer as `trusted.overlay.x` (kernel documentation, overlayfs,
/// "Nesting overlayfs mounts", Linux 6.7).
pub(super) fn escaped(namespace: XattrNamespace, name: &[u8]) -> Cow<'_, [u8]> {
    let overlay = namespace.overlay();
    match name.strip_prefix(overlay) {
        Some(rest) => Cow::Owned([overlay, b"overlay.", rest].concat()),
        None => Cow::Borrowed(name),
    }
}

/// Access times are not kept in layers: they are as old as the content.
pub(super) fn times(mtime: Time) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime.seconds,
        tv_nsec: i64::from(mtime.nanoseconds),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_marks_that_a_mount_would_see_are_escaped() {
        let root = |name: &str| escaped(XattrNamespace::Trusted, name.as_bytes()).into_owned();
        let user = |name: &str| escaped(XattrNamespace::User, name.as_bytes()).into_owned();
        assert_eq!(
            root("trusted.overlay.opaque"),
            b"trusted.overlay.overlay.opaque"
        );
        assert_eq!(root("user.overlay.opaque"), b"user.overlay.opaque");
        assert_eq!(user("user.overlay.opaque"), b"user.overlay.overlay.opaque");
        assert_eq!(root("user.comment"), b"user.comment");
    }
}
