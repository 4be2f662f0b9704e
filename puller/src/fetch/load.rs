//! An image whose manifest and blobs are in files here: into the store as if it had been pulled.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::sync::Arc;

use oci_distribution::Reference;
use strata_oci::config::MAX_CONFIG;
use strata_oci::verify::VerifyingReader;
use strata_oci::{Descriptor, Digest};

use super::layer::Supply;
use super::resolve::Resolved;
use super::{Found, PullError, PullOptions, PullReport, bring, parse, plan};
use crate::progress::Progress;
use crate::push::content::Content;
use crate::push::{Document, Plan};
use crate::registry::RawManifest;
use crate::store::Store;

/// Brings the image of a plan, its last manifest, into the store, under a name if it gets one: only the layers that it lacks.
///
/// # Errors
/// As [`super::pull`]; that a blob is in no file is one of the layer.
pub(crate) async fn load(
    store: Arc<Store>,
    reference: Option<&Reference>,
    plan: &Plan,
    options: &PullOptions,
    progress: Arc<dyn Progress>,
) -> Result<PullReport, PullError> {
    let document = plan.manifests.last().ok_or(PullError::Interrupted)?;
    let resolved = resolved(document)?;
    let wanted = plan::config_of(&resolved.manifest, &document.digest)?;
    let mut files = HashMap::new();
    let mut config = None;
    for (blob, content) in &plan.blobs {
        if blob.digest == wanted.digest {
            config = Some(
                config_bytes(blob, content).map_err(|error| PullError::Config {
                    digest: blob.digest.clone(),
                    why: error.to_string(),
                })?,
            );
        }
        if let Content::File { path, offset } = content {
            files.insert(blob.digest.clone(), (path.clone(), *offset));
        }
    }
    let found = Found {
        reference,
        resolved,
        config: config.ok_or_else(|| absent(&wanted.digest))?,
        supply: Supply::Files(files),
        origin: None,
    };
    bring(store, found, options, progress).await
}

fn absent(digest: &Digest) -> PullError {
    PullError::Config {
        digest: digest.clone(),
        why: "the source does not hold it".to_owned(),
    }
}

fn resolved(document: &Document) -> Result<Resolved, PullError> {
    let raw = RawManifest {
        digest: document.digest.clone(),
        media_type: Some(document.media_type.clone()),
        bytes: document.bytes.clone(),
    };
    let manifest = parse(&raw)?;
    Ok(Resolved {
        digest: document.digest.clone(),
        raw,
        manifest,
    })
}

/// The configuration, proved.
fn config_bytes(blob: &Descriptor, content: &Content) -> io::Result<Vec<u8>> {
    match content {
        Content::Memory(bytes) => Ok(bytes.to_vec()),
        Content::File { path, offset } if blob.size <= MAX_CONFIG => {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(*offset))?;
            let bytes = file.take(blob.size);
            let mut bytes = VerifyingReader::new(bytes, blob.digest.clone(), blob.size);
            let mut all = Vec::new();
            bytes.read_to_end(&mut all)?;
            Ok(all)
        }
        Content::File { .. } => Err(io::Error::other("it is too large")),
        Content::Absent | Content::Layer { .. } | Content::Registry { .. } => {
            Err(io::Error::other("the source does not hold it"))
        }
    }
}
