//! OCI image layouts (image-spec, image-layout.md): `oci-layout`, `index.json` and
//! `blobs/<algorithm>/<encoded>`, in a directory or in one tar file (`oci-archive:` of
//! containers-transports(5)), which is indexed once and never unpacked.
//!
//! A layout comes from anywhere, so nothing in it is believed: documents are bounded, every blob is
//! proved against its descriptor while it is read, and a blob that is a symbolic link is refused
//! because it could show any file of the host.

mod incremental;
mod pack;
mod write;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Take};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use serde::Deserialize;

pub use pack::{ArchiveWriter, Contents};
pub use write::LayoutWriter;

use crate::archive::{self, Entry};
use crate::digest::Digest;
use crate::manifest::{Descriptor, MAX_MANIFEST, Manifest, ManifestError};
use crate::verify::{VerifyError, VerifyingReader};

/// The annotation that names an entry of `index.json` (image-spec, annotations.md).
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Why a layout cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file of the layout cannot be opened or read.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory is not a layout that is understood.
    #[error("{} is not an OCI image layout: {reason}", .dir.display())]
    NotALayout {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No image of that name, or several and no name was given.
    #[error("{}: {reason}", .dir.display())]
    NoSuchImage {
        /// The directory.
        dir: PathBuf,
        /// What there is.
        reason: String,
    },
    /// A manifest in it is refused.
    #[error("manifest {digest} of the layout: {source}")]
    Manifest {
        /// Which one.
        digest: Digest,
        /// Why.
        source: ManifestError,
    },
}

/// An OCI image layout, open for reading.
#[derive(Debug)]
pub struct Layout {
    at: PathBuf,
    /// The files in it, if it is an archive.
    packed: Option<HashMap<String, Entry>>,
    index: Manifest,
}

/// Where a blob's bytes are: a part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobPlace {
    /// The file.
    pub path: PathBuf,
    /// Where the blob begins in it.
    pub offset: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

