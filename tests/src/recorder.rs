//! A wire between client and registry that notes each request's first line, so that a test can see what a client
//! really asked for.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// What was sent on each connection.
type Sent = Arc<Mutex<Vec<u8>>>;

#[derive(Default)]
struct Shared {
    connections: Mutex<Vec<Sent>>,
    stop: AtomicBool,
}

/// A listening end of the wire; closed when dropped.
pub struct Recorder {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Recorder {
    /// Opens a wire to `target`.
    pub fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind");
        let address = listener.local_addr().expect("address");
        let shared = Arc::new(Shared::default());
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.stop.load(Ordering::Relaxed) {
                    return;
                }
                let sent = Sent::default();
                let mut connections = accepting.connections.lock().expect("connections");
                connections.push(sent.clone());
                std::thread::spawn(move || carry(client, target, &sent));
            }
        });
        Self { address, shared }
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The reference of an image behind this wire.
    pub fn reference(&self, repository: &str, tag: &str) -> String {
        format!("{}/{repository}:{tag}", self.address)
    }

    /// All requests so far as `METHOD TARGET`, in order on each connection.
    pub fn requests(&self) -> Vec<String> {
        let connections = self.shared.connections.lock().expect("connections");
        let sent = connections.iter();
        sent.flat_map(|sent| requests(&sent.lock().expect("sent")))
            .collect()
    }

    /// How many bytes have been sent towards the registry.
    pub fn sent(&self) -> u64 {
        let connections = self.shared.connections.lock().expect("connections");
        let lengths = connections
            .iter()
            .map(|sent| sent.lock().expect("sent").len() as u64);
        lengths.sum()
    }

    /// The requests that mount a blob into `repository` from another one.
    pub fn mounts(&self, repository: &str) -> Vec<String> {
        let start = format!("POST /v2/{repository}/blobs/uploads/?");
        let mut all = self.requests();
        all.retain(|line| {
            line.starts_with(&start) && line.contains("mount=") && line.contains("from=")
        });
        all
    }

    /// The requests that send bytes of a blob into `repository`.
    pub fn uploads(&self, repository: &str) -> Vec<String> {
        let path = format!(" /v2/{repository}/blobs/uploads/");
        let mut all = self.requests();
        all.retain(|line| {
            line.contains(&path) && (line.starts_with("PATCH") || line.starts_with("PUT"))
        });
        all
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts, so that the port is free.
        let _ = TcpStream::connect(self.address);
    }
}

fn carry(mut client: TcpStream, target: SocketAddr, sent: &Sent) {
    let Ok(mut server) = TcpStream::connect(target) else {
        return;
    };
    let (Ok(mut to_client), Ok(mut from_server)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let mut buffer = vec![0; 65536];
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        // Noted before it is passed on: who has the answer finds the request here.
        if let Ok(mut sent) = sent.lock() {
            sent.extend(&buffer[..count]);
        }
        if server.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Write);
}

/// The first lines of the requests in what a client sent; a body may end without a line's end.
fn requests(sent: &[u8]) -> Vec<String> {
    const END: &[u8] = b" HTTP/1.1\r\n";
    const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let mut found = Vec::new();
    for end in (0..sent.len()).filter(|&at| sent[at..].starts_with(END)) {
        let Some(blank) = sent[..end].iter().rposition(|&b| b == b' ') else {
            continue;
        };
        let target = String::from_utf8_lossy(&sent[blank + 1..end]);
        let mut methods = METHODS.iter();
        if let Some(method) = methods.find(|method| sent[..blank].ends_with(method.as_bytes())) {
            found.push(format!("{method} {target}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_behind_bodies_are_found() {
        let sent = b"PUT /v2/a/blobs/uploads/1?digest=x HTTP/1.1\r\nContent-Length: 3\r\n\r\nx yGET /v2/ HTTP/1.1\r\n\r\n";
        let found = requests(sent);
        assert_eq!(found, ["PUT /v2/a/blobs/uploads/1?digest=x", "GET /v2/"]);
    }
}
