//! What is known about an unpacked layer: `layer.json`.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use strata_oci::digest::Digest;

use super::error::LayerError;

const FILE: &str = "layer.json";

/// An unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerMeta {
    /// The digest of the uncompressed archive, to its last byte.
    pub diff_id: Digest,
    /// The uncompressed archive's size in bytes.
    pub tar_size: u64,
    /// The sum of all regular files' bytes.
    pub content_size: u64,
    /// How many entries the archive has.
    pub entries: u64,
    /// Directories that no entry names, made because something is in them: relative to the layer's
    /// root, `.` for the root itself; bytes that are not UTF-8, and `%`, as `%XX`.
    pub implied: Vec<String>,
    /// Whether the identical archive can be written again.
    pub rebuildable: bool,
}

impl LayerMeta {
    /// Reads `layer.json` of a layer directory.
    pub fn load(layer: &Path) -> Result<Self, LayerError> {
        let path = layer.join(FILE);
        let bytes = fs::read(&path).map_err(LayerError::io("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|error| LayerError::Damaged {
            path: layer.to_owned(),
            what: format!("{FILE}: {error}"),
        })
    }

    pub(super) fn save(&self, layer: &Path) -> Result<(), LayerError> {
        write_json(&layer.join(FILE), self)
    }

    /// The implied directories as paths; empty for the root.
    pub(super) fn implied_paths(&self) -> impl Iterator<Item = Vec<u8>> {
        self.implied.iter().map(|path| match path.as_str() {
            "." => Vec::new(),
            path => unescape(path),
        })
    }
}

pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), LayerError> {
    let write = || -> io::Result<()> {
        let mut file = BufWriter::new(File::create_new(path)?);
        serde_json::to_writer(&mut file, value)?;
        file.flush()
    };
    write().map_err(LayerError::io("write", path))
}

/// A path as text: `%` and what is not UTF-8 as `%XX`.
pub(super) fn escape(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        text.push_str(&chunk.valid().replace('%', "%25"));
        for byte in chunk.invalid() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// Takes [`escape`] back.
pub(super) fn unescape(text: &str) -> Vec<u8> {
    let mut parts = text.split('%');
    let mut path = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..2).map(|hex| u8::from_str_radix(hex, 16)) {
            Some(Ok(byte)) => {
                path.push(byte);
                path.extend_from_slice(&part.as_bytes()[2..]);
            }
            // Never written by `escape`: taken as it is.
            _ => {
                path.push(b'%');
                path.extend_from_slice(part.as_bytes());
            }
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_path_survives_as_text(path in proptest::collection::vec(any::<u8>(), 0..60)) {
            prop_assert_eq!(unescape(&escape(&path)), path);
        }
    }
}
