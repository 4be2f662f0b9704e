//! `strata run`: run a command in a new container.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use strata::driver::{self, Chooser, Name, Stack, Writable};
use strata::run::cgroup::Cgroup;
use strata::run::{self, Exit, RunError};
use strata::store::containers::{Kind, NewContainer};
use strata::userns::Privilege;

use super::options::ContainerArgs;
use crate::settings::Settings;

/// Run a command in a new container
///
/// Leaves with the command's exit status: 128 and the signal's number if a signal killed it, 127 if it was not
/// found, 126 if it could not be executed, 125 if strata itself failed.
#[derive(clap::Args)]
#[command(override_usage = "strata run [OPTIONS] REF [COMMAND [ARG...]]")]
pub(crate) struct Args {
    #[command(flatten)]
    container: ContainerArgs,
}

/// Any failure before the command runs is ours and not the command's: 125.
pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    match start(settings, args) {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(error) => {
            crate::printer::failed(&error);
            let code = error.downcast_ref().map_or(125, RunError::code);
            Ok(ExitCode::from(code))
        }
    }
}

fn start(settings: &Settings, args: Args) -> Result<u8> {
    let args = args.container;
    let (name, _) = args.image_and_command()?;
    args.without_image()?;
    let store = settings.open_store()?;
    let image = args.image(&store)?;
    let mut config = args.config(&image.config.config)?;
    let lowers = store.stack(&image).context("stacking the image's layers")?;
    let (record, lock) = store.create_container(&NewContainer {
        name: args.name.as_deref(),
        kind: Kind::Container,
        image: &image,
        image_name: name,
        ephemeral: args.rm,
        command: config
            .arguments
            .iter()
            .map(|a| a.to_string_lossy().into_owned())
            .collect(),
    })?;
    config.default_hostname(record.short_id());
    let directory = store.container_dir(&record.id);
    config
        .write(&directory)
        .with_context(|| format!("cannot write in {}", directory.display()))?;
    store.make_volumes(&config)?;
    let mut container = run::Container {
        directory,
        lowers,
        mounted: None,
        privilege: store.privilege(),
        config,
        volumes: store.volumes_dir(),
        cgroup: Cgroup::default(),
    };
    let started = |pid| {
        if let Err(error) = store.container_started(&record.id, pid) {
            crate::printer::failed(
                &anyhow::Error::from(error).context("recording that the container runs"),
            );
        }
    };
    let rootless = store.privilege() == Privilege::UserNamespace;
    let outcome = match Cgroup::make(&record.id, rootless, &container.config.resources) {
        Ok(group) => {
            container.cgroup = group;
            stack_and_run(&settings.chooser(&store), &mut container, started)
        }
        Err(error) => Err(error.into()),
    };
    container.cgroup.remove();
    let code = match &outcome {
        Ok(exit) => exit.code(),
        Err(error) => error.downcast_ref().map_or(125, RunError::code),
    };
    let recorded = match args.rm {
        true => store
            .remove_container(&record, lock)
            .map_err(anyhow::Error::from)
            .and_then(|()| Ok(store.remove_anonymous_volumes(&container.config)?)),
        false => Ok(store.container_exited(&record.id, code)?),
    };
    if let Err(error) = recorded {
        crate::printer::failed(&error.context("recording that the container ended"));
    }
    outcome.with_context(|| format!("container {}", record.name))?;
    Ok(code)
}

/// Runs a container on the driver that was asked for, or on the first that works. An overlay is mounted by the
/// container's first process, which nobody else sees; when the kernel refuses one the drivers are tried.
fn stack_and_run(
    chooser: &Chooser,
    container: &mut run::Container,
    started: impl Fn(i32),
) -> Result<Exit> {
    let name = chooser.first();
    if name != Name::Overlay {
        mount(name, container)?;
        return Ok(run::run(container, started)?);
    }
    let error = match run::run(container, &started) {
        Err(error) if is_about_layers(&error) => error,
        outcome => return Ok(outcome?),
    };
    let choice = match chooser.choose() {
        // A trial mount says more than the kernel did.
        Err(reason) => return Err(anyhow::Error::from(error).context(reason)),
        Ok(choice) => choice,
    };
    if choice.name == Name::Overlay {
        return Err(error.into());
    }
    super::mount::tell(&choice);
    mount(choice.name, container)?;
    Ok(run::run(container, started)?)
}

fn is_about_layers(error: &RunError) -> bool {
    matches!(error, RunError::Start { message, .. } if message.starts_with("mounting the layers"))
}

/// Mounts the container's layers before it starts.
fn mount(name: Name, container: &mut run::Container) -> Result<()> {
    let directory = &container.directory;
    let writable = Writable::of(directory);
    writable
        .make(&container.lowers)
        .and_then(|()| name.record(directory))
        .with_context(|| format!("cannot make directories in {}", directory.display()))?;
    let stack = Stack {
        lowers: &container.lowers,
        upper: Some(&writable.upper),
        scratch: &writable.work,
        read_only: false,
    };
    let driver = name.driver(container.privilege);
    container.mounted = Some(driver::mount_detached(&*driver, &stack, &writable.merged)?);
    Ok(())
}
