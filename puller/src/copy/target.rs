//! The ends of a copy: names of a registry, entries of a layout, a file.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use oci_distribution::Reference;
use strata_oci::layout::{ArchiveWriter, Contents, LayoutWriter, REF_NAME};
use strata_oci::media::{self, ManifestKind};
use strata_oci::{Descriptor, Digest, Manifest, Platform};

use super::plan::{Companion, Found};
use super::reader::companion_name;
use super::sink::Sink;
use super::{ArchiveKind, Copier, CopyError, CopyReport, Platforms, Source, Target};
use crate::fetch::{self, PullOptions, PullReport};
use crate::push::content::Content;
use crate::push::{Document, Plan};
use crate::registry::{Registry, RegistryError, referrers_tag};
use crate::store::Store;

impl Copier {
    /// Copies one image or index. See [`copy`](super::copy).
    pub async fn copy(&self, source: &Source, target: &Target) -> Result<CopyReport, CopyError> {
        match target {
            Target::Registry(reference) => self.to_registry(source, reference).await,
            Target::Layout { dir, name } => self.to_layout(source, dir, name.as_deref()).await,
        }
    }

    /// Brings one image into the local store, under a name if it gets one, unpacked, as a pull does.
    ///
    /// # Errors
    /// See [`CopyError`]; then nothing of it is visible that was not before.
    pub async fn to_store(
        &self,
        source: &Source,
        store: &Arc<Store>,
        name: Option<&Reference>,
    ) -> Result<PullReport, CopyError> {
        let platform = match &self.options.platforms {
            Platforms::All => None,
            Platforms::One(one) => Some(one.clone()),
            Platforms::Some(several) => {
                return Err(CopyError::NotOnePlatform(several.len()));
            }
        };
        let options = PullOptions {
            platform: platform.clone(),
            registry: self.options.source.clone(),
            parallel: self.options.parallel,
            keep_blobs: false,
        };
        let progress = self.progress.clone();
        if let Source::Registry(from) = source {
            let pulled = fetch::pull(store.clone(), from, &options, progress).await?;
            if let Some(name) = name {
                store.tag(&pulled.image, &name.whole())?;
            }
            return Ok(pulled);
        }
        let one = self.with(
            Platforms::One(platform.unwrap_or_else(Platform::host)),
            false,
        );
        let mut workplace = None;
        let nothing = async |_: &Digest| Ok(false);
        let found = one.find(source, &mut workplace, true, nothing).await?;
        Ok(fetch::load(store.clone(), name, &found.plan, &options, progress).await?)
    }

    async fn to_registry(
        &self,
        source: &Source,
        target: &Reference,
    ) -> Result<CopyReport, CopyError> {
        let registry = self.registry(target.registry(), true)?;
        let repository = target.repository();
        let name = target.digest().or(target.tag()).unwrap_or("latest");
        if let Some(digest) = self.unchanged(source, &registry, repository, name).await? {
            return Ok(CopyReport {
                digest: Some(digest),
                unchanged: true,
                ..CopyReport::default()
            });
        }
        let present = async |digest: &Digest| {
            let digest = digest.to_string();
            let head = registry.head_manifest(repository, &digest).await?;
            Ok(head.is_some())
        };
        let mut workplace = None;
        let found = self.find(source, &mut workplace, false, present).await?;
        if let Some(wanted) = target.digest()
            && wanted != found.root.digest.to_string()
        {
            return Err(CopyError::Target {
                wanted: wanted.to_owned(),
                actual: found.root.digest,
            });
        }
        let sink = Sink::Registry {
            registry: registry.clone(),
            repository: repository.to_owned(),
            known: &self.shared.known,
        };
        let (blobs, bytes) = self.send_all(&sink, &found.plan.blobs).await?;
        for document in &found.plan.manifests {
            let own = document.digest.to_string();
            // The name moves when everything that belongs to the image is there.
            let reference = if document.digest == found.root.digest {
                name
            } else {
                &own
            };
            let sent = put(&registry, repository, reference, document).await;
            sent.map_err(|error| self.sparse(document, error))?;
        }
        self.attach(&registry, repository, &found).await?;
        Ok(report(found, blobs, bytes))
    }

