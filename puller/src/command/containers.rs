//! What the commands about containers share: a container by the name that was typed, what it is to be, and the same
//! done to each of several.

use anyhow::{Context as _, Result, anyhow, bail};
use std::process::ExitCode;

use strata::run::RunError;
use strata::run::config::Config;
use strata::store::Store;
use strata::store::containers::{Container, ContainerError, Kind, State};

use super::find::{meant, near_containers};
use crate::printer;
use crate::settings::Settings;

/// The container, or a refusal that names what is called nearly the same.
pub(super) fn find(store: &Store, name: &str) -> Result<Container> {
    let container = match store.container(name) {
        Err(ContainerError::NoSuch(_)) => return Err(unknown(store, name)?),
        found => found?,
    };
    if container.kind != Kind::Container {
        bail!(
            "{name} is a {} and runs nothing: `strata umount` removes it",
            container.kind.name()
        );
    }
    Ok(container)
}

/// That there is no such container, and what is called nearly the same.
pub(super) fn unknown(store: &Store, name: &str) -> Result<anyhow::Error> {
    let hint = meant(near_containers(store, name)?);
    let hint = hint.unwrap_or_else(|| "`strata ps -a` lists them".to_owned());
    let name: String = name.chars().take(200).collect();
    Ok(anyhow!("no such container: {name}; {hint}"))
}

/// The same for one that has to run; `verb` is what is to be done to it.
pub(super) fn find_running(store: &Store, name: &str, verb: &str) -> Result<Container> {
    let container = find(store, name)?;
    match (container.state, container.paused) {
        (State::Running, false) => Ok(container),
        (State::Running, true) => {
            bail!("cannot {verb} container {name}: it is paused, unpause it first")
        }
        (State::Created | State::Exited, _) => {
            bail!("cannot {verb} container {name}: it is not running")
        }
    }
}

/// What a container is to be.
pub(super) fn config(store: &Store, container: &Container) -> Result<Config> {
    let directory = store.container_dir(&container.id);
    let read = Config::read(&directory);
    read.with_context(|| format!("reading what container {} is to be", container.name))?
        .with_context(|| {
            format!(
                "container {} was made by an older version of strata, which did not keep what it was to be: its files can \
                 be mounted, exported and compared, but it cannot be started again",
                container.name
            )
        })
}

/// Does the same to each of several containers, and prints the name of each for which it worked.
pub(super) fn each(
    settings: &Settings,
    names: &[String],
    mut work: impl FnMut(&Store, &str) -> Result<()>,
) -> Result<ExitCode> {
    let store = settings.open_store()?;
    let mut code = ExitCode::SUCCESS;
    for name in names {
        match work(&store, name) {
            Ok(()) => printer::line(name),
            Err(error) => {
                printer::failed(&error);
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// The exit code that an error of a command stands for that leaves with a program's.
pub(super) fn exit_code(error: &anyhow::Error, otherwise: u8) -> ExitCode {
    printer::failed(error);
    let code = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<RunError>());
    ExitCode::from(code.map_or(otherwise, RunError::code))
}
