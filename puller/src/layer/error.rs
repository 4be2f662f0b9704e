//! What can go wrong between a layer and its directory.

use std::io;
use std::path::{Path, PathBuf};

use super::tar::TarError;

/// A layer that could not be unpacked, rebuilt or mended.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The compressed bytes could not be had, or are not those that were promised.
    #[error("cannot read the layer's bytes")]
    Read(#[source] io::Error),
    /// The compressed bytes are damaged.
    #[error("the layer's {format} stream is damaged")]
    Compression {
        /// Which compression.
        format: &'static str,
        /// What the decompressor says.
        #[source]
        source: io::Error,
    },
    /// The compressed bytes cannot be inflated within the memory that a layer is allowed.
    #[error(
        "the layer's {format} stream asks for more memory than is allowed (zstd: a window of 128 MiB, xz: 256 MiB): have it compressed with a smaller window or dictionary"
    )]
    Memory {
        /// Which compression.
        format: &'static str,
        /// What the decompressor says.
        #[source]
        source: io::Error,
    },
    /// A compression that no tool for containers uses.
    #[error("the layer cannot be unpacked: {0}")]
    Format(io::Error),
    /// The tar archive cannot be read.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// The layer goes beyond a limit.
    #[error("the layer has more than {limit} {what}: raise the limit if this layer is wanted")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// An entry that no honest layer holds, or that has no meaning in a layer of its own.
    #[error("refused the layer's entry {path:?}: {reason}")]
    Refused {
        /// Its name, shortened.
        path: String,
        /// Why.
        reason: Refusal,
    },
    /// An entry could not be made on disk.
    #[error("cannot {action} for the layer's entry {path:?}")]
    Entry {
        /// Its name, shortened.
        path: String,
        /// What was tried.
        action: &'static str,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// Something of the layer directory itself cannot be read or written.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// The layer directory is not as it was unpacked: pull the layer again.
    #[error("the unpacked layer in {} was damaged or changed ({what}): pull it again", .path.display())]
    Damaged {
        /// The layer directory.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
}

/// Why an entry is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `..` beyond the root.
    #[error("its name leads out of the layer")]
    Escapes,
    /// A hard link whose target's name leads out.
    #[error("its link target leads out of the layer")]
    LinkEscapes,
    /// The root can only be a directory.
    #[error("the root of a layer has to be a directory")]
    Root,
    /// `.wh.` alone, `.wh..`, `.wh...`, or one in the middle of a name.
    #[error("it is no valid whiteout")]
    Whiteout,
    /// A parent that is a file.
    #[error("a parent of it is not a directory")]
    ParentNotDirectory,
    /// Symbolic links that never end, or more than the kernel would follow.
    #[error("a parent of it is a symbolic link that leads nowhere")]
    LinkLoop,
    /// A hard link may only name a file that an earlier entry of the same layer made: lower layers are
    /// separate directories (image-spec, layer.md, "Hardlinks").
    #[error("it is a hard link to something that is not a file of this layer, before it")]
    LinkTarget,
    /// A symbolic link to nothing.
    #[error("it is a link without a target")]
    NoTarget,
}

impl LayerError {
    pub(super) fn refused(path: &[u8], reason: Refusal) -> Self {
        Self::Refused {
            path: shown(path),
            reason,
        }
    }

    /// For `map_err` around system calls on an entry.
    pub(super) fn entry<E: Into<io::Error>>(
        action: &'static str,
        path: &[u8],
    ) -> impl FnOnce(E) -> Self {
        let path = shown(path);
        move |source| Self::Entry {
            path,
            action,
            source: source.into(),
        }
    }

    /// The same with the path that everyone else knows, of one that a thread met that has `layer` as its root.
    pub(super) fn below(self, layer: &Path) -> Self {
        match self {
            Self::Io {
                action,
                path,
                source,
            } => Self::Io {
                action,
                path: layer.join(path.strip_prefix("/").unwrap_or(&path)),
                source,
            },
            other => other,
        }
    }

    /// For `map_err` around system calls on the layer directory.
    pub(super) fn io<E: Into<io::Error>>(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source: source.into(),
        }
    }
}

/// Keeps hostile names in messages short.
fn shown(path: &[u8]) -> String {
    if path.len() <= 200 {
        return String::from_utf8_lossy(path).into_owned();
    }
    let (start, end) = (&path[..100], &path[path.len() - 90..]);
    format!(
        "{}…{}",
        String::from_utf8_lossy(start),
        String::from_utf8_lossy(end)
    )
}
