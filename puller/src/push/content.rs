//! Where a blob's bytes come from on their way out: memory, a file here, or another registry.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use strata_oci::verify::{Verifier, VerifyingReader};
use strata_oci::{Descriptor, Digest};
use tokio::sync::mpsc;

use crate::registry::{BlobStream, Chunks, Registry};

/// Bytes that travel at a time.
const CHUNK: usize = 256 * 1024;
/// Chunks that wait for the network.
const AHEAD: usize = 4;

/// Bytes that can be sent, more than once if a try fails.
#[derive(Clone)]
pub(crate) enum Content {
    /// In memory: a configuration.
    Memory(Bytes),
    /// A part of a file here.
    File {
        /// Where it is.
        path: PathBuf,
        /// Where the part begins.
        offset: u64,
    },
    /// Not to be had: an incremental archive left it out.
    Absent,
    /// In a registry that still has it; passes through without being kept.
    Registry {
        /// Which one.
        registry: Arc<Registry>,
        /// The repository that shows it.
        repository: String,
    },
}

impl Content {
    /// The bytes of `blob` from the first. The stream ends with an error unless they are what its digest
    /// and size say.
    pub(crate) fn chunks(&self, blob: &Descriptor) -> Chunks {
        match self {
            Self::Memory(bytes) => {
                let bytes = bytes.clone();
                futures_util::stream::once(async move { Ok(bytes) }).boxed()
            }
            Self::Absent => {
                let gone = io::Error::new(io::ErrorKind::NotFound, "the source does not hold it");
                futures_util::stream::once(async move { Err(gone) }).boxed()
            }
            Self::File { path, offset } => {
                let (path, offset) = (path.clone(), *offset);
                let (digest, size) = (blob.digest.clone(), blob.size);
                let (sender, receiver) = mpsc::channel(AHEAD);
                tokio::task::spawn_blocking(move || {
                    let sent = send_file(&path, offset, digest, size, &sender);
                    if let Err(error) = sent {
                        let text = format!("{}: {error}", path.display());
                        // When nobody listens any more the upload has ended already.
                        let _ = sender.blocking_send(Err(io::Error::other(text)));
                    }
                });
                stream(receiver)
            }
            Self::Registry {
                registry,
                repository,
            } => {
                let (registry, repository) = (registry.clone(), repository.clone());
                let blob = blob.clone();
                let (sender, receiver) = mpsc::channel(AHEAD);
                tokio::spawn(async move {
                    if let Err(error) = relay(&registry, &repository, &blob, &sender).await {
                        registry.distrust(&blob.digest, &error.to_string());
                        let _ = sender.send(Err(error)).await;
                    }
                });
                stream(receiver)
            }
        }
    }
}

fn stream(receiver: mpsc::Receiver<io::Result<Bytes>>) -> Chunks {
    futures_util::stream::unfold(receiver, |mut receiver| async move {
        let chunk = receiver.recv().await?;
        Some((chunk, receiver))
    })
    .boxed()
}

fn send_file(
    path: &PathBuf,
    offset: u64,
    digest: Digest,
    size: u64,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut reader = VerifyingReader::new(file.take(size), digest, size);
    loop {
        let mut buffer = BytesMut::zeroed(CHUNK);
        let count = reader.read(&mut buffer)?;
        buffer.truncate(count);
        if count == 0 || sender.blocking_send(Ok(buffer.freeze())).is_err() {
            return Ok(());
        }
    }
}

async fn relay(
    registry: &Arc<Registry>,
    repository: &str,
    blob: &Descriptor,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let mut body = BlobStream::new(registry.clone(), repository, blob, 0);
    let mut verifier = Verifier::new(blob.digest.clone(), blob.size);
    while let Some(chunk) = body.next().await.map_err(io::Error::other)? {
        verifier.update(&chunk)?;
        // The last chunk is held back until the whole is proved.
        if verifier.seen() == blob.size {
            verifier.finish()?;
            let _ = sender.send(Ok(chunk)).await;
            return Ok(());
        }
        if sender.send(Ok(chunk)).await.is_err() {
            return Ok(());
        }
    }
    Ok(verifier.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn collect(content: &Content, blob: &Descriptor) -> io::Result<Vec<u8>> {
        let mut chunks = content.chunks(blob);
        let mut all = Vec::new();
        while let Some(chunk) = chunks.next().await {
            all.extend_from_slice(&chunk?);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn a_part_of_a_file_is_sent_only_if_it_is_the_blob() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("archive");
        std::fs::write(&path, b"xxlayeryy").expect("write");
        let blob = Descriptor::new("x", Digest::of(b"layer"), 5);
        let content = |offset| Content::File {
            path: path.clone(),
            offset,
        };
        assert_eq!(collect(&content(2), &blob).await.expect("it is"), b"layer");
        assert!(collect(&content(3), &blob).await.is_err());
        assert!(collect(&content(7), &blob).await.is_err());
    }
}
