//! Pushing: which blobs the registry lacks, and sending them.
