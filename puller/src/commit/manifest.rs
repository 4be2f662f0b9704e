//! The manifest of an image that is made here, in OCI's form or docker's. The two differ in the names of types alone
//! (image-spec, media-types.md, "Compatibility Matrix").

use std::collections::BTreeMap;

use serde_json::json;
use strata_oci::{Descriptor, Digest, media};

use super::error::CommitError;

/// Whose names a manifest has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// OCI's.
    Oci,
    /// Docker's, schema 2.
    Docker,
}

impl Form {
    /// The one of a manifest's type.
    pub fn of(media_type: &str) -> Self {
        match media_type {
            media::DOCKER_MANIFEST => Self::Docker,
            _ => Self::Oci,
        }
    }
}

/// The same type in both forms: OCI's, docker's.
const TWINS: [(&str, &str); 5] = [
    (media::OCI_MANIFEST, media::DOCKER_MANIFEST),
    (media::OCI_CONFIG, media::DOCKER_CONFIG),
    (media::OCI_LAYER_GZIP, media::DOCKER_LAYER_GZIP),
    (
        media::OCI_LAYER,
        "application/vnd.docker.image.rootfs.diff.tar",
    ),
    (
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ),
];

/// A manifest's exact bytes with their type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) bytes: Vec<u8>,
    pub(super) media_type: &'static str,
}

/// Writes the manifest of a configuration and layers. Docker's have no annotations.
///
/// # Errors
/// [`CommitError::Format`]: docker's form knows no such layer.
pub(super) fn write(
    form: Form,
    config: &[u8],
    layers: &[Descriptor],
    annotations: &BTreeMap<String, String>,
) -> Result<Written, CommitError> {
    let layers: Vec<Descriptor> = layers
        .iter()
        .map(|layer| {
            Ok(Descriptor {
                media_type: named(form, &layer.media_type)?,
                ..layer.clone()
            })
        })
        .collect::<Result<_, CommitError>>()?;
    let (media_type, config_type) = match form {
        Form::Oci => (media::OCI_MANIFEST, media::OCI_CONFIG),
        Form::Docker => (media::DOCKER_MANIFEST, media::DOCKER_CONFIG),
    };
    let config = Descriptor::new(config_type, Digest::of(config), config.len() as u64);
    let mut document = json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": config,
        "layers": layers,
    });
    if form == Form::Oci && !annotations.is_empty() {
        document["annotations"] = json!(annotations);
    }
    Ok(Written {
        bytes: document.to_string().into_bytes(),
        media_type,
    })
}

/// A type by the form's name. OCI's manifests may name any; docker's only docker's own.
fn named(form: Form, media_type: &str) -> Result<String, CommitError> {
    let twin = TWINS
        .iter()
        .find(|(oci, docker)| *oci == media_type || *docker == media_type);
    match (form, twin) {
        (Form::Oci, Some((oci, _))) => Ok((*oci).to_owned()),
        (Form::Docker, Some((_, docker))) => Ok((*docker).to_owned()),
        (Form::Oci, None) => Ok(media_type.to_owned()),
        (Form::Docker, None) => Err(CommitError::Format(media_type.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use strata_oci::manifest::Manifest;

    use super::*;

    #[test]
    fn both_forms_name_the_same_layers_by_their_own_names() {
        let layer = |kind: &str, n: u8| Descriptor::new(kind, Digest::of(&[n]), 7);
        let layers = [
            layer(media::DOCKER_LAYER_GZIP, 1),
            layer(media::OCI_LAYER_GZIP, 2),
        ];
        let notes = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        for (form, kind, layer_kind) in [
            (Form::Oci, media::OCI_MANIFEST, media::OCI_LAYER_GZIP),
            (
                Form::Docker,
                media::DOCKER_MANIFEST,
                media::DOCKER_LAYER_GZIP,
            ),
        ] {
            let written = write(form, b"{}", &layers, &notes).expect("written");
            let read = Manifest::parse(&written.bytes, Some(written.media_type)).expect("reads");
            assert_eq!(read.media_type, kind);
            assert!(
                read.layers
                    .iter()
                    .all(|layer| layer.media_type == layer_kind)
            );
            assert_eq!(read.layers[0].digest, layers[0].digest);
            assert_eq!(read.annotations.is_empty(), form == Form::Docker);
            assert_eq!(Form::of(kind), form);
        }
        let zstd = [layer(media::OCI_LAYER_ZSTD, 1)];
        assert!(write(Form::Oci, b"{}", &zstd, &notes).is_ok());
        let refused = write(Form::Docker, b"{}", &zstd, &notes);
        assert!(matches!(refused, Err(CommitError::Format(_))));
    }
}
