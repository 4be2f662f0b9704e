//! A proxy of HTTP/1.1 between a client and a real registry that does wrong what a plan says, request by
//! request, and counts the bytes of blobs that it has sent.

mod answer;
mod fault;
mod request;
mod tally;
mod wire;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::net::sockopt::set_socket_recv_buffer_size;

pub use fault::{Fault, Plan};
pub use tally::Tally;

use crate::fake::Asked;

/// What one break can cost at most beside the fault itself, in bytes: the buffers of the two sockets between, of
/// which the sending one holds 64 KiB (the kernel doubles it) and the other is read by a client that is awake.
pub const IN_FLIGHT: u64 = 256 * 1024;

/// What either side may have sent beyond what the other has read, in bytes (the kernel doubles it).
const SOCKET_BUFFER: usize = 64 * 1024;

struct Shared {
    target: SocketAddr,
    rate: Option<u64>,
    plan: Box<Plan>,
    stop: AtomicBool,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    asked: Vec<Asked>,
    before: HashMap<String, usize>,
    blobs: HashMap<String, Known>,
    tally: Tally,
}

/// What a client can know of a blob.
#[derive(Default)]
struct Known {
    /// The end of the furthest answer.
    reached: u64,
    /// Something that was said of a range was wrong.
    doubted: bool,
}

/// A listening proxy; closed when dropped.
pub struct Faulty {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Faulty {
    /// Listens on 127.0.0.1 and passes on to `target`.
    #[track_caller]
    pub fn start(
        target: SocketAddr,
        plan: impl Fn(&Asked, usize) -> Option<Fault> + Send + Sync + 'static,
    ) -> Self {
        Self::open("127.0.0.1", target, None, Box::new(plan))
    }

    /// Does nothing wrong, but sends each blob with this many bytes a second.
    #[track_caller]
    pub fn slow(target: SocketAddr, rate: u64) -> Self {
        Self::open("127.0.0.1", target, Some(rate), Box::new(|_, _| None))
    }

    /// Stands for another host: listens on an address of its own in 127.0.0.0/8.
    #[track_caller]
    pub fn elsewhere(
        ip: &str,
        target: SocketAddr,
        plan: impl Fn(&Asked, usize) -> Option<Fault> + Send + Sync + 'static,
    ) -> Self {
        Self::open(ip, target, None, Box::new(plan))
    }

    #[track_caller]
    fn open(ip: &str, target: SocketAddr, rate: Option<u64>, plan: Box<Plan>) -> Self {
        let listener = TcpListener::bind((ip, 0)).expect("bind");
        // What a client sends and the proxy does not read is not to lie in the kernel's buffers as if it had arrived.
        set_socket_recv_buffer_size(&listener, SOCKET_BUFFER).expect("a small buffer");
        let address = listener.local_addr().expect("address");
        let shared = Arc::new(Shared {
            target,
            rate,
            plan,
            stop: AtomicBool::new(false),
            book: Mutex::default(),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.stop.load(Ordering::Relaxed) {
                    return;
                }
                let shared = accepting.clone();
                std::thread::spawn(move || wire::carry(&shared, &client));
            }
        });
        Self { address, shared }
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The reference of an image behind the proxy.
    pub fn reference(&self, repository: &str, tag: &str) -> String {
        format!("{}/{repository}:{tag}", self.address)
    }

    /// All requests so far, the bodies of uploads aside.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.book().asked.clone()
    }

    /// What has been counted so far.
    pub fn tally(&self) -> Tally {
        self.shared.book().tally.clone()
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts, so that the port is free.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("the book")
    }

    /// Notes a request and decides what happens to it.
    fn decide(&self, asked: &Asked) -> Option<Fault> {
        let mut book = self.book();
        book.asked.push(asked.clone());
        let key = format!("{} {}", asked.method, asked.path());
        let count = book.before.entry(key).or_default();
        let before = *count;
        *count += 1;
        drop(book);
        let fault = (self.plan)(asked, before)?;
        let mut book = self.book();
        book.tally.faults += 1;
        let refuses_range =
            matches!(&fault, Fault::Answer(bytes) if bytes.starts_with(b"HTTP/1.1 416"));
        if let Some(digest) = asked.blob().filter(|_| refuses_range) {
            book.blobs.entry(digest.to_owned()).or_default().doubted = true;
        }
        Some(fault)
    }
}

#[cfg(test)]
mod tests;
