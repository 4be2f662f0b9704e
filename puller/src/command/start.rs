//! `strata start`: start containers that are there.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use strata::driver::is_mounted;
use strata::run::config::Config;
use strata::run::keys::{self, Keys};
use strata::run::{self, Attachment, Launch, Outcome, RunError, Signals};
use strata::store::Store;
use strata::store::containers::{Container, ContainerError, ContainerLock, State};

use super::containers::{config, each, exit_code, find};
use super::mount::mount_point;
use crate::printer;
use crate::settings::Settings;

/// Start containers that were created, or have ended
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Show what the command prints, pass signals on, and leave with its exit status
    #[arg(short, long)]
    attach: bool,
    /// Pass standard input to the command
    #[arg(short, long)]
    interactive: bool,
    /// Keys that leave a container with a terminal running in the background
    #[arg(long, value_name = "KEYS", default_value = keys::DEFAULT)]
    detach_keys: Keys,
    /// Name or id
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    if !args.attach && !args.interactive {
        return each(settings, &args.containers, |store, name| {
            start_again(settings, store, &find(store, name)?, None).map(drop)
        });
    }
    let [name] = args.containers.as_slice() else {
        bail!("you cannot start and attach multiple containers at once");
    };
    let started = || -> Result<u8> {
        let store = settings.open_store()?;
        let container = find(&store, name)?;
        if container.state == State::Running {
            return super::attach::attach(
                &store,
                &container,
                args.interactive,
                args.detach_keys,
                true,
            );
        }
        let attach = Attach {
            input: args.interactive,
            keys: args.detach_keys,
            forward_signals: true,
        };
        Ok(start_again(settings, &store, &container, Some(attach))?.unwrap_or(0))
    };
    started()
        .map(ExitCode::from)
        .or_else(|error| Ok(exit_code(&error, 1)))
}

/// Starts a container that is there; the exit code if somebody is attached to its end. One that runs is left alone.
pub(super) fn start_again(
    settings: &Settings,
    store: &Store,
    container: &Container,
    attach: Option<Attach>,
) -> Result<Option<u8>> {
    if container.state == State::Running {
        return Ok(None);
    }
    let path = mount_point(store, container);
    ensure!(
        !is_mounted(&path),
        "container {} is mounted at {}: unmount it first (strata umount {0})",
        container.name,
        path.display()
    );
    let lock = match store.lock_container(container) {
        // Another command has started it meanwhile.
        Err(ContainerError::Running { .. }) if is_running(store, container)? => return Ok(None),
        lock => lock?,
    };
    let config = config(store, container)?;
    let image = store
        .image_by_digest(&container.manifest_digest)?
        .with_context(|| format!("the image of container {} is gone", container.name))?;
    let lowers = store.stack(&image).context("stacking the image's layers")?;
    start(Start {
        settings,
        store,
        id: &container.id,
        config: &config,
        lowers,
        lock,
        attach,
    })
    .with_context(|| format!("container {}", container.name))
}

fn is_running(store: &Store, container: &Container) -> Result<bool, ContainerError> {
    Ok(store.container(&container.id)?.state == State::Running)
}

/// How somebody is attached from the start.
pub(super) struct Attach {
    /// Whether standard input is passed on.
    pub(super) input: bool,
    /// What is typed to leave.
    pub(super) keys: Keys,
    /// Whether signals are passed on.
    pub(super) forward_signals: bool,
}

/// A container to be started.
pub(super) struct Start<'a> {
    pub(super) settings: &'a Settings,
    pub(super) store: &'a Store,
    pub(super) id: &'a str,
    pub(super) config: &'a Config,
    pub(super) lowers: Vec<PathBuf>,
    pub(super) lock: ContainerLock,
    pub(super) attach: Option<Attach>,
}

/// Starts a container; the exit code of its program when somebody is attached to its end.
pub(super) fn start(start: Start) -> Result<Option<u8>> {
    let config = start.config;
    let terminal = config.terminal;
    let input = start.attach.as_ref().is_some_and(|attach| attach.input) && config.interactive;
    if terminal && input && !run::on_terminal() {
        return Err(RunError::NoTerminal.into());
    }
    // From before it runs, so that none is lost.
    let forward = start.attach.as_ref().map(|attach| attach.forward_signals);
    let signals = forward.map(Signals::take).transpose()?;
    let launch = Launch {
        store: start.store,
        id: start.id,
        config,
        lowers: start.lowers,
        driver: start.settings.chooser(start.store).wanted(),
        attached: start.attach.is_some(),
        input,
    };
    let mut connection = run::launch(launch, start.lock)?;
    connection.started(|words| printer::message(words))?;
    let (Some(attach), Some(signals)) = (start.attach, signals) else {
        return Ok(None);
    };
    let attachment = Attachment {
        input,
        terminal,
        keys: terminal.then_some(attach.keys),
        signals_to: attach
            .forward_signals
            .then(|| start.store.container_dir(start.id)),
    };
    match run::relay(&mut connection, attachment, &signals)? {
        Outcome::Exited(code) => Ok(Some(code)),
        Outcome::Detached => Ok(None),
    }
}
