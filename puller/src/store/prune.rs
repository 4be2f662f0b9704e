//! Removing what nobody needs: images without names, containers that have ended, downloads that nobody goes on with.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use rusqlite::{Connection, TransactionBehavior};
use rustix::fs::FlockOperation;

use super::containers::{Container, ContainerError, Kind, State};
use super::filter::{Filter, admit};
use super::find::strings;
use super::lock::FileLock;
use super::remove::{Removed, delete, references};
use super::sweep::{Collected, names};
use super::{Store, StoreError, image};
use crate::driver::{Writable, is_mounted};
use crate::run::config::Config;

/// What is to be pruned.
#[derive(Debug, Clone, Default)]
pub struct PruneOptions {
    /// Also images that have names, if no container stands on them, and downloads that broke off lately.
    pub all: bool,
    /// Only what all of these let through.
    pub filters: Vec<Filter>,
    /// Only tell what would go.
    pub dry_run: bool,
    /// Ids of containers that a dry run takes for gone: they would go first.
    pub without: Vec<String>,
}

/// How long a broken download is left for whoever asks again, unless all are to go.
const FRESH: i64 = 24 * 3600;

/// A broken download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenDownload {
    /// The file's name: the hexadecimal digits of the blob's digest.
    pub name: String,
    /// Bytes on disk, pieces that came ahead included.
    pub bytes: u64,
    /// Whether somebody goes on with it now.
    pub active: bool,
    /// When bytes last came, in seconds since 1970.
    pub touched: i64,
}

impl Store {
    /// Removes images that have no name, or all that no container stands on, with the layers that nothing else
    /// needs; one transaction. What a pull holds at the moment stays.
    pub fn prune_images(&self, options: &PruneOptions) -> Result<Removed, StoreError> {
        let (removed, collected) = self.with_room(|| self.prune_rows(options))?;
        match collected {
            Some((collected, lock)) => self.finish_removal(removed, collected, lock),
            None => Ok(removed),
        }
    }

    /// The rows, and what they stood for unless this was a dry run.
    fn prune_rows(
        &self,
        options: &PruneOptions,
    ) -> Result<(Removed, Option<(Collected, FileLock)>), StoreError> {
        let lock = self.lock_index()?;
        let mut db = self.db();
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if options.dry_run {
            for id in &options.without {
                transaction.execute("DELETE FROM containers WHERE id = ?1", [id])?;
            }
        }
        let mut removed = Removed::default();
        let query = "SELECT manifest_digest FROM images WHERE manifest_digest NOT IN
            (SELECT manifest_digest FROM containers) ORDER BY rowid";
        for manifest in strings(&transaction, query, &[])? {
            let names = references(&transaction, &manifest)?;
            if !names.is_empty() && !options.all {
                continue;
            }
            if !options.filters.is_empty() {
                let image = image::read(&transaction, &manifest)?;
                let created = image.created().map_or(image.added, |t| t.unix_timestamp());
                if !admit(&options.filters, created, &image.config.config.labels) {
                    continue;
                }
            }
            removed.untagged.extend(names);
            removed.images.push(delete(&transaction, &manifest)?);
        }
        if options.dry_run {
            unneeded(&transaction, &mut removed)?;
            // Dropped, the transaction has never been.
            return Ok((removed, None));
        }
        let collected = self.collect(&transaction)?;
        transaction.commit()?;
        Ok((removed, Some((collected, lock))))
    }

    /// Removes containers that do not run, with their writable layers; what each took on disk comes with it.
    pub fn prune_containers(
        &self,
        options: &PruneOptions,
    ) -> Result<Vec<(Container, u64)>, ContainerError> {
        let mut pruned = Vec::new();
        for container in self.containers()? {
            let ended = container.kind == Kind::Container && container.state != State::Running;
            let directory = self.container_dir(&container.id);
            // One that an older version made has no labels.
            let config = Config::read(&directory).ok().flatten().unwrap_or_default();
            let admitted = admit(&options.filters, container.created, &config.labels);
            if !ended || !admitted || is_mounted(&Writable::of(&directory).merged) {
                continue;
            }
            let lock = match self.try_lock_container(&container) {
                Ok(lock) => lock,
                Err(ContainerError::Running { .. } | ContainerError::NoSuch(_)) => continue,
                Err(error) => return Err(error),
            };
            let bytes = disk_usage(&Writable::of(&directory).upper);
            if options.dry_run {
                drop(lock);
            } else {
                self.remove_container(&container, lock)?;
            }
            pruned.push((container, bytes));
        }
        Ok(pruned)
    }

