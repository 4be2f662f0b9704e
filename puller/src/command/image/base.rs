//! `strata image base`: on which images an image stands.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures_util::StreamExt as _;
use serde::Serialize;
use strata::commit;
use strata::copy::{Copier, CopyOptions};
use strata::progress::Silent;
use strata::registry::{Registry, RegistryOptions, RetryPolicy, Timeouts};
use strata::store::{Image, Name, Store, Target};
use strata_oci::Platform;
use strata_oci::digest::Digest;

use crate::command::find::{local_image, not_fetched};
use crate::command::images::familiar;
use crate::printer::{self, Format, Table};
use crate::settings::Settings;
use crate::transport::{TransportArgs, until_interrupted};

/// Registries that are asked at once.
const AT_ONCE: usize = 8;
/// How long to wait for one that may not be there.
const PATIENCE: Duration = Duration::from_secs(5);

/// Show which images an image stands on, and whether their names have moved on
///
/// A base is an image here whose layers are the lowest ones of the other. The one with most layers comes first. What the image itself
/// says of its base (org.opencontainers.image.base.name) is told, too. The registries that bases came from are asked what their
/// names stand for now; no more than that is fetched. An image that is not here, or is written as docker://NAME, is looked at in its
/// registry.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Ask no registry
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    transport: TransportArgs,
    /// Name, id or beginning of an id
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// A base.
#[derive(Debug, Serialize)]
struct Base {
    /// Its name, or what the image calls it.
    name: Option<String>,
    /// Its image id, if it is here.
    id: Option<Digest>,
    /// How many layers the two have in common, if it is here.
    layers: Option<usize>,
    /// `current`: the name stands for what the image was made of; `moved`: for something else now, here or in its
    /// registry; `unknown`: it is not here, and its registry does not say.
    state: &'static str,
    /// What its registry says: `current`, `moved`, `absent`, `unreachable`; nothing: it was not asked.
    registry: Option<&'static str>,
    /// What the name stands for in the registry now.
    digest: Option<Digest>,
    /// What it stood for when the image was made, or when the base came here.
    #[serde(skip)]
    then: Vec<Digest>,
    /// Whether the registry is to be asked.
    #[serde(skip)]
    ask: bool,
}

/// What counts of the image that is looked at.
struct Looked {
    diff_ids: Vec<Digest>,
    annotations: BTreeMap<String, String>,
}

pub(super) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    let store = settings.open_store()?;
    let image = match args.image.starts_with("docker://") {
        true => None,
        false => store.image(&args.image)?,
    };
    let looked = match image {
        Some(image) => Looked {
            diff_ids: image.config.rootfs.diff_ids,
            annotations: image.manifest.annotations,
        },
        // It says what is here that is called nearly the same.
        None if args.offline => {
            local_image(&store, &args.image)?;
            return Ok(ExitCode::FAILURE);
        }
        None => match until_interrupted(remote(args))
            .map_err(|error| not_fetched(&store, &args.image, error))?
        {
            Ok(looked) => looked,
            Err(code) => return Ok(code),
        },
    };
    let mut bases = bases(&store, &looked)?;
    if !args.offline
        && bases.iter().any(|base| base.ask)
        && let Err(code) = until_interrupted(ask(&mut bases, &args.transport.options()))?
    {
        return Ok(code);
    }
    if args.format == Format::Json {
        printer::json(&bases)?;
        return Ok(ExitCode::SUCCESS);
    }
    if bases.is_empty() {
        printer::message(format_args!(
            "no image here is a base of {}, and it names none",
            args.image
        ));
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["BASE", "IMAGE ID", "LAYERS", "STATE"]);
    for base in &bases {
        let none = || "<none>".to_owned();
        table.row([
            base.name.clone().unwrap_or_else(none),
            base.id
                .as_ref()
                .map_or_else(none, |id| id.short().to_owned()),
            base.layers
                .map_or_else(|| "-".to_owned(), |n| n.to_string()),
            base.state.to_owned(),
        ]);
    }
    table.print();
    Ok(ExitCode::SUCCESS)
}

async fn remote(args: &Args) -> Result<Looked> {
    let options = CopyOptions {
        source: args.transport.options(),
        ..CopyOptions::default()
    };
    let name = args.transport.reference(&args.image)?;
    let copier = Copier::new(options, Arc::new(Silent));
    let found = copier.describe(&name, &Platform::host()).await?;
    Ok(Looked {
        diff_ids: found.config.rootfs.diff_ids,
        annotations: found.manifest.annotations,
    })
}

