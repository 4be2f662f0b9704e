//! Writing a layout directory, also one that has images already.
//!
//! Blobs come first and the index last, by rename, so that whoever reads meanwhile sees the old images or
//! the new ones. What is not whole yet lies in a directory of its own, `.strata`, from where a
//! later try takes it up.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use super::{LayoutError, REF_NAME, blob_name, open_regular, ref_name};
use crate::cas::sync_dir;
use crate::digest::{Algorithm, Digest};
use crate::manifest::{Descriptor, MAX_MANIFEST};
use crate::media;

/// Where blobs lie until they are whole.
const WORKPLACE: &str = ".strata";
/// What every layout has (image-layout.md, "oci-layout file").
pub(super) const MARKER: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// A layout directory, open for writing.
#[derive(Debug, Clone)]
pub struct LayoutWriter {
    dir: PathBuf,
}

impl LayoutWriter {
    /// Opens the layout at `dir`, or makes one there.
    ///
    /// # Errors
    /// The directory cannot be made, or is full of something else.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, LayoutError> {
        let dir = dir.into();
        let writer = Self { dir: dir.clone() };
        let failed = |path: PathBuf| move |source| LayoutError::Io { path, source };
        let marker = dir.join("oci-layout");
        if marker.exists() {
            // It has to be one that is understood before anything is added to it.
            super::Layout::open(&dir)?;
        } else {
            fs::create_dir_all(&dir).map_err(failed(dir.clone()))?;
            let mut entries = fs::read_dir(&dir).map_err(failed(dir.clone()))?;
            if entries.any(|entry| {
                entry.is_ok_and(|e| e.file_name() != WORKPLACE && e.file_name() != "blobs")
            }) {
                let reason = "it is a directory with other files".to_owned();
                return Err(LayoutError::NotALayout { dir, reason });
            }
        }
        let blobs = dir.join("blobs").join(Algorithm::Sha256.name());
        for made in [blobs, dir.join(WORKPLACE)] {
            fs::create_dir_all(&made).map_err(failed(made.clone()))?;
        }
        Ok(writer)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Whether a blob is there, of the right size; only whole and proved ones ever are, unless someone
    /// else wrote them.
    pub fn has(&self, blob: &Descriptor) -> io::Result<bool> {
        match open_regular(&self.blob_path(&blob.digest)) {
            Ok(file) => Ok(file.metadata()?.len() == blob.size),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Where a blob's bytes are gathered until they are whole.
    pub fn partial_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(WORKPLACE).join(digest.hex())
    }

    /// Makes the gathered bytes the blob. The caller has proved them.
    pub fn publish(&self, digest: &Digest) -> io::Result<()> {
        let path = self.blob_path(digest);
        if digest.algorithm() != Algorithm::Sha256
            && let Some(parent) = path.parent()
        {
            fs::create_dir_all(parent)?;
        }
        fs::rename(self.partial_path(digest), path)
    }

    /// Writes a small blob whole.
    pub fn put(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        fs::write(self.partial_path(digest), bytes)?;
        self.publish(digest)
    }

    /// Lists `entries` in the index: one with a name takes the place of the one that had it. Everything
    /// that others wrote into the index stays as it is.
    pub fn list(&self, entries: &[Descriptor]) -> Result<(), LayoutError> {
        let refuse = |reason: String| LayoutError::NotALayout {
            dir: self.dir.clone(),
            reason,
        };
        let failed = |name: &str| {
            let path = self.dir.join(name);
            move |source| LayoutError::Io { path, source }
        };
        // Two processes may add to one layout.
        let lock = File::open(&self.dir).map_err(failed(""))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|errno| failed("")(errno.into()))?;
        let mut index: Value = match fs::read(self.dir.join("index.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| refuse(format!("index.json: {error}")))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => empty_index(),
            Err(error) => return Err(failed("index.json")(error)),
        };
        let listed = index
            .get_mut("manifests")
            .and_then(Value::as_array_mut)
            .ok_or_else(|| refuse("index.json has no list of manifests".to_owned()))?;
        for entry in entries {
            add(listed, entry);
        }
        let bytes = index.to_string().into_bytes();
        if bytes.len() > MAX_MANIFEST {
            let reason = "its index would become too large: begin another".to_owned();
            return Err(refuse(reason));
        }
        self.replace("index.json", &bytes)
            .map_err(failed("index.json"))?;
        if !self.dir.join("oci-layout").exists() {
            self.replace("oci-layout", MARKER.as_bytes())
                .map_err(failed("oci-layout"))?;
        }
        // What lies there still is another process's, or is left for another try.
        let _ = fs::remove_dir(self.dir.join(WORKPLACE));
        sync_dir(&self.dir).map_err(failed(""))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let fresh = self.dir.join(WORKPLACE).join(name);
        let mut file = File::create(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(fresh, self.dir.join(name))
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(blob_name(digest))
    }
}

/// An index of nothing.
pub(super) fn empty_index() -> Value {
    json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": []})
}

/// Adds an entry to a list; it takes the place of one with its name, or, without a name, of its like.
pub(super) fn add(listed: &mut Vec<Value>, entry: &Descriptor) {
    let digest = entry.digest.to_string();
    let name = ref_name(entry);
    listed.retain(|old| {
        let old_name = old["annotations"][REF_NAME].as_str();
        old_name != name || (name.is_none() && old["digest"] != digest.as_str())
    });
    listed.push(json!(entry));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;

    fn named(name: Option<&str>, content: &[u8]) -> Descriptor {
        let mut entry = Descriptor::new(
            media::OCI_MANIFEST,
            Digest::of(content),
            content.len() as u64,
        );
        entry.annotations = name.map(|name| [(REF_NAME.to_owned(), name.to_owned())].into());
        entry
    }

    #[test]
    fn images_are_added_and_names_move() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("new/layout");
        let writer = LayoutWriter::open(&path).expect("make");
        let first = named(Some("v1"), b"first");
        assert!(!writer.has(&first).expect("no error"));
        writer.put(&first.digest, b"first").expect("put");
        assert!(writer.has(&first).expect("no error"));
        writer.list(&[first, named(None, b"x")]).expect("list");
        let index = path.join("index.json");
        let text = fs::read_to_string(&index).expect("read");
        fs::write(&index, text.replacen('{', r#"{"theirs":[1],"#, 1)).expect("write");
        let writer = LayoutWriter::open(&path).expect("open again");
        let moved = named(Some("v1"), b"second");
        let all = [
            moved.clone(),
            named(Some("v2"), b"first"),
            named(None, b"x"),
        ];
        writer.list(&all).expect("list");
        let layout = Layout::open(&path).expect("open");
        assert_eq!(layout.names().collect::<Vec<_>>(), ["v1", "v2"]);
        assert_eq!(layout.entries().len(), 3);
        assert_eq!(layout.find(Some("v1")).expect("there").digest, moved.digest);
        let text = fs::read_to_string(&index).expect("read");
        assert!(text.contains(r#""theirs":[1]"#), "{text}");
        assert!(!path.join(WORKPLACE).exists());
    }

    #[test]
    fn a_directory_of_something_else_is_left_alone() {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::write(dir.path().join("letter"), b"dear").expect("write");
        assert!(LayoutWriter::open(dir.path()).is_err());
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1);
    }

    #[test]
    fn a_blob_of_another_size_is_not_there() {
        let dir = tempfile::tempdir().expect("tempdir");
        let writer = LayoutWriter::open(dir.path()).expect("make");
        let blob = named(None, b"whole");
        writer.put(&blob.digest, b"who").expect("put");
        assert!(!writer.has(&blob).expect("no error"));
    }
}
