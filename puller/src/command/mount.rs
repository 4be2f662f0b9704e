//! `strata mount`: mount an image and print where.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use strata::driver::{Driver as _, Overlay, Stack, Writable, is_mounted};
use strata::store::containers::{Container, ContainerError, Kind, NewContainer};
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
        Ok(container) => mount_container(&store, &container, args.ro)?,
        Err(ContainerError::NoSuch(_) | ContainerError::Ambiguous(_)) => {
            let image = super::pull::ensure(&store, &reference, ProgressArgs::default())?;
            mount_image(&store, &image, &reference, args.ro)?
        }
        Err(error) => return Err(error.into()),
    };
    crate::printer::line(path.display());
    Ok(ExitCode::SUCCESS)
}

fn list(settings: &Settings) -> Result<ExitCode> {
    let store = settings.open_store()?;
    for container in store.containers()? {
        let path = mount_point(&store, &container);
        if is_mounted(&path) {
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

fn mount_image(store: &Store, image: &Image, name: &str, read_only: bool) -> Result<PathBuf> {
    let lowers = store.stack(image)?;
    let kind = if read_only {
        Kind::ReadOnlyMount
    } else {
        Kind::Mount
    };
    let (container, lock) = store.create_container(&NewContainer {
        name: None,
        kind,
        image,
        image_name: name,
        ephemeral: false,
        command: Vec::new(),
    })?;
    match mount(store, &container, &lowers, !read_only) {
        Ok(path) => Ok(path),
        Err(error) => {
            store.remove_container(&container, lock)?;
            Err(error)
        }
    }
}

fn mount_container(store: &Store, container: &Container, read_only: bool) -> Result<PathBuf> {
    let path = mount_point(store, container);
    if is_mounted(&path) {
        return Ok(path);
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
    let mut lowers = store.stack(&image)?;
    if read_only {
        // Its own layer is one among others then.
        lowers.insert(0, Writable::of(&store.container_dir(&container.id)).upper);
    }
    mount(store, container, &lowers, !read_only)
}

fn mount(
    store: &Store,
    container: &Container,
    lowers: &[PathBuf],
    writable: bool,
) -> Result<PathBuf> {
    let directory = store.container_dir(&container.id);
    let Writable {
        upper,
        work,
        merged,
    } = Writable::of(&directory);
    Writable::of(&directory)
        .make(lowers)
        .with_context(|| format!("cannot make directories in {}", directory.display()))?;
    let driver = Overlay::new(store.privilege());
    let stack = Stack {
        lowers,
        writable: writable.then_some((upper.as_path(), work.as_path())),
    };
    if let Err(error) = driver.mount(&stack, &merged) {
        // A trial mount says more than the kernel did.
        driver.probe(store.root())?;
        return Err(error.into());
    }
    Ok(merged)
}
