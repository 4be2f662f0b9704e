//! Manifests: what an image or an index is made of (image-spec, manifest.md and image-index.md;
//! Docker's schema 2 has the same two shapes).
//!
//! The raw bytes are the truth and are stored and sent unchanged; what is parsed here is a view of
//! the fields that a registry or a puller acts on. Fields and media types that it does not know pass.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;
use crate::media::{self, ManifestKind};
use crate::platform::Platform;

/// No registry has to take larger manifests (distribution-spec, "Pushing Manifests"), and
/// no client of ours reads them.
pub const MAX_MANIFEST: usize = 4 * 1024 * 1024;

/// What points at content: its type, digest and size in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    pub media_type: String,
    /// The digest of the bytes.
    pub digest: Digest,
    /// The number of bytes.
    pub size: u64,
    /// Which machine it is for, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What kind of artifact it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Free text by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Where else the bytes may be found; never followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
}

impl Descriptor {
    /// A descriptor of the three fields that each has.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            platform: None,
            artifact_type: None,
            annotations: None,
            urls: None,
        }
    }
}

/// Why bytes are not a manifest that is accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// More than [`MAX_MANIFEST`] bytes.
    #[error("the manifest has {0} bytes: at most {MAX_MANIFEST} are accepted")]
    TooLarge(usize),
    /// Not JSON, or a field of the wrong type.
    #[error("the manifest is not valid: {0}")]
    Json(String),
    /// Docker schema 1.
    #[error(
        "the manifest is of Docker's schema 1, which is obsolete: push it again with a client of 2017 or later"
    )]
    Schema1,
    /// The header and the document disagree, or neither says what it is.
    #[error("the manifest's media type is unclear: {0}")]
    MediaType(String),
    /// Both an image and an index: two readers could see two images (CVE-2021-41190).
    #[error(
        "the manifest has fields of an image (config, layers) and of an index (manifests): it must be one of them"
    )]
    Ambiguous,
    /// A required field is missing.
    #[error("the manifest lacks the field {0:?}")]
    Missing(&'static str),
}

/// The parsed view of an image manifest or an index.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The media type that it is served with.
    pub media_type: String,
    /// Image or index.
    pub kind: ManifestKind,
    /// The image configuration or the artifact's config; of images only.
    pub config: Option<Descriptor>,
    /// The layers, the lowest first; of images only.
    pub layers: Vec<Descriptor>,
    /// The children of an index.
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one refers to (a signature's image).
    pub subject: Option<Descriptor>,
    /// What kind of artifact this is.
    pub artifact_type: Option<String>,
    /// Free text by key.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<IgnoredAny>,
}

/// The names of the document's own fields: none may differ from one that is read here in its case alone. Readers
/// that ignore the case (Go's `encoding/json`) would take it for that field, and see another image.
struct Fields;

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a manifest")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            let twin = FIELDS.iter().find(|f| **f != key && is_folded(f, &key));
            if let Some(field) = twin {
                let shown: String = key.chars().take(80).collect();
                return Err(A::Error::custom(format!(
                    "some readers take the field {shown:?} for {field:?}"
                )));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(Fields)
    }
}

const FIELDS: [&str; 9] = [
    "schemaVersion",
    "mediaType",
    "config",
    "layers",
    "manifests",
    "subject",
    "artifactType",
    "annotations",
    "fsLayers",
];

/// Whether two names are the same but for their case; two letters outside ASCII have an ASCII twin.
fn is_folded(field: &str, key: &str) -> bool {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    key.chars().map(fold).eq(field.chars().map(fold))
}

