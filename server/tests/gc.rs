//! Garbage collection without a pause, under clients that push, mount and delete the same few blobs: nothing
//! that a manifest names is ever missing, and in the end nothing is left that nobody names.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Connection, OCI_IMAGE, Registry, content, image};
use strata_oci::Digest;

const CLIENTS: usize = 4;
const BLOBS: u8 = 3;
const TIME: Duration = Duration::from_secs(5);

fn collecting_all_the_time() -> Registry {
    Registry::set(|config| {
        config.gc.interval = Duration::ZERO;
        config.gc.grace = Duration::ZERO;
    })
}

/// The blob of this number; large enough for its removal to take a while.
fn bytes(number: u8) -> Vec<u8> {
    let mut bytes = content(300_000);
    bytes[0] = number;
    bytes
}

struct Client<'a> {
    registry: &'a Registry,
    repository: String,
    other: String,
    random: u64,
}

impl Client<'_> {
    /// A number below `end` (xorshift; George Marsaglia, 2003).
    fn random(&mut self, end: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % end
    }

    fn send(&self, method: &str, path: &str, body: &[u8]) -> common::Reply {
        let headers = [("Content-Type", OCI_IMAGE)];
        let path = format!("/v2/{}/{path}", self.repository);
        self.registry.send(method, &path, &headers, body)
    }

    /// Brings a blob in one of the ways that there are.
    fn bring(&mut self, bytes: &[u8]) {
        let digest = Digest::of(bytes);
        match self.random(4) {
            0 => {
                let mount = format!("blobs/uploads/?mount={digest}&from={}", self.other);
                if self.send("POST", &mount, b"").status == 201 {
                    return;
                }
            }
            1 => {
                let start = self.send("POST", "blobs/uploads/", b"");
                let location = start.header("location").to_owned();
                let mut connection = Connection::new(self.registry.address);
                let (first, last) = bytes.split_at(100_000);
                let patch = connection.send("PATCH", &location, &[], first);
                assert_eq!(patch.status, 202, "{}", patch.text());
                let path = format!("{location}?digest={digest}");
                let put = connection.send("PUT", &path, &[], last);
                assert_eq!(put.status, 201, "{}", put.text());
                return;
            }
            2 if self.send("HEAD", &format!("blobs/{digest}"), b"").status == 200 => return,
            _ => {}
        }
        let post = self.send("POST", &format!("blobs/uploads/?digest={digest}"), bytes);
        assert_eq!(post.status, 201, "{}", post.text());
    }

    fn is_served(&self, bytes: &[u8]) {
        let reply = self.send("GET", &format!("blobs/{}", Digest::of(bytes)), b"");
        assert_eq!(reply.status, 200, "a manifest names it: {}", reply.text());
        assert!(reply.body == bytes, "other bytes");
    }

    /// One image, pushed, looked at and deleted. Whether its manifest was taken.
    fn round(&mut self) -> bool {
        let number = self.random(u64::from(BLOBS)) as u8;
        let bytes = bytes(number);
        let digest = Digest::of(&bytes);
        self.bring(&bytes);
        let text = image(
            &digest,
            &format!(r#","annotations":{{"n":"{}"}}"#, self.random),
        );
        let manifest = format!("manifests/{}", Digest::of(text.as_bytes()));
        let put = self.send("PUT", &manifest, text.as_bytes());
        if put.status != 201 {
            // Collected before it was named, which no grace allows; nothing was promised.
            put.expect_refusal(404, "MANIFEST_BLOB_UNKNOWN");
            return false;
        }
        self.is_served(&bytes);
        thread::sleep(Duration::from_millis(self.random(30)));
        self.is_served(&bytes);
        let deleted = self.send("DELETE", &manifest, b"");
        assert_eq!(deleted.status, 202, "{}", deleted.text());
        if self.random(3) > 0 {
            let deleted = self.send("DELETE", &format!("blobs/{digest}"), b"");
            assert!([202, 404].contains(&deleted.status), "{}", deleted.text());
        }
        true
    }
}

#[test]
fn collection_without_a_pause_takes_nothing_that_is_named_and_leaves_nothing_else() {
    let registry = Arc::new(collecting_all_the_time());
    let taken = AtomicU64::new(0);
    let until = Instant::now() + TIME;
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (registry, taken) = (&registry, &taken);
            scope.spawn(move || {
                let mut client = Client {
                    registry,
                    repository: format!("client{number}"),
                    other: format!("client{}", (number + 1) % CLIENTS),
                    random: 0x9E37_79B9_7F4A_7C15 + number as u64,
                };
                while Instant::now() < until {
                    taken.fetch_add(u64::from(client.round()), Ordering::Relaxed);
                }
            });
        }
    });
    let taken = taken.into_inner();
    println!("{taken} images were pushed and deleted");
    assert!(taken > 20, "hardly anything was tried: {taken}");
    // The last leases end with the second in which they began.
    let limit = Instant::now() + Duration::from_secs(20);
    let repositories = || registry.get("/v2/client0/tags/list").status == 200;
    while blob_files(&registry) > 0 || repositories() {
        let left = blob_files(&registry);
        assert!(Instant::now() < limit, "{left} blobs are left");
        thread::sleep(Duration::from_millis(50));
    }
}

fn blob_files(registry: &Registry) -> usize {
    let shards = std::fs::read_dir(registry.dir.path().join("blobs/sha256")).expect("directory");
    let shards = shards.map(|shard| common::files(&shard.expect("entry").path()));
    shards.sum()
}
