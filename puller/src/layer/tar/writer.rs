//! Writing an archive: ustar headers, with PAX records for what has no room in them (POSIX.1-2001, pax).

use std::io::{self, Write};

use super::{BLOCK, Entry, Kind};

/// What a field of 11 octal digits holds.
const MAX_SIZE: u64 = 0o77_777_777_777;
/// What a field of 7 octal digits holds.
const MAX_ID: u32 = 0o7_777_777;

/// Writes an entry's headers; a file's `size` bytes follow, then [`padding`].
pub(crate) fn write_entry(entry: &Entry, out: &mut dyn Write) -> io::Result<()> {
    let mut records = Vec::new();
    let mut path = entry.path.clone();
    if entry.kind == Kind::Directory && !path.ends_with(b"/") {
        path.push(b'/');
    }
    let mut add = |key: &[u8], value: &[u8]| records.extend(record(key, value));
    if path.len() > 100 {
        add(b"path", &path);
    }
    if entry.link.len() > 100 {
        add(b"linkpath", &entry.link);
    }
    let content = match entry.kind {
        Kind::File => entry.size,
        _ => 0,
    };
    let (seconds, nanoseconds) = (entry.mtime.seconds, entry.mtime.nanoseconds);
    for (key, value, fits) in [
        (&b"size"[..], content.to_string(), content <= MAX_SIZE),
        (b"uid", entry.uid.to_string(), entry.uid <= MAX_ID),
        (b"gid", entry.gid.to_string(), entry.gid <= MAX_ID),
        (
            b"mtime",
            decimal(seconds, nanoseconds),
            nanoseconds == 0 && u64::try_from(seconds).is_ok_and(|s| s <= MAX_SIZE),
        ),
    ] {
        if !fits {
            add(key, value.as_bytes());
        }
    }
    for (name, value) in &entry.xattrs {
        add(&[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    if !records.is_empty() {
        let length = records.len() as u64;
        out.write_all(&header(
            b"PaxHeaders/entry",
            b'x',
            length,
            0o644,
            (0, 0),
            0,
            b"",
            (0, 0),
        ))?;
        out.write_all(&records)?;
        padding(length, out)?;
    }
    let (flag, device) = match entry.kind {
        Kind::File => (b'0', (0, 0)),
        Kind::HardLink => (b'1', (0, 0)),
        Kind::Symlink => (b'2', (0, 0)),
        Kind::Character { major, minor } => (b'3', (major, minor)),
        Kind::Block { major, minor } => (b'4', (major, minor)),
        Kind::Directory => (b'5', (0, 0)),
        Kind::Fifo => (b'6', (0, 0)),
    };
    let seconds = u64::try_from(seconds).unwrap_or(0);
    let owner = (entry.uid, entry.gid);
    out.write_all(&header(
        &path,
        flag,
        content,
        entry.mode,
        owner,
        seconds,
        &entry.link,
        device,
    ))
}

/// The zeros after `size` bytes of content.
pub(crate) fn padding(size: u64, out: &mut dyn Write) -> io::Result<()> {
    let count = (size.wrapping_neg() % BLOCK as u64) as usize;
    out.write_all(&[0; BLOCK][..count])
}

/// The archive's end.
pub(crate) fn end(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

#[expect(clippy::too_many_arguments, reason = "they are the header's fields")]
fn header(
    path: &[u8],
    flag: u8,
    size: u64,
    mode: u32,
    (uid, gid): (u32, u32),
    mtime: u64,
    link: &[u8],
    (major, minor): (u32, u32),
) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut text = |at: usize, room: usize, bytes: &[u8]| {
        let length = bytes.len().min(room);
        block[at..at + length].copy_from_slice(&bytes[..length]);
    };
    // What does not fit is in a PAX record, and zero here.
    let number = |value: u64, digits: usize, most: u64| {
        let value = if value <= most { value } else { 0 };
        format!("{value:0digits$o}\0")
    };
    let id = |id: u32| number(id.into(), 7, MAX_ID.into());
    text(0, 100, path);
    text(100, 8, id(mode & 0o7777).as_bytes());
    text(108, 8, id(uid).as_bytes());
    text(116, 8, id(gid).as_bytes());
    text(124, 12, number(size, 11, MAX_SIZE).as_bytes());
    text(136, 12, number(mtime, 11, MAX_SIZE).as_bytes());
    text(148, 8, b"        ");
    text(156, 1, &[flag]);
    text(157, 100, link);
    text(257, 8, b"ustar\x0000");
    text(329, 8, id(major).as_bytes());
    text(337, 8, id(minor).as_bytes());
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// `LENGTH KEY=VALUE\n`; the length counts its own digits.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if length.to_string().len() != rest.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// A time as a decimal number; before 1970 the fraction counts towards zero, too.
fn decimal(seconds: i64, nanoseconds: u32) -> String {
    let all = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let sign = if all < 0 { "-" } else { "" };
    let (whole, part) = (all.abs() / 1_000_000_000, all.abs() % 1_000_000_000);
    match part {
        0 => format!("{sign}{whole}"),
        part => format!("{sign}{whole}.{part:09}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ReaderLimits, TarReader, Time};
    use super::*;
    use proptest::prelude::*;

    const LIMITS: ReaderLimits = ReaderLimits {
        entries: 100,
        path: 4095,
        pax: 1 << 20,
        segments: 10,
    };

    fn read(bytes: &[u8]) -> Entry {
        let mut reader = TarReader::new(bytes, LIMITS);
        reader.next().expect("reads").expect("an entry")
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            path in "[a-z/ä]{1,300}", link in "[a-z]{1,200}", mode in 0u32..0o10000, uid: u32, gid: u32,
            seconds in -100_000_000_000i64..100_000_000_000, nanoseconds in 0u32..1_000_000_000,
            value in proptest::collection::vec(any::<u8>(), 0..200), kind in 0usize..5,
        ) {
            let kind = [
                Kind::Symlink, Kind::HardLink, Kind::Fifo, Kind::Character { major: 7, minor: 300 },
                Kind::Block { major: 8, minor: 1 },
            ][kind];
            let entry = Entry {
                path: path.into_bytes(),
                kind,
                link: match kind {
                    Kind::Symlink | Kind::HardLink => link.into_bytes(),
                    _ => Vec::new(),
                },
                mode,
                uid,
                gid,
                mtime: Time { seconds, nanoseconds },
                size: 0,
                sparse: None,
                xattrs: vec![(b"user.note".to_vec(), value)],
            };
            let mut bytes = Vec::new();
            write_entry(&entry, &mut bytes).expect("in memory");
            end(&mut bytes).expect("in memory");
            prop_assert_eq!(bytes.len() % BLOCK, 0);
            prop_assert_eq!(read(&bytes), entry);
        }
    }

    #[test]
    fn the_length_of_a_record_counts_itself() {
        for length in [1, 90, 91, 92, 93, 94, 95, 96, 990, 991, 992, 993, 994, 9990] {
            let record = record(b"k", &vec![b'v'; length]);
            let text = String::from_utf8(record.clone()).expect("text");
            let (said, _) = text.split_once(' ').expect("a length");
            assert_eq!(said.parse(), Ok(record.len()));
        }
    }
}