impl Manifest {
    /// Reads a manifest that came with `content_type` (a header or a descriptor's media type).
    ///
    /// # Errors
    /// All of [`ManifestError`]: the document is refused unless its shape, its own `mediaType` and
    /// the `content_type` say the same thing.
    pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST {
            return Err(ManifestError::TooLarge(bytes.len()));
        }
        let given = content_type.map(media::essence).filter(|t| !t.is_empty());
        if given.as_deref().is_some_and(media::is_schema1) {
            return Err(ManifestError::Schema1);
        }
        let invalid = |error: serde_json::Error| ManifestError::Json(error.to_string());
        let document: Document = serde_json::from_slice(bytes).map_err(invalid)?;
        if document.fs_layers.is_some() || document.schema_version == Some(1) {
            return Err(ManifestError::Schema1);
        }
        serde_json::from_slice::<Fields>(bytes).map_err(invalid)?;
        match document.schema_version {
            Some(2) => {}
            Some(other) => {
                return Err(ManifestError::Json(format!(
                    "schemaVersion is {other}, not 2"
                )));
            }
            None => return Err(ManifestError::Missing("schemaVersion")),
        }
        let media_type = agree(given, document.media_type.as_deref(), &document)?;
        let kind = media::manifest_kind(&media_type).ok_or_else(|| {
            ManifestError::MediaType(format!("{media_type:?} is not a manifest's type"))
        })?;
        let image_fields = document.config.is_some() || document.layers.is_some();
        match kind {
            _ if image_fields && document.manifests.is_some() => Err(ManifestError::Ambiguous),
            ManifestKind::Image if document.config.is_none() => {
                Err(ManifestError::Missing("config"))
            }
            ManifestKind::Image if document.layers.is_none() => {
                Err(ManifestError::Missing("layers"))
            }
            ManifestKind::Index if document.manifests.is_none() => {
                Err(ManifestError::Missing("manifests"))
            }
            _ => Ok(Self {
                media_type,
                kind,
                config: document.config,
                layers: document.layers.unwrap_or_default(),
                manifests: document.manifests.unwrap_or_default(),
                subject: document.subject,
                artifact_type: document.artifact_type,
                annotations: document.annotations.unwrap_or_default(),
            }),
        }
    }

    /// An index that lists nothing.
    pub(crate) fn empty_index() -> Self {
        Self {
            media_type: media::OCI_INDEX.to_owned(),
            kind: ManifestKind::Index,
            config: None,
            layers: Vec::new(),
            manifests: Vec::new(),
            subject: None,
            artifact_type: None,
            annotations: BTreeMap::new(),
        }
    }

    /// The blobs that the registry must hold before it takes this manifest: config and layers,
    /// without those that are never pushed.
    pub fn required_blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let layers = self.layers.iter();
        self.config
            .iter()
            .chain(layers.filter(|l| !media::is_nondistributable(&l.media_type)))
    }

    /// What kind of artifact a referrers list says this is: its own `artifactType`, else an image's
    /// config type (distribution-spec, "Listing Referrers").
    pub fn effective_artifact_type(&self) -> Option<&str> {
        let config = self.config.as_ref().map(|c| c.media_type.as_str());
        let own = self.artifact_type.as_deref().filter(|t| !t.is_empty());
        own.or(config).filter(|t| !t.is_empty())
    }

    /// The child of an index that suits `platform` best; the first of equals.
    pub fn select(&self, platform: &Platform) -> Option<&Descriptor> {
        let mut best: Option<(u32, &Descriptor)> = None;
        for child in &self.manifests {
            let suits = child.platform.as_ref().and_then(|p| platform.suits(p));
            if let Some(score) = suits
                && best.is_none_or(|(top, _)| score > top)
            {
                best = Some((score, child));
            }
        }
        best.map(|(_, child)| child)
    }
}

