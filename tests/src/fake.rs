//! A registry that misbehaves: a closure answers each request, and may say anything.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::http::read_headers;
use crate::image::Image;

/// Longer bodies are blobs, and not kept.
const MAX_BODY: u64 = 64 * 1024;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// GET, HEAD, …
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, as far as it is of a length that a form has.
    pub body: Vec<u8>,
}

impl Asked {
    /// The body as text.
    pub fn body_text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What is sent back: these bytes, whole reply and all, then the connection is closed.
pub type Answer = Vec<u8>;

/// A server under way; its port is free again when it is dropped.
pub struct Fake {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    /// Answers every request with `answer`.
    pub fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind");
        let address = listener.local_addr().expect("address");
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (stopped, log, answer) = (stop.clone(), asked.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (log, answer) = (log.clone(), answer.clone());
                std::thread::spawn(move || serve(&stream, &log, &*answer));
            }
        });
        Self {
            address,
            stop,
            asked,
        }
    }

    /// Serves an image as a good registry does, but for what `fault` answers itself.
    pub fn of_image(
        image: Image,
        fault: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        Self::start(move |asked| fault(asked).unwrap_or_else(|| honest(&image, asked)))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("log").clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: &TcpStream, log: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked) -> Answer) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line).is_err() || line.is_empty() {
        return;
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return;
    };
    let Ok(headers) = read_headers(&mut reader) else {
        return;
    };
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(0);
    let mut rest = reader.take(length);
    let mut body = Vec::new();
    let _ = (&mut rest).take(MAX_BODY).read_to_end(&mut body);
    let _ = std::io::copy(&mut rest, &mut std::io::sink());
    let asked = Asked {
        method,
        target,
        headers,
        body,
    };
    if let Ok(mut log) = log.lock() {
        log.push(asked.clone());
    }
    let mut stream = stream;
    let _ = stream.write_all(&answer(&asked));
}

/// A whole reply with the right length.
pub fn reply(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    reply_of_length(status, headers, body.len(), body)
}

/// A whole reply that promises `length` bytes.
pub fn reply_of_length(
    status: u16,
    headers: &[(&str, &str)],
    length: usize,
    body: &[u8],
) -> Answer {
    let mut head =
        format!("HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {length}\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

/// What a good registry answers for an image, whatever repository and tag are asked for.
pub fn honest(image: &Image, asked: &Asked) -> Answer {
    let path = asked.target.split('?').next().unwrap_or_default();
    let (headers, body): (Vec<(&str, String)>, &[u8]) = if path == "/v2/" {
        (Vec::new(), b"{}")
    } else if path.contains("/manifests/") {
        let digest = image.digest.to_string();
        let kind = image.media_type().to_owned();
        (
            vec![("Content-Type", kind), ("Docker-Content-Digest", digest)],
            &image.manifest,
        )
    } else {
        let wanted = path.rsplit('/').next().unwrap_or_default();
        let found = image
            .blobs()
            .find(|blob| strata_oci::digest::Digest::of(blob).to_string() == wanted);
        match found {
            Some(blob) => (
                vec![("Content-Type", "application/octet-stream".to_owned())],
                blob,
            ),
            None => return reply(404, &[], br#"{"errors":[{"code":"BLOB_UNKNOWN"}]}"#),
        }
    };
    let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let body_sent = if asked.method == "HEAD" {
        &[][..]
    } else {
        body
    };
    reply_of_length(200, &headers, body.len(), body_sent)
}
