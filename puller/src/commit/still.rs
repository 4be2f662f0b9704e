//! A container whose processes are held still while its files are read: an image is of one moment.

use crate::run::{self, RunError};
use crate::store::Store;
use crate::store::containers::{Container, State};

use super::error::CommitError;

/// Lets the processes go on when it is dropped. Whoever is killed meanwhile leaves a container that is known to be
/// paused, and can be let go.
pub(super) struct Still<'a> {
    store: &'a Store,
    id: &'a str,
}

impl<'a> Still<'a> {
    /// Holds the processes of a running container; `None` where there is nothing to hold.
    pub(super) fn hold(
        store: &'a Store,
        container: &'a Container,
    ) -> Result<Option<Self>, CommitError> {
        if container.state != State::Running || container.paused {
            return Ok(None);
        }
        match run::freeze(&store.container_dir(&container.id), true) {
            // It has ended since.
            Err(RunError::Gone) => return Ok(None),
            frozen => frozen.map_err(CommitError::Pause)?,
        }
        let still = Self {
            store,
            id: &container.id,
        };
        store.container_paused(still.id, true)?;
        Ok(Some(still))
    }
}

impl Drop for Still<'_> {
    fn drop(&mut self) {
        match run::freeze(&self.store.container_dir(self.id), false) {
            Ok(()) | Err(RunError::Gone) => {}
            Err(error) => tracing::warn!(%error, "letting the container's processes go on"),
        }
        if let Err(error) = self.store.container_paused(self.id, false) {
            tracing::warn!(%error, "recording that the container goes on");
        }
    }
}
