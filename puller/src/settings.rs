//! What the typed words mean: where the store is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use strata::store::Store;
use strata::userns;

/// Resolved settings that every command shares.
pub(crate) struct Settings {
    root: PathBuf,
}

impl Settings {
    /// Resolves the store's directory: what was given, else root's or the user's default.
    pub(crate) fn new(root: Option<PathBuf>) -> Result<Self> {
        let root = match root {
            Some(root) => std::path::absolute(&root)
                .with_context(|| format!("--root {}: cannot be resolved", root.display()))?,
            None => default_root()?,
        };
        Ok(Self { root })
    }

    /// Opens the store, in a user namespace unless this is root.
    pub(crate) fn open_store(&self) -> Result<Arc<Store>> {
        let privilege = userns::enter()?;
        Ok(Arc::new(Store::open(&self.root, privilege)?))
    }

    /// The store's directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
}

fn default_root() -> Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/strata"));
    }
    let data = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|p| p.is_absolute());
    let home = || std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".local/share"));
    data.or_else(home)
        .map(|d| d.join("strata"))
        .context("no home directory: set HOME, XDG_DATA_HOME or --root")
}
