//! What is mounted: `-v`, `--mount`, `--tmpfs`, `--device`, and the volumes that the image asks for.

use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use strata::run::config::{Config, Mount, Source};
use strata::run::options;
use strata::store::Store;
use strata_oci::config::ContainerConfig;

use crate::command::containers::find;

/// An image asks for no more volumes.
const MOST_VOLUMES: usize = 256;

#[derive(clap::Args)]
pub(super) struct MountArgs {
    /// Mount a path of the host or a volume: SOURCE:TARGET with options such as ro after one more colon
    #[arg(short, long, value_name = "[SOURCE:]TARGET[:OPTIONS]")]
    volume: Vec<String>,
    /// The same in named fields: type=bind|volume|tmpfs,source=...,target=...[,readonly]
    #[arg(long, value_name = "FIELDS")]
    mount: Vec<String>,
    /// Mount what another container has mounted: its volumes and paths of the host, with ro after a colon read-only
    #[arg(long, value_name = "CONTAINER[:ro]")]
    volumes_from: Vec<String>,
    /// Mount a file system in memory
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// Make the root file system read-only
    #[arg(long)]
    read_only: bool,
    /// Give the container a device of the host
    #[arg(long, value_name = "HOST[:CONTAINER][:rwm]")]
    device: Vec<String>,
}

impl MountArgs {
    /// Reads them into `config`, parents before what lies in them.
    pub(super) fn read(&self, config: &mut Config) -> Result<()> {
        let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let mut mounts = Vec::new();
        for text in &self.volume {
            mounts.push(options::volume(text, &here).with_context(|| format!("-v {text}"))?);
        }
        for text in &self.mount {
            mounts.push(options::mount(text, &here).with_context(|| format!("--mount {text}"))?);
        }
        for text in &self.tmpfs {
            mounts.push(options::tmpfs(text).with_context(|| format!("--tmpfs {text}"))?);
        }
        for mount in &mut mounts {
            settle(&mut mount.source)?;
        }
        order(&mut mounts);
        if let Some(pair) = mounts
            .windows(2)
            .find(|pair| pair[0].target == pair[1].target)
        {
            bail!("Duplicate mount point: {}", pair[0].target);
        }
        config.mounts = mounts;
        config.read_only = self.read_only;
        for text in &self.device {
            let device = options::device(text)?;
            std::fs::metadata(&device.0)
                .with_context(|| format!("--device {}", device.0.display()))?;
            config.devices.push(device);
        }
        Ok(())
    }
}

impl MountArgs {
    /// What the containers of `--volumes-from` have mounted, the later ones in place of the earlier.
    pub(super) fn inherited(&self, store: &Store) -> Result<Vec<Mount>> {
        let mut inherited: Vec<Mount> = Vec::new();
        for text in &self.volumes_from {
            let (name, mode) = text.split_once(':').unwrap_or((text, "rw"));
            if !matches!(mode, "ro" | "rw" | "z" | "Z") {
                bail!("--volumes-from {text}: invalid mode: {mode}");
            }
            let container = find(store, name).context("--volumes-from")?;
            let config = Config::read(&store.container_dir(&container.id))
                .with_context(|| format!("--volumes-from {name}"))?
                .unwrap_or_default();
            for mut mount in config.mounts {
                match &mut mount.source {
                    Source::Tmpfs { .. } => continue,
                    // It goes with the container that it was made for.
                    Source::Volume { anonymous, .. } => *anonymous = false,
                    Source::Bind { .. } => {}
                }
                mount.read_only |= mode == "ro";
                inherited.retain(|known| known.target != mount.target);
                inherited.push(mount);
            }
        }
        Ok(inherited)
    }
}

/// Adds them where nothing else is mounted.
pub(super) fn add_inherited(mounts: &mut Vec<Mount>, inherited: Vec<Mount>) {
    for mount in inherited {
        if !mounts.iter().any(|known| known.target == mount.target) {
            mounts.push(mount);
        }
    }
    order(mounts);
}

/// A source that is a path must be there; a volume without a name gets one.
fn settle(source: &mut Source) -> Result<()> {
    match source {
        Source::Bind { path, .. } => {
            *path = std::path::absolute(&*path)?;
            match std::fs::metadata(&*path) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    bail!("bind source path does not exist: {}", path.display())
                }
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("bind source path {}", path.display()));
                }
            }
        }
        Source::Volume { name, .. } if name.is_empty() => *name = anonymous(),
        _ => {}
    }
    Ok(())
}

/// A name that nobody else has.
fn anonymous() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}

/// By depth, and then by name: what is mounted later is mounted on top.
fn order(mounts: &mut [Mount]) {
    let depth = |mount: &Mount| mount.target.matches('/').count();
    mounts.sort_by(|one, two| (depth(one), &one.target).cmp(&(depth(two), &two.target)));
}

/// The volumes of the image where nothing else is mounted. Paths that no mount can be at are left out, as they are
/// only a wish of the image.
pub(super) fn add_volumes_of_image(mounts: &mut Vec<Mount>, image: &ContainerConfig) {
    for path in image.volumes.keys().take(MOST_VOLUMES) {
        // Without a colon and from the root: a target and nothing else.
        let wanted = match path.starts_with('/') && !path.contains(':') {
            true => options::volume(path, std::path::Path::new("/")),
            false => continue,
        };
        let Ok(mut mount) = wanted else {
            continue;
        };
        if mounts.iter().any(|known| known.target == mount.target) {
            continue;
        }
        if let Source::Volume { name, .. } = &mut mount.source {
            *name = anonymous();
        }
        mounts.push(mount);
    }
    order(mounts);
}
