//! What a proxy has counted.

use std::collections::BTreeMap;

use super::IN_FLIGHT;

/// Bytes and breaks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Bytes of each blob's body that were given to a connection, by digest.
    pub sent: BTreeMap<String, u64>,
    /// Bytes of blobs that came with requests.
    pub uploaded: u64,
    /// Requests that something was done to.
    pub faults: u64,
    /// Bodies that the proxy ended before their end, or made so that a client has to end them.
    pub cuts: u64,
    /// Bodies that the client did not take to their end, of those that the proxy did nothing to. One whose end lies in
    /// the client's socket when the client is killed is not among them.
    pub left: u64,
    /// Bytes that a fault made useless, or that had to be sent again: other bytes than the registry's, what lies
    /// before the offset that was asked for, and what a client begins anew after a lie about ranges.
    pub spoilt: u64,
    /// Bytes of endless answers.
    pub poured: u64,
}

impl Tally {
    /// Bytes of all blobs.
    pub fn blob_bytes(&self) -> u64 {
        self.sent.values().sum()
    }

    /// The same when the client was killed so often: each time it may have lost what lay in the sockets of two
    /// connections that had all that was asked for.
    #[must_use]
    pub fn with_kills(mut self, kills: usize) -> Self {
        self.left += 2 * kills as u64;
        self
    }

    /// The most that may have travelled for blobs of `size` bytes in all: each byte once, what the faults spoilt,
    /// and what was in flight at each break.
    pub fn bound(&self, size: u64) -> u64 {
        size + self.spoilt + IN_FLIGHT * (self.cuts + self.left)
    }

    /// Asserts that no more blob bytes travelled than breaks excuse.
    #[track_caller]
    pub fn assert_bound(&self, size: u64, what: &str) {
        let (sent, bound) = (self.blob_bytes(), self.bound(size));
        assert!(sent <= bound, "{what}: {sent} bytes for {size}: {self:?}");
    }
}
