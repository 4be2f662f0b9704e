//! One block, and what stands before the first and after the last.

use std::io;

use flate2::{Compress, Crc, FlushCompress, Status};

use super::{Compression, Format};

/// How far back a gzip stream may refer (RFC 1951, section 2).
pub(super) const WINDOW: usize = 32 << 10;

/// RFC 1952, section 2.3: deflate, no flags, no time, no hint, unknown system.
pub(super) const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// A last, empty block with fixed codes (RFC 1951, 3.2.6), then the sum and the size modulo 2^32.
pub(super) fn gzip_trailer(crc: &Crc) -> [u8; 10] {
    let [a, b, c, d] = crc.sum().to_le_bytes();
    let [e, f, g, h] = crc.amount().to_le_bytes();
    [0x03, 0x00, a, b, c, d, e, f, g, h]
}

/// Compresses what comes after the first `window` bytes, which are known to whoever inflates it.
pub(super) fn compress(
    block: &[u8],
    window: usize,
    compression: Compression,
) -> io::Result<Vec<u8>> {
    let (before, bytes) = block.split_at(window);
    match compression.format {
        Format::Gzip if is_noise(bytes)? => Ok(stored(bytes)),
        Format::Gzip => deflate(before, bytes, compression.level),
        Format::Zstd => {
            let mut compressor = zstd::bulk::Compressor::new(compression.level)?;
            compressor.include_checksum(true)?;
            compressor.compress(bytes)
        }
    }
}

/// What is looked at of a block, at its beginning and in its middle.
const SAMPLE: usize = 16 << 10;

/// Whether a block is not worth the time: what is compressed already takes longest, and gets no smaller.
fn is_noise(bytes: &[u8]) -> io::Result<bool> {
    if bytes.len() < 4 * SAMPLE {
        return Ok(false);
    }
    for at in [0, bytes.len() / 2] {
        let sample = deflate(&[], &bytes[at..at + SAMPLE], 1)?;
        if sample.len() < SAMPLE - SAMPLE / 100 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Bytes as they are (RFC 1951, 3.2.4). They begin and end at a byte.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 10_000 + 16);
    for part in bytes.chunks(usize::from(u16::MAX)) {
        let length = part.len() as u16;
        out.push(0);
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend_from_slice(part);
    }
    out
}

/// Ends at a byte, so that the next block can follow.
fn deflate(before: &[u8], bytes: &[u8], level: i32) -> io::Result<Vec<u8>> {
    let level = flate2::Compression::new(level.unsigned_abs());
    let mut state = Compress::new(level, false);
    if !before.is_empty() {
        state.set_dictionary(before)?;
    }
    let mut out = Vec::with_capacity(bytes.len() / 2 + 1024);
    loop {
        let at = usize::try_from(state.total_in()).map_err(io::Error::other)?;
        let status = state.compress_vec(&bytes[at..], &mut out, FlushCompress::Sync)?;
        let is_in = state.total_in() == bytes.len() as u64;
        // Room that was left over shows that nothing waits to be written (zlib's manual, deflate()).
        if is_in && out.len() < out.capacity() {
            return Ok(out);
        }
        if status == Status::StreamEnd {
            return Err(io::Error::other("the compressor ended before its input"));
        }
        out.reserve(bytes.len() / 4 + 1024);
    }
}
