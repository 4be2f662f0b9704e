//! Privilege: real root, or root of a user namespace.
