//! Docker archives: the tar that `docker save`, `podman save` and `skopeo copy docker-archive:` write
//! (moby, image/spec/v1.2.md, "Combined Image JSON + Filesystem Changeset Format").
//!
//! `manifest.json` names each image's config and layers by their paths in the tar. Layers are plain
//! tars, or compressed ones where the archive holds an OCI layout too (docker 25 and later); older
//! writers put symbolic links from one image's layer to another's. The archive is indexed once and
//! never unpacked.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Take};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config::{ImageConfig, MAX_CONFIG};

const MAX_ENTRIES: usize = 100_000;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("docker archive {}: {reason}", .file.display())]
pub struct ArchiveError {
    file: PathBuf,
    reason: String,
}

/// A docker archive, indexed.
#[derive(Debug)]
pub struct DockerArchive {
    file: PathBuf,
    entries: HashMap<String, Entry>,
    images: Vec<Listed>,
}

/// A file of a tar.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    /// Bytes of the tar.
    File { offset: u64, size: u64 },
    /// A symbolic link's target.
    Link(String),
    /// A hard link's target, named from the top of the tar.
    HardLink(String),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// One image of an archive.
#[derive(Debug)]
pub struct ArchiveImage {
    /// The configuration's exact bytes.
    pub config_bytes: Vec<u8>,
    /// The same, parsed; it has as many diffIDs as there are layers.
    pub config: ImageConfig,
    /// Where the layers' tars are, the lowest first.
    pub layers: Vec<Span>,
}

/// A file in the archive: `size` bytes at `offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// From the start of the archive, in bytes.
    pub offset: u64,
    /// In bytes.
    pub size: u64,
}

impl DockerArchive {
    /// Indexes the archive at `file`.
    pub fn open(file: impl Into<PathBuf>) -> Result<Self, ArchiveError> {
        let file = file.into();
        let refuse = |reason: String| ArchiveError {
            file: file.clone(),
            reason,
        };
        let handle = File::open(&file).map_err(|e| refuse(e.to_string()))?;
        let entries = index(&handle).map_err(|e| refuse(e.to_string()))?;
        let mut archive = Self {
            file: file.clone(),
            entries,
            images: Vec::new(),
        };
        let listing = archive.read("manifest.json")?;
        archive.images =
            serde_json::from_slice(&listing).map_err(|e| refuse(format!("manifest.json: {e}")))?;
        Ok(archive)
    }

    /// The images: the path of each one's configuration in the archive, and its names.
    pub fn images(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.images.iter().map(|image| {
            let names = image.repo_tags.as_deref().unwrap_or_default();
            (image.config.as_str(), names)
        })
    }

    /// The image called `reference`, or whose configuration has this path; without one, the only image there is.
    pub fn image(&self, reference: Option<&str>) -> Result<ArchiveImage, ArchiveError> {
        let tags = |image: &Listed| image.repo_tags.clone().unwrap_or_default();
        let known = || -> Vec<_> { self.images.iter().flat_map(tags).collect() };
        let listed = match (reference, self.images.as_slice()) {
            (Some(wanted), images) => {
                let same = |tag: &String| familiar(tag) == familiar(wanted);
                let found = images.iter().find(|i| tags(i).iter().any(same));
                let found = found.or_else(|| images.iter().find(|i| i.config == wanted));
                found.ok_or_else(|| {
                    self.refuse(format!(
                        "no image is called {wanted:?}; it has: {}",
                        known().join(", ")
                    ))
                })?
            }
            (None, [only]) => only,
            (None, []) => return Err(self.refuse("it holds no image")),
            (None, _) => {
                let known = known().join(", ");
                return Err(self.refuse(format!(
                    "it holds several images, name one of them: {known}"
                )));
            }
        };
        let config_bytes = self.read(&listed.config)?;
        let config: ImageConfig = serde_json::from_slice(&config_bytes)
            .map_err(|e| self.refuse(format!("{}: {e}", listed.config)))?;
        let paths = listed.layers.as_deref().unwrap_or_default();
        if paths.len() != config.rootfs.diff_ids.len() {
            return Err(self.refuse(format!(
                "{} layers but {} diffIDs",
                paths.len(),
                config.rootfs.diff_ids.len()
            )));
        }
        let layers: Result<_, _> = paths.iter().map(|path| self.span(path)).collect();
        Ok(ArchiveImage {
            config_bytes,
            config,
            layers: layers?,
        })
    }

