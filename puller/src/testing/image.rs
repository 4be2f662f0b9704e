//! Images in memory, and the honest answers about them.

use std::collections::BTreeMap;

use strata_oci::{Descriptor, Digest, Platform, media};

use super::server::{Reply, Request};

/// What one repository, called `app`, holds.
#[derive(Clone)]
pub(crate) struct TestImage {
    /// By digest and tag.
    pub(crate) manifests: BTreeMap<String, Vec<u8>>,
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
    pub(crate) config: serde_json::Value,
    /// The lowest first.
    pub(crate) layers: Vec<Descriptor>,
}

/// An archive of one file, owned by whoever runs the test.
fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_uid(rustix::process::geteuid().as_raw().into());
    header.set_gid(rustix::process::getegid().as_raw().into());
    let mut builder = tar::Builder::new(Vec::new());
    builder
        .append_data(&mut header, name, content)
        .expect("append");
    builder.into_inner().expect("finish")
}

/// Bytes that look random and are the same each time.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

impl TestImage {
    /// An image under the tag `v1` with one plain layer for each size.
    pub(crate) fn new(sizes: &[usize]) -> Self {
        let mut blobs = BTreeMap::new();
        let mut diff_ids = Vec::new();
        let mut layers = Vec::new();
        for size in sizes {
            let tar = tar(&format!("file-{size}"), &noise(*size as u64 + 1, *size));
            let digest = Digest::of(&tar);
            layers.push(Descriptor::new(
                media::OCI_LAYER,
                digest.clone(),
                tar.len() as u64,
            ));
            diff_ids.push(digest.clone());
            blobs.insert(digest, tar);
        }
        let host = Platform::host();
        let config = serde_json::json!({
            "os": host.os, "architecture": host.architecture,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let mut image = Self {
            manifests: BTreeMap::new(),
            blobs,
            config,
            layers,
        };
        image.seal();
        image
    }

    /// Makes the manifest anew from `config` and `layers`, under `v1` and its digest.
    pub(crate) fn seal(&mut self) -> Digest {
        let config = self.config.to_string().into_bytes();
        let digest = Digest::of(&config);
        let size = config.len() as u64;
        let descriptor = Descriptor::new(media::OCI_CONFIG, digest.clone(), size);
        self.blobs.insert(digest, config);
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
            "config": descriptor, "layers": self.layers,
        });
        let bytes = manifest.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        self.manifests.insert(digest.to_string(), bytes.clone());
        self.manifests.insert("v1".to_owned(), bytes);
        digest
    }

    /// The size of all layers' blobs.
    pub(crate) fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }

    /// What an honest registry answers to a read.
    pub(crate) fn answer(&self, request: &Request) -> Reply {
        let path = request.path.as_str();
        if let Some(name) = path.strip_prefix("/v2/app/manifests/") {
            return match self.manifests.get(name) {
                Some(bytes) => Reply::new(200, bytes.clone())
                    .with("Content-Type", media_type(bytes))
                    .with("Docker-Content-Digest", Digest::of(bytes)),
                None => Reply::new(404, ""),
            };
        }
        let digest = path.strip_prefix("/v2/app/blobs/");
        let blob = digest.and_then(|d| self.blobs.get(&d.parse().ok()?));
        match (blob, request.range()) {
            (Some(blob), None) => Reply::new(200, blob.clone()),
            (Some(blob), Some((from, last))) => {
                Reply::part(blob, from, last.map_or(blob.len(), |last| last + 1))
            }
            (None, _) => Reply::new(404, ""),
        }
    }
}

fn media_type(manifest: &[u8]) -> String {
    let document: serde_json::Value = serde_json::from_slice(manifest).expect("JSON");
    document["mediaType"].as_str().expect("typed").to_owned()
}
