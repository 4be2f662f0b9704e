//! An archive that comes as a stream, or compressed as a whole, as a plain file: what is in it is found by its place.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write as _};
use std::path::Path;

use crate::inflate::inflate;

/// Writes what comes into a new file at `path`, inflated if it is gzip, zstd, xz or bzip2. Bounded as a layer is: by
/// [`Limits::bytes`](crate::layer::Limits::bytes) and [`Limits::ratio`](crate::layer::Limits::ratio).
///
/// # Errors
/// What the stream or the disk says; nothing came.
pub fn spool(input: impl Read + Send, path: &Path) -> io::Result<u64> {
    let mut plain = inflate(input)?;
    let mut out = BufWriter::with_capacity(1 << 18, File::create_new(path)?);
    let total = io::copy(&mut plain, &mut out)?;
    if total == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is empty"));
    }
    out.flush()?;
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_inflated_by_what_they_are() {
        let dir = tempfile::tempdir().expect("tempdir");
        let plain = b"some archive".repeat(10_000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).expect("gzip");
        let forms = [
            plain.clone(),
            gzip.finish().expect("gzip"),
            zstd::encode_all(&plain[..], 1).expect("zstd"),
        ];
        for (number, form) in forms.iter().enumerate() {
            let path = dir.path().join(number.to_string());
            assert_eq!(spool(&form[..], &path).expect("spools"), plain.len() as u64);
            assert!(std::fs::read(path).expect("read") == plain);
        }
        let cut = spool(&forms[1][..forms[1].len() / 2], &dir.path().join("cut"));
        assert!(cut.is_err());
        let error = spool(&b""[..], &dir.path().join("nothing")).expect_err("refused");
        assert!(error.to_string().contains("empty"), "{error}");
    }
}
