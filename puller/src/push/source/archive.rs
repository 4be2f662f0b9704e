//! A docker archive: it has no manifest and, mostly, no compressed layers. Both are made, the same each time.

use std::path::Path;

use bytes::Bytes;
use strata_oci::archive::{ArchiveImage, DockerArchive};
use strata_oci::{Descriptor, Digest, media};

use super::super::content::Content;
use super::super::error::PushError;
use super::super::repack;
use super::super::{Document, Plan};
use super::{Packing, suffix};
use crate::inflate::inflate;

pub(super) fn of_archive(
    file: &Path,
    reference: Option<&str>,
    packing: &Packing,
    workplace: &Path,
) -> Result<Plan, PushError> {
    let archive = DockerArchive::open(file)?;
    let image = archive.image(reference)?;
    let config = Descriptor::new(
        media::OCI_CONFIG,
        Digest::of(&image.config_bytes),
        image.config_bytes.len() as u64,
    );
    let bytes = image.config_bytes.clone().into();
    let mut blobs = vec![(config.clone(), Content::Memory(bytes))];
    // One after the other: each is compressed by all processors.
    for number in 0..image.layers.len() {
        blobs.push(layer(&archive, &image, number, file, packing, workplace)?);
    }
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": config,
        "layers": blobs[1..].iter().map(|(blob, _)| blob).collect::<Vec<_>>(),
    });
    let bytes = Bytes::from(manifest.to_string());
    let manifests = vec![Document {
        digest: Digest::of(&bytes),
        media_type: media::OCI_MANIFEST.to_owned(),
        bytes,
    }];
    Ok(Plan { blobs, manifests })
}

fn layer(
    archive: &DockerArchive,
    image: &ArchiveImage,
    number: usize,
    file: &Path,
    packing: &Packing,
    workplace: &Path,
) -> Result<(Descriptor, Content), PushError> {
    let span = image.layers[number];
    let local = |source| PushError::Local {
        what: "reading the archive's layers",
        source,
    };
    let open = || archive.open_span(span).map_err(local);
    let mut tar = inflate(open()?).map_err(local)?;
    let compressed = tar.compressed;
    // No manifest has a word for xz or bzip2: those layers are as good as plain ones, but for their bytes here.
    let found = repack::format_of(compressed);
    let wanted = Some(packing.compression.format());
    if packing.plain && compressed.is_none() {
        // Its digest is the diffID, which whoever reads it proves.
        let diff_id = image.config.rootfs.diff_ids[number].clone();
        let (path, offset) = (file.to_owned(), span.offset);
        let blob = Descriptor::new(media::OCI_LAYER, diff_id, span.size);
        return Ok((blob, Content::File { path, offset }));
    }
    let anew = found.is_none() || (packing.force && found != wanted);
    let (packed, content) = if anew {
        let path = workplace.join(format!("layer-{number}"));
        let compression = (!packing.plain).then_some(packing.compression);
        let copy = |out: &mut dyn std::io::Write| std::io::copy(&mut tar, out).map(drop);
        let packed = repack::pack(&path, compression, copy).map_err(local)?;
        (packed, Content::File { path, offset: 0 })
    } else {
        let (path, offset) = (file.to_owned(), span.offset);
        let packed = repack::inspect(open()?).map_err(local)?;
        (packed, Content::File { path, offset })
    };
    let expected = &image.config.rootfs.diff_ids[number];
    if packed.diff_id != *expected {
        return Err(PushError::DiffId {
            number: number + 1,
            expected: expected.clone(),
            actual: packed.diff_id,
        });
    }
    let media_type = format!("{}{}", media::OCI_LAYER, suffix(packed.format));
    let blob = Descriptor::new(media_type, packed.digest, packed.size);
    Ok((blob, content))
}
