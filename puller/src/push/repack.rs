//! Writing a layer's blob here: the layers of a docker archive, and those that were pulled and whose blob
//! no registry has any more.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use strata_oci::digest::{Algorithm, Digest, Digester};

use super::compress::{Compression, Compressor, Format};
use crate::inflate::{Compressed, inflate};

/// A file's digest and size, and those of the tar that is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packed {
    /// The digest of the compressed bytes.
    pub(super) digest: Digest,
    /// Their number.
    pub(super) size: u64,
    /// The digest of the tar.
    pub(super) diff_id: Digest,
    /// How it is compressed.
    pub(super) format: Option<Format>,
}

/// Compresses (`None`: does not compress) what `write` writes into a new file at `path`.
pub(super) fn pack(
    path: &Path,
    compression: Option<Compression>,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<Packed> {
    let file = BufWriter::with_capacity(1 << 18, File::create_new(path)?);
    let out = Hashing::new(file);
    let (diff_id, out) = match compression {
        Some(compression) => {
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            let mut tar = Hashing::new(Compressor::new(out, compression, threads)?);
            write(&mut tar)?;
            let (compressor, diff_id, _) = tar.finish();
            (diff_id, compressor.finish()?)
        }
        None => {
            let mut tar = Hashing::new(out);
            write(&mut tar)?;
            let (out, diff_id, _) = tar.finish();
            (diff_id, out)
        }
    };
    let (mut file, digest, size) = out.finish();
    file.flush()?;
    Ok(Packed {
        digest,
        size,
        diff_id,
        format: compression.map(Compression::format),
    })
}

/// The digest and size of what `write` writes, compressed, as [`pack`] would write it; the bytes themselves go nowhere.
pub(crate) fn weigh(
    compression: Compression,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<(Digest, u64)> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut compressor = Compressor::new(Hashing::new(io::sink()), compression, threads)?;
    write(&mut compressor)?;
    let (_, digest, size) = compressor.finish()?.finish();
    Ok((digest, size))
}

/// What a layer's file holds, with the proof of both digests.
pub(super) fn inspect(reader: impl Read + Send) -> io::Result<Packed> {
    let mut outer = HashingReader::new(BufReader::with_capacity(1 << 18, reader));
    let mut tar = inflate(&mut outer)?;
    let format = format_of(tar.compressed);
    let diff_id = digest_of(&mut tar)?;
    drop(tar);
    io::copy(&mut outer, &mut io::sink())?;
    Ok(Packed {
        digest: outer.digester.finish(),
        size: outer.seen,
        diff_id,
        format,
    })
}

/// The format that a manifest has a word for.
pub(super) fn format_of(compressed: Option<Compressed>) -> Option<Format> {
    match compressed? {
        Compressed::Gzip => Some(Format::Gzip),
        Compressed::Zstd => Some(Format::Zstd),
        Compressed::Xz | Compressed::Bzip2 => None,
    }
}

fn digest_of(reader: impl Read) -> io::Result<Digest> {
    let mut reader = HashingReader::new(reader);
    io::copy(&mut reader, &mut io::sink())?;
    Ok(reader.digester.finish())
}

struct Hashing<W> {
    inner: W,
    digester: Digester,
    written: u64,
}

impl<W: Write> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            digester: Digester::new(Algorithm::Sha256),
            written: 0,
        }
    }

    fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.digester.finish(), self.written)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.digester.update(&bytes[..count]);
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

struct HashingReader<R> {
    inner: R,
    digester: Digester,
    seen: u64,
}

impl<R: Read> HashingReader<R> {
    fn new(inner: R) -> Self {
        Self {
            inner,
            digester: Digester::new(Algorithm::Sha256),
            seen: 0,
        }
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.digester.update(&buffer[..count]);
        self.seen += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_tar_gives_the_same_blob_and_both_digests() {
        let dir = tempfile::tempdir().expect("tempdir");
        let tar = vec![7u8; 300_000];
        let forms = [None, Some(Format::Gzip), Some(Format::Zstd)];
        for (number, format) in forms.into_iter().enumerate() {
            let pack = |name: &str| {
                let path = dir.path().join(format!("{name}-{number}"));
                let write = |out: &mut dyn Write| out.write_all(&tar);
                let packed = pack(&path, format.map(Compression::of), write).expect("packs");
                (packed, std::fs::read(path).expect("read"))
            };
            let (packed, bytes) = pack("a");
            assert_eq!(packed, pack("b").0);
            assert_eq!(packed.diff_id, Digest::of(&tar));
            assert_eq!(packed.digest, Digest::of(&bytes));
            assert_eq!(packed.size, bytes.len() as u64);
            assert_eq!(packed.format, format);
            assert_eq!(inspect(bytes.as_slice()).expect("reads"), packed);
            if let Some(format) = format {
                let weighed = weigh(Compression::of(format), |out| out.write_all(&tar));
                assert_eq!(
                    weighed.expect("weighs"),
                    (packed.digest.clone(), packed.size)
                );
            }
            let cut = inspect(&bytes[..bytes.len() / 2]);
            assert!(cut.map_or(true, |cut| cut.diff_id != packed.diff_id));
        }
    }
}
