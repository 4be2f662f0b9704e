//! Content digests: `algorithm ":" encoded` (image-spec, descriptor.md, "Digests").
//!
//! A digest that has been parsed is safe to use as a file name: the algorithm is one of a closed
//! set and the encoded part is lower-case hexadecimal of exactly the algorithm's length. Paths made
//! from digests that were not checked this way were a path traversal elsewhere (CVE-2024-3727).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::digest::common::hazmat::SerializableState;
use sha2::{Digest as _, Sha256, Sha512};

/// A registered digest algorithm (image-spec, descriptor.md, "Registered algorithms").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, 64 hexadecimal digits: what every client uses.
    Sha256,
    /// SHA-512, 128 hexadecimal digits: optional in the specification, supported here.
    Sha512,
}

impl Algorithm {
    /// The name in front of the colon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            other => Err(ParseDigestError::Algorithm(shorten(other))),
        }
    }
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseDigestError {
    /// There is no colon.
    #[error("digest {0:?} has no algorithm: expected sha256:<64 hexadecimal digits>")]
    NoAlgorithm(String),
    /// The algorithm is not registered.
    #[error("digest algorithm {0:?} is not supported: use sha256 or sha512")]
    Algorithm(String),
    /// The encoded part has the wrong length or characters.
    #[error("{algorithm} digest must have {} lower-case hexadecimal digits, got {encoded:?}", .algorithm.hex_len())]
    Encoded {
        /// The algorithm that was named.
        algorithm: Algorithm,
        /// The beginning of what followed it.
        encoded: String,
    },
}

/// Keeps hostile text in messages short.
fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

/// A checked content digest.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    hex: Box<str>,
}

impl Digest {
    /// The sha256 digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut digester = Digester::new(Algorithm::Sha256);
        digester.update(bytes);
        digester.finish()
    }

    /// Which algorithm made it.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The encoded part: lower-case hexadecimal.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The first twelve digits, as clients print image ids.
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }

    /// Whether `bytes` have this digest.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        let mut digester = Digester::new(self.algorithm);
        digester.update(bytes);
        digester.finish() == *self
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (algorithm, encoded) = text
            .split_once(':')
            .ok_or_else(|| ParseDigestError::NoAlgorithm(shorten(text)))?;
        let algorithm: Algorithm = algorithm.parse()?;
        let valid = encoded.len() == algorithm.hex_len()
            && encoded
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !valid {
            let encoded = shorten(encoded);
            return Err(ParseDigestError::Encoded { algorithm, encoded });
        }
        Ok(Self {
            algorithm,
            hex: encoded.into(),
        })
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Computes a [`Digest`] from bytes as they pass; its state can be kept across a restart.
#[derive(Clone)]
pub struct Digester(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

/// A saved [`Digester`] state that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the saved state of a digest is damaged")]
pub struct RestoreError;

impl Digester {
    /// A digester that has seen no bytes.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// Which algorithm it computes.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            State::Sha256(_) => Algorithm::Sha256,
            State::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of all bytes seen.
    pub fn finish(self) -> Digest {
        let algorithm = self.algorithm();
        let hex = match self.0 {
            State::Sha256(state) => hex::encode(state.finalize()),
            State::Sha512(state) => hex::encode(state.finalize()),
        };
        Digest {
            algorithm,
            hex: hex.into(),
        }
    }

    /// The state as bytes, for [`Digester::restore`].
    pub fn save(&self) -> Vec<u8> {
        match &self.0 {
            State::Sha256(state) => [b"2".as_slice(), &state.serialize()].concat(),
            State::Sha512(state) => [b"5".as_slice(), &state.serialize()].concat(),
        }
    }

    /// Continues from what [`Digester::save`] gave.
    pub fn restore(saved: &[u8]) -> Result<Self, RestoreError> {
        let (&kind, state) = saved.split_first().ok_or(RestoreError)?;
        Ok(Self(match kind {
            b'2' => State::Sha256(restore_state(state)?),
            b'5' => State::Sha512(restore_state(state)?),
            _ => return Err(RestoreError),
        }))
    }
}

fn restore_state<S: SerializableState>(saved: &[u8]) -> Result<S, RestoreError> {
    let saved = saved.try_into().map_err(|_| RestoreError)?;
    S::deserialize(&saved).map_err(|_| RestoreError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digest_of_nothing_is_the_known_one() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert!(EMPTY.parse::<Digest>().expect("valid").matches(b""));
    }

    #[test]
    fn refuses_what_could_leave_a_directory() {
        for bad in [
            "",
            "sha256",
            "sha256:",
            "sha256:../../etc/passwd",
            "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            "../sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "sha512:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn damaged_state_is_refused() {
        assert!(Digester::restore(b"").is_err());
        assert!(Digester::restore(b"2short").is_err());
        assert!(Digester::restore(&[b'9'; 105]).is_err());
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_round_trips(text in ".{0,200}") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }

        #[test]
        fn state_survives_a_restart_at_any_point(bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in 0usize..400, long in any::<bool>()) {
            let algorithm = if long { Algorithm::Sha512 } else { Algorithm::Sha256 };
            let cut = cut.min(bytes.len());
            let mut first = Digester::new(algorithm);
            first.update(&bytes[..cut]);
            let mut second = Digester::restore(&first.save()).expect("saved state");
            second.update(&bytes[cut..]);
            let digest = second.finish();
            prop_assert!(digest.matches(&bytes));
            prop_assert_eq!(digest.algorithm(), algorithm);
        }
    }
}
