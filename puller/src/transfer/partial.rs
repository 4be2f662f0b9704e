//! What of a blob is here already, on disk: a file with its beginning, and beside it pieces that begin
//! further on, each named after its first byte (`NAME@OFFSET`). All of them only ever grow at their end, so
//! whatever instant a process is killed at, what they hold is what was received.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

/// The file that a blob's bytes are kept in until they are whole. Who holds it open here
/// holds its lock: no two transfers write to one file, in whatever process they are.
pub(crate) struct Partial {
    file: File,
    path: PathBuf,
    mode: u32,
    /// The bytes that were there.
    kept: u64,
}

impl Partial {
    /// Opens or makes the file of a blob of `size` bytes with this mode; blocking, also while another
    /// process holds it.
    pub(crate) fn open(path: &Path, size: u64, mode: u32) -> io::Result<Self> {
        loop {
            let file = OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .mode(mode)
                .open(path)?;
            rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
            let held = file.metadata()?;
            // Whoever held it may have removed it.
            let named = fs::metadata(path).ok();
            if named.is_none_or(|named| (named.dev(), named.ino()) != (held.dev(), held.ino())) {
                continue;
            }
            let mut kept = held.len();
            if kept > size {
                file.set_len(0)?;
                kept = 0;
            }
            return Ok(Self {
                file,
                path: path.to_owned(),
                mode,
                kept,
            });
        }
    }

    /// How many bytes of the blob's beginning were there.
    pub(crate) fn kept(&self) -> u64 {
        self.kept
    }

    /// A second descriptor, to read and to append.
    pub(crate) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// The same file, opened once more, for writing anywhere.
    pub(crate) fn writer(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(&self.path)
    }

    /// Removes all of it.
    pub(crate) fn discard(&self) {
        discard(&self.path);
    }

    /// The blob is whole: removes what came ahead.
    pub(crate) fn discard_pieces(&self) {
        discard_pieces(&self.path);
    }

    /// The pieces that were there, with their first bytes, in no order.
    pub(crate) fn pieces(&self) -> io::Result<Vec<Piece>> {
        let mut all = Vec::new();
        for (start, path) in pieces_of(&self.path)? {
            let file = OpenOptions::new().read(true).append(true).open(&path)?;
            let len = file.metadata()?.len();
            all.push(Piece {
                start,
                len,
                file,
                path,
            });
        }
        Ok(all)
    }

    /// A new, empty piece that begins at `start`.
    pub(crate) fn piece(&self, start: u64) -> io::Result<Piece> {
        let path = piece_path(&self.path, start);
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .truncate(false)
            .mode(self.mode)
            .open(&path)?;
        file.set_len(0)?;
        Ok(Piece {
            start,
            len: 0,
            file,
            path,
        })
    }
}

/// Bytes of a blob that came before those in front of them.
pub(crate) struct Piece {
    /// Where in the blob it begins.
    pub(crate) start: u64,
    /// How many bytes it has.
    pub(crate) len: u64,
    /// Its file, open for reading and appending.
    pub(crate) file: File,
    pub(crate) path: PathBuf,
}

/// Removes what is kept of a blob. What cannot be removed is swept when it is old.
pub(crate) fn discard(path: &Path) {
    let _ = fs::remove_file(path);
    discard_pieces(path);
}

/// Removes the pieces alone: the blob is whole.
fn discard_pieces(path: &Path) {
    for (_, path) in pieces_of(path).unwrap_or_default() {
        let _ = fs::remove_file(path);
    }
}

fn piece_path(path: &Path, start: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!("@{start}"));
    PathBuf::from(name)
}

fn pieces_of(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let file_name = entry.file_name();
        let start = (|| {
            let rest = file_name.to_str()?.strip_prefix(name.to_str()?)?;
            rest.strip_prefix('@')?.parse().ok()
        })();
        if let Some(start) = start {
            all.push((start, entry.path()));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn pieces_are_found_again_and_go_with_their_blob() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("abc");
        let partial = Partial::open(&path, 100, 0o600).expect("open");
        assert_eq!(
            (partial.kept(), partial.pieces().expect("list").len()),
            (0, 0)
        );
        let mut piece = partial.piece(40).expect("a piece");
        piece.file.write_all(b"bytes").expect("write");
        fs::write(dir.path().join("abcd@7"), b"another blob's").expect("write");
        fs::write(dir.path().join("abc@x"), b"nobody's").expect("write");
        drop(partial);
        let partial = Partial::open(&path, 100, 0o600).expect("open again");
        let pieces = partial.pieces().expect("list");
        let found: Vec<_> = pieces.iter().map(|p| (p.start, p.len)).collect();
        assert_eq!(found, [(40, 5)]);
        assert_eq!(partial.piece(40).expect("anew").len, 0);
        discard(&path);
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 2);
    }
}
