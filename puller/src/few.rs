//! What only a few may have at once, whoever asks first: memory for more speed, which with many would be too much.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many may still have it.
pub(crate) struct Few(AtomicUsize);

/// Held by one of the few.
pub(crate) struct Turn<'a>(&'a AtomicUsize);

impl Few {
    pub(crate) const fn new(count: usize) -> Self {
        Self(AtomicUsize::new(count))
    }

    /// Takes a turn, which lasts until it is dropped; none when all are taken.
    pub(crate) fn take(&self) -> Option<Turn<'_>> {
        let one_less = |left: usize| left.checked_sub(1);
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        taken.is_ok().then(|| Turn(&self.0))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_there_are_have_a_turn_and_then_others() {
        static FEW: Few = Few::new(2);
        let (first, second) = (FEW.take(), FEW.take());
        assert!(first.is_some() && second.is_some());
        assert!(FEW.take().is_none() && FEW.take().is_none());
        drop(first);
        let third = FEW.take();
        assert!(third.is_some() && FEW.take().is_none());
    }
}
