//! Writing a layout as one tar file.
//!
//! Every size is known beforehand, so each blob's place in the tar is, too: blobs are written in parallel,
//! in any order, and the same images always give the same file. It gets its name when it is whole.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::{blob_name, incremental, write};
use crate::archive::Span;
use crate::digest::Digest;
use crate::manifest::Descriptor;

/// The unit of a tar (POSIX pax, "ustar Interchange Format").
const BLOCK: u64 = 512;

/// A layout that is being written into a tar file.
#[derive(Debug)]
pub struct ArchiveWriter {
    target: PathBuf,
    part: PathBuf,
    file: File,
    spans: HashMap<Digest, Span>,
    named: bool,
}

/// What goes into an archive.
#[derive(Debug, Default)]
pub struct Contents<'a> {
    /// What the index lists.
    pub entries: &'a [Descriptor],
    /// The blobs, manifests among them; each once.
    pub blobs: &'a [Descriptor],
    /// Blobs that are left out, because whoever gets the archive has them.
    pub absent: BTreeSet<Digest>,
    /// A docker archive's `manifest.json` beside the layout.
    pub docker: Option<Vec<u8>>,
}

impl ArchiveWriter {
    /// Begins the archive that will be at `target`: everything but the blobs' bytes is written.
    pub fn create(target: impl Into<PathBuf>, contents: &Contents<'_>) -> io::Result<Self> {
        let target = target.into();
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let unique: u64 = rand::random();
        let part = target.with_file_name(format!(".{name}.{unique:016x}.part"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&part)?;
        let mut writer = Self {
            target,
            part,
            file,
            spans: HashMap::new(),
            named: false,
        };
        let mut index = write::empty_index();
        if let Some(listed) = index["manifests"].as_array_mut() {
            for entry in contents.entries {
                write::add(listed, entry);
            }
        }
        let mut at = 0;
        let documents = [
            ("oci-layout", Some(write::MARKER.as_bytes().to_vec())),
            ("index.json", Some(index.to_string().into_bytes())),
            ("manifest.json", contents.docker.clone()),
            (incremental::NAME, incremental::list(&contents.absent)),
        ];
        for (name, bytes) in documents {
            let Some(bytes) = bytes else { continue };
            let span = writer.header(&mut at, name, bytes.len() as u64)?;
            writer.file.write_all_at(&bytes, span.offset)?;
        }
        let algorithms: BTreeSet<_> = contents
            .blobs
            .iter()
            .map(|blob| blob.digest.algorithm().name())
            .collect();
        writer.directory(&mut at, "blobs/")?;
        for algorithm in algorithms {
            writer.directory(&mut at, &format!("blobs/{algorithm}/"))?;
        }
        for blob in contents.blobs {
            if !writer.spans.contains_key(&blob.digest) {
                let span = writer.header(&mut at, &blob_name(&blob.digest), blob.size)?;
                writer.spans.insert(blob.digest.clone(), span);
            }
        }
        // Two blocks of zeros end a tar.
        writer.file.set_len(at + 2 * BLOCK)?;
        Ok(writer)
    }

    /// Where the bytes of a blob belong; `None` when it is not to be in the archive.
    pub fn span(&self, digest: &Digest) -> Option<Span> {
        self.spans.get(digest).copied()
    }

    /// The file, to write a blob's bytes to by position.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Where the file is until it has its name.
    pub fn path(&self) -> &Path {
        &self.part
    }

    /// Gives the archive its name. The caller has written all blobs, proved.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.part, &self.target)?;
        self.named = true;
        match self.target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => crate::cas::sync_dir(parent),
            _ => crate::cas::sync_dir(Path::new(".")),
        }
    }

    fn header(&self, at: &mut u64, name: &str, size: u64) -> io::Result<Span> {
        let header = header(name, tar::EntryType::Regular, 0o644, size)?;
        self.file.write_all_at(header.as_bytes(), *at)?;
        let offset = *at + BLOCK;
        let end = offset
            .checked_add(size)
            .and_then(|end| end.checked_next_multiple_of(BLOCK));
        *at = end.ok_or_else(|| io::Error::other("the archive would be too large"))?;
        Ok(Span { offset, size })
    }

    fn directory(&self, at: &mut u64, name: &str) -> io::Result<()> {
        let header = header(name, tar::EntryType::Directory, 0o755, 0)?;
        self.file.write_all_at(header.as_bytes(), *at)?;
        *at += BLOCK;
        Ok(())
    }
}