    /// A file of the archive, for reading.
    pub fn open_span(&self, span: Span) -> io::Result<Take<File>> {
        let mut file = File::open(&self.file)?;
        file.seek(SeekFrom::Start(span.offset))?;
        Ok(file.take(span.size))
    }

    /// Follows the links of older writers, from one file of the archive to another.
    fn span(&self, path: &str) -> Result<Span, ArchiveError> {
        let mut path = normal(Path::new(path));
        for _ in 0..8 {
            match self.entries.get(&path) {
                Some(&Entry::File { offset, size }) => return Ok(Span { offset, size }),
                Some(Entry::Link(target)) => {
                    let directory = Path::new(&path).parent().unwrap_or(Path::new(""));
                    path = normal(&directory.join(target));
                }
                Some(Entry::HardLink(target)) => path = normal(Path::new(target)),
                None => return Err(self.refuse(format!("{path} is named but is not in it"))),
            }
        }
        Err(self.refuse(format!("{path} is a link to a link to a link…")))
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, ArchiveError> {
        let span = self.span(path)?;
        if span.size > MAX_CONFIG {
            return Err(self.refuse(format!("{path} has more than {MAX_CONFIG} bytes")));
        }
        let mut bytes = Vec::new();
        let read = self
            .open_span(span)
            .and_then(|mut reader| reader.read_to_end(&mut bytes));
        read.map_err(|e| self.refuse(format!("{path}: {e}")))?;
        Ok(bytes)
    }

    fn refuse(&self, reason: impl Into<String>) -> ArchiveError {
        ArchiveError {
            file: self.file.clone(),
            reason: reason.into(),
        }
    }
}

/// Finds the files of a tar by their names, without `.` and `..`.
pub(crate) fn index(mut file: &File) -> io::Result<HashMap<String, Entry>> {
    let mut magic = [0u8; 2];
    if file.read(&mut magic)? == 2 && magic == [0x1f, 0x8b] {
        return Err(io::Error::other(
            "it is compressed: decompress it with gunzip first",
        ));
    }
    file.seek(SeekFrom::Start(0))?;
    let mut entries = HashMap::new();
    for entry in tar::Archive::new(file).entries_with_seek()? {
        let entry = entry.map_err(|error| unreadable(error, entries.is_empty()))?;
        let path = normal(&entry.path()?);
        let kind = entry.header().entry_type();
        let indexed = if kind.is_file() {
            Entry::File {
                offset: entry.raw_file_position(),
                size: entry.size(),
            }
        } else if let (true, Some(target)) = (kind.is_symlink(), entry.link_name()?) {
            Entry::Link(target.to_string_lossy().into_owned())
        } else if let (true, Some(target)) = (kind.is_hard_link(), entry.link_name()?) {
            Entry::HardLink(target.to_string_lossy().into_owned())
        } else {
            continue;
        };
        entries.insert(path, indexed);
        if entries.len() > MAX_ENTRIES {
            return Err(io::Error::other("it has too many files"));
        }
    }
    Ok(entries)
}

/// What the tar reader says quotes the bytes that it stumbles over, which may be those of any file: not said.
fn unreadable(error: io::Error, first: bool) -> io::Error {
    match error.kind() {
        io::ErrorKind::Other | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            io::Error::other(match first {
                true => "it is no tar archive",
                false => "one of its tar headers is damaged",
            })
        }
        _ => error,
    }
}

/// A name without what everyone leaves out: skopeo writes `docker.io/library/debian:12`, docker
/// `debian:12`.
fn familiar(name: &str) -> (&str, &str) {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let name = name.strip_prefix("library/").unwrap_or(name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "latest"),
    }
}

