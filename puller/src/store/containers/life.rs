//! What happens to a container after it was made, as its row tells it.

use super::{Container, ContainerError, names, records, start_time};
use crate::store::Store;

impl Store {
    /// Records that the program runs as `pid`.
    pub fn container_started(&self, id: &str, pid: i32) -> Result<(), ContainerError> {
        let started = start_time(pid).and_then(|t| i64::try_from(t).ok());
        self.container_note(|index| {
            let mut update = index.prepare_cached(
                "UPDATE containers SET state = 'running', pid = ?2, pid_started = ?3, started = ?4, exit_code = NULL,
                 paused = 0, oom_killed = 0, error = '' WHERE id = ?1",
            )?;
            update.execute((id, pid, started, super::now()))?;
            Ok(())
        })
    }

    /// Records that the program could not be started. The container stays what it was: created, or exited.
    pub fn container_failed(&self, id: &str, code: u8, error: &str) -> Result<(), ContainerError> {
        self.container_note(|index| {
            let mut update = index
                .prepare_cached("UPDATE containers SET exit_code = ?2, error = ?3 WHERE id = ?1")?;
            update.execute((id, code, error))?;
            Ok(())
        })
    }

    /// Records that the program has ended; `error` is what went wrong besides, empty if nothing did.
    pub fn container_exited(
        &self,
        id: &str,
        code: u8,
        oom_killed: bool,
        error: &str,
    ) -> Result<(), ContainerError> {
        self.with_room_for_containers(|| {
            self.container_note(|index| Ok(records::exited(index, id, code, oom_killed, error)?))
        })
    }

    /// Records that the container's processes are held still, or go on; `false` when it does not run any more.
    pub fn container_paused(&self, id: &str, paused: bool) -> Result<bool, ContainerError> {
        self.container_note(|index| {
            let update = "UPDATE containers SET paused = ?2 WHERE id = ?1 AND state = 'running'";
            Ok(index.execute(update, (id, paused))? == 1)
        })
    }

    /// Gives a container another name.
    pub fn rename_container(
        &self,
        container: &Container,
        name: &str,
    ) -> Result<(), ContainerError> {
        if !names::is_valid(name) {
            return Err(ContainerError::Name(name.chars().take(200).collect()));
        }
        self.container_index(|index| records::rename(index, &container.id, name))
    }
}
