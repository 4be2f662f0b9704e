//! What can go wrong with one answer, or with one request that carries a body.

use std::time::Duration;

use crate::fake::{Answer, Asked};

/// One fault. Bytes are counted from the beginning of the answer's body, or of the request's.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection ends behind this many bytes of the body: by a reset, or as if all was said.
    Cut {
        /// Bytes that are sent.
        after: u64,
        /// With RST (RFC 9293, 3.5.3), which throws away what has not left yet.
        reset: bool,
    },
    /// A whole answer whose Content-Length promises, and whose body has, this many bytes at most.
    Truncate(u64),
    /// These many bytes are not those of the registry.
    Corrupt {
        /// The first of them.
        at: u64,
        /// Their number.
        len: u64,
    },
    /// Silence behind this many bytes, until the client goes.
    Stall(u64),
    /// Slow from the first byte.
    Crawl {
        /// Bytes a second.
        rate: u64,
    },
    /// The request is passed on later.
    Delay(Duration),
    /// A header of the answer says this instead.
    Header(&'static str, String),
    /// The answer has this status instead.
    Status(u16),
    /// The request's Range is passed over (RFC 9110, 14.2 allows it).
    Whole,
    /// A Range that begins this many bytes earlier is served, and said to be so.
    Earlier(u64),
    /// This is said instead, and the registry hears nothing.
    Answer(Answer),
    /// This head, then the filler again and again until the client goes.
    Pour {
        /// Status line and headers, as far as they go.
        head: Vec<u8>,
        /// What follows, for ever.
        filler: Vec<u8>,
    },
    /// The connection is reset when this many bytes of the request's body have been passed on.
    CutRequest(u64),
    /// The request is passed on whole, and the connection is closed instead of an answer.
    LoseAnswer,
    /// The request's body is not read any more behind this many bytes, until the client goes.
    StallRequest(u64),
}

/// Decides what happens to a request, given how many there were before with its method and path.
pub type Plan = dyn Fn(&Asked, usize) -> Option<Fault> + Send + Sync;

impl Asked {
    /// A header's value; empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        let mut found = self.headers.iter().filter(|(n, _)| n == name);
        found.next().map_or("", |(_, value)| value.as_str())
    }

    /// The path without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The digest of the blob whose bytes are asked for.
    pub fn blob(&self) -> Option<&str> {
        let (_, digest) = self.path().split_once("/blobs/")?;
        (self.method == "GET" && digest.starts_with("sha256:")).then_some(digest)
    }

    /// Whether a manifest is asked for, by HEAD or GET.
    pub fn is_manifest(&self) -> bool {
        matches!(self.method.as_str(), "GET" | "HEAD") && self.path().contains("/manifests/")
    }

    /// Whether it carries bytes of a blob.
    pub fn is_upload(&self) -> bool {
        matches!(self.method.as_str(), "PATCH" | "PUT" | "POST")
            && self.path().contains("/blobs/uploads/")
            && self.header("content-length") != "0"
            && (!self.header("content-length").is_empty() || self.is_chunked())
    }

    pub(super) fn is_chunked(&self) -> bool {
        self.header("transfer-encoding")
            .eq_ignore_ascii_case("chunked")
    }

    /// The first byte of the range that is asked for (RFC 9110, 14.1.2); 0 without one.
    pub fn from(&self) -> u64 {
        let first = || {
            let range = self.header("range").strip_prefix("bytes=")?;
            range.split('-').next()?.parse().ok()
        };
        first().unwrap_or(0)
    }
}
