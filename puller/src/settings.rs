//! What the typed words mean: where the store is, and how its layers are stacked.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use strata::driver::{Chooser, Name};
use strata::store::{Store, Urgency, empty_trash, trash_of};
use strata::userns;

/// Resolved settings that every command shares.
pub(crate) struct Settings {
    root: PathBuf,
    driver: Option<Name>,
    /// Whether a store was opened.
    opened: Cell<bool>,
}

impl Settings {
    /// Resolves the store's directory: what was given, else root's or the user's default.
    pub(crate) fn new(root: Option<PathBuf>, driver: Option<Name>) -> Result<Self> {
        let root = match root {
            Some(root) => std::path::absolute(&root)
                .with_context(|| format!("--root {}: cannot be resolved", root.display()))?,
            None => default_root()?,
        };
        Ok(Self {
            root,
            driver,
            opened: Cell::new(false),
        })
    }

    /// Opens the store, in a user namespace unless this is root.
    pub(crate) fn open_store(&self) -> Result<Arc<Store>> {
        let privilege = userns::enter()?;
        self.opened.set(true);
        Ok(Arc::new(Store::open(&self.root, privilege)?))
    }

    /// Finds the driver that stacks the layers of a store.
    pub(crate) fn chooser(&self, store: &Store) -> Chooser {
        Chooser::new(store.root(), store.privilege(), self.driver)
    }

    /// The same for who looks at what is there: nothing is swept away before.
    pub(crate) fn open_store_unswept(&self) -> Result<Arc<Store>> {
        let privilege = userns::enter()?;
        self.opened.set(true);
        Ok(Arc::new(Store::open_unswept(&self.root, privilege)?))
    }

    /// After a command: sees to it that what was removed gets deleted, by a process that nobody waits for. It has
    /// none of our files, so that whoever reads our output to its end need not wait either. On a full disk
    /// it is done now.
    pub(crate) fn clean_up(&self) {
        let urgency = match trash_of(&self.root) {
            Some(urgency) if self.opened.get() => urgency,
            _ => return,
        };
        // What fails is tried again after the next command.
        match urgency {
            Urgency::Now => {
                if let Err(error) = empty_trash(&self.root, urgency) {
                    tracing::warn!(%error, "deleting what was removed");
                }
            }
            Urgency::WhenQuiet => {
                let mut sweeper = Command::new("/proc/self/exe");
                sweeper.arg("--root").arg(&self.root);
                sweeper.args(["system", "sweep", "--when-quiet"]);
                sweeper
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null());
                if let Err(error) = sweeper.current_dir("/").spawn() {
                    tracing::warn!(%error, "starting to delete what was removed");
                }
            }
        }
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
