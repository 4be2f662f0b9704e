//! `strata copy`: images from anywhere to anywhere, only what the target lacks.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use oci_distribution::Reference;
use serde_json::{Value, json};
use strata::copy::{ArchiveKind, Copier, CopyOptions, CopyReport, Source, Target};
use strata::fetch::{self, PullOptions};
use strata::progress::{How, Progress};
use strata_oci::layout::{self, Layout};
use strata_oci::location::Location;
use strata_oci::{Digest, Platform};

use crate::command::remote::has_selector;
use crate::printer;
use crate::settings::Settings;
use crate::show::{ProgressArgs, Work};
use crate::transport::{TransportArgs, reference, until_interrupted};

/// Copy images between registries, layouts, archives and the store, without unpacking them
///
/// A place is docker://[HOST[:PORT]/]NAME[:TAG][@DIGEST] (a bare name means the same), oci:DIR[:TAG],
/// oci-archive:FILE[:TAG], docker-archive:FILE[:REF] or store:NAME. All platforms of an index are copied,
/// so that digests stay what they are.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print nothing but the digests
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    progress: ProgressArgs,
    /// Of an index, only the image for OS/ARCH[/VARIANT]
    #[arg(long, value_name = "PLATFORM", conflicts_with = "all_platforms")]
    platform: Option<Platform>,
    /// Of an index, the images for all platforms: the default
    #[arg(long)]
    all_platforms: bool,
    /// Also signatures, SBOMs and other artifacts that belong to the images
    #[arg(long)]
    referrers: bool,
    /// Every image of the source, a layout or an oci-archive, under its own name
    #[arg(long)]
    all: bool,
    /// Leave out of the new archive the blobs that this earlier archive or layout directory holds
    #[arg(long, value_name = "FILE|DIR")]
    since: Vec<PathBuf>,
    /// How many blobs travel at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    parallel: u8,
    /// At most so many bytes a second, such as 500k, 20M or 1G
    #[arg(long, value_name = "BYTES", value_parser = strata::mirror::parse_rate)]
    limit_rate: Option<NonZeroU64>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: printer::Format,
    #[command(flatten)]
    transport: TransportArgs,
    /// Images to copy
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<String>,
    /// Where to
    #[arg(required = true, value_name = "TARGET")]
    target: String,
}

/// One image to copy: where it is, what it is called on the command line, and the name that it keeps.
struct Wanted {
    source: Source,
    text: String,
    /// `v1` or `host/app:v1`.
    name: Option<String>,
}

pub(crate) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    let began = Instant::now();
    let show = args.progress.begin(args.quiet, Work::Copy);
    let wanted = wanted(settings, args)?;
    let target: Location = args.target.parse()?;
    ensure!(
        args.since.is_empty() || matches!(target, Location::OciArchive { .. }),
        "--since is for a new oci-archive: a layout and a registry are asked what they have"
    );
    let mut options = CopyOptions {
        source: args.transport.options(),
        target: args.transport.options(),
        platform: args.platform.clone(),
        referrers: args.referrers,
        parallel: args.parallel.into(),
        rate: args.limit_rate,
    };
    if matches!(target, Location::DockerArchive { .. }) {
        // A docker archive has no place for another platform's image.
        options.platform = Some(options.platform.unwrap_or_else(Platform::host));
        options.referrers = false;
    }
    let progress = show.part();
    let work = async {
        match &target {
            Location::Store(name) => {
                let report = to_store(settings, args, &wanted, name, progress).await?;
                Ok(vec![report])
            }
            Location::OciArchive { file, name } => {
                let kind = ArchiveKind::Oci;
                let archive = Archive {
                    file,
                    kind,
                    name: name.as_deref(),
                };
                archive.pack(options, &wanted, &args.since, progress).await
            }
            Location::DockerArchive { file, reference } => {
                let kind = ArchiveKind::Docker;
                let archive = Archive {
                    file,
                    kind,
                    name: reference.as_deref(),
                };
                archive.pack(options, &wanted, &[], progress).await
            }
            _ => each(options, args, &target, &wanted, progress).await,
        }
    };
    let done = until_interrupted(work);
    drop(show);
    match done? {
        Ok(reports) => print(args, &reports, began)?,
        Err(code) => return Ok(code),
    }
    Ok(ExitCode::SUCCESS)
}

