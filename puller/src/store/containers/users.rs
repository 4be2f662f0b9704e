//! Who uses a layer at this moment.

use strata_oci::digest::Digest;

use super::super::lock::FileLock;
use super::{Container, ContainerError, ContainerLock, Kind, MAKING, records};
use crate::driver::{Writable, is_mounted};
use crate::store::{Store, StoreError};

/// While this is held, no container that stands on the layer can be made, started or mounted.
#[derive(Debug)]
pub(crate) struct Unused {
    _making: FileLock,
    _idle: Vec<ContainerLock>,
}

impl Store {
    /// Makes sure that nothing shows the layer now, and that nothing will while the answer is held;
    /// else the names of those who do. A mount counts as long as `umount` has not been said, because it
    /// may be in another mount namespace, where it is not seen.
    pub(crate) fn unused(
        &self,
        diff_id: &Digest,
    ) -> Result<Result<Unused, Vec<String>>, ContainerError> {
        let path = self.lock_path(MAKING);
        let making = FileLock::exclusive(&path).map_err(StoreError::io("lock", &path))?;
        let (mut idle, mut users) = (Vec::new(), Vec::new());
        for container in self.standing_on(diff_id)? {
            let directory = self.container_dir(&container.id);
            let lock = self.claim_container(&container.id)?;
            let mounted = is_mounted(&Writable::of(&directory).merged);
            match lock {
                Some(lock)
                    if !mounted && container.kind == Kind::Container && !container.is_alive() =>
                {
                    idle.push(lock);
                }
                _ => users.push(format!("{} {}", container.kind.name(), container.name)),
            }
        }
        Ok(match users.is_empty() {
            true => Ok(Unused {
                _making: making,
                _idle: idle,
            }),
            false => Err(users),
        })
    }

    fn standing_on(&self, diff_id: &Digest) -> Result<Vec<Container>, ContainerError> {
        let db = self.db();
        let query = "SELECT DISTINCT manifest_digest FROM image_layers WHERE diff_id = ?1";
        let mut statement = db.prepare_cached(query)?;
        let rows = statement.query_map([diff_id.to_string()], |row| row.get(0))?;
        let manifests: Vec<String> = rows.collect::<Result<_, _>>()?;
        let mut all = records::all(&db)?;
        all.retain(|container| manifests.contains(&container.manifest_digest.to_string()));
        Ok(all)
    }
}
