//! Union mounts: read-only layers below, one writable layer on top.
