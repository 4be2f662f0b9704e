//! `strata umount`: unmount what mount has mounted.

use std::process::ExitCode;

use anyhow::{Result, bail};
use strata::driver::{self, is_mounted};
use strata::store::Store;
use strata::store::containers::{Container, ContainerError, Kind};

use super::mount::{is_stale, mount_point};
use crate::settings::Settings;

/// Unmount images and containers
///
/// The writable layer of a mounted image is removed; a container keeps its own.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Unmount everything that `strata mount` has mounted
    #[arg(short, long, conflicts_with = "targets")]
    all: bool,
    /// Unmount even if it is in use: it goes out of sight now, and for good when nobody uses it any more
    #[arg(short, long)]
    force: bool,
    /// Path, image, or name or id of a container or mount
    #[arg(value_name = "PATH|REF|CONTAINER", required_unless_present = "all")]
    targets: Vec<String>,
}

pub(crate) fn run(settings: &Settings, args: Args) -> Result<ExitCode> {
    let store = settings.open_store()?;
    let all = store.containers()?;
    let mut failed = false;
    let mut unmount = |container: &Container| match unmount(&store, container, args.force) {
        Ok(()) => {}
        Err(error) => {
            crate::printer::failed(&error);
            failed = true;
        }
    };
    if args.all {
        for container in all.iter().filter(|c| is_of_mount(&store, c)) {
            // What is mounted elsewhere is not ours to take away.
            if args.force
                || is_mounted(&mount_point(&store, container))
                || is_stale(&store, container)?
            {
                unmount(container);
            }
        }
    }
    for target in &args.targets {
        let found = find(&store, &all, target)?;
        if found.is_empty() {
            bail!("{target} is not mounted; `strata mount` lists what is");
        }
        found.into_iter().for_each(&mut unmount);
    }
    Ok(ExitCode::from(u8::from(failed)))
}

fn is_of_mount(store: &Store, container: &Container) -> bool {
    container.kind != Kind::Container || is_mounted(&mount_point(store, container))
}

/// By path, by name or id, by image: all of its mounts.
fn find<'a>(store: &Store, all: &'a [Container], target: &str) -> Result<Vec<&'a Container>> {
    if target.starts_with('/') || target.starts_with('.') {
        let path = std::path::absolute(target)?;
        let real = std::fs::canonicalize(&path).unwrap_or(path);
        let is_there = |c: &&Container| {
            let point = mount_point(store, c);
            std::fs::canonicalize(&point).unwrap_or(point) == real
        };
        return Ok(all.iter().filter(is_there).collect());
    }
    if let Ok(named) = store.container(target) {
        return Ok(all
            .iter()
            .filter(|c| c.id == named.id && is_of_mount(store, c))
            .collect());
    }
    let Some(image) = store.image(target)? else {
        return Ok(Vec::new());
    };
    let of_image = |c: &&Container| c.kind != Kind::Container && c.manifest_digest == image.digest;
    Ok(all.iter().filter(of_image).collect())
}

/// Unmounts; what was only a mount is then removed with its writable layer.
pub(super) fn unmount(store: &Store, container: &Container, force: bool) -> Result<()> {
    let path = mount_point(store, container);
    if !is_mounted(&path)
        && container.kind != Kind::Container
        && !force
        && !is_stale(store, container)?
    {
        bail!(
            "{} is mounted in another mount namespace (`strata unshare`?): unmount it there, or use -f",
            path.display()
        );
    }
    if is_mounted(&path) {
        driver::unmount(&path, force || driver::state(&path) == driver::State::Dead)?;
    }
    if container.kind != Kind::Container {
        match store.lock_container(container) {
            // Another command saw that nothing is mounted any more, and has tidied up.
            Err(ContainerError::NoSuch(_)) => {}
            lock => store.remove_container(container, lock?)?,
        }
    }
    Ok(())
}
