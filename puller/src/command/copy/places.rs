//! The places that were typed: which images they name, and under which names those go on.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use oci_distribution::Reference;
use strata::copy::{self, Source};
use strata::inflate::Compressed;
use strata::progress::Progress;
use strata::registry::{Registry, RegistryOptions};
use strata_oci::Digest;
use strata_oci::layout::{self, Layout};
use strata_oci::location::Location;
use tempfile::TempDir;

use super::Args;
use crate::command::remote::has_selector;
use crate::printer;
use crate::settings::Settings;
use crate::transport::reference;

/// One image to copy: where it is, what it is called on the command line, and the name that it keeps.
pub(super) struct Wanted {
    pub(super) source: Source,
    /// What a short name may mean as well, in the order to try it.
    others: Vec<Reference>,
    pub(super) text: String,
    /// `v1` or `host/app:v1`.
    pub(super) name: Option<String>,
    /// Where the plain form of a compressed archive is.
    _plain: Option<Arc<TempDir>>,
}

/// An archive whose parts can be read by their place: the file itself, or, of one that is compressed as a whole, a plain
/// copy of it.
fn plain(file: PathBuf) -> Result<(PathBuf, Option<Arc<TempDir>>)> {
    let shown = |path: &Path| format!("reading {}", path.display());
    let opened = File::open(&file).with_context(|| shown(&file))?;
    let compressed = Compressed::of_file(&opened).with_context(|| shown(&file))?;
    if compressed.is_none() {
        return Ok((file, None));
    }
    let place = tempfile::tempdir().context("making a temporary directory")?;
    let path = place.path().join("archive");
    let opened = File::open(&file).with_context(|| shown(&file))?;
    copy::spool(opened, &path).with_context(|| shown(&file))?;
    Ok((path, Some(Arc::new(place))))
}

/// What was typed, image by image.
pub(super) fn wanted(settings: &Settings, args: &Args) -> Result<Vec<Wanted>> {
    let mut all = Vec::new();
    for text in &args.sources {
        let location: Location = text.parse()?;
        let mut kept = None;
        let (source, name) = match location {
            Location::Registry(name) => {
                all.push(Wanted::of_registry(vec![reference(&name)?], text)?);
                continue;
            }
            Location::Name(name) => {
                all.push(Wanted::of_registry(
                    args.transport.references(&name)?,
                    text,
                )?);
                continue;
            }
            Location::Layout { dir, name } => {
                let opened = Layout::open(&dir)?;
                if args.all {
                    all.extend(listed(&opened, text, &|name| Source::Layout {
                        dir: dir.clone(),
                        name: Some(name),
                    }));
                    continue;
                }
                let own = layout::ref_name(opened.find(name.as_deref())?).map(str::to_owned);
                (Source::Layout { dir, name }, own)
            }
            Location::OciArchive { file, name } => {
                let (file, spooled) = plain(file)?;
                kept = spooled;
                let opened = Layout::open_archive(&file)?;
                if args.all {
                    let images = listed(&opened, text, &|name| Source::OciArchive {
                        file: file.clone(),
                        name: Some(name),
                    });
                    all.extend(images.into_iter().map(|image| Wanted {
                        _plain: kept.clone(),
                        ..image
                    }));
                    continue;
                }
                let own = layout::ref_name(opened.find(name.as_deref())?).map(str::to_owned);
                (Source::OciArchive { file, name }, own)
            }
            Location::DockerArchive { file, reference } => {
                let (file, spooled) = plain(file)?;
                kept = spooled;
                let name = reference.clone();
                (Source::DockerArchive { file, reference }, name)
            }
            Location::Store(name) => {
                let store = settings.open_store()?;
                let image = store.image(&name)?;
                let image = image.with_context(|| {
                    format!("no such image: {name}: `strata images` lists what is here")
                })?;
                let image = Box::new(image);
                (
                    Source::Store { store, image },
                    Some(reference(&name)?.whole()),
                )
            }
        };
        all.push(Wanted {
            source,
            others: Vec::new(),
            text: text.clone(),
            name,
            _plain: kept,
        });
    }
    ensure!(!all.is_empty(), "the source names no image");
    Ok(all)
}

impl Wanted {
    /// An image of a registry, by the names that it may have.
    fn of_registry(names: Vec<Reference>, text: &str) -> Result<Self> {
        let mut names = names.into_iter();
        let first = names.next();
        let first = first.with_context(|| format!("{text:?} names no image"))?;
        Ok(Self {
            // What is named by its digest has no name of its own.
            name: first.digest().is_none().then(|| first.whole()),
            source: Source::Registry(first),
            others: names.collect(),
            text: text.to_owned(),
            _plain: None,
        })
    }

