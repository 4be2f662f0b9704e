//! The local store: images, layers and containers on disk, indexed in SQLite.
