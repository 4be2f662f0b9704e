//! Proving a blob that is sent in parts, by tries that begin anywhere.
//!
//! A try that begins in the middle can prove the whole only if it knows the hash of what lies before. So the
//! hash's state is kept every few megabytes; the next try takes the last state before its beginning and reads
//! (from the disk, or from the other registry by a range) from there: a cut costs at most that distance
//! once more at the source, and nothing at the target.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use strata_oci::Descriptor;
use strata_oci::verify::Verifier;

/// The distance between two kept states in bytes.
const STEP: u64 = 4 << 20;
/// States kept of one blob: of a larger one they are further apart.
const MAX_POINTS: u64 = 1024;

/// What is known of a blob's bytes.
pub(super) struct Proof {
    pub(super) blob: Descriptor,
    step: u64,
    /// In order.
    points: Mutex<Vec<Verifier>>,
}

impl Proof {
    pub(super) fn new(blob: &Descriptor) -> Self {
        Self {
            blob: blob.clone(),
            step: STEP.max(blob.size / MAX_POINTS),
            points: Mutex::default(),
        }
    }

    /// The last state before `from`, or the first of all.
    fn before(&self, from: u64) -> Verifier {
        let points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = points.iter().rev().find(|point| point.seen() <= from);
        let beginning = || Verifier::new(self.blob.digest.clone(), self.blob.size);
        kept.cloned().unwrap_or_else(beginning)
    }

    fn keep(&self, state: &Verifier) {
        let mut points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        let last = points.last().map_or(0, Verifier::seen);
        if state.seen() >= last + self.step {
            points.push(state.clone());
        }
    }
}

/// One try's way through a blob.
pub(super) struct Passage {
    pub(super) proof: Arc<Proof>,
    state: Option<Verifier>,
    start: u64,
    /// The first byte that is passed on.
    from: u64,
}

impl Passage {
    pub(super) fn new(proof: Arc<Proof>, from: u64) -> Self {
        let state = proof.before(from);
        Self {
            start: state.seen(),
            state: Some(state),
            proof,
            from,
        }
    }

    /// Where reading begins: here or a little before `from`.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Whether the whole is proved.
    pub(super) fn is_over(&self) -> bool {
        self.state.is_none()
    }

    /// Takes the next bytes in; gives what of them is to be passed on, the last of all only if the whole
    /// is what it should be.
    pub(super) fn pass(&mut self, mut bytes: Bytes) -> io::Result<Option<Bytes>> {
        let Some(mut state) = self.state.take() else {
            return Ok(None);
        };
        let at = state.seen();
        state.update(&bytes)?;
        self.proof.keep(&state);
        if state.seen() == self.proof.blob.size {
            state.finish()?;
        } else {
            self.state = Some(state);
        }
        let before = self.from.saturating_sub(at);
        let fresh =
            bytes.split_off(usize::try_from(before).map_or(bytes.len(), |n| n.min(bytes.len())));
        Ok((!fresh.is_empty()).then_some(fresh))
    }

    /// The source has no more bytes.
    pub(super) fn end(&mut self) -> io::Result<()> {
        match self.state.take() {
            Some(state) => Ok(state.finish()?),
            None => Ok(()),
        }
    }
}