/// What was typed, image by image.
fn wanted(settings: &Settings, args: &Args) -> Result<Vec<Wanted>> {
    let mut all = Vec::new();
    for text in &args.sources {
        let location: Location = text.parse()?;
        let (source, name) = match location {
            Location::Registry(name) | Location::Name(name) => {
                let reference = reference(&name)?;
                // What is named by its digest has no name of its own.
                let named = reference.digest().is_none().then(|| reference.whole());
                (Source::Registry(reference), named)
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
                let opened = Layout::open_archive(&file)?;
                if args.all {
                    all.extend(listed(&opened, text, &|name| Source::OciArchive {
                        file: file.clone(),
                        name: Some(name),
                    }));
                    continue;
                }
                let own = layout::ref_name(opened.find(name.as_deref())?).map(str::to_owned);
                (Source::OciArchive { file, name }, own)
            }
            Location::DockerArchive { file, reference } => {
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
            text: text.clone(),
            name,
        });
    }
    ensure!(!all.is_empty(), "the source names no image");
    shorten(&mut all);
    Ok(all)
}

fn listed(opened: &Layout, text: &str, source: &dyn Fn(String) -> Source) -> Vec<Wanted> {
    let images = opened.entries().iter().filter(|e| !layout::is_companion(e));
    let names = images.filter_map(layout::ref_name);
    names
        .map(|name| Wanted {
            source: source(name.to_owned()),
            text: format!("{text} ({name})"),
            name: Some(name.to_owned()),
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

/// One by one, each under its own name.
async fn each(
    options: CopyOptions,
    args: &Args,
    target: &Location,
    wanted: &[Wanted],
    progress: Arc<dyn Progress>,
) -> Result<Vec<(String, CopyReport)>> {
    let copier = Copier::new(options, progress);
    let mut reports = Vec::new();
    for image in wanted {
        let several = wanted.len() > 1 || args.all;
        let (shown, target) = match target {
            Location::Layout { dir, name } => {
                let name = match (name, several) {
                    (Some(_), true) => bail!("several images cannot have one name: leave it out"),
                    (Some(name), false) => Some(name.clone()),
                    (None, _) => image.name.clone(),
                };
                let dir = dir.clone();
                let shown = match &name {
                    Some(name) => format!("oci:{}:{name}", dir.display()),
                    None => format!("oci:{}", dir.display()),
                };
                (shown, Target::Layout { dir, name })
            }
            Location::Registry(text) | Location::Name(text) => {
                let named = match several {
                    true => reference(&below(text, image.name.as_deref())?)?,
                    false => reference(text)?,
                };
                (named.whole(), Target::Registry(named))
            }
            _ => bail!("{} is no place for this", args.target),
        };
        let copied = copier.copy(&image.source, &target).await;
        let report = copied.with_context(|| format!("copying {} to {shown}", image.text))?;
        reports.push((shown, report));
    }
    Ok(reports)
}

/// Where one of several images goes: `TARGET:v1`, or `TARGET/app:v1` for `host/app:v1`.
fn below(target: &str, name: Option<&str>) -> Result<String> {
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

struct Archive<'a> {
    file: &'a Path,
    kind: ArchiveKind,
    name: Option<&'a str>,
}

impl Archive<'_> {
    async fn pack(
        &self,
        options: CopyOptions,
        wanted: &[Wanted],
        since: &[PathBuf],
        progress: Arc<dyn Progress>,
    ) -> Result<Vec<(String, CopyReport)>> {
        ensure!(
            self.name.is_none() || wanted.len() == 1,
            "several images cannot have one name: leave it out"
        );
        let absent = held(since)?;
        let sources: Vec<(Source, Option<String>)> = wanted
            .iter()
            .map(|image| {
                let own = match self.kind {
                    ArchiveKind::Oci => image.name.clone(),
                    ArchiveKind::Docker => docker_name(image),
                };
                (image.source.clone(), self.name.map(str::to_owned).or(own))
            })
            .collect();
        let copier = Copier::new(options, progress);
        let report = copier.pack(&sources, self.file, self.kind, &absent).await;
        let shown = self.file.display().to_string();
        let report = report.with_context(|| format!("writing {shown}"))?;
        Ok(vec![(shown, report)])
    }
}

/// `docker load` gives an image the name that it had, tag and all.
fn docker_name(image: &Wanted) -> Option<String> {
    match &image.source {
        Source::Registry(reference) if reference.digest().is_none() => Some(reference.whole()),
        Source::Registry(_) => None,
        _ => image.name.clone().filter(|name| name.contains(':')),
    }
}

/// The blobs that earlier archives and layouts hold, or built on.
fn held(since: &[PathBuf]) -> Result<BTreeSet<Digest>> {
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

/// Into the store an image is pulled, because the store keeps layers and no blobs.
async fn to_store(
    settings: &Settings,
    args: &Args,
    wanted: &[Wanted],
    name: &str,
    progress: Arc<dyn Progress>,
) -> Result<(String, CopyReport)> {
    let [
        Wanted {
            source: Source::Registry(from),
            ..
        },
    ] = wanted
    else {
        bail!(
            "only one image of a registry can be copied into the store: push others to one first"
        );
    };
    let store = settings.open_store()?;
    let to: Reference = reference(name)?;
    let options = PullOptions {
        platform: args.platform.clone(),
        registry: args.transport.options(),
        parallel: args.parallel.into(),
    };
    let full = from.whole();
    let pulled = fetch::pull(store.clone(), from, &options, progress).await;
    let pulled = pulled.with_context(|| format!("pulling {full}"))?;
    store.tag(&pulled.image, &to.whole())?;
    let report = CopyReport {
        digest: Some(pulled.resolved),
        bytes: pulled.bytes_fetched,
        ..CopyReport::default()
    };
    Ok((format!("store:{}", to.whole()), report))
}

fn word(how: How) -> &'static str {
    match how {
        How::Uploaded | How::Fetched => "copied",
        How::Mounted => "mounted",
        How::Reused => "present",
        How::LeftOut => "left out",
    }
}

fn print(args: &Args, reports: &[(String, CopyReport)], began: Instant) -> Result<()> {
    match args.format {
        printer::Format::Json => {
            let images: Vec<Value> = reports.iter().map(|(name, r)| value(name, r)).collect();
            printer::json(&json!({ "images": images }))?;
        }
        printer::Format::Table => {
            for (name, report) in reports {
                let digest = report.digest.as_ref().map(Digest::to_string);
                let digest = digest.unwrap_or_default();
                if args.quiet {
                    printer::line(digest);
                    continue;
                }
                let mark = if name.contains('@') { "" } else { "@" };
                let shown = if mark.is_empty() { "" } else { &*digest };
                printer::line(format_args!("{name}{mark}{shown}"));
                printer::line(summary(report, began));
            }
        }
    }
    Ok(())
}

/// `2 manifests; 5 blobs: 3 copied (25.1MB), 2 present (134MB) in 1.2s`
fn summary(report: &CopyReport, began: Instant) -> String {
    let took = began.elapsed().as_secs_f64();
    if report.unchanged {
        return format!("unchanged in {took:.1}s");
    }
    let ways = [
        ("copied", vec![How::Uploaded, How::Fetched]),
        ("mounted", vec![How::Mounted]),
        ("present", vec![How::Reused]),
        ("left out", vec![How::LeftOut]),
    ];
    let parts = ways.iter().filter_map(|(word, ways)| {
        let (count, bytes) = report.total(ways);
        let shown = *word == "copied" || count > 0;
        shown.then(|| format!("{count} {word} ({})", printer::size(bytes)))
    });
    let parts: Vec<String> = parts.collect();
    let (manifests, blobs) = (report.manifests, report.blobs.len());
    format!(
        "{manifests} manifests, {blobs} blobs: {} in {took:.1}s",
        parts.join(", ")
    )
}

fn value(name: &str, report: &CopyReport) -> Value {
    let blobs = report
        .blobs
        .iter()
        .map(|blob| json!({"digest": blob.digest, "size": blob.size, "state": word(blob.how)}));
    let bytes = |ways: &[How]| report.total(ways).1;
    json!({
        "target": name,
        "digest": report.digest,
        "unchanged": report.unchanged,
        "manifests": report.manifests,
        "referrers": report.referrers,
        "blobs": blobs.collect::<Vec<_>>(),
        "bytes_copied": report.bytes,
        "bytes_mounted": bytes(&[How::Mounted]),
        "bytes_present": bytes(&[How::Reused]),
        "bytes_left_out": bytes(&[How::LeftOut]),
    })
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