impl Layout {
    /// Opens the layout directory at `dir`: checks its version and reads its index.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, LayoutError> {
        Self::read_index(dir.into(), None)
    }

    /// Opens the layout that is packed into the tar file at `file`.
    pub fn open_archive(file: impl Into<PathBuf>) -> Result<Self, LayoutError> {
        let path = file.into();
        let indexed = File::open(&path).and_then(|file| archive::index(&file));
        match indexed {
            Ok(entries) => Self::read_index(path, Some(entries)),
            Err(source) => Err(LayoutError::Io { path, source }),
        }
    }

    fn read_index(
        at: PathBuf,
        packed: Option<HashMap<String, Entry>>,
    ) -> Result<Self, LayoutError> {
        let refuse = |reason: String| LayoutError::NotALayout {
            dir: at.clone(),
            reason,
        };
        let mut layout = Self {
            at: at.clone(),
            packed,
            index: Manifest::empty_index(),
        };
        let marker = layout.document("oci-layout", 4096)?;
        let marker: Marker =
            serde_json::from_slice(&marker).map_err(|e| refuse(format!("oci-layout: {e}")))?;
        if !marker.image_layout_version.starts_with("1.") {
            let version = marker.image_layout_version;
            return Err(refuse(format!("its version is {version:?}, not 1.x")));
        }
        let index = layout.document("index.json", MAX_MANIFEST as u64)?;
        layout.index = Manifest::parse(&index, Some(crate::media::OCI_INDEX))
            .map_err(|e| refuse(format!("index.json: {e}")))?;
        Ok(layout)
    }

    /// The directory or the archive.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// What its index lists.
    pub fn entries(&self) -> &[Descriptor] {
        &self.index.manifests
    }

    /// The names of the images in it, in the index's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.index.manifests.iter().filter_map(ref_name)
    }

    /// The image or index called `wanted`, or of this digest; without a name, the only one there is.
    pub fn find(&self, wanted: Option<&str>) -> Result<&Descriptor, LayoutError> {
        let entries = &self.index.manifests;
        let refuse = |reason: String| LayoutError::NoSuchImage {
            dir: self.at.clone(),
            reason,
        };
        let listed = || {
            let names: Vec<_> = self.names().collect();
            names.join(", ")
        };
        match (wanted, entries.as_slice()) {
            (Some(wanted), _) => entries
                .iter()
                .find(|e| ref_name(e) == Some(wanted))
                .or_else(|| entries.iter().find(|e| e.digest.to_string() == wanted))
                .ok_or_else(|| {
                    refuse(format!(
                        "no image is called {wanted:?}; it has: {}",
                        listed()
                    ))
                }),
            (None, [only]) => Ok(only),
            (None, []) => Err(refuse("the layout holds no image".to_owned())),
            (None, _) => {
                // Signatures and SBOMs stand beside the image that they belong to.
                let mut images = entries.iter().filter(|entry| !is_companion(entry));
                match (images.next(), images.next()) {
                    (Some(only), None) => Ok(only),
                    _ => Err(refuse(format!(
                        "the layout holds several images, name one of them: {}",
                        listed()
                    ))),
                }
            }
        }
    }

    /// A whole document (a manifest or a config) of at most `limit` bytes, proved.
    pub fn read(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, LayoutError> {
        let mut bytes = Vec::new();
        if descriptor.size > limit {
            let source = io::Error::other(format!(
                "{} bytes are promised, at most {limit} are read",
                descriptor.size
            ));
            return Err(self.failed(&descriptor.digest, source));
        }
        self.open_blob(descriptor)?
            .read_to_end(&mut bytes)
            .map_err(|source| self.failed(&descriptor.digest, source))?;
        Ok(bytes)
    }

    /// A manifest or index with its exact bytes, proved and parsed.
    pub fn manifest(&self, descriptor: &Descriptor) -> Result<(Vec<u8>, Manifest), LayoutError> {
        let bytes = self.read(descriptor, MAX_MANIFEST as u64)?;
        let manifest = Manifest::parse(&bytes, Some(&descriptor.media_type)).map_err(|source| {
            LayoutError::Manifest {
                digest: descriptor.digest.clone(),
                source,
            }
        })?;
        Ok((bytes, manifest))
    }

    /// A blob's bytes; reading fails at the end unless they are what the descriptor says.
    pub fn open_blob(
        &self,
        descriptor: &Descriptor,
    ) -> Result<VerifyingReader<Take<File>>, LayoutError> {
        let opened = self.file_of(descriptor);
        let (file, _) = opened.map_err(|source| self.failed(&descriptor.digest, source))?;
        let digest = descriptor.digest.clone();
        let file = file.take(descriptor.size);
        Ok(VerifyingReader::new(file, digest, descriptor.size))
    }

    /// Where a blob is, with the size that its descriptor says; `None` when the layout has no such blob.
    pub fn find_blob(&self, descriptor: &Descriptor) -> Result<Option<BlobPlace>, LayoutError> {
        match self.file_of(descriptor) {
            Ok((_, offset)) => {
                let path = match self.packed {
                    Some(_) => self.at.clone(),
                    None => self.at.join(blob_name(&descriptor.digest)),
                };
                Ok(Some(BlobPlace { path, offset }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.failed(&descriptor.digest, source)),
        }
    }

    /// [`Layout::find_blob`], where it has to be there.
    pub fn blob_place(&self, descriptor: &Descriptor) -> Result<BlobPlace, LayoutError> {
        let absent = || io::Error::from(io::ErrorKind::NotFound);
        let found = self.find_blob(descriptor)?;
        found.ok_or_else(|| self.failed(&descriptor.digest, absent()))
    }

    /// The blob's file, standing at the blob's first byte, and where that is.
    fn file_of(&self, descriptor: &Descriptor) -> io::Result<(File, u64)> {
        let (file, offset, actual) = self.open_name(&blob_name(&descriptor.digest))?;
        if actual != descriptor.size {
            let expected = descriptor.size;
            return Err(VerifyError::Size { expected, actual }.into());
        }
        Ok((file, offset))
    }

    /// A file of the layout: standing at its first byte, where that is, and how many there are.
    fn open_name(&self, name: &str) -> io::Result<(File, u64, u64)> {
        let Some(entries) = &self.packed else {
            let file = open_regular(&self.at.join(name))?;
            let size = file.metadata()?.len();
            return Ok((file, 0, size));
        };
        match entries.get(name) {
            Some(&Entry::File { offset, size }) => {
                let mut file = File::open(&self.at)?;
                file.seek(SeekFrom::Start(offset))?;
                Ok((file, offset, size))
            }
            Some(Entry::Link(_) | Entry::HardLink(_)) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a symbolic link",
            )),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "it is not in it")),
        }
    }

    fn document(&self, name: &str, limit: u64) -> Result<Vec<u8>, LayoutError> {
        let failed = |source| LayoutError::Io {
            path: self.at.join(name),
            source,
        };
        let mut bytes = Vec::new();
        let (file, _, size) = self.open_name(name).map_err(failed)?;
        if size > limit {
            let why = format!("it has more than {limit} bytes");
            return Err(failed(io::Error::other(why)));
        }
        file.take(size).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    fn failed(&self, digest: &Digest, source: io::Error) -> LayoutError {
        let path = self.at.join(blob_name(digest));
        LayoutError::Io { path, source }
    }
}

