//! Tar archives block by block, so that there can be what no well-behaved writer would write (pax(1), "ustar
//! Interchange Format"; GNU tar manual, "Basic Tar Format").

/// One block, which is also what content is padded to, in bytes.
pub const BLOCK: usize = 512;

/// A header; each part of it can be anything.
#[derive(Clone)]
pub struct Head([u8; BLOCK]);

impl Head {
    /// An entry of this type (`0` file, `1` hard link, `2` symbolic link …) in a ustar header: mode 0644, of root.
    pub fn new(kind: u8, name: impl AsRef<[u8]>) -> Self {
        let mut head = Self([0; BLOCK]);
        head.0[156] = kind;
        head.put(0, name)
            .put(257, b"ustar\x0000")
            .mode(0o644)
            .owner(0, 0)
            .size(0)
            .mtime(crate::entry::MTIME)
            .device(0, 0)
    }

    /// With these bytes at this place.
    pub fn put(mut self, at: usize, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// As GNU tar marks its own.
    pub fn gnu(self) -> Self {
        self.put(257, b"ustar  \0")
    }

    /// Without any mark, as before 1988.
    pub fn v7(self) -> Self {
        self.put(257, [0; 8])
    }

    /// With this link target.
    pub fn link(self, target: impl AsRef<[u8]>) -> Self {
        self.put(157, target)
    }

    /// With these permission bits.
    pub fn mode(self, mode: u32) -> Self {
        self.number(100, 8, u64::from(mode))
    }

    /// With this user and group id.
    pub fn owner(self, user: u64, group: u64) -> Self {
        self.number(108, 8, user).number(116, 8, group)
    }

    /// With this size, whatever follows.
    pub fn size(self, size: u64) -> Self {
        self.number(124, 12, size)
    }

    /// With this modification time in seconds.
    pub fn mtime(self, seconds: u64) -> Self {
        self.number(136, 12, seconds)
    }

    /// With these device numbers.
    pub fn device(self, major: u32, minor: u32) -> Self {
        self.number(329, 8, u64::from(major))
            .number(337, 8, u64::from(minor))
    }

    /// Octal, or base-256 where that does not hold it.
    fn number(self, at: usize, length: usize, value: u64) -> Self {
        let digits = length - 1;
        let octal = format!("{value:0digits$o}\0");
        if octal.len() == length {
            return self.put(at, octal);
        }
        let mut bytes = vec![0; length];
        for (place, byte) in bytes.iter_mut().rev().zip(value.to_le_bytes()) {
            *place = byte;
        }
        bytes[0] |= 0x80;
        self.put(at, bytes)
    }

    /// The block with its checksum, which is of the header with blanks in its place.
    pub fn sealed(&self) -> [u8; BLOCK] {
        let mut block = self.0;
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

/// A PAX record: `length key=value\n`, the length being of all of it.
pub fn record(key: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// An archive that grows.
#[derive(Default, Clone)]
pub struct Archive(Vec<u8>);

impl Archive {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// These bytes as they are.
    pub fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.extend_from_slice(bytes.as_ref());
        self
    }

    /// These bytes and what fills their last block.
    pub fn padded(self, content: impl AsRef<[u8]>) -> Self {
        let length = content.as_ref().len();
        let padding = vec![0; length.next_multiple_of(BLOCK) - length];
        self.raw(content).raw(padding)
    }

    /// A header as it is, and content.
    pub fn head(self, head: Head, content: impl AsRef<[u8]>) -> Self {
        self.raw(head.sealed()).padded(content)
    }

    /// A header with its content's size, and content.
    pub fn entry(self, head: Head, content: impl AsRef<[u8]>) -> Self {
        let head = head.size(content.as_ref().len() as u64);
        self.head(head, content)
    }

    /// A file.
    pub fn file(self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        self.entry(Head::new(b'0', name), content)
    }

    /// A directory.
    pub fn dir(self, name: impl AsRef<[u8]>) -> Self {
        self.entry(Head::new(b'5', name).mode(0o755), b"")
    }

    /// A symbolic link.
    pub fn symlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.entry(Head::new(b'2', name).mode(0o777).link(target), b"")
    }

    /// A hard link.
    pub fn hard_link(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.entry(Head::new(b'1', name).link(target), b"")
    }

    /// A PAX header for the next entry.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let records = records.iter().map(|(key, value)| record(key, value));
        self.extension(b'x', records.collect::<Vec<_>>().concat())
    }

    /// A PAX header (x, g) or a GNU long name (L, K).
    pub fn extension(self, kind: u8, content: impl AsRef<[u8]>) -> Self {
        self.entry(Head::new(kind, "extension"), content)
    }

    /// The archive without its end.
    pub fn open(self) -> Vec<u8> {
        self.0
    }

    /// The archive.
    pub fn end(self) -> Vec<u8> {
        self.raw([0; 2 * BLOCK]).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_by_the_tar_crate() {
        let bytes = Archive::new()
            .dir("d/")
            .pax(&[("path", b"d/long")])
            .file("x", "content")
            .entry(Head::new(b'0', "big").owner(1 << 40, 3), "y")
            .end();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().expect("entries");
        let read = entries.map(|entry| {
            let entry = entry.expect("entry");
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            (name, entry.size(), entry.header().uid().expect("a number"))
        });
        let expected = [("d/", 0, 0), ("d/long", 7, 0), ("big", 1, 1 << 40)];
        let expected = expected.map(|(name, size, uid)| (name.to_owned(), size, uid));
        assert_eq!(read.collect::<Vec<_>>(), expected);
    }
}
