//! `strata volume`: directories that outlive containers.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use strata::store::Store;
use strata::store::volumes::{Volume, VolumeError};

use crate::printer::{self, Format, Table};
use crate::prompt;
use crate::settings::Settings;

/// Volumes: directories that outlive containers
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    Create(Create),
    #[command(visible_alias = "list")]
    Ls(Ls),
    Inspect(Inspect),
    #[command(visible_alias = "remove")]
    Rm(Rm),
    Prune(Prune),
}

/// Make a volume, unless it is there
#[derive(clap::Args)]
struct Create {
    /// Label of the volume
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Its name [default: made up]
    name: Option<String>,
}

/// List volumes
#[derive(clap::Args)]
struct Ls {
    /// Print names only
    #[arg(short, long)]
    quiet: bool,
    /// Only those with name=TEXT in their name, label=KEY[=VALUE], dangling=true|false (used by no container)
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// How to print the list
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
}

/// Print all that is known of volumes, as JSON
#[derive(clap::Args)]
struct Inspect {
    /// Their names
    #[arg(required = true)]
    names: Vec<String>,
}

/// Remove volumes with what is in them
#[derive(clap::Args)]
struct Rm {
    /// Do not mind those that are not there
    #[arg(short, long)]
    force: bool,
    /// Their names
    #[arg(required = true)]
    names: Vec<String>,
}

/// Remove the volumes that no container uses: those without a name, or all
#[derive(clap::Args)]
struct Prune {
    /// Those with a name too
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    let store = settings.open_store()?;
    match args.action {
        Action::Create(args) => create(&store, &args),
        Action::Ls(args) => list(&store, &args),
        Action::Inspect(args) => inspect(&store, &args),
        Action::Rm(args) => remove(&store, &args),
        Action::Prune(args) => prune(&store, &args),
    }
}

fn create(store: &Store, args: &Create) -> Result<ExitCode> {
    let labels = args.label.iter().map(|label| {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        (key.to_owned(), value.to_owned())
    });
    let (name, anonymous) = match &args.name {
        Some(name) => (name.clone(), false),
        None => (hex::encode(rand::random::<[u8; 32]>()), true),
    };
    let volume = store.create_volume(&name, &labels.collect(), anonymous)?;
    printer::line(volume.name);
    Ok(ExitCode::SUCCESS)
}

fn list(store: &Store, args: &Ls) -> Result<ExitCode> {
    let users = store.volume_users()?;
    let mut volumes = store.volumes()?;
    for filter in &args.filter {
        let (key, value) = filter.split_once('=').unwrap_or((filter, ""));
        match key {
            "name" => volumes.retain(|v| v.name.contains(value)),
            "label" => volumes.retain(|v| has_label(&v.labels, value)),
            "dangling" => {
                let wanted = match value {
                    "true" | "1" => true,
                    "false" | "0" => false,
                    _ => bail!("invalid filter {filter:?}: dangling is true or false"),
                };
                volumes.retain(|v| users.contains_key(&v.name) != wanted);
            }
            _ => bail!("invalid filter {filter:?}: it is name=, label= or dangling="),
        }
    }
    match (args.quiet, args.format) {
        (true, _) => volumes.iter().for_each(|v| printer::line(&v.name)),
        (_, Format::Json) => {
            let all: Vec<Value> = volumes.iter().map(describe).collect();
            printer::json(&all)?;
        }
        (_, Format::Table) => {
            let mut table = Table::new(&["DRIVER", "VOLUME NAME"]);
            for volume in volumes {
                table.row(["local".to_owned(), volume.name]);
            }
            table.print();
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn has_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|known| known == value),
        None => labels.contains_key(wanted),
    }
}

/// In docker's words.
fn describe(volume: &Volume) -> Value {
    json!({
        "CreatedAt": printer::rfc3339(volume.created),
        "Driver": "local",
        "Labels": volume.labels,
        "Mountpoint": volume.path,
        "Name": volume.name,
        "Options": null,
        "Scope": "local",
    })
}

fn inspect(store: &Store, args: &Inspect) -> Result<ExitCode> {
    let volumes = args.names.iter().map(|name| store.volume(name));
    let volumes = volumes.collect::<Result<Vec<_>, _>>()?;
    let all: Vec<Value> = volumes.iter().map(describe).collect();
    printer::json(&all)?;
    Ok(ExitCode::SUCCESS)
}

fn remove(store: &Store, args: &Rm) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for name in &args.names {
        match store.remove_volume(name) {
            Ok(()) => printer::line(name),
            Err(VolumeError::NoSuch(_)) if args.force => {}
            Err(error) => code = printer::failed(&error.into()),
        }
    }
    Ok(code)
}

fn prune(store: &Store, args: &Prune) -> Result<ExitCode> {
    if !args.force {
        let which = if args.all { "all" } else { "all anonymous" };
        let question = format!(
            "WARNING! This will remove {which} volumes not used by at least one container.\n\
             Are you sure you want to continue? [y/N] "
        );
        let answer = prompt::line(&question)?.to_lowercase();
        ensure!(
            matches!(&*answer, "y" | "yes"),
            "volume prune has been cancelled: nothing was removed"
        );
    }
    let users = store.volume_users()?;
    for volume in store.volumes()? {
        if users.contains_key(&volume.name) || !(args.all || volume.anonymous) {
            continue;
        }
        match store.remove_volume(&volume.name) {
            Ok(()) => printer::line(&volume.name),
            // Somebody has begun to use it, or has removed it first.
            Err(VolumeError::InUse { .. } | VolumeError::NoSuch(_)) => {}
            Err(error) => {
                return Err(error).with_context(|| format!("removing {}", volume.name));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
