//! What an image is made of: its manifest and its configuration have to tell one story before any
//! layer is fetched (image-spec, config.md: one diffID for each layer, in the same order).

use std::collections::HashMap;

use strata_oci::config::ImageConfig;
use strata_oci::{Descriptor, Digest, Manifest, media};

use super::error::{LayerFailure, PullError};

/// One layer of an image.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LayerPlan {
    /// The digest of its tar.
    pub(super) diff_id: Digest,
    /// Its blob.
    pub(super) blob: Descriptor,
}

/// The descriptor of the configuration, if the manifest is a container image's.
pub(super) fn config_of(manifest: &Manifest, digest: &Digest) -> Result<Descriptor, PullError> {
    let config = manifest.config.clone();
    let image = config.filter(|config| {
        let kind = media::essence(&config.media_type);
        kind == media::OCI_CONFIG || kind == media::DOCKER_CONFIG
    });
    image.ok_or_else(|| PullError::Artifact {
        digest: digest.clone(),
        kind: manifest
            .effective_artifact_type()
            .unwrap_or("unknown")
            .chars()
            .take(120)
            .collect(),
    })
}

/// Reads the configuration.
pub(super) fn read_config(digest: &Digest, bytes: &[u8]) -> Result<ImageConfig, PullError> {
    serde_json::from_slice(bytes).map_err(|error| PullError::Config {
        digest: digest.clone(),
        why: error.to_string(),
    })
}

/// Pairs layers with diffIDs, the lowest first.
pub(super) fn layers(
    manifest: &Manifest,
    config_digest: &Digest,
    config: &ImageConfig,
) -> Result<Vec<LayerPlan>, PullError> {
    let diff_ids = &config.rootfs.diff_ids;
    let invalid = |why| PullError::Config {
        digest: config_digest.clone(),
        why,
    };
    if diff_ids.len() != manifest.layers.len() {
        let why = format!(
            "it names {} layers, the manifest {}",
            diff_ids.len(),
            manifest.layers.len()
        );
        return Err(invalid(why));
    }
    let mut known: HashMap<&Digest, &Digest> = HashMap::new();
    for (blob, diff_id) in manifest.layers.iter().zip(diff_ids) {
        let kind = media::essence(&blob.media_type);
        if !media::is_filesystem_layer(&kind) {
            return Err(PullError::Layer {
                digest: blob.digest.clone(),
                cause: LayerFailure::Type(kind.chars().take(120).collect()),
            });
        }
        // One content cannot unpack into two; and each blob has one place where it is kept.
        if known
            .insert(&blob.digest, diff_id)
            .is_some_and(|d| d != diff_id)
        {
            let why = format!("it gives layer {} two diffIDs", blob.digest);
            return Err(invalid(why));
        }
    }
    let pairs = manifest.layers.iter().zip(diff_ids);
    Ok(pairs
        .map(|(blob, diff_id)| LayerPlan {
            diff_id: diff_id.clone(),
            blob: blob.clone(),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(layer_types: &[&str]) -> Manifest {
        let layers: Vec<Descriptor> = layer_types
            .iter()
            .enumerate()
            .map(|(n, kind)| Descriptor::new(*kind, Digest::of(&[n as u8]), 1))
            .collect();
        let config = Descriptor::new(media::OCI_CONFIG, Digest::of(b"config"), 6);
        let document = serde_json::json!({"schemaVersion": 2, "config": config, "layers": layers});
        Manifest::parse(document.to_string().as_bytes(), None).expect("valid")
    }

    fn config(diff_ids: &[&[u8]]) -> ImageConfig {
        let mut config = ImageConfig::default();
        config.rootfs.diff_ids = diff_ids.iter().map(|bytes| Digest::of(bytes)).collect();
        config
    }

    fn plan(types: &[&str], diff_ids: &[&[u8]]) -> Result<Vec<LayerPlan>, PullError> {
        layers(&manifest(types), &Digest::of(b"config"), &config(diff_ids))
    }

    #[test]
    fn layers_and_diff_ids_are_as_many() {
        assert_eq!(plan(&[], &[]).expect("none is fine"), []);
        let two = plan(
            &[media::OCI_LAYER_ZSTD, media::DOCKER_LAYER_GZIP],
            &[b"a", b"b"],
        );
        assert_eq!(two.expect("valid")[1].diff_id, Digest::of(b"b"));
        let fewer = plan(&[media::OCI_LAYER], &[]).expect_err("refused");
        assert!(fewer.to_string().contains("names 0 layers, the manifest 1"));
    }

    #[test]
    fn artifacts_are_named() {
        let refused = plan(&["application/wasm"], &[b"a"]).expect_err("refused");
        assert!(
            refused.to_string().contains("application/wasm"),
            "{refused}"
        );
        let mut artifact = manifest(&[]);
        artifact.config = Some(Descriptor::new(media::OCI_EMPTY, Digest::of(b"{}"), 2));
        artifact.artifact_type = Some("application/x-sbom".to_owned());
        let refused = config_of(&artifact, &Digest::of(b"m")).expect_err("refused");
        assert!(refused.to_string().contains("x-sbom"), "{refused}");
    }

    #[test]
    fn one_blob_has_one_diff_id() {
        let mut twice = manifest(&[media::OCI_LAYER, media::OCI_LAYER]);
        twice.layers[1] = twice.layers[0].clone();
        let digest = Digest::of(b"config");
        assert!(layers(&twice, &digest, &config(&[b"a", b"a"])).is_ok());
        assert!(layers(&twice, &digest, &config(&[b"a", b"b"])).is_err());
    }
}