fn bases(store: &Store, image: &Looked) -> Result<Vec<Base>> {
    let own = &image.diff_ids;
    let mut below: Vec<Image> = store.images()?;
    below.retain(|other| {
        let layers = &other.config.rootfs.diff_ids;
        !layers.is_empty() && layers.len() < own.len() && own.starts_with(layers)
    });
    below.sort_by_key(|other| std::cmp::Reverse(other.layers.len()));
    let mut bases = Vec::new();
    for other in &below {
        let base = || Base {
            name: None,
            id: Some(other.id.clone()),
            layers: Some(other.layers.len()),
            state: "current",
            registry: None,
            digest: None,
            then: Vec::new(),
            ask: false,
        };
        // One without a name that has the layers of one with a name tells nothing more.
        let named =
            |twin: &Image| !twin.references.is_empty() && twin.config.rootfs == other.config.rootfs;
        if other.references.is_empty() && !below.iter().any(named) {
            bases.push(base());
        }
        for (full, name) in other.references.iter().zip(familiar(&other.references)) {
            let resolved = store
                .image_by_reference(full)?
                .map(|(_, resolved)| resolved);
            bases.push(Base {
                name: Some(name),
                then: [Some(other.digest.clone()), resolved]
                    .into_iter()
                    .flatten()
                    .collect(),
                ask: comes_from(store, other, full)?,
                ..base()
            });
        }
    }
    if let Some(said) = said(store, image, &bases)? {
        bases.insert(0, said);
    }
    // Of those with as many layers, the one that the image names.
    let own = commit::Base::said(&image.annotations).name;
    let own = own.and_then(|name| Some(Name::parse(&name).ok()?.familiar()));
    bases.sort_by_key(|base| {
        let layers = std::cmp::Reverse(base.layers.unwrap_or(usize::MAX));
        (layers, own.is_none() || base.name != own)
    });
    Ok(bases)
}

/// Whether an image is known to be in the repository that a tag of it names.
fn comes_from(store: &Store, image: &Image, full: &str) -> Result<bool> {
    let name = Name::parse(full)?;
    let Some((registry, repository)) = name.repository.split_once('/') else {
        return Ok(false);
    };
    let (Target::Tag(_), Some(top)) = (&name.target, image.manifest.layers.last()) else {
        return Ok(false);
    };
    let mut origins = store.origins(&top.digest)?.into_iter();
    Ok(origins.any(|(host, path)| host == registry && path == repository))
}

/// What the image says itself, unless that was found already.
fn said(store: &Store, image: &Looked, found: &[Base]) -> Result<Option<Base>> {
    let said = commit::Base::said(&image.annotations);
    let Some(full) = said.name else {
        return Ok(None);
    };
    let name = Name::parse(&full)?.familiar();
    if found.iter().any(|base| base.name.as_ref() == Some(&name)) {
        return Ok(None);
    }
    let now = store.image_by_reference(&full)?;
    let ask = match &now {
        Some((now, _)) => comes_from(store, now, &full)?,
        None => true,
    };
    let state = match (&now, &said.digest) {
        (Some((now, resolved)), Some(then)) if *then != now.digest && then != resolved => "moved",
        (Some(_), _) => "current",
        (None, _) => "unknown",
    };
    Ok(Some(Base {
        name: Some(name),
        id: now.map(|(image, _)| image.id),
        layers: None,
        state,
        registry: None,
        digest: None,
        then: said.digest.into_iter().collect(),
        ask,
    }))
}

/// Asks registries what the names stand for now. One that does not answer is told of, and changes nothing.
async fn ask(bases: &mut [Base], options: &RegistryOptions) -> Result<()> {
    let options = RegistryOptions {
        retry: RetryPolicy {
            tries: 2,
            longest: PATIENCE,
            ..RetryPolicy::default()
        },
        timeouts: Timeouts {
            connect: PATIENCE,
            idle: PATIENCE,
            ..Timeouts::default()
        },
        ..options.clone()
    };
    let asked = bases.iter().enumerate().filter(|(_, base)| base.ask);
    // A base without a name is not asked for.
    let asked = asked.map(|(number, base)| (number, base.name.clone().unwrap_or_default()));
    let asked: Vec<(usize, String)> = asked.collect();
    let options = &options;
    let one = |(number, name): (usize, String)| async move {
        let said = head(&name, options).await;
        (number, name, said)
    };
    let mut asking =
        futures_util::stream::iter(asked.into_iter().map(one)).buffer_unordered(AT_ONCE);
    while let Some((number, name, said)) = asking.next().await {
        bases[number].hear(&name, said);
    }
    Ok(())
}

impl Base {
    /// Takes in what the registry said.
    fn hear(&mut self, name: &str, said: Result<Option<Digest>>) {
        self.registry = Some(match said {
            Ok(Some(now)) => {
                let moved = !self.then.is_empty() && !self.then.contains(&now);
                let said = if moved { "moved" } else { "current" };
                if moved || self.state == "unknown" {
                    self.state = said;
                }
                self.digest = Some(now);
                said
            }
            Ok(None) => {
                printer::message(format_args!("{name} is not in its registry any more"));
                "absent"
            }
            Err(error) => {
                printer::message(format_args!(
                    "whether {name} has moved on in its registry is not known: {error:#}"
                ));
                "unreachable"
            }
        });
    }
}

async fn head(name: &str, options: &RegistryOptions) -> Result<Option<Digest>> {
    let name = crate::transport::reference(name)?;
    let registry = Registry::new(name.registry(), options)?;
    let tag = name.tag().unwrap_or("latest");
    let head = registry.head_manifest(name.repository(), tag).await?;
    match head.map(|head| head.digest) {
        Some(None) => Ok(Some(
            // Not every registry says it in the head.
            registry.get_manifest(name.repository(), tag).await?.digest,
        )),
        head => Ok(head.flatten()),
    }
}
