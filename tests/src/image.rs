//! Images by hand, and the OCI image layout that they are written to (image-spec, image-layout.md).

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};
use strata_oci::digest::Digest;
use strata_oci::media;

use crate::entry::{Compression, Entry, tar};

/// One layer: the blob and what it holds.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The bytes that travel.
    pub blob: Vec<u8>,
    /// Their digest.
    pub digest: Digest,
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
    /// The uncompressed tar's size in bytes.
    pub tar_size: u64,
    /// The descriptor's media type.
    pub media_type: &'static str,
}

impl Layer {
    /// Compresses a tar.
    pub fn new(tar: &[u8], compression: Compression) -> Self {
        let blob = compression.apply(tar);
        Self {
            digest: Digest::of(&blob),
            diff_id: Digest::of(tar),
            tar_size: tar.len() as u64,
            media_type: compression.media_type(),
            blob,
        }
    }

    /// A gzip layer of these entries.
    pub fn of(entries: &[Entry]) -> Self {
        Self::new(&tar(entries), Compression::Gzip)
    }

    /// The layer's descriptor.
    pub fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.blob.len() })
    }
}

/// An image: layers, configuration and manifest, with the manifest's digest.
#[derive(Debug, Clone)]
pub struct Image {
    /// The layers, the lowest first.
    pub layers: Vec<Layer>,
    /// The configuration's bytes.
    pub config: Vec<u8>,
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// The manifest's digest.
    pub digest: Digest,
}

impl Image {
    /// An image of these layers that runs `/bin/sh`.
    pub fn new(layers: &[Layer]) -> Self {
        Self::with_config(layers, json!({ "Cmd": ["/bin/sh"] }))
    }

    /// An image whose containers start by `config` (image-spec, config.md, the `config` object).
    pub fn with_config(layers: &[Layer], config: Value) -> Self {
        let diff_ids: Vec<&Digest> = layers.iter().map(|layer| &layer.diff_id).collect();
        let document = json!({
            "created": "2024-01-01T00:00:00Z",
            "architecture": architecture(),
            "os": "linux",
            "config": config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": layers.iter().map(|_| json!({ "created_by": "by hand" })).collect::<Vec<_>>(),
        });
        Self::of_config(layers, document.to_string().into_bytes())
    }

    /// An image of these layers with this configuration document, whether they agree or not.
    pub fn of_config(layers: &[Layer], config: Vec<u8>) -> Self {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media::OCI_MANIFEST,
            "config": { "mediaType": media::OCI_CONFIG, "digest": Digest::of(&config), "size": config.len() },
            "layers": layers.iter().map(Layer::descriptor).collect::<Vec<_>>(),
        });
        let manifest = manifest.to_string().into_bytes();
        Self {
            layers: layers.to_vec(),
            digest: Digest::of(&manifest),
            config,
            manifest,
        }
    }

    /// The same image made for another architecture.
    #[track_caller]
    pub fn made_for(&self, architecture: &str) -> Self {
        let mut document: Value = serde_json::from_slice(&self.config).expect("a configuration");
        document["architecture"] = architecture.into();
        Self::of_config(&self.layers, document.to_string().into_bytes())
    }

    /// The manifest's media type.
    pub fn media_type(&self) -> &'static str {
        media::OCI_MANIFEST
    }

    /// The image id: the digest of the configuration.
    pub fn id(&self) -> Digest {
        Digest::of(&self.config)
    }

    /// The blobs that the manifest names.
    pub fn blobs(&self) -> impl Iterator<Item = &[u8]> {
        let layers = self.layers.iter().map(|layer| layer.blob.as_slice());
        layers.chain([self.config.as_slice()])
    }

    /// The layers' compressed size in bytes.
    pub fn layer_bytes(&self) -> u64 {
        self.layers.iter().map(|l| l.blob.len() as u64).sum()
    }

    /// Writes the image into a new OCI layout directory under the tag `tag`.
    pub fn write_layout(&self, directory: &Path, tag: &str) -> io::Result<()> {
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs)?;
        for blob in self.blobs().chain([self.manifest.as_slice()]) {
            fs::write(blobs.join(Digest::of(blob).hex()), blob)?;
        }
        let index = json!({
            "schemaVersion": 2,
            "mediaType": media::OCI_INDEX,
            "manifests": [{
                "mediaType": media::OCI_MANIFEST,
                "digest": self.digest,
                "size": self.manifest.len(),
                "annotations": { "org.opencontainers.image.ref.name": tag },
            }],
        });
        fs::write(directory.join("index.json"), index.to_string())?;
        fs::write(
            directory.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
    }
}

/// An index of images for Linux, each with its architecture (image-spec, image-index.md).
pub fn index(children: &[(&Image, &str)]) -> Vec<u8> {
    let descriptor = |(image, architecture): &(&Image, &str)| {
        json!({
            "mediaType": image.media_type(), "digest": image.digest, "size": image.manifest.len(),
            "platform": { "os": "linux", "architecture": architecture },
        })
    };
    let manifests: Vec<Value> = children.iter().map(descriptor).collect();
    let index =
        json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": manifests });
    index.to_string().into_bytes()
}

/// This machine's architecture as images name it (the Go project's GOARCH).
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}
