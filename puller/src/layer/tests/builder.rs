//! Archives by hand: what no well-behaved writer would write, too.

/// One header. `..Head::default()` is an empty file of nobody in particular.
#[derive(Clone)]
pub(super) struct Head<'a> {
    pub(super) name: &'a str,
    pub(super) kind: u8,
    pub(super) link: &'a str,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) mtime: u64,
    pub(super) device: (u32, u32),
    /// Instead of the content's length.
    pub(super) size: Option<u64>,
    pub(super) magic: &'a [u8; 8],
}

impl Default for Head<'_> {
    fn default() -> Self {
        Self {
            name: "",
            kind: b'0',
            link: "",
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 1_700_000_000,
            device: (0, 0),
            size: None,
            magic: b"ustar\x0000",
        }
    }
}

/// The checksum is of the header with blanks in its place.
pub(super) fn seal(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn number(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let text = format!("{value:0digits$o}\0");
    if text.len() == field.len() {
        field.copy_from_slice(text.as_bytes());
    } else {
        // Base-256, right-aligned.
        field.fill(0);
        for (place, byte) in field.iter_mut().rev().zip(value.to_le_bytes()) {
            *place = byte;
        }
        field[0] |= 0x80;
    }
}

pub(super) fn block(head: &Head, size: u64) -> [u8; 512] {
    let mut block = [0; 512];
    block[..head.name.len()].copy_from_slice(head.name.as_bytes());
    number(&mut block[100..108], u64::from(head.mode));
    number(&mut block[108..116], head.uid);
    number(&mut block[116..124], head.gid);
    number(&mut block[124..136], head.size.unwrap_or(size));
    number(&mut block[136..148], head.mtime);
    block[156] = head.kind;
    block[157..157 + head.link.len()].copy_from_slice(head.link.as_bytes());
    block[257..265].copy_from_slice(head.magic);
    number(&mut block[329..337], u64::from(head.device.0));
    number(&mut block[337..345], u64::from(head.device.1));
    seal(&mut block);
    block
}

/// A PAX record.
pub(super) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    let start = format!("{length} {key}=");
    [start.as_bytes(), value, b"\n".as_slice()].concat()
}

/// An archive that grows.
#[derive(Default, Clone)]
pub(super) struct Tar(Vec<u8>);

impl Tar {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Content and its padding.
    pub(super) fn padded(self, content: &[u8]) -> Self {
        let padding = vec![0; content.len().next_multiple_of(512) - content.len()];
        self.raw(content).raw(&padding)
    }

    pub(super) fn entry(self, head: &Head, content: &[u8]) -> Self {
        let block = block(head, content.len() as u64);
        self.raw(&block).padded(content)
    }

    pub(super) fn kind(self, kind: u8, name: &str, link: &str) -> Self {
        let head = Head {
            name,
            kind,
            link,
            ..Head::default()
        };
        self.entry(&head, b"")
    }

    pub(super) fn file(self, name: &str, content: &str) -> Self {
        let head = Head {
            name,
            ..Head::default()
        };
        self.entry(&head, content.as_bytes())
    }

    pub(super) fn directory(self, name: &str) -> Self {
        let head = Head {
            name,
            kind: b'5',
            mode: 0o755,
            ..Head::default()
        };
        self.entry(&head, b"")
    }

    pub(super) fn symlink(self, name: &str, to: &str) -> Self {
        self.kind(b'2', name, to)
    }

    pub(super) fn hard_link(self, name: &str, to: &str) -> Self {
        self.kind(b'1', name, to)
    }

    pub(super) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let bytes: Vec<u8> = records
            .iter()
            .flat_map(|(key, value)| record(key, value))
            .collect();
        self.extension(b'x', &bytes)
    }

    /// A PAX header (x, g) or a GNU long name (L, K).
    pub(super) fn extension(self, kind: u8, bytes: &[u8]) -> Self {
        let head = Head {
            name: "extension",
            kind,
            ..Head::default()
        };
        self.entry(&head, bytes)
    }

    /// The archive without its end mark.
    pub(super) fn open(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).0
    }
}
