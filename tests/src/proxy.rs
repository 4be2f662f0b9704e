//! A wire between client and registry that can be slow, can break, and counts what passes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What the wire does to what the registry sends.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Breaks each connection that has carried this many bytes from the registry.
    pub cut_after: Option<u64>,
    /// How many connections are broken before the wire is sound; all when `None`.
    pub cuts: Option<u64>,
    /// Bytes a second from the registry, for each connection.
    pub rate: Option<u64>,
}

struct Shared {
    faults: Faults,
    target: SocketAddr,
    cut: AtomicU64,
    down: AtomicU64,
    stop: AtomicBool,
}

/// A listening end of the wire; closed when dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Opens a wire to `target`.
    pub fn start(target: SocketAddr, faults: Faults) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind");
        let address = listener.local_addr().expect("address");
        let shared = Arc::new(Shared {
            faults,
            target,
            cut: AtomicU64::new(0),
            down: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.stop.load(Ordering::Relaxed) {
                    return;
                }
                let shared = accepting.clone();
                std::thread::spawn(move || shared.carry(client));
            }
        });
        Self { address, shared }
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes that the registry has sent through the wire.
    pub fn received(&self) -> u64 {
        self.shared.down.load(Ordering::Relaxed)
    }

    /// Connections that were broken.
    pub fn cuts(&self) -> u64 {
        self.shared.cut.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts, so that the port is free.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn carry(&self, client: TcpStream) {
        let Ok(server) = TcpStream::connect(self.target) else {
            return;
        };
        let (Ok(mut from_client), Ok(mut to_server)) = (client.try_clone(), server.try_clone())
        else {
            return;
        };
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from_client, &mut to_server);
            let _ = to_server.shutdown(Shutdown::Write);
        });
        self.down(&server, &client);
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    }

    fn down(&self, mut server: &TcpStream, mut client: &TcpStream) {
        let mut buffer = vec![
            0;
            self.faults
                .rate
                .map_or(65536, |rate| (rate / 20).max(1) as usize)
        ];
        let mut passed = 0;
        while let Ok(count) = server.read(&mut buffer) {
            if count == 0 || client.write_all(&buffer[..count]).is_err() {
                return;
            }
            passed += count as u64;
            self.down.fetch_add(count as u64, Ordering::Relaxed);
            if self.faults.cut_after.is_some_and(|limit| passed >= limit) && self.may_cut() {
                return;
            }
            if let Some(rate) = self.faults.rate {
                std::thread::sleep(Duration::from_secs_f64(count as f64 / rate as f64));
            }
        }
    }

    fn may_cut(&self) -> bool {
        let limit = self.faults.cuts.unwrap_or(u64::MAX);
        let next = |cut| (cut < limit).then_some(cut + 1);
        let order = Ordering::Relaxed;
        self.cut.fetch_update(order, order, next).is_ok()
    }
}
