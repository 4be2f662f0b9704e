//! Who is at the other end of a connection, and what was written to it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::telemetry::{Exchange, Metrics};

type Unflushed = Option<Vec<Box<Exchange>>>;

/// One connection, as its requests know it: an extension of each.
#[derive(Debug)]
pub struct Peer {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    sent: AtomicU64,
    any: AtomicBool,
    /// Exchanges whose last bytes are in the connection's buffer; `None` when it is closed.
    unflushed: Mutex<Unflushed>,
}

impl Peer {
    pub(super) fn new(address: SocketAddr, metrics: Arc<Metrics>) -> Self {
        metrics.accepted.inc();
        metrics.connections.inc();
        Self {
            address,
            metrics,
            sent: AtomicU64::new(0),
            any: AtomicBool::new(false),
            unflushed: Mutex::new(Some(Vec::new())),
        }
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes written so far, heads included.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    pub(super) fn wrote(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Relaxed);
    }

    /// Ends an exchange when all that was given to the connection is written; at once if it is closed.
    pub(crate) fn when_flushed(&self, exchange: Box<Exchange>) {
        if let Some(unflushed) = &mut *self.unflushed() {
            unflushed.push(exchange);
            self.any.store(true, Relaxed);
        }
    }

    /// Everything that the connection was given is written.
    pub(super) fn flushed(&self) {
        if !self.any.load(Relaxed) {
            return;
        }
        self.any.store(false, Relaxed);
        for exchange in self.unflushed().iter_mut().flat_map(|all| all.drain(..)) {
            exchange.flushed();
        }
    }

    /// Nothing more will be written.
    pub(super) fn closed(&self) {
        let unflushed = self.unflushed().take();
        drop(unflushed);
    }

    fn unflushed(&self) -> MutexGuard<'_, Unflushed> {
        self.unflushed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}
