//! One 512-byte header block (POSIX.1-1988 ustar, and what GNU tar and star put in its place).

use super::error::TarFault;
use super::number;
use super::sparse::Segment;
use super::{BLOCK, Time};

/// Which dialect the magic names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// No magic: no prefix.
    V7,
    /// A prefix of 155 bytes.
    Ustar,
    /// A prefix of 131 bytes, then times.
    Star,
    /// No prefix; sparse map and real size there.
    Gnu,
}

/// A header block whose checksum is right.
pub(super) struct Header<'a> {
    block: &'a [u8; BLOCK],
    dialect: Dialect,
}

impl<'a> Header<'a> {
    pub(super) fn parse(block: &'a [u8; BLOCK]) -> Result<Self, TarFault> {
        let written = number::field(&block[148..156]).map_err(|_| TarFault::Checksum)?;
        // Early writers summed signed bytes; both sums are accepted everywhere.
        let mut unsigned = 8 * i64::from(b' ');
        let mut signed = unsigned;
        for byte in block[..148].iter().chain(&block[156..]) {
            unsigned += i64::from(*byte);
            signed += i64::from(byte.cast_signed());
        }
        if written != unsigned && written != signed {
            return Err(TarFault::Checksum);
        }
        let dialect = match &block[257..263] {
            // star ends its prefix with a NUL; without it, others take the times behind for a part of it.
            b"ustar\0" if &block[508..] == b"tar\0" => match block[475] {
                0 => Dialect::Star,
                _ => return Err(TarFault::Prefix),
            },
            b"ustar\0" => Dialect::Ustar,
            b"ustar " => Dialect::Gnu,
            _ => Dialect::V7,
        };
        Ok(Self { block, dialect })
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.block[156]
    }

    /// The name with its prefix.
    pub(super) fn name(&self) -> Vec<u8> {
        let prefix = match self.dialect {
            Dialect::Ustar => text(&self.block[345..500]),
            Dialect::Star => text(&self.block[345..476]),
            Dialect::V7 | Dialect::Gnu => b"",
        };
        let name = text(&self.block[..100]);
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    pub(super) fn link(&self) -> Vec<u8> {
        text(&self.block[157..257]).to_vec()
    }

    /// Permission bits with setuid, setgid and sticky; the type bits that V7 kept here are dropped.
    pub(super) fn mode(&self) -> Result<u32, TarFault> {
        let mode = number::field(&self.block[100..108]).map_err(|_| TarFault::Number("mode"))?;
        Ok((mode & 0o7777) as u32)
    }

    pub(super) fn uid(&self) -> Result<u32, TarFault> {
        id(&self.block[108..116], "uid")
    }

    pub(super) fn gid(&self) -> Result<u32, TarFault> {
        id(&self.block[116..124], "gid")
    }

    pub(super) fn size(&self) -> Result<u64, TarFault> {
        size(&self.block[124..136], "size")
    }

    pub(super) fn mtime(&self) -> Result<Time, TarFault> {
        let seconds =
            number::field(&self.block[136..148]).map_err(|_| TarFault::Number("mtime"))?;
        Ok(Time {
            seconds,
            nanoseconds: 0,
        })
    }

    /// Major and minor number of a device.
    pub(super) fn device(&self) -> Result<(u32, u32), TarFault> {
        let part = |bytes| {
            number::field(bytes)
                .ok()
                .and_then(|value| u32::try_from(value).ok())
                .ok_or(TarFault::Number("device number"))
        };
        Ok((part(&self.block[329..337])?, part(&self.block[337..345])?))
    }

    /// Whether GNU tar's fields are there: its sparse files exist in no other dialect.
    pub(super) fn is_gnu(&self) -> bool {
        self.dialect == Dialect::Gnu
    }

    /// GNU sparse: the first four segments, and whether extension blocks follow.
    pub(super) fn sparse(&self) -> Result<(Vec<Segment>, bool), TarFault> {
        let segments = segments(&self.block[386..482])?;
        Ok((segments, self.block[482] != 0))
    }

    /// GNU sparse: the size of the file with its holes.
    pub(super) fn real_size(&self) -> Result<u64, TarFault> {
        size(&self.block[483..495], "real size")
    }
}

/// A GNU sparse extension block: up to 21 segments, and whether another block follows.
pub(super) fn sparse_extension(block: &[u8; BLOCK]) -> Result<(Vec<Segment>, bool), TarFault> {
    Ok((segments(&block[..504])?, block[504] != 0))
}

/// Pairs of 12-byte numbers up to the first that is blank.
fn segments(bytes: &[u8]) -> Result<Vec<Segment>, TarFault> {
    bytes
        .chunks_exact(24)
        .take_while(|pair| pair[0] != 0 && pair[12] != 0)
        .map(|pair| {
            Ok(Segment {
                offset: size(&pair[..12], "sparse offset")?,
                length: size(&pair[12..], "sparse length")?,
            })
        })
        .collect()
}

fn size(bytes: &[u8], field: &'static str) -> Result<u64, TarFault> {
    let value = number::field(bytes).map_err(|_| TarFault::Number(field))?;
    u64::try_from(value).map_err(|_| TarFault::Number(field))
}

/// An owner's id. The highest value means "do not change" to chown(2), so no entry can have it.
fn id(bytes: &[u8], field: &'static str) -> Result<u32, TarFault> {
    let value = number::field(bytes).map_err(|_| TarFault::Number(field))?;
    u32::try_from(value)
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or(TarFault::Number(field))
}

/// A field up to its first NUL.
fn text(bytes: &[u8]) -> &[u8] {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    &bytes[..end]
}
