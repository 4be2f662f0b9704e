//! Who may do what to a digest's bytes: those that are about to get a row are pinned, those that are about to be
//! removed are barred. Never both: between the bytes of a push and its row, nothing takes the bytes away.
//!
//! It is enough that this process knows: a data directory has one server (`App::open` locks it).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strata_oci::Digest;
use tokio::sync::Notify;

/// The digests whose bytes are being worked on.
#[derive(Debug, Clone, Default)]
pub struct Pins(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    taken: Mutex<HashMap<Digest, Taken>>,
    freed: Notify,
}

#[derive(Debug)]
enum Taken {
    Pinned(usize),
    Barred,
}

/// As long as it lives the digest's bytes are not removed.
#[derive(Debug)]
pub struct Pin(Pins, Digest);

/// As long as it lives nobody gives the digest's bytes a row.
#[derive(Debug)]
pub struct Bar(Pins, Digest);

impl Pins {
    /// Pins a digest, together with others; waits while it is barred, which is a lookup and an unlink long.
    pub async fn pin(&self, digest: &Digest) -> Pin {
        loop {
            let freed = self.0.freed.notified();
            tokio::pin!(freed);
            // From here on a release is noticed, also one before the wait.
            freed.as_mut().enable();
            if self.try_pin(digest) {
                return Pin(self.clone(), digest.clone());
            }
            freed.await;
        }
    }

    fn try_pin(&self, digest: &Digest) -> bool {
        match self.lock().entry(digest.clone()) {
            Entry::Vacant(entry) => drop(entry.insert(Taken::Pinned(1))),
            Entry::Occupied(mut entry) => match entry.get_mut() {
                Taken::Pinned(count) => *count += 1,
                Taken::Barred => return false,
            },
        }
        true
    }

    /// Bars a digest; `None` while anyone else has it.
    pub fn bar(&self, digest: &Digest) -> Option<Bar> {
        match self.lock().entry(digest.clone()) {
            Entry::Vacant(entry) => drop(entry.insert(Taken::Barred)),
            Entry::Occupied(_) => return None,
        }
        Some(Bar(self.clone(), digest.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Taken>> {
        let taken = &self.0.taken;
        taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let Self(pins, digest) = self;
        let mut taken = pins.lock();
        match taken.get_mut(digest) {
            Some(Taken::Pinned(count)) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(digest)),
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        let Self(pins, digest) = self;
        pins.lock().remove(digest);
        pins.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn what_is_pinned_cannot_be_barred_and_what_is_barred_is_waited_for() {
        let (pins, digest) = (Pins::default(), Digest::of(b"x"));
        let (one, two) = (pins.pin(&digest).await, pins.pin(&digest).await);
        drop(one);
        assert!(pins.bar(&digest).is_none());
        assert!(pins.bar(&Digest::of(b"y")).is_some());
        drop(two);
        let bar = pins.bar(&digest).expect("free");
        assert!(pins.bar(&digest).is_none());
        let brief = timeout(Duration::from_millis(20), pins.pin(&digest)).await;
        assert!(brief.is_err(), "it waits");
        let waiting = tokio::spawn({
            let (pins, digest) = (pins.clone(), digest.clone());
            async move { drop(pins.pin(&digest).await) }
        });
        tokio::task::yield_now().await;
        drop(bar);
        waiting.await.expect("no panic");
        assert!(pins.lock().is_empty(), "nothing is left");
    }
}
