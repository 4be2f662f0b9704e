//! What happens during a transfer, for whoever shows it.
//!
//! The library reports and never prints. An item is a blob on its way: a layer that is pulled, or a
//! layer or config that is pushed; items are numbered in the order of their [`Event::Planned`].

use std::sync::{Arc, Mutex};
use std::time::Duration;

use strata_oci::Digest;

use crate::registry::Retrying;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An item takes part in the transfer.
    Planned {
        /// Its number.
        item: usize,
        /// The digest of the blob.
        digest: Digest,
        /// The size of the blob in bytes.
        size: u64,
    },
    /// Another process is at it; this one waits for the result.
    Waiting {
        /// Its number.
        item: usize,
    },
    /// So many of the blob's bytes were kept from an earlier try: they are proved with the rest, and do not
    /// travel again.
    Resumed {
        /// Its number.
        item: usize,
        /// Bytes from the beginning.
        bytes: u64,
    },
    /// The transfer broke off and is tried again.
    Retrying {
        /// Its number.
        item: usize,
        /// What went wrong.
        why: String,
        /// When the next try begins.
        wait: Duration,
    },
    /// So many of the blob's bytes are across, those kept from an earlier try included.
    Moved {
        /// Its number.
        item: usize,
        /// Bytes from the beginning.
        bytes: u64,
    },
    /// So many bytes of the layer's tar are unpacked.
    Unpacked {
        /// Its number.
        item: usize,
        /// Bytes from the beginning.
        bytes: u64,
    },
    /// The item is where it should be.
    Done {
        /// Its number.
        item: usize,
        /// How it came there.
        how: How,
    },
    /// The item failed, and the transfer with it.
    Failed {
        /// Its number.
        item: usize,
    },
    /// Something that a person may want to know: another try, a fallback.
    Message(String),
}

/// How an item came to be where it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Fetched from the registry and unpacked, or written into a layout or an archive.
    Fetched,
    /// It was there already.
    Reused,
    /// Sent to the registry.
    Uploaded,
    /// Linked from another repository of the registry.
    Mounted,
    /// Left out of an archive, because whoever gets it has it.
    LeftOut,
    /// It is here, and was proved to be what it should be.
    Verified,
}

/// Takes the events of a transfer; from several threads, and often.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event);
}

/// Tells of an item's tries that break off.
pub(crate) fn retrying(item: usize, progress: &Arc<dyn Progress>) -> Retrying {
    let progress = progress.clone();
    Arc::new(move |error, wait| {
        let why = error.to_string();
        progress.event(Event::Retrying { item, why, wait });
    })
}

/// Shows nothing.
#[derive(Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: Event) {}
}

/// Keeps every event, to be looked at afterwards.
#[derive(Debug, Default)]
pub struct Recording {
    events: Mutex<Vec<Event>>,
}

impl Recording {
    /// What has happened until now.
    pub fn events(&self) -> Vec<Event> {
        match self.events.lock() {
            Ok(events) => events.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }
}

impl Progress for Recording {
    fn event(&self, event: Event) {
        match self.events.lock() {
            Ok(mut events) => events.push(event),
            Err(poisoned) => poisoned.into_inner().push(event),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recording_keeps_the_order() {
        let recording = Recording::default();
        Silent.event(Event::Failed { item: 0 });
        recording.event(Event::Moved { item: 0, bytes: 1 });
        recording.event(Event::Message("again".to_owned()));
        let expected = [
            Event::Moved { item: 0, bytes: 1 },
            Event::Message("again".to_owned()),
        ];
        assert_eq!(recording.events(), expected);
    }
}
