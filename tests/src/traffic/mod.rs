//! Clients that push, move and delete at random, remember what was acknowledged, and say afterwards what of it is
//! not so.
//!
//! Each client has repositories of its own, so that what it knows is the whole truth about them; blobs
//! have the same content in many of them, so that uploads meet.

pub mod audit;
mod ledger;
mod upload;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Error, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use serde_json::json;
use strata_oci::digest::Digest;
use strata_oci::media::{OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST};

pub use audit::{Audit, audit, unswept};
use ledger::{Key, Ledger};
use upload::Upload;

use crate::http::{Http, Reply, read_reply};

/// No answer of a server on the same machine takes longer.
const LIMIT: Duration = Duration::from_secs(20);

/// Sends a request; fails when there is no whole answer.
pub fn send(
    server: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Reply> {
    let length = body.len().to_string();
    let headers = [headers, &[("Content-Length", &length)]].concat();
    let head = Http::new(server).head(method, target, &headers) + "\r\n";
    let mut stream = TcpStream::connect_timeout(&server, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(&[head.as_bytes(), body].concat())?;
    read_reply(stream, method == "HEAD")
}

/// One client.
pub struct Client {
    random: StdRng,
    repositories: [String; 2],
    ledger: Ledger,
    uploads: Vec<Upload>,
    /// Blobs that no manifest names.
    loose: Vec<(String, Digest)>,
    manifests: BTreeMap<Digest, Vec<u8>>,
    acknowledged: u64,
    /// How long the server keeps what no manifest names.
    grace: Option<Duration>,
    /// When a blob was last known to be leased anew.
    leased: BTreeMap<Key, Instant>,
}

impl Client {
    /// The client of this number; the same seed sends the same.
    pub fn new(number: u64, seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed.wrapping_mul(1000) + number),
            repositories: ["app", "other/app"].map(|name| format!("team{number}/{name}")),
            ledger: Ledger::default(),
            uploads: Vec::new(),
            loose: Vec::new(),
            manifests: BTreeMap::new(),
            acknowledged: 0,
            grace: None,
            leased: BTreeMap::new(),
        }
    }

    /// A client of a server that collects what no manifest names, after this time.
    pub fn of_collecting(number: u64, seed: u64, grace: Duration) -> Self {
        let mut client = Self::new(number, seed);
        client.grace = Some(grace);
        client
    }

    /// How many changes were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// How many uploads are under way.
    pub fn uploads(&self) -> usize {
        self.uploads.len()
    }

    /// Sends until something fails and returns that: no answer, or one that should not have come.
    pub fn run(&mut self, server: SocketAddr) -> Error {
        loop {
            if let Err(error) = self.step(server) {
                return error;
            }
        }
    }

    /// One thing that clients do.
    pub fn step(&mut self, server: SocketAddr) -> io::Result<()> {
        let repository = self.repositories[self.random.random_range(0..2)].clone();
        match self.random.random_range(0..100) {
            0..35 => self.push_image(server, &repository),
            35..50 => self.push_loose(server, &repository),
            50..60 => self.begin_upload(server, &repository),
            60..68 => self.go_on(server, 0.5),
            68..78 => self.move_tag(server, &repository),
            78..84 => self.delete_tag(server, &repository),
            84..90 => self.delete_manifest(server, &repository),
            90..95 => self.delete_blob(server),
            _ => self.mount(server),
        }
    }

    /// Sends a request that changes what `changes` says; these are in doubt until it is answered as it should be.
    fn change(
        &mut self,
        changes: &[(Key, Option<Digest>)],
        expected: u16,
        request: impl FnOnce() -> io::Result<Reply>,
    ) -> io::Result<Reply> {
        self.ledger.begin(changes);
        let reply = accept(request()?, expected)?;
        self.ledger.settle(changes);
        let now = Instant::now();
        let there = changes.iter().filter(|(_, state)| state.is_some());
        self.leased.extend(there.map(|(key, _)| (key.clone(), now)));
        self.acknowledged += 1;
        Ok(reply)
    }

    /// Whether a blob may have been collected, if no manifest names it.
    fn may_be_gone(&self, key: &Key) -> bool {
        let since = |at: &Instant| self.grace.is_some_and(|grace| at.elapsed() >= grace);
        key.is_blob() && self.leased.get(key).is_none_or(since) && self.grace.is_some()
    }

    /// The blobs that a manifest names, as they are called in a repository.
    fn named(&self, repository: &str, manifest: &Digest) -> Vec<Key> {
        let view: serde_json::Value = self.manifests.get(manifest).map_or(json!({}), |bytes| {
            serde_json::from_slice(bytes).unwrap_or_default()
        });
        let layers = view["layers"].as_array().into_iter().flatten();
        let digests = layers.chain([&view["config"]]).map(|d| &d["digest"]);
        let digests = digests.filter_map(|digest| digest.as_str()?.parse().ok());
        digests
            .map(|digest| Key::blob(repository, digest))
            .collect()
    }

    fn push_image(&mut self, server: SocketAddr, repository: &str) -> io::Result<()> {
        let mut layers = Vec::new();
        for _ in 0..self.random.random_range(1..=2) {
            let bytes = self.content();
            layers.push(json!({
                "mediaType": OCI_LAYER_GZIP, "digest": Digest::of(&bytes), "size": bytes.len(),
            }));
            self.push_blob(server, repository, bytes)?;
        }
        let config = json!({ "created_by": self.random.next_u64() }).to_string();
        let config = config.into_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": { "mediaType": OCI_CONFIG, "digest": Digest::of(&config), "size": config.len() },
            "layers": layers,
        });
        self.push_blob(server, repository, config)?;
        let manifest = manifest.to_string().into_bytes();
        self.manifests
            .insert(Digest::of(&manifest), manifest.clone());
        if self.random.random_ratio(1, 5) {
            let digest = Digest::of(&manifest);
            self.put_manifest(server, repository, &digest.to_string(), None, &manifest)
        } else {
            let tag = self.tag();
            self.put_manifest(server, repository, &tag.clone(), Some(tag), &manifest)
        }
    }

    fn put_manifest(
        &mut self,
        server: SocketAddr,
        repository: &str,
        reference: &str,
        tag: Option<String>,
        manifest: &[u8],
    ) -> io::Result<()> {
        let digest = Some(Digest::of(manifest));
        let mut changes = vec![(
            Key::manifest(repository, Digest::of(manifest)),
            digest.clone(),
        )];
        changes.extend(tag.map(|tag| (Key::tag(repository, tag), digest)));
        let target = format!("/v2/{repository}/manifests/{reference}");
        let headers = [("Content-Type", OCI_MANIFEST)];
        let put = || send(server, "PUT", &target, &headers, manifest);
        let put = self.change(&changes, 201, put).map(drop);
        let named = self.named(repository, &Digest::of(manifest));
        match put {
            // So slow that what it names was collected meanwhile: push it again some time.
            Err(error)
                if error.to_string().contains("MANIFEST_BLOB_UNKNOWN")
                    && named.iter().any(|key| self.may_be_gone(key)) =>
            {
                Ok(())
            }
            put => put,
        }
    }

    fn push_loose(&mut self, server: SocketAddr, repository: &str) -> io::Result<()> {
        // Of its own: an empty blob may be a layer somewhere.
        let bytes = [
            &self.random.next_u64().to_le_bytes(),
            self.fresh().as_slice(),
        ]
        .concat();
        let digest = Digest::of(&bytes);
        self.push_blob(server, repository, bytes)?;
        self.loose.push((repository.to_owned(), digest));
        Ok(())
    }

    fn move_tag(&mut self, server: SocketAddr, repository: &str) -> io::Result<()> {
        let known = self.ledger.manifests(repository);
        let Some(manifest) = known.choose(&mut self.random) else {
            return Ok(());
        };
        let manifest = self.manifests[manifest].clone();
        let tag = self.tag();
        self.put_manifest(server, repository, &tag.clone(), Some(tag), &manifest)
    }

    fn delete_tag(&mut self, server: SocketAddr, repository: &str) -> io::Result<()> {
        let tags = self.ledger.tags(repository, None);
        let Some(tag) = tags.choose(&mut self.random) else {
            return Ok(());
        };
        let target = format!("/v2/{repository}/manifests/{tag}");
        let change = [(Key::tag(repository, tag.clone()), None)];
        self.change(&change, 202, || send(server, "DELETE", &target, &[], b""))
            .map(drop)
    }

    fn delete_manifest(&mut self, server: SocketAddr, repository: &str) -> io::Result<()> {
        let known = self.ledger.manifests(repository);
        let Some(digest) = known.choose(&mut self.random) else {
            return Ok(());
        };
        let mut changes = vec![(Key::manifest(repository, digest.clone()), None)];
        for tag in self.ledger.tags(repository, Some(digest)) {
            changes.push((Key::tag(repository, tag), None));
        }
        let target = format!("/v2/{repository}/manifests/{digest}");
        let named = self.named(repository, digest);
        let deleted = self.change(&changes, 202, || send(server, "DELETE", &target, &[], b""));
        // Acknowledged or not, the deletion gives what was named a new lease.
        let now = Instant::now();
        self.leased.extend(named.into_iter().map(|key| (key, now)));
        deleted.map(drop)
    }

    fn delete_blob(&mut self, server: SocketAddr) -> io::Result<()> {
        if self.loose.is_empty() {
            return Ok(());
        }
        let choice = self.random.random_range(0..self.loose.len());
        let (repository, digest) = self.loose.swap_remove(choice);
        let target = format!("/v2/{repository}/blobs/{digest}");
        let change = [(Key::blob(&repository, digest), None)];
        let deleted = self.change(&change, 202, || send(server, "DELETE", &target, &[], b""));
        match deleted {
            Err(error) if is_refusal(&error, 404) && self.may_be_gone(&change[0].0) => {
                self.ledger.settle(&change);
                Ok(())
            }
            deleted => deleted.map(drop),
        }
    }

    fn mount(&mut self, server: SocketAddr) -> io::Result<()> {
        let Some((from, digest)) = self.loose.choose(&mut self.random).cloned() else {
            return Ok(());
        };
        let [first, second] = &self.repositories;
        let to = if from == *first {
            second.clone()
        } else {
            first.clone()
        };
        let target = format!("/v2/{to}/blobs/uploads/?mount={digest}&from={from}");
        let change = [(Key::blob(&to, digest.clone()), Some(digest.clone()))];
        let source = Key::blob(&from, digest.clone());
        match self.change(&change, 201, || send(server, "POST", &target, &[], b"")) {
            Err(error) if is_refusal(&error, 202) && self.may_be_gone(&source) => return Ok(()),
            mounted => drop(mounted?),
        }
        if !self.loose.contains(&(to.clone(), digest.clone())) {
            self.loose.push((to, digest));
        }
        Ok(())
    }

    fn tag(&mut self) -> String {
        format!("v{}", self.random.random_range(0..6))
    }

    /// Bytes that other clients may be sending too.
    fn content(&mut self) -> Vec<u8> {
        if self.random.random_ratio(3, 4) {
            return self.fresh();
        }
        let common = self.random.random_range(0..12);
        bytes(&mut StdRng::seed_from_u64(common))
    }

    fn fresh(&mut self) -> Vec<u8> {
        bytes(&mut self.random)
    }

    /// The blobs that are named by manifests that are certainly there.
    fn protected(&self) -> BTreeSet<Key> {
        let mut protected = BTreeSet::new();
        for repository in &self.repositories {
            for manifest in self.ledger.manifests(repository) {
                protected.extend(self.named(repository, &manifest));
            }
        }
        protected
    }

    /// Compares all that is known with what the server says, and goes on with some of the uploads.
    /// Returns what is not so; afterwards what the server says is what is known.
    pub fn verify(&mut self, server: SocketAddr) -> io::Result<Vec<String>> {
        let mut wrong = self.verify_uploads(server)?;
        let protected = self.protected();
        for key in self.ledger.keys() {
            let found = observe(server, &key);
            let found = match found? {
                Ok(found) => found,
                Err(reason) => {
                    wrong.push(reason);
                    continue;
                }
            };
            if found.is_none() && !protected.contains(&key) && self.may_be_gone(&key) {
                self.ledger.settle(&[(key, None)]);
                continue;
            }
            wrong.extend(self.ledger.observe(&key, found));
        }
        let ledger = &self.ledger;
        self.loose
            .retain(|(repository, digest)| ledger.has(&Key::blob(repository, digest.clone())));
        Ok(wrong)
    }
}

