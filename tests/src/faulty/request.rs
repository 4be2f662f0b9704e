//! The body of a request as it passes: of known length or in chunks (RFC 9112, 6.3 and 7.1).

use std::io::{self, BufRead, Read};

use crate::fake::Asked;

/// A part of a body, with its framing.
pub(super) struct Piece {
    pub(super) bytes: Vec<u8>,
    /// How many of them are content.
    pub(super) payload: usize,
}

/// A body on its way.
pub(super) struct Body {
    chunked: bool,
    /// Bytes of content left, of the chunk or of all.
    left: u64,
    ended: bool,
}

const PIECE: u64 = 16 * 1024;

impl Body {
    pub(super) fn of(asked: &Asked) -> Self {
        let left = asked.header("content-length").parse().unwrap_or(0);
        let chunked = asked.is_chunked();
        Self {
            chunked,
            left: if chunked { 0 } else { left },
            ended: false,
        }
    }

    /// The next part; `None` behind the last.
    pub(super) fn next(&mut self, reader: &mut impl BufRead) -> io::Result<Option<Piece>> {
        let mut bytes = Vec::new();
        if self.chunked && self.left == 0 {
            if self.ended {
                return Ok(None);
            }
            reader.read_until(b'\n', &mut bytes)?;
            let line = String::from_utf8_lossy(&bytes);
            let size = line.trim().split(';').next().unwrap_or_default();
            self.left = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
            if self.left == 0 {
                self.ended = true;
                reader.read_until(b'\n', &mut bytes)?;
                return Ok(Some(Piece { bytes, payload: 0 }));
            }
        }
        if self.left == 0 {
            return Ok(None);
        }
        let wanted = self.left.min(PIECE);
        let count = reader.by_ref().take(wanted).read_to_end(&mut bytes)?;
        if count as u64 != wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= wanted;
        if self.chunked && self.left == 0 {
            reader.read_until(b'\n', &mut bytes)?;
        }
        let payload = count;
        Ok(Some(Piece { bytes, payload }))
    }
}
