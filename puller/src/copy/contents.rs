//! What is in an archive or layout that somebody made: which images, and what they are called.
//!
//! docker, podman, skopeo and buildah write docker archives (`manifest.json`), OCI layouts (`index.json`), and both in one
//! file. Where an image is in both, it is taken by its OCI manifest, so that it keeps its digest; its names are those
//! of both.

use std::path::Path;

use strata_oci::archive::{ArchiveError, DockerArchive};
use strata_oci::layout::{self, Layout};
use strata_oci::media::{self, ManifestKind};
use strata_oci::{Descriptor, Digest, Manifest};

use super::{CopyError, Source};
use crate::push::PushError;
use crate::store::Name;

/// Where containerd and docker write an image's full name.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// An image of an archive or layout.
#[derive(Clone)]
pub struct Held {
    /// Where it is.
    pub source: Source,
    /// What it is called there, in full.
    pub names: Vec<String>,
}

/// The images in an archive file or a layout directory, in its order. Signatures and the like are no images.
/// Blocking.
///
/// # Errors
/// It is neither.
pub fn contents(path: &Path) -> Result<Vec<Held>, CopyError> {
    if path.is_dir() {
        return Ok(of_layout(&Layout::open(path)?, path, true, &mut Vec::new()));
    }
    let (docker, layout) = (DockerArchive::open(path), Layout::open_archive(path));
    let mut in_docker = match &docker {
        Ok(archive) => listed(archive).map_err(PushError::from)?,
        Err(_) => Vec::new(),
    };
    let mut held = match (&docker, &layout) {
        (_, Ok(layout)) => of_layout(layout, path, false, &mut in_docker),
        (Ok(_), Err(_)) => Vec::new(),
        (Err(docker), Err(layout)) => {
            let why = format!("it is no archive of images: {docker}; {layout}");
            return Err(CopyError::File {
                path: path.to_owned(),
                source: std::io::Error::new(std::io::ErrorKind::InvalidData, why),
            });
        }
    };
    let rest = in_docker.into_iter().filter(|image| !image.taken);
    held.extend(rest.map(|image| Held {
        source: Source::DockerArchive {
            file: path.to_owned(),
            reference: Some(image.config_path),
        },
        names: full_names(image.names.iter().map(String::as_str)),
    }));
    Ok(held)
}

/// An image of `manifest.json`.
struct InDocker {
    config_path: String,
    config: Digest,
    names: Vec<String>,
    /// It is in the layout, too.
    taken: bool,
}

fn listed(archive: &DockerArchive) -> Result<Vec<InDocker>, ArchiveError> {
    let one = |(path, names): (&str, &[String])| {
        Ok(InDocker {
            config: Digest::of(&archive.image(Some(path))?.config_bytes),
            config_path: path.to_owned(),
            names: names.to_vec(),
            taken: false,
        })
    };
    archive.images().map(one).collect()
}

fn of_layout(layout: &Layout, at: &Path, is_dir: bool, docker: &mut [InDocker]) -> Vec<Held> {
    let mut held: Vec<(Digest, Held)> = Vec::new();
    for entry in layout.entries().iter().filter(|e| !layout::is_companion(e)) {
        let configs = configs(layout, entry);
        if configs.is_empty() {
            continue;
        }
        let mut names: Vec<String> = name_of(entry).into_iter().map(str::to_owned).collect();
        for image in docker
            .iter_mut()
            .filter(|image| configs.contains(&image.config))
        {
            names.extend(image.names.iter().cloned());
            image.taken = true;
        }
        let names = full_names(names.iter().map(String::as_str));
        match held.iter_mut().find(|(digest, _)| *digest == entry.digest) {
            Some((_, known)) => {
                let new = names.into_iter().filter(|name| !known.names.contains(name));
                let new: Vec<String> = new.collect();
                known.names.extend(new);
            }
            None => {
                let name = Some(entry.digest.to_string());
                let source = match is_dir {
                    true => Source::Layout {
                        dir: at.to_owned(),
                        name,
                    },
                    false => Source::OciArchive {
                        file: at.to_owned(),
                        name,
                    },
                };
                held.push((entry.digest.clone(), Held { source, names }));
            }
        }
    }
    held.into_iter().map(|(_, held)| held).collect()
}

/// The configurations of an entry's images, as far as their manifests are there.
fn configs(layout: &Layout, entry: &Descriptor) -> Vec<Digest> {
    let Ok((_, manifest)) = layout.manifest(entry) else {
        return Vec::new();
    };
    match manifest.kind {
        ManifestKind::Image => config_of(&manifest).into_iter().collect(),
        ManifestKind::Index => {
            let children = manifest.manifests.iter();
            let read = children.filter_map(|child| layout.manifest(child).ok());
            read.filter_map(|(_, manifest)| config_of(&manifest))
                .collect()
        }
    }
}

/// The configuration of a container image; `None` for other artifacts.
fn config_of(manifest: &Manifest) -> Option<Digest> {
    let config = manifest.config.as_ref()?;
    let kind = media::essence(&config.media_type);
    let is_image = [media::OCI_CONFIG, media::DOCKER_CONFIG].contains(&&*kind);
    is_image.then(|| config.digest.clone())
}

/// What an entry of an index is called, if that is more than a tag: `v1` alone is a name of nothing.
fn name_of(entry: &Descriptor) -> Option<&str> {
    let annotations = entry.annotations.as_ref()?;
    let full = annotations.get(CONTAINERD_NAME).map(String::as_str);
    full.or(layout::ref_name(entry))
        .filter(|name| name.contains(['/', ':']))
}

/// In full, each once; what is no name is none.
fn full_names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in names.filter_map(|name| Name::parse(name).ok()) {
        let full = name.full();
        if !full.contains('@') && !all.contains(&full) {
            all.push(full);
        }
    }
    all
}