/// The one media type that header and document agree on. OCI lets the document leave it out; then
/// the header decides, and without a header the shape does.
fn agree(
    given: Option<String>,
    own: Option<&str>,
    document: &Document,
) -> Result<String, ManifestError> {
    match (given, own.filter(|t| !t.is_empty())) {
        (Some(given), Some(own)) if given == media::essence(own) => Ok(given),
        (Some(given), Some(own)) => Err(ManifestError::MediaType(format!(
            "Content-Type is {given:?} but mediaType is {own:?}"
        ))),
        (Some(given), None) => Ok(given),
        (None, Some(own)) => Ok(media::essence(own)),
        (None, None) if document.manifests.is_some() => Ok(media::OCI_INDEX.to_owned()),
        (None, None) => Ok(media::OCI_MANIFEST.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn image(extra: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{}","digest":"{D}","size":2}},"layers":[]{extra}}}"#,
            media::OCI_CONFIG
        )
    }

    #[test]
    fn header_and_document_must_agree() {
        let bare = image("");
        let parsed = Manifest::parse(bare.as_bytes(), Some(media::OCI_MANIFEST)).expect("valid");
        assert_eq!(parsed.kind, ManifestKind::Image);
        let typed = image(&format!(r#","mediaType":"{}""#, media::OCI_MANIFEST));
        assert!(Manifest::parse(typed.as_bytes(), None).is_ok());
        let error = Manifest::parse(typed.as_bytes(), Some(media::OCI_INDEX));
        assert!(matches!(error, Err(ManifestError::MediaType(_))));
        assert!(Manifest::parse(bare.as_bytes(), Some("text/plain")).is_err());
    }

    #[test]
    fn two_shapes_in_one_document_are_refused() {
        let both = image(r#","manifests":[]"#);
        let error = Manifest::parse(both.as_bytes(), Some(media::OCI_MANIFEST));
        assert_eq!(error, Err(ManifestError::Ambiguous));
        let error = Manifest::parse(image("").as_bytes(), Some(media::OCI_INDEX));
        assert_eq!(error, Err(ManifestError::Missing("manifests")));
    }

    #[test]
    fn schema1_is_named() {
        let text = r#"{"schemaVersion":1,"name":"a","fsLayers":[{"blobSum":"x"}]}"#;
        assert_eq!(
            Manifest::parse(text.as_bytes(), None),
            Err(ManifestError::Schema1)
        );
        for kind in ["v1+json", "v1+prettyjws"] {
            let kind =
                format!("application/vnd.docker.distribution.manifest.{kind}; charset=utf-8");
            let parsed = Manifest::parse(b"anything", Some(&kind));
            assert_eq!(parsed, Err(ManifestError::Schema1), "{kind}");
        }
    }

    #[test]
    fn a_field_is_there_once_in_every_reading() {
        let other = format!(r#"[{{"mediaType":"x","digest":"{D}","size":9}}]"#);
        for name in ["layers", "Layers", "LAYER\u{17f}", "Manifests", "mediatype"] {
            let twice = image(&format!(r#","{name}":{other}"#));
            let parsed = Manifest::parse(twice.as_bytes(), Some(media::OCI_MANIFEST));
            assert!(matches!(parsed, Err(ManifestError::Json(_))), "{name}");
        }
        let own = image(r#","layer":[],"Blobs":[],"annotations":{"Layers":"x"}"#);
        assert!(Manifest::parse(own.as_bytes(), Some(media::OCI_MANIFEST)).is_ok());
    }

    #[test]
    fn bad_digest_or_size_is_refused() {
        for bad in [
            image("").replace(D, "sha256:00"),
            image("").replace(":2}", ":-2}"),
        ] {
            assert!(matches!(
                Manifest::parse(bad.as_bytes(), None),
                Err(ManifestError::Json(_))
            ));
        }
        let large = vec![b' '; MAX_MANIFEST + 1];
        assert!(matches!(
            Manifest::parse(&large, None),
            Err(ManifestError::TooLarge(_))
        ));
    }

    #[test]
    fn unknown_fields_and_empty_lists_pass() {
        let odd = image(r#","x":{"y":[1]}"#);
        assert!(Manifest::parse(odd.as_bytes(), None).is_ok());
        let empty = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#,
            media::OCI_INDEX
        );
        assert!(Manifest::parse(empty.as_bytes(), None).is_ok());
    }

    proptest! {
        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Manifest::parse(&bytes, None);
        }
    }
}
