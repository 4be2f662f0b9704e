//! Layers: a compressed tar becomes a directory, and back.
//!
//! A layer is a change to a root file system, written as a tar archive (image-spec, layer.md). Each
//! is unpacked on its own, into the form that overlayfs stacks: `fs/` the tree with whiteouts as
//! devices, `record.zst` what else is needed to write the identical archive again, `layer.json` what
//! is known about it, and `kept/` files that later entries of the same archive replaced.
//!
//! What the standard leaves open, here: a hard link can only name a file of the same layer, because
//! layers are separate directories. A parent directory that no entry names is made with mode 0755
//! and listed as implied; [`mend_parents`] gives it the metadata that the layers below have for it.
//! Devices are left out where an unprivileged user unpacks.

mod attributes;
mod confine;
pub(crate) mod content;
mod dedup;
mod error;
mod extract;
mod finish;
mod inflate;
mod large;
mod mend;
mod meta;
mod model;
mod name;
mod options;
mod own_root;
mod owners;
mod pipeline;
mod rebuild;
mod record;
pub(crate) mod tar;
#[cfg(test)]
mod tests;
mod tree;
mod umask;
mod verify;

use std::io::Read;
use std::path::Path;

pub(crate) use attributes::is_of_the_machine;
pub use dedup::{Duplicates, Shared, Sharing};
pub use error::{LayerError, Refusal};
pub use mend::{hides_everything_below, mend_parents, unlike_mended};
pub use meta::LayerMeta;
pub use options::{Limits, Ownership, UnpackOptions, XattrNamespace};
pub use owners::Owners;
pub use rebuild::rebuild;
pub use tar::{TarError, TarFault};
pub use verify::{Verdict, verify};

/// Unpacks a layer (gzip, zstd or plain) into `dir`, an existing directory that nobody else can
/// write to: `fs/`, `record.zst` and `layer.json` are made there. Reads `compressed` to its end, and
/// tells `progress` the bytes of the archive so far. Blocking; uses three threads while it runs.
///
/// Nothing is synced: whoever publishes the directory does that once for all layers. After an error
/// the directory holds rubbish. An error of `compressed` itself comes back as [`LayerError::Read`].
pub fn unpack<R: Read + Send>(
    compressed: R,
    dir: &Path,
    options: &UnpackOptions,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<LayerMeta, LayerError> {
    let done = pipeline::run(
        compressed,
        &options.limits,
        options.yielding,
        progress,
        |archive| extract::extract(archive, dir, options),
    )?;
    let path = |path: &Vec<u8>| match path.as_slice() {
        [] => ".".to_owned(),
        path => meta::escape(path),
    };
    let meta = LayerMeta {
        diff_id: done.diff_id,
        tar_size: done.tar_size,
        content_size: done.written.content_size,
        entries: done.written.entries,
        implied: done.written.implied.iter().map(path).collect(),
        rebuildable: done.written.recorded == done.tar_size,
    };
    meta.save(dir)?;
    Ok(meta)
}