    /// `docker load` gives an image the name that it had, tag and all.
    pub(super) fn docker_name(&self) -> Option<String> {
        match &self.source {
            Source::Registry(reference) if reference.digest().is_none() => Some(reference.whole()),
            Source::Registry(_) => None,
            _ => self.name.clone().filter(|name| name.contains(':')),
        }
    }

    /// Of the images that a short name may mean, the first that is there.
    async fn settle(self, options: &RegistryOptions, progress: &Arc<dyn Progress>) -> Result<Self> {
        let mut wanted = self;
        while let (Source::Registry(reference), [_, ..]) = (&wanted.source, &wanted.others[..]) {
            let registry = Registry::new(reference.registry(), options)?;
            let registry = registry.telling(progress.clone());
            let tag = reference.digest().or(reference.tag()).unwrap_or("latest");
            match registry.head_manifest(reference.repository(), tag).await {
                Ok(Some(_)) => break,
                Ok(None) => printer::message(format_args!("{} is not there", reference.whole())),
                Err(error) => printer::message(format_args!("{}: {error}", reference.whole())),
            }
            wanted = Self::of_registry(wanted.others, &wanted.text)?;
        }
        Ok(wanted)
    }
}

/// Short names settled, and the names that the images keep.
pub(super) async fn settled(
    all: Vec<Wanted>,
    options: &RegistryOptions,
    progress: &Arc<dyn Progress>,
) -> Result<Vec<Wanted>> {
    let mut settled = Vec::new();
    for wanted in all {
        settled.push(wanted.settle(options, progress).await?);
    }
    shorten(&mut settled);
    Ok(settled)
}

fn listed(opened: &Layout, text: &str, source: &dyn Fn(String) -> Source) -> Vec<Wanted> {
    let images = opened.entries().iter().filter(|e| !layout::is_companion(e));
    let names = images.filter_map(layout::ref_name);
    names
        .map(|name| Wanted {
            source: source(name.to_owned()),
            others: Vec::new(),
            text: format!("{text} ({name})"),
            name: Some(name.to_owned()),
            _plain: None,
        })
        .collect()
}

/// Images of one repository are told apart by their tags, those of several by their whole names.
fn shorten(all: &mut [Wanted]) {
    let repository = |wanted: &Wanted| {
        let name = wanted.name.as_deref()?;
        Some(name.rsplit_once(':')?.0.to_owned())
    };
    let first = all.first().and_then(repository);
    if first.is_some() && all.iter().all(|wanted| repository(wanted) == first) {
        for wanted in all {
            let name = wanted.name.as_deref().and_then(|n| n.rsplit_once(':'));
            wanted.name = name.map(|(_, tag)| tag.to_owned());
        }
    }
}

/// Where one of several images goes: `TARGET:v1`, or `TARGET/app:v1` for `host/app:v1`.
pub(super) fn below(target: &str, name: Option<&str>) -> Result<String> {
    ensure!(
        !has_selector(target) || !target.contains('/'),
        "{target:?} names one image: several go to a repository or to a registry"
    );
    let Some(name) = name else {
        bail!("an image without a name cannot be one of several: copy it alone");
    };
    let Some((first, rest)) = name.split_once('/') else {
        return Ok(format!("{target}:{name}"));
    };
    let is_host = first == "localhost" || first.contains(['.', ':']);
    Ok(format!("{target}/{}", if is_host { rest } else { name }))
}

/// The blobs that earlier archives and layouts hold, or built on.
pub(super) fn held(since: &[PathBuf]) -> Result<BTreeSet<Digest>> {
    let mut all = BTreeSet::new();
    for path in since {
        let layout = match path.is_dir() {
            true => Layout::open(path)?,
            false => Layout::open_archive(path)?,
        };
        all.append(&mut layout.digests()?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_images_go_below_the_target() {
        let below = |target: &str, name| below(target, Some(name)).expect("a name");
        assert_eq!(below("host/app", "v1"), "host/app:v1");
        assert_eq!(
            below("host:5000/mirror", "docker.io/library/debian:12"),
            "host:5000/mirror/library/debian:12"
        );
        assert_eq!(
            below("localhost:5000", "a.b/team/app:v1"),
            "localhost:5000/team/app:v1"
        );
        assert!(super::below("host/app:v1", Some("v2")).is_err());
        assert!(super::below("host/app", None).is_err());
    }
}