/// What the server has under a key; `Err` says what is wrong with it.
fn observe(server: SocketAddr, key: &Key) -> io::Result<Result<Option<Digest>, String>> {
    let target = key.target();
    let reply = send(server, "GET", &target, &[("Accept", OCI_MANIFEST)], b"")?;
    Ok(match reply.status {
        404 => Ok(None),
        200 => {
            let actual = Digest::of(&reply.body);
            let told = reply.header("docker-content-digest").unwrap_or_default();
            if told == actual.to_string() {
                Ok(Some(actual))
            } else {
                Err(format!(
                    "{target}: {} bytes of {actual}, said to be {told}",
                    reply.body.len()
                ))
            }
        }
        status => Err(format!(
            "{target}: {status} {}",
            String::from_utf8_lossy(&reply.body)
        )),
    })
}

/// Whether a request was answered with this status instead of the one that was expected.
fn is_refusal(error: &Error, status: u16) -> bool {
    error.to_string().starts_with(&format!("{status} instead"))
}

/// Passes an answer on if it has the expected status.
fn accept(reply: Reply, expected: u16) -> io::Result<Reply> {
    if reply.status == expected {
        return Ok(reply);
    }
    let body = String::from_utf8_lossy(&reply.body);
    Err(Error::other(format!(
        "{} instead of {expected}: {body}",
        reply.status
    )))
}

/// Random bytes of sizes as they come: mostly small, now and then nothing or more than one batch of a server's.
fn bytes(random: &mut StdRng) -> Vec<u8> {
    let size = match random.random_range(0..100) {
        0..2 => 0,
        2..80 => random.random_range(1..20_000),
        80..97 => random.random_range(20_000..150_000),
        _ => random.random_range(600_000..1_500_000),
    };
    let mut bytes = vec![0; size];
    random.fill(bytes.as_mut_slice());
    bytes
}