    /// Why an index whose images are not all there was not accepted.
    fn sparse(&self, document: &Document, error: CopyError) -> CopyError {
        let chosen = matches!(self.options.platforms, Platforms::Some(_));
        match error {
            CopyError::Registry(
                source @ (RegistryError::Status {
                    status: 400..=499, ..
                }
                | RegistryError::NotFound { .. }),
            ) if chosen
                && media::manifest_kind(&document.media_type) == Some(ManifestKind::Index) =>
            {
                CopyError::Sparse {
                    index: document.digest.clone(),
                    source,
                }
            }
            error => error,
        }
    }

    /// The digest that both names stand for already. With signatures wanted it is no answer: those may
    /// be new.
    async fn unchanged(
        &self,
        source: &Source,
        registry: &Registry,
        repository: &str,
        name: &str,
    ) -> Result<Option<Digest>, CopyError> {
        let Source::Registry(from) = source else {
            return Ok(None);
        };
        // Of a part of an index, its digest does not say which part is there.
        if self.options.platforms != Platforms::All || self.options.referrers {
            return Ok(None);
        }
        let there = registry.head_manifest(repository, name).await?;
        let Some(there) = there.and_then(|head| head.digest) else {
            return Ok(None);
        };
        let selector = from.digest().or(from.tag()).unwrap_or("latest");
        let origin = self.registry(from.registry(), false)?;
        let head = origin.head_manifest(from.repository(), selector).await?;
        let here = head.and_then(|head| head.digest);
        Ok(here.filter(|digest| *digest == there))
    }

    /// Makes signatures and SBOMs findable: under their tags, and, for a registry without a referrers API,
    /// in the list under the fallback tag.
    async fn attach(
        &self,
        registry: &Registry,
        repository: &str,
        found: &Found,
    ) -> Result<(), CopyError> {
        for companion in &found.companions {
            let Some(tag) = &companion.tag else { continue };
            let digest = &companion.descriptor.digest;
            if let Some(document) = found.plan.manifests.iter().find(|d| d.digest == *digest) {
                put(registry, repository, tag, document).await?;
            }
        }
        let mut subjects: Vec<&Digest> = Vec::new();
        for companion in found.companions.iter().filter(|c| c.tag.is_none()) {
            if !subjects.contains(&&companion.subject) {
                subjects.push(&companion.subject);
            }
        }
        for subject in subjects {
            let there = registry.referrers(repository, subject, None).await?;
            if !there.from_tag {
                continue;
            }
            let mut listed = there.manifests;
            let before = listed.len();
            let own = |c: &&Companion| c.tag.is_none() && c.subject == *subject;
            for companion in found.companions.iter().filter(own) {
                if listed
                    .iter()
                    .all(|d| d.digest != companion.descriptor.digest)
                {
                    listed.push(companion.descriptor.clone());
                }
            }
            if listed.len() == before {
                continue;
            }
            let index = serde_json::json!({
                "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": listed,
            });
            let bytes = Bytes::from(index.to_string());
            let tag = referrers_tag(subject);
            registry
                .put_manifest(repository, &tag, media::OCI_INDEX, bytes)
                .await?;
        }
        Ok(())
    }

    async fn to_layout(
        &self,
        source: &Source,
        dir: &Path,
        name: Option<&str>,
    ) -> Result<CopyReport, CopyError> {
        let mut workplace = None;
        let nothing = async |_: &Digest| Ok(false);
        let found = self.find(source, &mut workplace, false, nothing).await?;
        let failed = |source| CopyError::File {
            path: dir.to_owned(),
            source,
        };
        let writer = LayoutWriter::open(dir)?;
        let sink = Sink::Layout(writer.clone());
        let (blobs, bytes) = self.send_all(&sink, &found.plan.blobs).await?;
        for document in &found.plan.manifests {
            let size = document.bytes.len() as u64;
            let descriptor = Descriptor::new("", document.digest.clone(), size);
            if !writer.has(&descriptor).map_err(failed)? {
                writer
                    .put(&document.digest, &document.bytes)
                    .map_err(failed)?;
            }
        }
        writer.list(&entries(&found, name))?;
        Ok(report(found, blobs, bytes))
    }

