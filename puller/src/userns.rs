//! Privilege: real root, or root of a user namespace.

/// What the process may do to the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// CAP_SYS_ADMIN in the initial user namespace: every id exists.
    Root,
    /// Root of a user namespace: only mapped ids exist, overlayfs keeps its marks in `user.overlay.*`.
    UserNamespace,
}
