//! A file's bytes on their way into an archive, as many as its header says, whatever has become of the file since.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};

use rustix::fs::Stat;
use rustix::io::Errno;

/// Bytes read and written at once.
const BUFFER: usize = 256 << 10;

/// Which side failed.
#[derive(Debug)]
pub(crate) enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// Writes the first `size` bytes of a file of this `stat`; zeros for those that are not there any more. Holes are not
/// read.
pub(crate) fn copy(
    mut file: &File,
    stat: &Stat,
    size: u64,
    out: &mut dyn Write,
) -> Result<(), CopyError> {
    let stored = u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
    let has_holes = stored < size;
    let mut buffer = vec![0; usize::try_from(size).map_or(BUFFER, |size| size.min(BUFFER))];
    let mut at = 0;
    while at < size {
        if has_holes {
            let data = match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
                Ok(data) => data.min(size),
                Err(Errno::NXIO) => size,
                // A file system that knows of no holes.
                Err(_) => at,
            };
            zeros(data - at, out)?;
            at = data;
            file.seek(SeekFrom::Start(at)).map_err(CopyError::Read)?;
        }
        let want = usize::try_from(size - at).map_or(BUFFER, |left| left.min(BUFFER));
        let count = match file.read(&mut buffer[..want]) {
            Ok(0) => return zeros(size - at, out),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error)),
        };
        out.write_all(&buffer[..count]).map_err(CopyError::Write)?;
        at += count as u64;
    }
    Ok(())
}

fn zeros(count: u64, out: &mut dyn Write) -> Result<(), CopyError> {
    let copied = io::copy(&mut io::repeat(0).take(count), out);
    copied.map(drop).map_err(CopyError::Write)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn holes_and_files_that_shrink_are_zeros() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(3_000_000).expect("length");
        file.write_all_at(b"middle", 1_500_000).expect("write");
        let stat = rustix::fs::fstat(&file).expect("stat");
        let mut expected = vec![0; 3_000_000];
        expected[1_500_000..1_500_006].copy_from_slice(b"middle");
        let mut out = Vec::new();
        copy(&file, &stat, 3_000_000, &mut out).expect("copied");
        assert!(out == expected);
        file.set_len(1_500_003).expect("length");
        out.clear();
        expected[1_500_003..].fill(0);
        copy(&file, &stat, 3_000_000, &mut out).expect("copied");
        assert!(out == expected);
    }
}