impl Drop for ArchiveWriter {
    fn drop(&mut self) {
        if !self.named {
            let _ = fs::remove_file(&self.part);
        }
    }
}

fn header(name: &str, kind: tar::EntryType, mode: u32, size: u64) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{Layout, REF_NAME};
    use crate::media;

    fn blob(content: &[u8]) -> Descriptor {
        Descriptor::new("x", Digest::of(content), content.len() as u64)
    }

    fn write(path: &Path, absent: &[&[u8]]) -> Descriptor {
        let config = blob(b"{}");
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
            "config": config, "layers": [blob(b"layer"), blob(b"base")],
        });
        let manifest = manifest.to_string().into_bytes();
        let mut root = Descriptor::new(
            media::OCI_MANIFEST,
            Digest::of(&manifest),
            manifest.len() as u64,
        );
        root.annotations = Some([(REF_NAME.to_owned(), "v1".to_owned())].into());
        let contents: Vec<&[u8]> = vec![&manifest, b"{}", b"layer", b"base"];
        let absent: BTreeSet<_> = absent.iter().map(|bytes| Digest::of(bytes)).collect();
        let contents: Vec<_> = contents
            .into_iter()
            .filter(|c| !absent.contains(&Digest::of(c)))
            .collect();
        let blobs: Vec<_> = contents.iter().map(|c| blob(c)).collect();
        let all = Contents {
            entries: std::slice::from_ref(&root),
            blobs: &blobs,
            absent,
            docker: None,
        };
        let writer = ArchiveWriter::create(path, &all).expect("create");
        let file = writer.file().expect("file");
        for content in contents.iter().rev() {
            let span = writer.span(&Digest::of(content)).expect("a place");
            file.write_all_at(content, span.offset).expect("write");
        }
        assert!(!path.exists());
        writer.finish().expect("finish");
        root
    }

    #[test]
    fn what_is_packed_is_read_again_and_always_the_same() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (one, two) = (dir.path().join("1.tar"), dir.path().join("2.tar"));
        let root = write(&one, &[]);
        write(&two, &[]);
        assert_eq!(fs::read(&one).expect("read"), fs::read(&two).expect("read"));
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 2);
        let layout = Layout::open_archive(&one).expect("open");
        let found = layout.find(Some("v1")).expect("there");
        assert_eq!(found.digest, root.digest);
        let (_, manifest) = layout.manifest(found).expect("manifest");
        for blob in manifest.required_blobs() {
            assert_eq!(
                layout.read(blob, 100).expect("read").len() as u64,
                blob.size
            );
        }
        assert_eq!(layout.digests().expect("digests").len(), 4);
        assert!(
            layout
                .find_blob(&blob(b"other"))
                .expect("no error")
                .is_none()
        );
    }

    #[test]
    fn what_was_left_out_counts_for_those_that_build_on_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a.tar");
        write(&path, &[b"base"]);
        let layout = Layout::open_archive(&path).expect("open");
        assert!(
            layout
                .find_blob(&blob(b"base"))
                .expect("no error")
                .is_none()
        );
        assert_eq!(
            layout.left_out().expect("list"),
            [Digest::of(b"base")].into()
        );
        assert_eq!(layout.digests().expect("digests").len(), 4);
    }

    #[test]
    fn an_unfinished_archive_leaves_nothing() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a.tar");
        drop(ArchiveWriter::create(&path, &Contents::default()).expect("create"));
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 0);
    }
}
