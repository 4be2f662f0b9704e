//! A reader that proves content while it passes: it fails at the end unless digest and size match,
//! and fails early when more bytes come than were promised.

use std::io::{self, Read};

use crate::digest::{Digest, Digester};

/// Content that is not what its descriptor says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The digest differs.
    #[error("content has digest {actual}, expected {expected}")]
    Digest {
        /// What was promised.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// The length differs; `actual` is what had come when it was noticed.
    #[error("content has {actual} bytes, expected {expected}")]
    Size {
        /// What was promised.
        expected: u64,
        /// What came.
        actual: u64,
    },
}

impl From<VerifyError> for io::Error {
    fn from(error: VerifyError) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// Counts and hashes bytes against what a descriptor promises. A copy goes on from the same byte.
#[derive(Clone)]
pub struct Verifier {
    digester: Digester,
    expected: Digest,
    size: u64,
    seen: u64,
}

impl Verifier {
    /// Expects `size` bytes of digest `expected`.
    pub fn new(expected: Digest, size: u64) -> Self {
        let digester = Digester::new(expected.algorithm());
        Self {
            digester,
            expected,
            size,
            seen: 0,
        }
    }

    /// Takes the next bytes; fails as soon as there are too many.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), VerifyError> {
        self.seen += bytes.len() as u64;
        if self.seen > self.size {
            return Err(self.wrong_size());
        }
        self.digester.update(bytes);
        Ok(())
    }

    /// How many bytes have come.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Proves the whole.
    pub fn finish(self) -> Result<(), VerifyError> {
        if self.seen != self.size {
            return Err(self.wrong_size());
        }
        let actual = self.digester.finish();
        if actual == self.expected {
            Ok(())
        } else {
            Err(VerifyError::Digest {
                expected: self.expected,
                actual,
            })
        }
    }

    fn wrong_size(&self) -> VerifyError {
        VerifyError::Size {
            expected: self.size,
            actual: self.seen,
        }
    }
}

/// A [`Read`] that passes bytes through a [`Verifier`]; its end of file is an error unless they match.
pub struct VerifyingReader<R> {
    inner: R,
    verifier: Option<Verifier>,
}

impl<R: Read> VerifyingReader<R> {
    /// Reads `inner`, which must hold `size` bytes of digest `expected`.
    pub fn new(inner: R, expected: Digest, size: u64) -> Self {
        let verifier = Some(Verifier::new(expected, size));
        Self { inner, verifier }
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        match &mut self.verifier {
            Some(verifier) if count > 0 => verifier.update(&buffer[..count])?,
            Some(_) if !buffer.is_empty() => {
                if let Some(verifier) = self.verifier.take() {
                    verifier.finish()?;
                }
            }
            _ => {}
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], digest_of: &[u8], size: u64) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        VerifyingReader::new(bytes, Digest::of(digest_of), size).read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn only_the_promised_bytes_pass() {
        assert_eq!(read(b"layer", b"layer", 5).expect("matches"), b"layer");
        assert!(read(b"layes", b"layer", 5).is_err());
        assert!(read(b"laye", b"layer", 5).is_err());
        assert!(read(b"layers", b"layer", 5).is_err());
        assert!(read(b"", b"", 0).is_ok());
    }
}
