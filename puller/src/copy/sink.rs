//! Where a copy goes: a registry, a layout directory or an archive.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt as _;
use strata_oci::layout::{ArchiveWriter, LayoutWriter};
use strata_oci::{Descriptor, Digest};

use super::CopyError;
use super::file::Receive;
use crate::progress::{Event, How, Progress};
use crate::push::content::Content;
use crate::registry::{Chunks, Mount, Purpose, Registry, Upload};
use crate::transfer::Throttle;

/// How many repositories are asked to mount a blob from, before it is sent.
const MAX_MOUNTS: usize = 3;
/// Repositories that are remembered of one blob.
const MAX_SIBLINGS: usize = 8;
/// Blobs whose repositories are remembered.
const MAX_KNOWN: usize = 100_000;

/// The target of a copy, open.
pub(super) enum Sink<'a> {
    Registry {
        registry: Arc<Registry>,
        repository: String,
        known: &'a Known,
    },
    Layout(LayoutWriter),
    Archive {
        writer: ArchiveWriter,
        absent: BTreeSet<Digest>,
    },
}

/// Which repositories of which registry have a blob, as far as this program has seen; and who is bringing
/// one where: the second waits, and mounts.
#[derive(Default)]
pub(super) struct Known {
    repositories: Mutex<HashMap<(String, Digest), Vec<String>>>,
    flights: Mutex<HashMap<(String, Digest), Flight>>,
}

/// Held by whoever brings a blob.
type Flight = Arc<tokio::sync::Mutex<()>>;

impl Known {
    fn repositories(&self) -> MutexGuard<'_, HashMap<(String, Digest), Vec<String>>> {
        let locked = self.repositories.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that a repository has a blob.
    pub(super) fn add(&self, registry: &str, digest: &Digest, repository: &str) {
        let mut all = self.repositories();
        let key = (registry.to_owned(), digest.clone());
        if all.len() >= MAX_KNOWN && !all.contains_key(&key) {
            return;
        }
        let known = all.entry(key).or_default();
        if known.len() < MAX_SIBLINGS && known.iter().all(|other| other != repository) {
            known.push(repository.to_owned());
        }
    }

    fn siblings(&self, registry: &str, digest: &Digest, own: &str) -> Vec<String> {
        let key = (registry.to_owned(), digest.clone());
        let known = self.repositories().get(&key).cloned().unwrap_or_default();
        known.into_iter().filter(|other| other != own).collect()
    }

    /// Waits for whoever brings the same blob to the same place.
    async fn flight(&self, place: &str, digest: &Digest) -> tokio::sync::OwnedMutexGuard<()> {
        let key = (place.to_owned(), digest.clone());
        let lock = {
            let mut all = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|other, lock| *other == key || Arc::strong_count(lock) > 1);
            all.entry(key).or_default().clone()
        };
        lock.lock_owned().await
    }
}

/// One blob on its way.
pub(super) struct Item<'a> {
    pub(super) number: usize,
    pub(super) blob: &'a Descriptor,
    pub(super) content: &'a Content,
    pub(super) throttle: Option<&'a Arc<Throttle>>,
    pub(super) progress: &'a Arc<dyn Progress>,
}

impl Sink<'_> {
    /// Brings a blob to the target unless it is there; how, and the bytes that travelled.
    pub(super) async fn bring(&self, item: &Item<'_>) -> Result<(How, u64), CopyError> {
        let receive = Receive {
            item: item.number,
            blob: item.blob.clone(),
            content: item.content.clone(),
            throttle: item.throttle.cloned(),
            progress: item.progress.clone(),
        };
        let digest = &item.blob.digest;
        match self {
            Self::Registry {
                registry,
                repository,
                known,
            } => {
                let _flight = known.flight(registry.name(), digest).await;
                let brought = send(registry, repository, known, item).await?;
                known.add(registry.name(), digest, repository);
                Ok(brought)
            }
            Self::Layout(writer) => {
                let there = writer.has(item.blob).map_err(|source| CopyError::File {
                    path: writer.path().to_owned(),
                    source,
                })?;
                if there {
                    return Ok((How::Reused, 0));
                }
                if matches!(item.content, Content::Absent) {
                    return Err(CopyError::Missing(vec![item.blob.clone()]));
                }
                Ok(match receive.to_layout(writer).await? {
                    Some(travelled) => (How::Fetched, travelled),
                    None => (How::Reused, 0),
                })
            }
            Self::Archive { writer, absent, .. } => {
                if absent.contains(digest) {
                    return Ok((How::LeftOut, 0));
                }
                if matches!(item.content, Content::Absent) {
                    return Err(CopyError::Missing(vec![item.blob.clone()]));
                }
                pack(writer, &receive, item.blob).await
            }
        }
    }
}

