//! Layers by hand: a tar of exactly these entries in exactly this order, honest or not.

use std::io::Write;

use tar::{EntryType, Header};

/// One entry of a layer.
#[derive(Debug, Clone)]
pub struct Entry {
    name: Vec<u8>,
    kind: EntryType,
    link: Vec<u8>,
    content: Vec<u8>,
    mode: u32,
    owner: (u64, u64),
    mtime: u64,
    device: Option<(u32, u32)>,
    records: Vec<(String, Vec<u8>)>,
}

/// A moment in 2023; entries have it unless told otherwise.
pub const MTIME: u64 = 1_700_000_000;

impl Entry {
    fn new(name: impl AsRef<[u8]>, kind: EntryType, mode: u32) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            kind,
            link: Vec::new(),
            content: Vec::new(),
            mode,
            owner: (0, 0),
            mtime: MTIME,
            device: None,
            records: Vec::new(),
        }
    }

    /// A regular file, mode 0644.
    pub fn file(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        let mut entry = Self::new(name, EntryType::Regular, 0o644);
        entry.content = content.as_ref().to_vec();
        entry
    }

    /// A program: a file, mode 0755.
    pub fn program(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        Self::file(name, content).mode(0o755)
    }

    /// A directory, mode 0755.
    pub fn dir(name: impl AsRef<[u8]>) -> Self {
        Self::new(name, EntryType::Directory, 0o755)
    }

    /// A symbolic link.
    pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        let mut entry = Self::new(name, EntryType::Symlink, 0o777);
        entry.link = target.as_ref().to_vec();
        entry
    }

    /// A hard link to an entry of the same layer, named from the root.
    pub fn hardlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        let mut entry = Self::new(name, EntryType::Link, 0o644);
        entry.link = target.as_ref().to_vec();
        entry
    }

    /// A character device.
    pub fn device(name: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        let mut entry = Self::new(name, EntryType::Char, 0o666);
        entry.device = Some((major, minor));
        entry
    }

    /// A named pipe.
    pub fn fifo(name: impl AsRef<[u8]>) -> Self {
        Self::new(name, EntryType::Fifo, 0o600)
    }

    /// A mark that removes `DIR/NAME` of the layers below (image-spec, layer.md, "Whiteouts").
    pub fn whiteout(dir: &str, name: &str) -> Self {
        Self::file(format!("{dir}/.wh.{name}"), b"")
    }

    /// A mark that hides all that the layers below have in `DIR`.
    pub fn opaque(dir: &str) -> Self {
        Self::file(format!("{dir}/.wh..wh..opq"), b"")
    }

    /// With these permission bits.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// With this user and group id.
    pub fn owner(mut self, user: u64, group: u64) -> Self {
        self.owner = (user, group);
        self
    }

    /// With this modification time, in seconds.
    pub fn mtime(mut self, seconds: u64) -> Self {
        self.mtime = seconds;
        self
    }

    /// With an extended attribute.
    pub fn xattr(self, name: &str, value: &[u8]) -> Self {
        self.record(&format!("SCHILY.xattr.{name}"), value)
    }

    /// With a PAX record (pax(1), "Extended Header").
    pub fn record(mut self, key: &str, value: &[u8]) -> Self {
        self.records.push((key.to_owned(), value.to_vec()));
        self
    }

    fn append(&self, tar: &mut tar::Builder<Vec<u8>>) {
        let mut records = self.records.clone();
        let mut header = Header::new_gnu();
        put(
            &mut header.as_old_mut().name,
            &self.name,
            "path",
            &mut records,
        );
        put(
            &mut header.as_old_mut().linkname,
            &self.link,
            "linkpath",
            &mut records,
        );
        header.set_entry_type(self.kind);
        header.set_mode(self.mode);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_mtime(self.mtime);
        header.set_size(self.content.len() as u64);
        if let Some((major, minor)) = self.device {
            header.set_device_major(major).expect("a GNU header");
            header.set_device_minor(minor).expect("a GNU header");
        }
        header.set_cksum();
        if !records.is_empty() {
            let records = records
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_slice()));
            tar.append_pax_extensions(records).expect("write to memory");
        }
        tar.append(&header, self.content.as_slice())
            .expect("write to memory");
    }
}

/// Writes a name into its 100 bytes as it is, or into a PAX record when it is longer.
fn put(field: &mut [u8; 100], name: &[u8], key: &str, records: &mut Vec<(String, Vec<u8>)>) {
    let fits = name.len().min(field.len());
    field[..fits].copy_from_slice(&name[..fits]);
    if name.len() > field.len() {
        records.push((key.to_owned(), name.to_vec()));
    }
}

/// The tar of these entries.
pub fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        entry.append(&mut builder);
    }
    builder.into_inner().expect("write to memory")
}

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// gzip, quickly.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// The compressed bytes; the same for the same input.
    pub fn apply(self, tar: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => tar.to_vec(),
            Self::Gzip => {
                let level = flate2::Compression::fast();
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(tar).expect("write to memory");
                encoder.finish().expect("write to memory")
            }
            Self::Zstd => zstd::encode_all(tar, 1).expect("write to memory"),
        }
    }

    /// The layer's media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Plain => strata_oci::media::OCI_LAYER,
            Self::Gzip => strata_oci::media::OCI_LAYER_GZIP,
            Self::Zstd => strata_oci::media::OCI_LAYER_ZSTD,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_they_are() {
        let long = format!("{}/f", "d".repeat(120));
        let bytes = tar(&[Entry::file("../up", b"x"), Entry::file(&long, b"yz")]);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let names: Vec<Vec<u8>> = archive
            .entries()
            .expect("entries")
            .map(|entry| entry.expect("entry").path_bytes().into_owned())
            .collect();
        assert_eq!(names, [b"../up".to_vec(), long.into_bytes()]);
    }
}