    /// Removes downloads that broke off: those that nobody has gone on with for a day, or all.
    pub fn prune_downloads(
        &self,
        options: &PruneOptions,
    ) -> Result<Vec<BrokenDownload>, StoreError> {
        let until = options.filters.iter().filter_map(|filter| match filter {
            Filter::Until(time) => Some(*time),
            Filter::Label { .. } => None,
        });
        let limit = match (until.min(), options.all) {
            (Some(time), _) => time,
            (None, true) => i64::MAX,
            (None, false) => super::now() - FRESH,
        };
        let labelled = |filter: &Filter| matches!(filter, Filter::Label { negated: false, .. });
        if options.filters.iter().any(labelled) {
            return Ok(Vec::new());
        }
        let mut pruned = self.downloads()?;
        pruned.retain(|download| !download.active && download.touched < limit);
        if !options.dry_run {
            for download in &pruned {
                let path = self.root.join("partial").join(&download.name);
                // Whoever has begun to go on with it in this moment keeps it.
                if let Some(_idle) = idle(&path).map_err(StoreError::io("lock", &path))? {
                    crate::transfer::discard(&path);
                }
            }
        }
        Ok(pruned)
    }

    /// Downloads that broke off, or are under way.
    pub fn downloads(&self) -> Result<Vec<BrokenDownload>, StoreError> {
        let directory = self.root.join("partial");
        let mut all: BTreeMap<String, BrokenDownload> = BTreeMap::new();
        for name in names(&directory).map_err(StoreError::io("read", &directory))? {
            let path = directory.join(&name);
            let Ok(stat) = fs::symlink_metadata(&path) else {
                continue;
            };
            let whole = name.split('@').next().unwrap_or_default().to_owned();
            let whole_path = directory.join(&whole);
            let download = match all.entry(whole) {
                std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::btree_map::Entry::Vacant(new) => {
                    let idle = idle(&whole_path).map_err(StoreError::io("lock", &whole_path))?;
                    let name = new.key().clone();
                    new.insert(BrokenDownload {
                        name,
                        bytes: 0,
                        active: idle.is_none(),
                        touched: 0,
                    })
                }
            };
            download.bytes += stat.blocks() * 512;
            download.touched = download.touched.max(stat.mtime());
        }
        Ok(all.into_values().collect())
    }
}

/// A lock on a download that nobody is at; `None`: somebody is. Where only pieces are left there is nothing
/// to lock.
fn idle(path: &std::path::Path) -> io::Result<Option<Option<File>>> {
    let file = match File::options().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(None)),
        Err(error) => return Err(error),
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Some(file))),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Adds the layers that no image needs.
fn unneeded(db: &Connection, removed: &mut Removed) -> Result<(), StoreError> {
    let query = "SELECT diff_id, content_size FROM layers WHERE NOT EXISTS
        (SELECT 1 FROM image_layers WHERE image_layers.diff_id = layers.diff_id)";
    let mut statement = db.prepare_cached(query)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        removed
            .layers
            .push(image::digest(&row.get::<_, String>(0)?)?);
        let bytes = u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0);
        removed.freed = removed.freed.saturating_add(bytes);
    }
    Ok(())
}