/// A blob into an archive: there from an earlier try, in part, or not at all. What its digest disproves is
/// forgotten.
async fn pack(
    writer: &ArchiveWriter,
    receive: &Receive,
    blob: &Descriptor,
) -> Result<(How, u64), CopyError> {
    let failed = |source| CopyError::File {
        path: writer.path().to_owned(),
        source,
    };
    let Some(span) = writer.span(&blob.digest) else {
        return Err(CopyError::Interrupted);
    };
    for kept in writer.gathered(&blob.digest).map_err(failed)? {
        let brought = receive.to_archive(writer.path(), span.offset, kept).await;
        match brought {
            Err(CopyError::Content { .. }) if kept > 0 => {}
            Err(error @ CopyError::Content { .. }) => {
                writer.discard(&blob.digest).map_err(failed)?;
                return Err(error);
            }
            Ok(_) if kept > 0 && kept == blob.size => return Ok((How::Reused, 0)),
            brought => return Ok((How::Fetched, brought?)),
        }
    }
    Err(CopyError::Interrupted)
}

/// A blob to a registry: there, else mounted, else sent.
async fn send(
    registry: &Arc<Registry>,
    repository: &str,
    known: &Known,
    item: &Item<'_>,
) -> Result<(How, u64), CopyError> {
    let (blob, content) = (item.blob, item.content);
    let there = registry.has_blob(repository, &blob.digest, Purpose::Push);
    if there.await? {
        return Ok((How::Reused, 0));
    }
    let mut siblings = known.siblings(registry.name(), &blob.digest, repository);
    if let Content::Registry {
        registry: from,
        repository: own,
    } = content
        && from.name() == registry.name()
        && own != repository
        && !siblings.contains(own)
    {
        siblings.insert(0, own.clone());
    }
    siblings.truncate(MAX_MOUNTS);
    let mounting = registry.mount_from_any(repository, &blob.digest, &siblings);
    let session = match mounting.await? {
        Mount::Done => return Ok((How::Mounted, 0)),
        Mount::Begun(session) => Some(session),
        Mount::Refused => None,
    };
    if matches!(content, Content::Absent) {
        if let Some(session) = session {
            registry.cancel_upload(repository, session).await;
        }
        return Err(CopyError::Missing(vec![blob.clone()]));
    }
    let reader = content.reader(blob);
    let (progress, number) = (item.progress.clone(), item.number);
    let throttle = item.throttle.cloned();
    let upload = Upload {
        digest: &blob.digest,
        size: blob.size,
        body: &|from| slowed(reader.chunks(from), throttle.clone()),
        progress: Arc::new(move |bytes| {
            let item = number;
            progress.event(Event::Moved { item, bytes });
        }),
    };
    let _turn = content.turn().await;
    let sent = registry.put_blob(repository, session, &upload).await?;
    Ok((How::Uploaded, sent))
}

fn slowed(chunks: Chunks, throttle: Option<Arc<Throttle>>) -> Chunks {
    let Some(throttle) = throttle else {
        return chunks;
    };
    let slowed = chunks.then(move |chunk| {
        let throttle = throttle.clone();
        async move {
            if let Ok(bytes) = &chunk {
                throttle.pass(bytes.len()).await;
            }
            chunk
        }
    });
    slowed.boxed()
}
