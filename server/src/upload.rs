//! Upload sessions: the id that a client is given, and what is remembered between its requests.
//!
//! A session belongs to one repository and one owner: an id alone gives no access to it
//! (CVE-2026-32589 was a registry that looked only at the id).

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use strata_oci::{Digester, Repository};

/// A random id of 128 bits, in lower-case hexadecimal: safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UploadId(Box<str>);

/// A text that is not an upload id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an upload id")]
pub struct ParseUploadIdError;

impl UploadId {
    /// An id that nobody can guess.
    pub fn random() -> Self {
        Self(format!("{:032x}", rand::random::<u128>()).into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for UploadId {
    type Err = ParseUploadIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 32 && text.bytes().all(hex) {
            Ok(Self(text.into()))
        } else {
            Err(ParseUploadIdError)
        }
    }
}

/// How far an upload has come: `offset` bytes are durable and have passed through `digester`.
#[derive(Clone)]
pub struct Position {
    /// Bytes received.
    pub offset: u64,
    /// The state after them.
    pub digester: Digester,
}

/// A session as the database remembers it.
#[derive(Clone)]
pub struct Upload {
    /// Its id.
    pub id: UploadId,
    /// The repository that it was started in.
    pub repository: Repository,
    /// The principal who started it.
    pub owner: String,
    /// How far it has come.
    pub position: Position,
}

/// The sessions that a request of this process is writing to: a staged file has one writer.
#[derive(Debug, Clone, Default)]
pub struct Claims(Arc<Mutex<HashSet<UploadId>>>);

/// The right to write to a session, given back on drop.
#[derive(Debug)]
pub struct Claim {
    claims: Claims,
    id: UploadId,
}

impl Claims {
    /// Takes the session; `None` while another request has it.
    pub fn take(&self, id: &UploadId) -> Option<Claim> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.insert(id.clone()).then(|| Claim {
            claims: self.clone(),
            id: id.clone(),
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let taken = &self.claims.0;
        let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_safe_names() {
        let id = UploadId::random();
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        assert_ne!(id, UploadId::random());
        for bad in [
            "",
            "..",
            "../../etc/passwd",
            &"A".repeat(32),
            &"a".repeat(33),
        ] {
            assert!(bad.parse::<UploadId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn one_writer_at_a_time() {
        let (claims, id) = (Claims::default(), UploadId::random());
        let first = claims.take(&id).expect("free");
        assert!(claims.take(&id).is_none());
        assert!(claims.take(&UploadId::random()).is_some());
        drop(first);
        assert!(claims.take(&id).is_some());
    }
}
