//! `strata mount`: mount an image and print where.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{Mode, OFlags};
use strata::driver::{Choice, Name, Stack, State, Writable, session, state, unmount};
use strata::run::config::Config;
use strata::store::containers::{Container, ContainerError, ContainerLock, Kind, NewContainer};
use strata::store::{Image, Store};
use strata::userns;

use crate::settings::Settings;
use crate::show::ProgressArgs;

/// Mount an image, or a container that is not running, and print where
///
/// An image gets a writable layer of its own, which goes with `strata umount`; the image's layers never change.
/// Without REF, lists what is mounted.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Mount without a writable layer
    #[arg(long)]
    ro: bool,
    /// Image, or name or id of a container
    #[arg(value_name = "REF")]
    reference: Option<String>,
}

pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    // Asked before the store is opened, which enters a namespace.
    let lasting = userns::current()?.is_some();
    let Some(reference) = args.reference else {
        return list(settings);
    };
    if !lasting {
        bail!(
            "without root, a mount is seen only inside a user namespace and would vanish with this command: \
             open one with `strata unshare`, then mount there, for example \
             `strata unshare sh -c 'ls $(strata mount {reference})'`"
        );
    }
    let store = settings.open_store()?;
    let path = match store.container(&reference) {
        Ok(container) => mount_container(settings, &store, &container, args.ro)?,
        Err(ContainerError::NoSuch(_) | ContainerError::Ambiguous(_)) => {
            let image = super::pull::ensure(&store, &reference, ProgressArgs::default())?;
            mount_image(settings, &store, &image, &reference, args.ro)?
        }
        Err(error) => return Err(error.into()),
    };
    crate::printer::line(path.display());
    Ok(ExitCode::SUCCESS)
}

