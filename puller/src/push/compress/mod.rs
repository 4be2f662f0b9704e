//! Compressing a layer: the same bytes from the same tar, whatever the number of threads.
//!
//! The input is cut into blocks of a fixed size, which threads compress one by one and the writer puts
//! together in their order. A gzip blob is one member whose blocks know the 32 KiB before them, so it is
//! about as small as if one thread had made it and every client reads it; a zstd blob is a frame for each
//! block. No name and no time is in it (moby#30852: a layer that is compressed anew must not become another).
//!
//! The bytes are those of this version of the libraries; the tests' golden digests tell when a new
//! one gives others.

mod block;
mod pool;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use flate2::Crc;

use pool::Pool;

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RFC 1952, what every client reads.
    Gzip,
    /// RFC 8878: smaller and faster; OCI manifests only.
    Zstd,
}

/// A format and how hard to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    format: Format,
    level: i32,
}

/// A format or level that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// The format.
    #[error("{0:?} is not a compression format: use gzip or zstd")]
    Format(String),
    /// The level.
    #[error("{format} has no level {level}: use {} to {}", .format.levels().0, .format.levels().1)]
    Level {
        /// Of which format.
        format: Format,
        /// What was wanted.
        level: i32,
    },
}

impl Format {
    /// The lowest and the highest level.
    pub fn levels(self) -> (i32, i32) {
        match self {
            Self::Gzip => (1, 9),
            Self::Zstd => (1, 22),
        }
    }

    /// The format's own default, which is what other builders use.
    pub fn default_level(self) -> i32 {
        match self {
            Self::Gzip => 6,
            Self::Zstd => 3,
        }
    }

    /// Input that is compressed by itself. Larger blocks bring less than one part in a thousand.
    fn block(self) -> usize {
        match self {
            Self::Gzip => 512 << 10,
            Self::Zstd => 4 << 20,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

impl FromStr for Format {
    type Err = CompressionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            other => Err(CompressionError::Format(other.chars().take(80).collect())),
        }
    }
}

impl Compression {
    /// `level` of `format`; `None`: its default.
    ///
    /// # Errors
    /// The format has no such level.
    pub fn new(format: Format, level: Option<i32>) -> Result<Self, CompressionError> {
        let level = level.unwrap_or(format.default_level());
        let (least, most) = format.levels();
        if (least..=most).contains(&level) {
            Ok(Self { format, level })
        } else {
            Err(CompressionError::Level { format, level })
        }
    }

    /// The default level of a format.
    pub fn of(format: Format) -> Self {
        let level = format.default_level();
        Self { format, level }
    }

    /// The level of a format for blobs that a person waits for: gzip's is near its default's sizes in half the time.
    pub fn quick(format: Format) -> Self {
        let level = match format {
            Format::Gzip => 2,
            Format::Zstd => format.default_level(),
        };
        Self { format, level }
    }

    /// The format.
    pub fn format(self) -> Format {
        self.format
    }
}

impl Default for Compression {
    fn default() -> Self {
        Self::of(Format::Gzip)
    }
}

/// Compresses what is written to it into `out`.
pub(super) struct Compressor<W> {
    out: W,
    format: Format,
    pool: Pool,
    /// Of gzip: what the block may refer to, in front of it.
    window: usize,
    block: Vec<u8>,
    crc: Crc,
    blocks: u64,
}

impl<W: Write> Compressor<W> {
    /// Compresses on `threads` threads; on none but the caller's when that is one.
    pub(super) fn new(mut out: W, compression: Compression, threads: usize) -> io::Result<Self> {
        if compression.format == Format::Gzip {
            out.write_all(&block::GZIP_HEADER)?;
        }
        Ok(Self {
            out,
            format: compression.format,
            pool: Pool::new(compression, threads)?,
            window: 0,
            block: Vec::new(),
            crc: Crc::new(),
            blocks: 0,
        })
    }

    /// Ends the stream.
    pub(super) fn finish(mut self) -> io::Result<W> {
        // An empty zstd stream is an empty frame, and not no frame at all.
        let empty = self.format == Format::Zstd && self.blocks == 0;
        if self.block.len() > self.window || empty {
            self.send()?;
        }
        while self.pool.next(&mut self.out)? {}
        if self.format == Format::Gzip {
            self.out.write_all(&block::gzip_trailer(&self.crc))?;
        }
        Ok(self.out)
    }

    fn send(&mut self) -> io::Result<()> {
        let next = match self.format {
            Format::Gzip => self.block[self.block.len().saturating_sub(block::WINDOW)..].to_vec(),
            Format::Zstd => Vec::new(),
        };
        let window = next.len();
        let block = std::mem::replace(&mut self.block, next);
        while self.pool.is_full() {
            self.pool.next(&mut self.out)?;
        }
        self.pool.send(block, self.window)?;
        self.window = window;
        self.blocks += 1;
        Ok(())
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.format.block() - (self.block.len() - self.window);
        let count = bytes.len().min(room);
        self.block.extend_from_slice(&bytes[..count]);
        if self.format == Format::Gzip {
            self.crc.update(&bytes[..count]);
        }
        if count == room {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
