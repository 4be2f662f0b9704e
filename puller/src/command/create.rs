//! `strata create`: make a container without starting it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use strata::run::config::Config;
use strata::store::Store;
use strata::store::containers::{Container, ContainerLock, Kind, NewContainer};

use super::containers::exit_code;
use super::options::ContainerArgs;
use crate::printer;
use crate::settings::Settings;

/// Make a container, to be started later
#[derive(clap::Args)]
#[command(
    disable_help_flag = true,
    override_usage = "strata create [OPTIONS] REF [COMMAND [ARG...]]"
)]
pub(crate) struct Args {
    /// Write the container's id to this new file
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    #[command(flatten)]
    container: ContainerArgs,
}

pub(crate) fn run(settings: &Settings, args: &Args) -> Result<ExitCode> {
    let created = create(settings, &args.container, args.cidfile.as_deref(), false);
    match created {
        Ok((_, created)) => {
            printer::line(&created.record.id);
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Ok(exit_code(&error, 1)),
    }
}

/// A container that has just been made.
pub(super) struct Created {
    /// Its row.
    pub(super) record: Container,
    /// Its lock.
    pub(super) lock: ContainerLock,
    /// What it is to be.
    pub(super) config: Config,
    /// Its layers, top first.
    pub(super) lowers: Vec<PathBuf>,
}

/// Makes a container, its image fetched if need be. `starting`: to be started right away.
pub(super) fn create(
    settings: &Settings,
    args: &ContainerArgs,
    id_file: Option<&Path>,
    starting: bool,
) -> Result<(Arc<Store>, Created)> {
    let (name, _) = args.image_and_command()?;
    args.without_image()?;
    if let Some(file) = id_file {
        ensure!(
            !file.exists(),
            "container ID file found, make sure the other container isn't running or delete {}",
            file.display()
        );
    }
    let store = settings.open_store()?;
    let image = args.image(&store)?;
    let mut config = args.config(&image.config.config, args.inherited(&store)?)?;
    let lowers = store.stack(&image).context("stacking the image's layers")?;
    let words = config.arguments.iter();
    let (record, lock) = store.create_container(&NewContainer {
        name: args.name.as_deref(),
        kind: Kind::Container,
        image: &image,
        image_name: name,
        ephemeral: args.rm,
        command: words
            .map(|word| word.to_string_lossy().into_owned())
            .collect(),
        starting,
    })?;
    config.default_hostname(record.short_id());
    match keep(&store, &record, &config, id_file) {
        Ok(()) => Ok((
            Arc::clone(&store),
            Created {
                record,
                lock,
                config,
                lowers,
            },
        )),
        Err(error) => {
            store.remove_container(&record, lock)?;
            Err(error)
        }
    }
}

fn keep(store: &Store, record: &Container, config: &Config, id_file: Option<&Path>) -> Result<()> {
    let directory = store.container_dir(&record.id);
    config
        .write(&directory)
        .with_context(|| format!("cannot write in {}", directory.display()))?;
    store.make_volumes(config)?;
    if let Some(file) = id_file {
        std::fs::write(file, &record.id)
            .with_context(|| format!("--cidfile {}", file.display()))?;
    }
    Ok(())
}