fn list(settings: &Settings) -> Result<ExitCode> {
    let store = settings.open_store()?;
    drop_stale(&store)?;
    for container in store.containers()? {
        let path = mount_point(&store, &container);
        if state(&path) == State::Mounted {
            crate::printer::line(format_args!(
                "{}  {}  {}",
                container.short_id(),
                container.image,
                path.display()
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Where a container's file system appears when it is mounted.
pub(super) fn mount_point(store: &Store, container: &Container) -> PathBuf {
    Writable::of(&store.container_dir(&container.id)).merged
}

/// Whether a container is nothing but a mount of an image, and that mount is to be seen nowhere: the machine was
/// started anew, the namespace ended, or who mounted was killed.
pub(super) fn is_stale(store: &Store, container: &Container) -> Result<bool> {
    if container.kind == Kind::Container || state(&mount_point(store, container)) == State::Mounted
    {
        return Ok(false);
    }
    let elsewhere = session::is_elsewhere(&store.container_dir(&container.id));
    Ok(!elsewhere.context("looking for the mount in /proc")?)
}

/// Removes the records of mounts that are no more, with their writable layers.
pub(super) fn drop_stale(store: &Store) -> Result<()> {
    for container in store.containers()? {
        if !is_stale(store, &container)? {
            continue;
        }
        // Somebody is mounting it now.
        let Ok(lock) = store.try_lock_container(&container) else {
            continue;
        };
        store.remove_container(&container, lock)?;
    }
    Ok(())
}

fn mount_image(
    settings: &Settings,
    store: &Store,
    image: &Image,
    name: &str,
    read_only: bool,
) -> Result<PathBuf> {
    let lowers = store.stack(image)?;
    let kind = if read_only {
        Kind::ReadOnlyMount
    } else {
        Kind::Mount
    };
    let (container, lock) = store.create_container(&NewContainer {
        starting: false,
        name: None,
        kind,
        image,
        image_name: name,
        ephemeral: false,
        command: Vec::new(),
    })?;
    match mount(settings, store, &container, &lowers, read_only) {
        Ok(path) => Ok(path),
        Err(error) => {
            store.remove_container(&container, lock)?;
            Err(error)
        }
    }
}

fn mount_container(
    settings: &Settings,
    store: &Store,
    container: &Container,
    read_only: bool,
) -> Result<PathBuf> {
    let path = mount_point(store, container);
    match state(&path) {
        State::Mounted => return Ok(path),
        State::Dead => unmount(&path, true)?,
        State::Unmounted => {}
    }
    let _lock = store
        .lock_container(container)
        .map_err(|error| match (error, container.pid) {
            (error @ ContainerError::Running { .. }, Some(pid)) => anyhow::Error::from(error)
                .context(format!("its files are at /proc/{pid}/root while it runs")),
            (error, _) => error.into(),
        })?;
    let image = store
        .image(&container.manifest_digest.to_string())?
        .with_context(|| format!("the image of container {} is gone", container.name))?;
    let lowers = store.stack(&image)?;
    mount(settings, store, container, &lowers, read_only)
}

/// Opens the root of a container's file system, with what is mounted in it: of one that runs, as it sees it; else it is
/// mounted, and seen by whoever has the descriptor alone. The lock, if there is one, keeps it from being started.
pub(super) fn open_root(
    settings: &Settings,
    store: &Store,
    container: &Container,
    read_only: bool,
) -> Result<(OwnedFd, Option<ContainerLock>)> {
    let lock = match store.lock_container(container) {
        // Without root, this process is in another user namespace, and may not look for itself.
        Err(ContainerError::Running { .. }) => {
            let root = strata::run::root(&store.container_dir(&container.id));
            let shown = || format!("opening the root of container {}", container.name);
            return Ok((root.with_context(shown)?, None));
        }
        lock => lock?,
    };
    let config = Config::read(&store.container_dir(&container.id))?.unwrap_or_default();
    let open = |path: &Path| {
        if config.mounts.is_empty() && !config.read_only {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = rustix::fs::open(path, flags, Mode::empty());
            return opened.with_context(|| format!("cannot open {}", path.display()));
        }
        strata::run::view(path, &config, &store.volumes_dir())
            .with_context(|| format!("mounting what container {} has", container.name))
    };
    let path = mount_point(store, container);
    match state(&path) {
        State::Mounted => return Ok((open(&path)?, Some(lock))),
        State::Dead => unmount(&path, true)?,
        State::Unmounted => {}
    }
    let image = store
        .image(&container.manifest_digest.to_string())?
        .with_context(|| format!("the image of container {} is gone", container.name))?;
    let lowers = store.stack(&image)?;
    // Directories to mount on may have to be made.
    let read_only = read_only && config.mounts.is_empty();
    let path = mount(settings, store, container, &lowers, read_only)?;
    let root = open(&path);
    unmount(&path, true)?;
    Ok((root?, Some(lock)))
}

fn mount(
    settings: &Settings,
    store: &Store,
    container: &Container,
    lowers: &[PathBuf],
    read_only: bool,
) -> Result<PathBuf> {
    let directory = store.container_dir(&container.id);
    let recorded = Name::recorded(&directory);
    let writable = Writable::of(&directory);
    writable
        .make(lowers)
        .with_context(|| format!("cannot make directories in {}", directory.display()))?;
    session::record(&directory)
        .with_context(|| format!("cannot write to {}", directory.display()))?;
    let stack = Stack {
        lowers,
        upper: (container.kind != Kind::ReadOnlyMount).then_some(&writable.upper),
        scratch: &writable.work,
        read_only,
    };
    let chooser = settings.chooser(store);
    if let Some(made_by) = recorded {
        refuse_other(&container.name, made_by, chooser.wanted())?;
        made_by
            .driver(store.privilege())
            .mount(&stack, &writable.merged)?;
        return Ok(writable.merged);
    }
    let (name, choice) = chooser.mount(&stack, &writable.merged)?;
    if let Some(choice) = &choice {
        tell(choice);
    }
    name.record(&directory)
        .with_context(|| format!("cannot write to {}", directory.display()))?;
    Ok(writable.merged)
}

/// What one driver wrote, another would read as something else.
fn refuse_other(container: &str, made_by: Name, wanted: Option<Name>) -> Result<()> {
    match wanted.filter(|wanted| *wanted != made_by) {
        Some(wanted) => bail!(
            "container {container} was made with --driver {made_by}, and {wanted} reads what that wrote as something else: leave --driver out"
        ),
        None => Ok(()),
    }
}

/// Says which driver was chosen, and why no better one.
fn tell(choice: &Choice) {
    for words in choice.words() {
        crate::printer::message(words);
    }
}