/// A blob's path in a layout.
fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// Whether an entry is a signature or the like: an artifact without a name, or one under a tag that is made
/// from a digest (`sha256-<hex>`, as the referrers tag schema and cosign do).
pub fn is_companion(entry: &Descriptor) -> bool {
    match ref_name(entry) {
        None => entry.artifact_type.is_some(),
        Some(name) => is_companion_tag(name.rsplit(':').next().unwrap_or(name)),
    }
}

/// Whether a tag is made from a digest: `sha256-<hex>`, alone or with a suffix such as `.sig`.
pub fn is_companion_tag(tag: &str) -> bool {
    let Some((hex, suffix)) = tag
        .strip_prefix("sha256-")
        .and_then(|rest| rest.split_at_checked(64))
    else {
        return false;
    };
    let is_hex = hex.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex && (suffix.is_empty() || suffix.starts_with('.'))
}

/// The name that an entry of an index has there.
pub fn ref_name(entry: &Descriptor) -> Option<&str> {
    let annotations = entry.annotations.as_ref()?;
    annotations.get(REF_NAME).map(String::as_str)
}

/// Opens a regular file without following a symbolic link at the end and without waiting on a fifo.
fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let fd = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)?;
    let file = File::from(fd);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn layout(names: &[&str]) -> (tempfile::TempDir, Descriptor) {
        let dir = tempfile::tempdir().expect("tempdir");
        let blobs = dir.path().join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("mkdir");
        fs::write(
            dir.path().join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .expect("write");
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{}","digest":"{}","size":2}},"layers":[]}}"#,
            crate::media::OCI_CONFIG,
            Digest::of(b"{}")
        );
        let digest = Digest::of(manifest.as_bytes());
        fs::write(blobs.join(digest.hex()), &manifest).expect("write");
        let descriptor = Descriptor::new(crate::media::OCI_MANIFEST, digest, manifest.len() as u64);
        let entries: Vec<_> = names
            .iter()
            .map(|name| {
                let mut entry = descriptor.clone();
                entry.annotations = Some([(REF_NAME.to_owned(), (*name).to_owned())].into());
                entry
            })
            .collect();
        let index = serde_json::json!({"schemaVersion": 2, "manifests": entries});
        fs::write(dir.path().join("index.json"), index.to_string()).expect("write");
        (dir, descriptor)
    }

    #[test]
    fn images_are_found_by_name_or_alone() {
        let (dir, descriptor) = layout(&["latest"]);
        let opened = Layout::open(dir.path()).expect("open");
        assert_eq!(opened.find(None).expect("only").digest, descriptor.digest);
        assert!(opened.find(Some("latest")).is_ok());
        let error = opened.find(Some("v2")).expect_err("absent").to_string();
        assert!(error.contains("latest"), "{error}");
        assert!(opened.manifest(&descriptor).is_ok());
        let (dir, _) = layout(&["a", "b"]);
        let opened = Layout::open(dir.path()).expect("open");
        assert!(opened.find(None).is_err());
        assert!(opened.find(Some("b")).is_ok());
    }

    #[test]
    fn altered_truncated_and_linked_blobs_are_refused() {
        let (dir, descriptor) = layout(&["latest"]);
        let opened = Layout::open(dir.path()).expect("open");
        let found = opened.find_blob(&descriptor).expect("no error");
        let path = found.expect("there").path;
        let whole = fs::read(&path).expect("read");
        let mut altered = whole.clone();
        altered[0] = b' ';
        fs::write(&path, &altered).expect("write");
        assert!(opened.manifest(&descriptor).is_err());
        fs::write(&path, &whole[1..]).expect("write");
        assert!(opened.manifest(&descriptor).is_err());
        fs::rename(&path, dir.path().join("elsewhere")).expect("rename");
        fs::write(dir.path().join("elsewhere"), &whole).expect("write");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).expect("symlink");
        assert!(opened.manifest(&descriptor).is_err());
    }

    #[test]
    fn what_is_not_a_layout_is_named() {
        let dir = tempfile::tempdir().expect("tempdir");
        assert!(matches!(
            Layout::open(dir.path()),
            Err(LayoutError::Io { .. })
        ));
        fs::write(
            dir.path().join("oci-layout"),
            r#"{"imageLayoutVersion":"2.0.0"}"#,
        )
        .expect("write");
        assert!(matches!(
            Layout::open(dir.path()),
            Err(LayoutError::NotALayout { .. })
        ));
    }
}
