//! Values and bytes of the OCI specifications, shared by the registry and the puller.
//!
//! Everything here is either a pure value (digests, names, media types, manifests, platforms, the
//! protocol's errors) or content addressed by digest on a disk. There is no HTTP, no SQL and no
//! async runtime in this crate: a parser that never does I/O can be tested with any bytes.

pub mod archive;
pub mod cas;
pub mod config;
pub mod digest;
pub mod direct;
pub mod error;
pub mod layout;
pub mod location;
pub mod manifest;
pub mod media;
pub mod name;
pub mod output;
pub mod platform;
pub mod verify;

pub use cas::Cas;
pub use digest::{Algorithm, Digest, Digester};
pub use manifest::{Descriptor, Manifest};
pub use name::{Repository, Tag};
pub use platform::Platform;