    /// Copies images into one new archive file, each under its name; blobs in `absent` are left out,
    /// because whoever gets the archive has them (see [`strata_oci::layout::Layout::digests`]). A file
    /// that is there is replaced when the new one is whole.
    ///
    /// # Errors
    /// See [`CopyError`]; then there is no new file.
    pub async fn pack(
        &self,
        sources: &[(Source, Option<String>)],
        file: &Path,
        kind: ArchiveKind,
        absent: &BTreeSet<Digest>,
    ) -> Result<CopyReport, CopyError> {
        let mut workplaces = Vec::new();
        let mut all = Plan {
            blobs: Vec::new(),
            manifests: Vec::new(),
        };
        let (mut listed, mut images) = (Vec::new(), Vec::new());
        let mut total = CopyReport::default();
        let mut seen: HashSet<Digest> = HashSet::new();
        for (source, name) in sources {
            let mut workplace = None;
            let nothing = async |_: &Digest| Ok(false);
            let mut found = self.find(source, &mut workplace, false, nothing).await?;
            if kind == ArchiveKind::Docker {
                add_docker_image(&mut images, docker_image(&found, name.as_deref())?);
            }
            workplaces.push(workplace);
            listed.extend(entries(&found, name.as_deref()));
            total.referrers += found.companions.len();
            total.digest = Some(found.root.digest.clone());
            found
                .plan
                .blobs
                .retain(|(blob, _)| seen.insert(blob.digest.clone()));
            found
                .plan
                .manifests
                .retain(|d| seen.insert(d.digest.clone()));
            all.blobs.append(&mut found.plan.blobs);
            all.manifests.append(&mut found.plan.manifests);
        }
        let absent: BTreeSet<Digest> = all
            .blobs
            .iter()
            .map(|(blob, _)| blob.digest.clone())
            .filter(|digest| absent.contains(digest))
            .collect();
        let docker = (kind == ArchiveKind::Docker)
            .then(|| serde_json::Value::from(images).to_string().into_bytes());
        total.manifests = all.manifests.len();
        self.fill(file, &all, &listed, absent, docker, &mut total)
            .await?;
        Ok(total)
    }

    async fn fill(
        &self,
        path: &Path,
        plan: &Plan,
        entries: &[Descriptor],
        absent: BTreeSet<Digest>,
        docker: Option<Vec<u8>>,
        total: &mut CopyReport,
    ) -> Result<(), CopyError> {
        let failed = |source| CopyError::File {
            path: path.to_owned(),
            source,
        };
        let documents: Vec<(Descriptor, Content)> = plan.manifests.iter().map(as_blob).collect();
        let blobs = plan
            .blobs
            .iter()
            .filter(|(blob, _)| !absent.contains(&blob.digest));
        let inside: Vec<Descriptor> = documents
            .iter()
            .chain(blobs)
            .map(|(b, _)| b.clone())
            .collect();
        let contents = Contents {
            entries,
            blobs: &inside,
            absent: absent.clone(),
            docker,
        };
        let keep = self.options.resumable;
        let writer = ArchiveWriter::create(path, &contents, keep).map_err(failed)?;
        let sink = Sink::Archive { writer, absent };
        (total.blobs, total.bytes) = self.send_all(&sink, &plan.blobs).await?;
        let Sink::Archive { writer, .. } = sink else {
            return Err(CopyError::Interrupted);
        };
        let file = writer.file().map_err(failed)?;
        for document in &plan.manifests {
            if let Some(span) = writer.span(&document.digest) {
                use std::os::unix::fs::FileExt as _;
                file.write_all_at(&document.bytes, span.offset)
                    .map_err(failed)?;
            }
        }
        drop(file);
        let finishing = tokio::task::spawn_blocking(move || writer.finish());
        finishing
            .await
            .map_err(|_| CopyError::Interrupted)?
            .map_err(failed)
    }
}

