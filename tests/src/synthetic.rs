//! A registry of one image whose layers nobody holds: each byte is computed when it is sent. What is pushed to it is
//! counted and forgotten. For transfers of any size.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};
use strata_oci::digest::{Algorithm, Digest, Digester};
use strata_oci::media;

use crate::fake::{Asked, reply};
use crate::http::read_headers;
use crate::image::architecture;

const BLOCK: usize = 64 * 1024;

/// A tar with one file of bytes that do not compress.
#[derive(Debug, Clone)]
struct Layer {
    seed: u64,
    /// The file's header and the two blocks of zeros behind it are around this many bytes.
    content: u64,
    header: Vec<u8>,
    digest: Digest,
}

impl Layer {
    fn new(seed: u64, content: u64) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_path(format!("file{seed}")).expect("a name");
        header.set_size(content);
        header.set_mode(0o644);
        header.set_cksum();
        let mut layer = Self {
            seed,
            content,
            header: header.as_bytes().to_vec(),
            digest: Digest::of(b""),
        };
        let mut hasher = Digester::new(Algorithm::Sha256);
        let mut block = vec![0; BLOCK];
        let mut at = 0;
        while at < layer.size() {
            let count = (layer.size() - at).min(BLOCK as u64) as usize;
            layer.fill(at, &mut block[..count]);
            hasher.update(&block[..count]);
            at += count as u64;
        }
        layer.digest = hasher.finish();
        layer
    }

    fn size(&self) -> u64 {
        512 + self.content + 1024
    }

    /// The bytes from `at` on.
    fn fill(&self, at: u64, out: &mut [u8]) {
        for (n, chunk) in out.chunks_mut(8).enumerate() {
            // Splitmix64 of the place; all offsets here are multiples of eight, or are cut below.
            let place = at + n as u64 * 8;
            let word = self.word(place / 8).to_le_bytes();
            let shift = (place % 8) as usize;
            let next = self.word(place / 8 + 1).to_le_bytes();
            let both = [word, next].concat();
            chunk.copy_from_slice(&both[shift..shift + chunk.len()]);
        }
    }

    fn word(&self, index: u64) -> u64 {
        let at = index * 8;
        if at < 512 {
            let bytes = &self.header[at as usize..at as usize + 8];
            return u64::from_le_bytes(bytes.try_into().expect("eight"));
        }
        if at >= 512 + self.content {
            return 0;
        }
        let mut z = (index ^ (self.seed << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

struct Shared {
    layers: Vec<Layer>,
    config: Vec<u8>,
    manifest: Vec<u8>,
    received: AtomicU64,
    stop: AtomicBool,
}

/// The registry under way; closed when dropped.
pub struct Synthetic {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Synthetic {
    /// Serves an image of this many layers with files of this size, a multiple of 512.
    #[track_caller]
    pub fn start(layers: usize, content: u64) -> Self {
        assert_eq!(content % 512, 0);
        let making: Vec<_> = (0..layers as u64)
            .map(|seed| std::thread::spawn(move || Layer::new(seed, content)))
            .collect();
        let made = making
            .into_iter()
            .map(|thread| thread.join().expect("a layer"));
        let layers: Vec<Layer> = made.collect();
        let diff_ids: Vec<&Digest> = layers.iter().map(|layer| &layer.digest).collect();
        let config = json!({
            "architecture": architecture(), "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = config.to_string().into_bytes();
        let descriptors: Vec<Value> = layers
            .iter()
            .map(|l| json!({ "mediaType": media::OCI_LAYER, "digest": l.digest, "size": l.size() }))
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "layers": descriptors,
            "config": { "mediaType": media::OCI_CONFIG, "digest": Digest::of(&config), "size": config.len() },
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind");
        let address = listener.local_addr().expect("address");
        let shared = Arc::new(Shared {
            layers,
            config,
            manifest: manifest.to_string().into_bytes(),
            received: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.stop.load(Ordering::Relaxed) {
                    return;
                }
                let shared = accepting.clone();
                std::thread::spawn(move || shared.serve(&client));
            }
        });
        Self { address, shared }
    }

    /// The name of the image, or of another repository to push to.
    pub fn reference(&self, repository: &str) -> String {
        format!("{}/{repository}:v1", self.address)
    }

    /// The layers' size in bytes.
    pub fn layer_bytes(&self) -> u64 {
        self.shared.layers.iter().map(Layer::size).sum()
    }

    /// Bytes that came with requests.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }
}

impl Drop for Synthetic {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, client: &TcpStream) {
        let _ = client.set_nodelay(true);
        let mut reader = BufReader::new(client);
        while self.one(&mut reader, client).is_ok_and(|more| more) {}
    }

    /// Answers one request; `false` behind the last.
    fn one(&self, reader: &mut impl BufRead, mut client: &TcpStream) -> io::Result<bool> {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            return Ok(false);
        };
        let asked = Asked {
            method,
            target,
            headers: read_headers(reader)?,
            body: Vec::new(),
        };
        let length: u64 = asked.header("content-length").parse().unwrap_or(0);
        let taken = io::copy(&mut reader.take(length), &mut io::sink())?;
        self.received.fetch_add(taken, Ordering::Relaxed);
        let path = asked.path();
        let digest = path.rsplit('/').next().unwrap_or_default();
        // Whatever is pushed to is another repository, and has nothing.
        let known = path.starts_with("/v2/app/");
        let layer = self.layers.iter().find(|l| l.digest.to_string() == digest);
        let answer = match (asked.method.as_str(), layer) {
            ("GET", Some(layer)) if known => {
                self.layer(layer, &asked, client)?;
                return Ok(true);
            }
            ("GET" | "HEAD", _) if path == "/v2/" => reply(200, &[], b"{}"),
            ("GET" | "HEAD", _) if known && path.contains("/manifests/") => {
                self.manifest(asked.method == "HEAD")
            }
            ("GET", _) if known && path.contains("/blobs/") => reply(200, &[], &self.config),
            ("POST", _) => {
                let place = format!("{path}1");
                reply(202, &[("Location", &place)], b"")
            }
            ("PATCH", _) => {
                let sent = asked.header("content-range").split('-').nth(1);
                let last = sent.and_then(|last| last.parse().ok());
                let range = format!("0-{}", last.unwrap_or(taken.saturating_sub(1)));
                reply(202, &[("Location", path), ("Range", &range)], b"")
            }
            ("PUT", _) => reply(201, &[("Location", path)], b""),
            _ => reply(404, &[], b""),
        };
        client.write_all(&answer)?;
        Ok(false)
    }

    fn manifest(&self, head: bool) -> Vec<u8> {
        let digest = Digest::of(&self.manifest).to_string();
        let headers = [
            ("Content-Type", media::OCI_MANIFEST),
            ("Docker-Content-Digest", &digest),
        ];
        let body = if head { &[][..] } else { &self.manifest };
        crate::fake::reply_of_length(200, &headers, self.manifest.len(), body)
    }

    fn layer(&self, layer: &Layer, asked: &Asked, mut client: &TcpStream) -> io::Result<()> {
        let size = layer.size();
        let range = asked.header("range").strip_prefix("bytes=");
        let last = range.and_then(|range| range.split('-').nth(1)?.parse::<u64>().ok());
        let (from, last) = (asked.from(), last.unwrap_or(size - 1).min(size - 1));
        let status = match range {
            Some(_) => format!("206 x\r\nContent-Range: bytes {from}-{last}/{size}"),
            None => "200 x".to_owned(),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nAccept-Ranges: bytes\r\nETag: \"{}\"\r\nContent-Length: {}\r\n\r\n",
            layer.digest,
            last + 1 - from
        );
        client.write_all(head.as_bytes())?;
        let mut block = vec![0; BLOCK];
        let mut at = from;
        while at <= last {
            let count = (last + 1 - at).min(BLOCK as u64) as usize;
            layer.fill(at, &mut block[..count]);
            client.write_all(&block[..count])?;
            at += count as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_the_same_from_wherever_it_is_read() {
        let layer = Layer::new(3, 100_000 - 100_000 % 512);
        let mut whole = vec![0; layer.size() as usize];
        layer.fill(0, &mut whole);
        assert_eq!(Digest::of(&whole), layer.digest);
        let mut part = vec![0; 1001];
        layer.fill(77_777, &mut part);
        assert_eq!(part, whole[77_777..78_778]);
        let mut archive = tar::Archive::new(whole.as_slice());
        let mut entries = archive.entries().expect("entries");
        let entry = entries.next().expect("one").expect("good");
        assert_eq!(entry.size(), layer.content);
        assert!(entries.next().is_none());
    }
}
