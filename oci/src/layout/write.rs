//! Writing a layout directory, also one that has images already.
//!
//! Blobs come first and the index last, by rename, so that whoever reads meanwhile sees the old images or
//! the new ones. What is not whole yet lies in a directory of its own, `.strata`, from where a
//! later try takes it up.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
    /// Holds a shared lock on the workplace: it stays as long as anyone works there.
    workplace: Arc<File>,
}

impl LayoutWriter {
    /// Opens the layout at `dir`, or makes one there.
    ///
    /// # Errors
    /// The directory cannot be made, or is full of something else.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, LayoutError> {
        let dir = dir.into();
        let failed = |path: PathBuf| move |source| LayoutError::Io { path, source };
        fs::create_dir_all(&dir).map_err(failed(dir.clone()))?;
        // Another process may be about to make it a layout, or to leave its workplace.
        let _lock = lock(&dir).map_err(failed(dir.clone()))?;
        if dir.join("oci-layout").exists() {
            // It has to be one that is understood before anything is added to it.
            super::Layout::open(&dir)?;
        } else {
            let entries = fs::read_dir(&dir).map_err(failed(dir.clone()))?;
            let names: Vec<OsString> = entries.flatten().map(|e| e.file_name()).collect();
            // Who was killed before the last step had made the index already.
            let begun = names.iter().any(|name| name == WORKPLACE);
            let ours = |name: &OsString| {
                name == WORKPLACE || name == "blobs" || (begun && name == "index.json")
            };
            if !names.iter().all(ours) {
                let reason = "it is a directory with other files".to_owned();
                return Err(LayoutError::NotALayout { dir, reason });
            }
        }
        let blobs = dir.join("blobs").join(Algorithm::Sha256.name());
        let place = dir.join(WORKPLACE);
        for made in [&blobs, &place] {
            fs::create_dir_all(made).map_err(failed(made.clone()))?;
        }
        let workplace = File::open(&place).and_then(|file| {
            flock(&file, FlockOperation::LockShared)?;
            Ok(file)
        });
        let workplace = Arc::new(workplace.map_err(failed(place))?);
        Ok(Self { dir, workplace })
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
        // Another process may put the same one.
        let _lock = lock(&self.dir)?;
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
        let _lock = lock(&self.dir).map_err(failed(""))?;
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
        // What lies there still is left for another try. Another process that works there leaves last.
        if flock(&self.workplace, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // Not empty: so it stays. Should the lock stay as it is, others wait until this writer is closed.
            let _ = fs::remove_dir(self.dir.join(WORKPLACE));
            let _ = flock(&self.workplace, FlockOperation::LockShared);
        }
        sync_dir(&self.dir).map_err(failed(""))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let place = self.dir.join(WORKPLACE);
        // A writer that has listed once has left it.
        fs::create_dir_all(&place)?;
        let fresh = place.join(name);
        let mut file = File::create(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(fresh, self.dir.join(name))
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(blob_name(digest))
    }
}

/// Keeps other processes from changing what a layout directory is and lists, as long as the file is open.
fn lock(dir: &Path) -> io::Result<File> {
    let file = File::open(dir)?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
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
    fn who_works_there_keeps_the_workplace_and_the_last_one_removes_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let writers = [(); 2].map(|()| LayoutWriter::open(dir.path()).expect("make"));
        let entries = ["v1", "v2"].map(|name| named(Some(name), name.as_bytes()));
        writers[0].list(&entries[..1]).expect("list");
        writers[1].put(&entries[1].digest, b"v2").expect("put");
        drop(writers[0].clone());
        assert!(dir.path().join(WORKPLACE).exists());
        let [first, second] = writers;
        drop(first);
        second.list(&entries[1..]).expect("list");
        assert!(!dir.path().join(WORKPLACE).exists());
        let layout = Layout::open(dir.path()).expect("open");
        assert_eq!(layout.names().collect::<Vec<_>>(), ["v1", "v2"]);
    }

    #[test]
    fn what_was_killed_before_its_last_step_is_taken_up() {
        let dir = tempfile::tempdir().expect("tempdir");
        let writer = LayoutWriter::open(dir.path()).expect("make");
        writer.list(&[named(Some("v1"), b"v1")]).expect("list");
        fs::remove_file(dir.path().join("oci-layout")).expect("remove");
        assert!(LayoutWriter::open(dir.path()).is_err(), "not ours");
        fs::create_dir(dir.path().join(WORKPLACE)).expect("make");
        let writer = LayoutWriter::open(dir.path()).expect("ours");
        writer.list(&[named(Some("v2"), b"v2")]).expect("list");
        let layout = Layout::open(dir.path()).expect("open");
        assert_eq!(layout.names().collect::<Vec<_>>(), ["v1", "v2"]);
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