/// What a tree takes on disk, in bytes; files with several names count once. What cannot be looked at does not
/// count.
pub fn disk_usage(tree: &std::path::Path) -> u64 {
    let mut total = 0;
    let mut linked = std::collections::HashSet::new();
    let mut todo: Vec<PathBuf> = vec![tree.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(stat) = entry.metadata() else { continue };
            if stat.is_dir() {
                todo.push(entry.path());
            } else if stat.nlink() > 1 && !linked.insert((stat.dev(), stat.ino())) {
                continue;
            }
            total += stat.blocks() * 512;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Fixture, meta, publish};
    use super::*;

    fn options(all: bool, filters: &[&str], dry_run: bool) -> PruneOptions {
        let filters = filters.iter().map(|text| text.parse().expect("a filter"));
        PruneOptions {
            all,
            filters: filters.collect(),
            dry_run,
            without: Vec::new(),
        }
    }

    #[test]
    fn only_images_without_names_go_unless_all_are_to() {
        let fixture = Fixture::new();
        let store = fixture.open();
        let old = publish(&store, &["base", "old"], Some("app"));
        publish(&store, &["base", "new"], Some("app"));
        let told = store.prune_images(&options(false, &[], true)).expect("dry");
        assert_eq!(store.images().expect("images").len(), 2);
        let removed = store
            .prune_images(&options(false, &[], false))
            .expect("prune");
        assert_eq!(told, removed);
        assert_eq!(
            (&removed.images, &removed.untagged),
            (&vec![old.id], &Vec::new())
        );
        assert_eq!(
            (removed.layers, removed.freed),
            (vec![meta("old").diff_id], 3)
        );
        let none = store
            .prune_images(&options(false, &[], false))
            .expect("again");
        assert_eq!(none, Removed::default());
        let removed = store.prune_images(&options(true, &[], false)).expect("all");
        assert_eq!(removed.untagged, ["docker.io/library/app:latest"]);
        assert_eq!(removed.layers.len(), 2);
        assert!(store.images().expect("images").is_empty());
    }

    #[test]
    fn filters_spare_what_they_do_not_let_through() {
        let fixture = Fixture::new();
        let store = fixture.open();
        // Built on 2026-01-02.
        publish(&store, &["base"], Some("app"));
        for spares in [
            "until=2026-01-02",
            "label=keep",
            "until=2026-01-02T03:04:05Z",
        ] {
            let removed = store.prune_images(&options(true, &[spares], false));
            assert_eq!(removed.expect("prune"), Removed::default(), "{spares}");
        }
        let lets = options(true, &["until=2026-01-03", "label!=keep"], false);
        assert_eq!(store.prune_images(&lets).expect("prune").images.len(), 1);
    }

    #[test]
    fn an_image_that_a_container_stands_on_and_a_layer_that_a_pull_holds_stay() {
        let fixture = Fixture::new();
        let store = fixture.open();
        let used = publish(&store, &["used"], Some("used"));
        publish(&store, &["held"], Some("held"));
        let new = crate::store::containers::NewContainer {
            starting: false,
            name: None,
            kind: Kind::Container,
            image: &used,
            image_name: "used",
            ephemeral: false,
            command: Vec::new(),
        };
        let (container, lock) = store.create_container(&new).expect("container");
        let held = store.hold_layer(&meta("held").diff_id).expect("hold");
        let removed = store
            .prune_images(&options(true, &[], false))
            .expect("prune");
        assert_eq!((removed.images.len(), removed.layers.len()), (1, 0));
        drop(held);
        assert!(
            store
                .prune_containers(&options(true, &[], false))
                .expect("running")
                .is_empty()
        );
        drop(lock);
        let told = store
            .prune_containers(&options(true, &[], true))
            .expect("dry");
        assert_eq!(told.len(), 1);
        let mut dry = options(true, &[], true);
        assert!(store.prune_images(&dry).expect("dry").images.is_empty());
        dry.without.push(container.id.clone());
        let told = store.prune_images(&dry).expect("dry");
        assert_eq!((told.images, told.layers.len()), (vec![used.id.clone()], 2));
        let pruned = store
            .prune_containers(&options(true, &[], false))
            .expect("prune");
        assert_eq!(pruned[0].0.id, container.id);
        let removed = store
            .prune_images(&options(true, &[], false))
            .expect("prune");
        assert_eq!((removed.images, removed.layers.len()), (vec![used.id], 2));
    }

    #[test]
    fn downloads_go_when_they_are_old_or_all_are_to_and_nobody_is_at_them() {
        let fixture = Fixture::new();
        let store = fixture.open();
        let blob = meta("blob").diff_id;
        let path = store.partial_path(&blob);
        fs::write(&path, vec![1; 5000]).expect("write");
        fs::write(path.with_file_name(format!("{}@7000", blob.hex())), "piece").expect("write");
        let pruned = |all, dry| {
            store
                .prune_downloads(&options(all, &[], dry))
                .expect("prune")
        };
        assert!(pruned(false, false).is_empty());
        let busy = File::open(&path).expect("open");
        rustix::fs::flock(&busy, FlockOperation::LockExclusive).expect("lock");
        assert!(pruned(true, false).is_empty());
        assert!(store.downloads().expect("list")[0].active);
        drop(busy);
        assert_eq!(pruned(true, true).len(), 1);
        let gone = pruned(true, false);
        assert!(gone[0].bytes >= 5000, "{gone:?}");
        assert!(fixture.entries("partial").is_empty());
    }
}
