//! `strata copy`: images from anywhere to anywhere, only what the target lacks.

mod places;
pub(crate) mod report;

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use oci_distribution::Reference;
use strata::copy::{ArchiveKind, Copier, CopyOptions, CopyReport, Platforms, Source, Target};
use strata::progress::{How, Progress};
use strata::push::BlobReport;
use strata::store::Store;
use strata_oci::Platform;
use strata_oci::location::Location;

use crate::printer;
use crate::settings::Settings;
use crate::show::{ProgressArgs, Work};
use crate::transport::{SideArgs, TransportArgs, platforms, reference, until_interrupted};
use places::Wanted;

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
    /// Of an index, only the image for OS/ARCH[/VARIANT], without the index; several times: the index as it
    /// is, with these images alone, for targets that accept that
    #[arg(long, value_name = "PLATFORM", conflicts_with = "all_platforms")]
    platform: Vec<Platform>,
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
    #[command(flatten)]
    sides: SideArgs,
    /// Images to copy
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<String>,
    /// Where to
    #[arg(required = true, value_name = "TARGET")]
    target: String,
}

pub(crate) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    let began = Instant::now();
    let show = args.progress.begin(args.quiet, Work::Copy);
    let target: Location = args.target.parse()?;
    ensure!(
        args.since.is_empty() || matches!(target, Location::OciArchive { .. }),
        "--since is for a new oci-archive: a layout and a registry are asked what they have"
    );
    // Stores are opened while nothing else runs: an ordinary user enters a namespace for them.
    let store = match target {
        Location::Store(_) => Some(settings.open_store()?),
        _ => None,
    };
    let wanted = places::wanted(settings, args)?;
    let options = options(args, &target)?;
    let progress = show.part();
    let work = async {
        let wanted = places::settled(wanted, &options.source, &progress).await?;
        let archive = |file, kind, name| Archive { file, kind, name };
        match (&target, &store) {
            (Location::Store(name), Some(store)) => {
                let report = to_store(store, options, &wanted, name, progress).await?;
                Ok(vec![report])
            }
            (Location::OciArchive { file, name }, _) => {
                let archive = archive(file, ArchiveKind::Oci, name.as_deref());
                archive.pack(options, &wanted, &args.since, progress).await
            }
            (Location::DockerArchive { file, reference }, _) => {
                let archive = archive(file, ArchiveKind::Docker, reference.as_deref());
                archive.pack(options, &wanted, &[], progress).await
            }
            _ => each(options, args, &target, &wanted, progress).await,
        }
    };
    let done = until_interrupted(work);
    drop(show);
    match done? {
        Ok(reports) => report::print(args, &reports, began)?,
        Err(code) => return Ok(code),
    }
    Ok(ExitCode::SUCCESS)
}

fn options(args: &Args, target: &Location) -> Result<CopyOptions> {
    let (source, target_side) = args.sides.options(&args.transport)?;
    let options = CopyOptions {
        source,
        target: target_side,
        platforms: platforms(&args.platform),
        referrers: args.referrers,
        parallel: args.parallel.into(),
        rate: args.limit_rate,
        plain: false,
        resumable: true,
    };
    Ok(match target {
        Location::DockerArchive { .. } => CopyOptions {
            platforms: Platforms::One(one(options.platforms, "a docker archive")?),
            referrers: false,
            ..options
        },
        _ => options,
    })
}

/// The platform where only one image has a place.
fn one(platforms: Platforms, place: &str) -> Result<Platform> {
    match platforms {
        Platforms::All => Ok(Platform::host()),
        Platforms::One(one) => Ok(one),
        Platforms::Some(_) => {
            bail!("{place} has a place for the image of one platform: say --platform once")
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
                    true => reference(&places::below(text, image.name.as_deref())?)?,
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
        let absent = places::held(since)?;
        let sources: Vec<(Source, Option<String>)> = wanted
            .iter()
            .map(|image| {
                let own = match self.kind {
                    ArchiveKind::Oci => image.name.clone(),
                    ArchiveKind::Docker => image.docker_name(),
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

/// Into the store an image is unpacked, because it keeps layers and no blobs.
async fn to_store(
    store: &Arc<Store>,
    options: CopyOptions,
    wanted: &[Wanted],
    name: &str,
    progress: Arc<dyn Progress>,
) -> Result<(String, CopyReport)> {
    let [image] = wanted else {
        bail!("several images cannot have one name: copy them one by one");
    };
    ensure!(
        !matches!(image.source, Source::Store { .. }),
        "it is in the store: `strata tag` gives it another name"
    );
    let to: Reference = reference(name)?;
    let copier = Copier::new(options, progress);
    let brought = copier.to_store(&image.source, store, Some(&to)).await;
    let brought = brought.with_context(|| format!("copying {} to store:{name}", image.text))?;
    let blobs = brought.layers.into_iter().map(|layer| BlobReport {
        digest: layer.digest,
        size: layer.size,
        how: if layer.fetched {
            How::Fetched
        } else {
            How::Reused
        },
    });
    let report = CopyReport {
        digest: Some(brought.resolved),
        manifests: 1,
        blobs: blobs.collect(),
        bytes: brought.bytes_fetched,
        ..CopyReport::default()
    };
    Ok((format!("store:{}", to.whole()), report))
}
