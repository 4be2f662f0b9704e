//! Manifests whose layers were compressed anew.

use bytes::Bytes;
use strata_oci::manifest::MAX_MANIFEST;
use strata_oci::media;
use strata_oci::{Descriptor, Digest};

use super::super::Document;
use super::super::compress::Format;
use super::super::error::PushError;
use super::suffix;

/// How a manifest says that a layer is compressed.
pub(super) fn format_of(blob: &Descriptor) -> Option<Format> {
    let name = blob
        .media_type
        .rsplit(['+', '.'])
        .next()
        .unwrap_or_default();
    match name {
        "gzip" => Some(Format::Gzip),
        "zstd" => Some(Format::Zstd),
        _ => None,
    }
}

/// Docker's manifests know gzip alone.
pub(super) fn layer_type(manifest_type: &str, format: Option<Format>) -> String {
    let docker = manifest_type == media::DOCKER_MANIFEST;
    match format {
        Some(Format::Gzip) if docker => media::DOCKER_LAYER_GZIP.to_owned(),
        format => format!("{}{}", media::OCI_LAYER, suffix(format)),
    }
}

/// The manifest with other blobs for some of its layers; everything else in it stays. One of docker's that
/// gets a layer which only OCI's can name becomes one of OCI's.
pub(super) fn with_layers(
    manifest: &[u8],
    media_type: &str,
    replaced: &[(usize, Descriptor)],
) -> Result<Document, PushError> {
    let local = |source| PushError::Local {
        what: "writing a new manifest",
        source,
    };
    let mut document: serde_json::Value =
        serde_json::from_slice(manifest).map_err(|error| local(std::io::Error::other(error)))?;
    for (number, blob) in replaced {
        if let Some(layer) = document.pointer_mut(&format!("/layers/{number}")) {
            *layer = serde_json::json!(blob);
        }
    }
    let mut media_type = media_type.to_owned();
    let foreign = |(_, blob): &(usize, Descriptor)| blob.media_type.starts_with(media::OCI_LAYER);
    if media_type == media::DOCKER_MANIFEST && replaced.iter().any(foreign) {
        media_type = media::OCI_MANIFEST.to_owned();
        of_oci(&mut document);
    }
    let bytes = Bytes::from(document.to_string());
    if bytes.len() > MAX_MANIFEST {
        return Err(local(std::io::Error::other("it would be too large")));
    }
    Ok(Document {
        digest: Digest::of(&bytes),
        media_type,
        bytes,
    })
}

/// Gives a docker manifest OCI's names: the two differ in nothing else.
fn of_oci(document: &mut serde_json::Value) {
    let rename = |value: Option<&mut serde_json::Value>| {
        let Some(value) = value else { return };
        let new = match value.as_str() {
            Some(media::DOCKER_MANIFEST) => media::OCI_MANIFEST,
            Some(media::DOCKER_CONFIG) => media::OCI_CONFIG,
            Some(media::DOCKER_LAYER_GZIP) => media::OCI_LAYER_GZIP,
            _ => return,
        };
        *value = new.into();
    };
    rename(document.get_mut("mediaType"));
    rename(document.pointer_mut("/config/mediaType"));
    let layers = document.get_mut("layers").and_then(|l| l.as_array_mut());
    for layer in layers.into_iter().flatten() {
        rename(layer.get_mut("mediaType"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn docker() -> Vec<u8> {
        let layer = |n| json!({"mediaType": media::DOCKER_LAYER_GZIP, "digest": Digest::of(&[n]), "size": 5});
        let document = json!({
            "schemaVersion": 2, "mediaType": media::DOCKER_MANIFEST, "x-own": "kept",
            "config": {"mediaType": media::DOCKER_CONFIG, "digest": Digest::of(b"c"), "size": 2},
            "layers": [layer(0), layer(1)],
        });
        document.to_string().into_bytes()
    }

    fn replaced(format: Format) -> (Document, serde_json::Value) {
        let media_type = layer_type(media::DOCKER_MANIFEST, Some(format));
        let new = Descriptor::new(media_type, Digest::of(b"new"), 7);
        let made = with_layers(&docker(), media::DOCKER_MANIFEST, &[(1, new)]).expect("made");
        let value = serde_json::from_slice(&made.bytes).expect("JSON");
        (made, value)
    }

    #[test]
    fn a_docker_manifest_stays_one_as_long_as_it_can_name_its_layers() {
        let (made, value) = replaced(Format::Gzip);
        assert_eq!(made.media_type, media::DOCKER_MANIFEST);
        assert_eq!(made.digest, Digest::of(&made.bytes));
        let old: serde_json::Value = serde_json::from_slice(&docker()).expect("JSON");
        assert_eq!(value["layers"][0], old["layers"][0]);
        assert_eq!(value["layers"][1]["mediaType"], media::DOCKER_LAYER_GZIP);
        assert_eq!(value["layers"][1]["digest"], json!(Digest::of(b"new")));
        assert_eq!(value["x-own"], "kept");
    }

    #[test]
    fn a_docker_manifest_with_a_zstd_layer_becomes_one_of_oci() {
        let (made, value) = replaced(Format::Zstd);
        assert_eq!(made.media_type, media::OCI_MANIFEST);
        assert_eq!(value["mediaType"], media::OCI_MANIFEST);
        assert_eq!(value["config"]["mediaType"], media::OCI_CONFIG);
        assert_eq!(value["layers"][0]["mediaType"], media::OCI_LAYER_GZIP);
        assert_eq!(value["layers"][1]["mediaType"], media::OCI_LAYER_ZSTD);
        assert_eq!(value["layers"][0]["digest"], json!(Digest::of(&[0])));
    }

    #[test]
    fn a_media_type_tells_the_compression() {
        let of = |media_type: &str| format_of(&Descriptor::new(media_type, Digest::of(b""), 0));
        assert_eq!(of(media::DOCKER_LAYER_GZIP), Some(Format::Gzip));
        assert_eq!(of(media::OCI_LAYER_GZIP), Some(Format::Gzip));
        assert_eq!(of(media::OCI_LAYER_ZSTD), Some(Format::Zstd));
        assert_eq!(of(media::OCI_LAYER), None);
    }
}
