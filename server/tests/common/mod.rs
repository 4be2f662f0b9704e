//! A registry in this process on a port of its own, and a client that can also send what no client should.

#![allow(dead_code, unreachable_pub)] // shared by test files that use a part each

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use strata_oci::Digest;
use stratad::{Config, Limits, Server};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub struct Registry {
    pub address: SocketAddr,
    pub dir: tempfile::TempDir,
    limits: Limits,
    set: fn(&mut Config),
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Registry {
    pub fn start() -> Self {
        Self::with(Limits::default())
    }

    pub fn with(limits: Limits) -> Self {
        Self::made(limits, |_| {})
    }

    /// With settings of which `set` has changed some.
    pub fn set(set: fn(&mut Config)) -> Self {
        Self::made(Limits::default(), set)
    }

    fn made(limits: Limits, set: fn(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let running = None;
        let mut registry = Self {
            address,
            dir,
            limits,
            set,
            running,
        };
        registry.run();
        registry
    }

    fn run(&mut self) {
        let mut config = Config {
            limits: self.limits.clone(),
            ..Config::new(self.dir.path())
        };
        (self.set)(&mut config);
        let (stop, stopped) = oneshot::channel::<()>();
        let (send, address) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
                let server = Server::open(config).await.expect("open");
                send.send(listener.local_addr().expect("address"))
                    .expect("send");
                let shutdown = async {
                    let _ = stopped.await;
                };
                server.serve(listener, shutdown).await;
            });
        });
        self.address = address.recv().expect("the server starts");
        self.running = Some((stop, thread));
    }

    pub fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            thread.join().expect("the server ends well");
        }
    }

    pub fn restart(&mut self) {
        self.stop();
        self.run();
    }

    pub fn connect(&self) -> Connection {
        Connection::new(self.address)
    }

    /// One request on a connection of its own.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.connect().send(method, path, headers, body)
    }

    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"")
    }

    pub fn put_manifest(&self, path: &str, media_type: &str, body: &str) -> Reply {
        self.send(
            "PUT",
            path,
            &[("Content-Type", media_type)],
            body.as_bytes(),
        )
    }

    /// Pushes a blob in one request.
    pub fn push(&self, repository: &str, content: &[u8]) -> Digest {
        let digest = Digest::of(content);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let reply = self.send("POST", &path, &[], content);
        assert_eq!(reply.status, 201, "{}", reply.text());
        digest
    }

    /// Pushes an image of one config; its manifest's digest and bytes.
    pub fn push_image(&self, repository: &str, tag: &str, config: &[u8]) -> (Digest, String) {
        let config = self.push(repository, config);
        let text = image(&config, "");
        let path = format!("/v2/{repository}/manifests/{tag}");
        let reply = self.put_manifest(&path, OCI_IMAGE, &text);
        assert_eq!(reply.status, 201, "{}", reply.text());
        (Digest::of(text.as_bytes()), text)
    }

    /// Begins an upload; its location.
    pub fn begin(&self, repository: &str) -> String {
        let path = format!("/v2/{repository}/blobs/uploads/");
        let reply = self.send("POST", &path, &[], b"");
        assert_eq!(reply.status, 202, "{}", reply.text());
        let location = reply.header("location").to_owned();
        assert!(location.starts_with("/v2/"), "relative: {location}");
        location
    }

    /// How far an upload is, as its status says.
    pub fn range(&self, location: &str) -> String {
        let reply = self.get(location);
        assert_eq!(reply.status, 204, "{}", reply.text());
        reply.header("range").to_owned()
    }

    /// Files under `uploads/`.
    pub fn staged(&self) -> usize {
        files(&self.dir.path().join("uploads"))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

pub fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir).expect("directory").count()
}

pub fn image(config: &Digest, extra: &str) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_IMAGE}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":2}},"layers":[]{extra}}}"#
    )
}

pub fn index(children: &[Digest], extra: &str) -> String {
    let child = |d| format!(r#"{{"mediaType":"{OCI_IMAGE}","digest":"{d}","size":2}}"#);
    let children: Vec<String> = children.iter().map(child).collect();
    let children = children.join(",");
    format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{children}]{extra}}}"#)
}

/// Bytes in which every place can be told from its neighbours.
pub fn content(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n ^ (n >> 8)) as u8).collect()
}

pub struct Connection(BufReader<TcpStream>);

impl Connection {
    pub fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connect");
        let patience = Some(Duration::from_secs(20));
        stream.set_read_timeout(patience).expect("timeout");
        Self(BufReader::new(stream))
    }

    pub fn write(&mut self, bytes: &[u8]) {
        // A server that has refused already may have closed its side.
        let _ = self.0.get_mut().write_all(bytes);
    }

    pub fn head(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: registry\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        self.write(format!("{head}\r\n").as_bytes());
    }

    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let length = body.len().to_string();
        let mut all = headers.to_vec();
        let chunked = headers.iter().any(|(name, _)| *name == "Transfer-Encoding");
        if !chunked && !matches!(method, "GET" | "HEAD") {
            all.push(("Content-Length", &length));
        }
        self.head(method, path, &all);
        self.write(body);
        self.reply(method == "HEAD").expect("a reply")
    }

    /// The next reply; `None` when the server closed the connection instead.
    pub fn reply(&mut self, head: bool) -> Option<Reply> {
        let mut line = String::new();
        self.0.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let status = line.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let mut reply = Reply {
            status,
            headers,
            body: Vec::new(),
        };
        let length = reply
            .find("content-length")
            .map_or(0, |l| l.parse().expect("length"));
        if !head && !matches!(status, 204 | 304) {
            reply.body = vec![0; length];
            self.0.read_exact(&mut reply.body).ok()?;
        }
        Some(reply)
    }
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn find(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn header(&self, name: &str) -> &str {
        self.find(name)
            .unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The protocol's code of a refusal.
    pub fn refusal(&self) -> (u16, String) {
        let code = &self.json()["errors"][0]["code"];
        (self.status, code.as_str().expect("a code").to_owned())
    }

    #[track_caller]
    pub fn expect_refusal(&self, status: u16, code: &str) {
        assert_eq!(self.refusal(), (status, code.to_owned()), "{}", self.text());
    }
}
