//! OCI image layout directories (image-spec, image-layout.md): `oci-layout`, `index.json` and
//! `blobs/<algorithm>/<encoded>`.
//!
//! A layout comes from anywhere, so nothing in it is believed: documents are bounded, every blob is
//! proved against its descriptor while it is read, and a blob that is a symbolic link is refused
//! because it could show any file of the host.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use serde::Deserialize;

use crate::digest::Digest;
use crate::manifest::{Descriptor, MAX_MANIFEST, Manifest, ManifestError};
use crate::verify::{VerifyError, VerifyingReader};

/// The annotation that names an entry of `index.json` (image-spec, annotations.md).
const REF_NAME: &str = "org.opencontainers.image.ref.name";

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

/// An OCI image layout directory, open for reading.
#[derive(Debug)]
pub struct Layout {
    dir: PathBuf,
    index: Manifest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

impl Layout {
    /// Opens the layout at `dir`: checks its version and reads its index.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, LayoutError> {
        let dir = dir.into();
        let refuse = |reason: String| LayoutError::NotALayout {
            dir: dir.clone(),
            reason,
        };
        let marker = read_bounded(&dir.join("oci-layout"), 4096)?;
        let marker: Marker =
            serde_json::from_slice(&marker).map_err(|e| refuse(format!("oci-layout: {e}")))?;
        if !marker.image_layout_version.starts_with("1.") {
            let version = marker.image_layout_version;
            return Err(refuse(format!("its version is {version:?}, not 1.x")));
        }
        let index = read_bounded(&dir.join("index.json"), MAX_MANIFEST as u64)?;
        let index = Manifest::parse(&index, Some(crate::media::OCI_INDEX))
            .map_err(|e| refuse(format!("index.json: {e}")))?;
        Ok(Self { dir, index })
    }

    /// The names of the images in it, in the index's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.index.manifests.iter().filter_map(name)
    }

    /// The image or index called `wanted`; without a name, the only one there is.
    pub fn find(&self, wanted: Option<&str>) -> Result<&Descriptor, LayoutError> {
        let entries = &self.index.manifests;
        let refuse = |reason: String| LayoutError::NoSuchImage {
            dir: self.dir.clone(),
            reason,
        };
        let listed = || {
            let names: Vec<_> = self.names().collect();
            names.join(", ")
        };
        match (wanted, entries.as_slice()) {
            (Some(wanted), _) => {
                entries
                    .iter()
                    .find(|e| name(e) == Some(wanted))
                    .ok_or_else(|| {
                        refuse(format!(
                            "no image is called {wanted:?}; it has: {}",
                            listed()
                        ))
                    })
            }
            (None, [only]) => Ok(only),
            (None, []) => Err(refuse("the layout holds no image".to_owned())),
            (None, _) => Err(refuse(format!(
                "the layout holds several images, name one of them: {}",
                listed()
            ))),
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
            let path = self.blob_path(&descriptor.digest);
            return Err(LayoutError::Io { path, source });
        }
        self.open_blob(descriptor)?
            .read_to_end(&mut bytes)
            .map_err(|source| LayoutError::Io {
                path: self.blob_path(&descriptor.digest),
                source,
            })?;
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
    pub fn open_blob(&self, descriptor: &Descriptor) -> Result<VerifyingReader<File>, LayoutError> {
        let path = self.blob_path(&descriptor.digest);
        let failed = |source| LayoutError::Io {
            path: path.clone(),
            source,
        };
        let file = open_regular(&path).map_err(failed)?;
        let actual = file.metadata().map_err(failed)?.len();
        if actual != descriptor.size {
            let expected = descriptor.size;
            return Err(failed(VerifyError::Size { expected, actual }.into()));
        }
        let digest = descriptor.digest.clone();
        Ok(VerifyingReader::new(file, digest, descriptor.size))
    }

    /// Where a blob of this digest is, if the layout has it.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        let blobs = self.dir.join("blobs");
        blobs.join(digest.algorithm().name()).join(digest.hex())
    }
}

fn name(entry: &Descriptor) -> Option<&str> {
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

fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, LayoutError> {
    let failed = |source| LayoutError::Io {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = open_regular(path).map_err(failed)?;
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(failed(io::Error::other(format!(
            "it has more than {limit} bytes"
        ))));
    }
    Ok(bytes)
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
        let path = opened.blob_path(&descriptor.digest);
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