fn as_blob(document: &Document) -> (Descriptor, Content) {
    let size = document.bytes.len() as u64;
    let descriptor = Descriptor::new(&document.media_type, document.digest.clone(), size);
    (descriptor, Content::Memory(document.bytes.clone()))
}

pub(super) async fn put(
    registry: &Registry,
    repository: &str,
    reference: &str,
    document: &Document,
) -> Result<(), CopyError> {
    let (media_type, bytes) = (&document.media_type, document.bytes.clone());
    let put = registry.put_manifest(repository, reference, media_type, bytes);
    Ok(put.await?)
}

fn report(found: Found, blobs: Vec<crate::push::BlobReport>, bytes: u64) -> CopyReport {
    CopyReport {
        digest: Some(found.root.digest),
        unchanged: false,
        manifests: found.plan.manifests.len(),
        referrers: found.companions.len(),
        blobs,
        bytes,
    }
}

/// What a layout's index lists of a copy: the image under its name, what has a tag beside it under that,
/// and what is found by its subject without a name.
fn entries(found: &Found, name: Option<&str>) -> Vec<Descriptor> {
    let named = |descriptor: &Descriptor, name: Option<String>| Descriptor {
        annotations: name.map(|name| [(REF_NAME.to_owned(), name)].into()),
        ..descriptor.clone()
    };
    let mut all = vec![named(&found.root, name.map(str::to_owned))];
    for companion in &found.companions {
        let tag = companion.tag.as_ref();
        let mut entry = named(
            &companion.descriptor,
            tag.map(|tag| companion_name(name, tag)),
        );
        if tag.is_none() && entry.artifact_type.is_none() {
            // It is told by this from an image without a name.
            entry.artifact_type = Some(media::OCI_EMPTY.to_owned());
        }
        all.push(entry);
    }
    all
}

/// An image that is there already has one more name.
fn add_docker_image(images: &mut Vec<serde_json::Value>, mut new: serde_json::Value) {
    let same = |image: &&mut serde_json::Value| {
        image["Config"] == new["Config"] && image["Layers"] == new["Layers"]
    };
    let Some(known) = images.iter_mut().find(same) else {
        return images.push(new);
    };
    match (&mut known["RepoTags"], new["RepoTags"].take()) {
        (serde_json::Value::Array(names), serde_json::Value::Array(more)) => names.extend(more),
        (names @ serde_json::Value::Null, more) => *names = more,
        _ => {}
    }
}

/// An image's entry in a docker archive's `manifest.json`.
fn docker_image(found: &Found, name: Option<&str>) -> Result<serde_json::Value, CopyError> {
    let not_one = || CopyError::NotOneImage(found.root.digest.clone());
    let last = found.plan.manifests.last().ok_or_else(not_one)?;
    let manifest = Manifest::parse(&last.bytes, Some(&last.media_type)).map_err(|_| not_one())?;
    let config = manifest.config.as_ref().ok_or_else(not_one)?;
    let is_image = [media::OCI_CONFIG, media::DOCKER_CONFIG].contains(&&*config.media_type);
    if manifest.kind != ManifestKind::Image || !is_image {
        return Err(not_one());
    }
    let path = |digest: &Digest| format!("blobs/{}/{}", digest.algorithm(), digest.hex());
    let layers: Vec<String> = manifest.layers.iter().map(|l| path(&l.digest)).collect();
    Ok(serde_json::json!({
        "Config": path(&config.digest),
        "RepoTags": name.map(|name| vec![name]),
        "Layers": layers,
    }))
}