/// A path inside the archive without `.` and `..`; only a key, never a path of the host.
fn normal(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in path.components() {
        match part {
            std::path::Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            std::path::Component::ParentDir => {
                parts.pop();
            }
            _ => {}
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use proptest::prelude::*;

    fn archive(add: impl FnOnce(&mut tar::Builder<File>)) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a.tar");
        let mut builder = tar::Builder::new(File::create(&path).expect("create"));
        add(&mut builder);
        builder.finish().expect("finish");
        (dir, path)
    }

    fn file(builder: &mut tar::Builder<File>, path: &str, bytes: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, path, bytes)
            .expect("append");
    }

    fn config() -> String {
        let layer = Digest::of(b"layer");
        format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["{layer}","{layer}"]}}}}"#)
    }

    #[test]
    fn images_with_linked_layers_are_found() {
        let (_dir, path) = archive(|builder| {
            file(builder, "a/layer.tar", b"layer");
            let mut link = tar::Header::new_gnu();
            link.set_entry_type(tar::EntryType::Symlink);
            link.set_size(0);
            builder
                .append_link(&mut link, "b/layer.tar", "../a/layer.tar")
                .expect("link");
            file(builder, "c.json", config().as_bytes());
            let listing = r#"[{"Config":"c.json","RepoTags":["app:v1"],"Layers":["a/layer.tar","b/layer.tar"]}]"#;
            file(builder, "manifest.json", listing.as_bytes());
        });
        let archive = DockerArchive::open(path).expect("open");
        for reference in [None, Some("app:v1")] {
            let image = archive.image(reference).expect("image");
            assert_eq!(image.layers[0], image.layers[1]);
            let mut bytes = Vec::new();
            let mut reader = archive.open_span(image.layers[1]).expect("open");
            reader.read_to_end(&mut bytes).expect("read");
            assert_eq!(bytes, b"layer");
        }
        let error = archive.image(Some("app:v2")).expect_err("absent");
        assert!(error.to_string().contains("app:v1"), "{error}");
    }

    #[test]
    fn a_layer_may_be_a_hard_link_to_another() {
        let (_dir, path) = archive(|builder| {
            file(builder, "a/layer.tar", b"layer");
            let mut link = tar::Header::new_gnu();
            link.set_entry_type(tar::EntryType::Link);
            link.set_size(0);
            builder
                .append_link(&mut link, "b/layer.tar", "a/layer.tar")
                .expect("link");
            file(builder, "c.json", config().as_bytes());
            let listing = br#"[{"Config":"c.json","Layers":["a/layer.tar","b/layer.tar"]}]"#;
            file(builder, "manifest.json", listing);
        });
        let image = DockerArchive::open(path).expect("open").image(None);
        let layers = image.expect("image").layers;
        assert_eq!((layers[0], layers[0].size), (layers[1], 5));
    }

    #[test]
    fn what_is_no_archive_is_not_quoted() {
        let text = "root:x:0:0:secret words\n".repeat(100);
        let (_dir, path) = archive_of_bytes(text.as_bytes());
        let error = DockerArchive::open(path).expect_err("no archive");
        let told = error.to_string();
        assert!(
            told.contains("no tar archive") && !told.contains("secret"),
            "{told}"
        );
    }

    #[test]
    fn names_need_not_be_written_as_the_archive_has_them() {
        for (wanted, tag) in [
            ("debian", "docker.io/library/debian:latest"),
            ("docker.io/some/app:v1", "some/app:v1"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
        ] {
            assert_eq!(familiar(wanted), familiar(tag));
        }
        assert_ne!(familiar("debian:12"), familiar("debian:13"));
    }

    proptest! {
        #[test]
        fn no_damage_makes_it_panic(at in 0usize..6000, byte in any::<u8>(), keep in 0usize..8000) {
            let (_dir, path) = archive(|builder| {
                file(builder, "layer.tar", b"layer");
                file(builder, "c.json", config().as_bytes());
                let listing = br#"[{"Config":"c.json","Layers":["layer.tar","layer.tar"]}]"#;
                file(builder, "manifest.json", listing);
            });
            let mut bytes = std::fs::read(&path).expect("read");
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(keep);
            let (_dir, path) = archive_of_bytes(&bytes);
            if let Ok(archive) = DockerArchive::open(path)
                && let Ok(image) = archive.image(None)
            {
                for span in image.layers {
                    let mut layer = Vec::new();
                    let mut reader = archive.open_span(span).expect("open").take(10_000);
                    reader.read_to_end(&mut layer).expect("read");
                }
            }
        }
    }

    #[test]
    fn broken_archives_are_named() {
        let (_dir, path) = archive(|builder| file(builder, "x", b""));
        let error = DockerArchive::open(path).expect_err("no manifest");
        assert!(error.to_string().contains("manifest.json"), "{error}");
        let (_dir, path) = archive(|builder| {
            file(builder, "c.json", config().as_bytes());
            let listing =
                r#"[{"Config":"c.json","RepoTags":null,"Layers":["../../etc/passwd","x"]}]"#;
            file(builder, "manifest.json", listing.as_bytes());
        });
        let archive = DockerArchive::open(path).expect("open");
        assert!(archive.image(None).is_err());
        let (_dir, path) = archive_of_bytes(&[0x1f, 0x8b, 8, 0]);
        let error = DockerArchive::open(path).expect_err("compressed");
        assert!(error.to_string().contains("gunzip"), "{error}");
    }

    fn archive_of_bytes(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a.tar");
        std::fs::write(&path, bytes).expect("write");
        (dir, path)
    }
}
