//! Writing to disk while the bytes still arrive.
//!
//! The kernel keeps what is written in memory for up to half a minute, longer than most pulls take,
//! so the disk would idle during the pull and everything would wait for it at the end. It also
//! means that a power cut takes a longer part of an interrupted download with it.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The shortest time between two rounds; a pull that is done by then needs none.
const PAUSE: Duration = Duration::from_millis(200);

/// Writes back now and then, on a thread of its own, until it is dropped.
pub(super) struct Writeback {
    _running: Sender<()>,
}

impl Writeback {
    /// Begins for the file system of `root`. A help and no promise: where no thread can be had, or
    /// a round fails, the sync that comes before publication tells.
    pub(super) fn begin(root: &Path) -> Self {
        let (running, stopped) = channel();
        if let Ok(root) = File::open(root) {
            let work = move || {
                let mut pause = PAUSE;
                while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                    let began = Instant::now();
                    if rustix::fs::syncfs(&root).is_err() {
                        return;
                    }
                    // A slow disk is not kept from other work.
                    pause = PAUSE.max(began.elapsed() * 2);
                }
            };
            let named = thread::Builder::new().name("writeback".to_owned());
            let _ = named.spawn(work);
        }
        Self { _running: running }
    }
}
