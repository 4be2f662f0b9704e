//! Layers: a compressed tar becomes a directory, and back.
