//! Where a blob's bytes come from on their way out: memory, a file here, or another registry.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use strata_oci::Descriptor;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::proof::{Passage, Proof};

use crate::layer;
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
    /// The plain archive of a layer of the store, written again from its record and files.
    Layer {
        /// The layer's directory.
        dir: PathBuf,
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
    /// Waits until the registry that the bytes are in may be asked; to be held while they are sent.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        match self {
            Self::Registry { registry, .. } => registry.turn().await,
            _ => None,
        }
    }

    /// Opens what is in a file here, or comes out of one, from a byte on.
    pub(crate) fn open(&self, from: u64) -> io::Result<File> {
        match self {
            Self::File { path, offset } => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(offset.saturating_add(from)))?;
                Ok(file)
            }
            Self::Layer { dir } => {
                let (reader, mut writer) = io::pipe()?;
                let dir = dir.clone();
                // It ends when its work does, or when nobody reads any more.
                std::thread::Builder::new().spawn(move || {
                    if let Err(error) = layer::rebuild(&dir, &mut writer) {
                        tracing::debug!(%error, "writing a layer's archive again");
                    }
                })?;
                let mut reader = File::from(OwnedFd::from(reader));
                io::copy(&mut (&mut reader).take(from), &mut io::sink())?;
                Ok(reader)
            }
            Self::Memory(_) | Self::Absent | Self::Registry { .. } => {
                Err(io::Error::from(io::ErrorKind::NotFound))
            }
        }
    }

    /// Where that is.
    fn place(&self) -> &Path {
        match self {
            Self::File { path, .. } | Self::Layer { dir: path } => path,
            Self::Memory(_) | Self::Absent | Self::Registry { .. } => Path::new(""),
        }
    }

    /// For reading the bytes of `blob`, from any offset and as often as tries need it.
    pub(crate) fn reader(&self, blob: &Descriptor) -> Reader {
        Reader {
            content: self.clone(),
            proof: Arc::new(Proof::new(blob)),
        }
    }
}

/// A blob's bytes, proved whichever part of them is sent in which try.
pub(crate) struct Reader {
    content: Content,
    proof: Arc<Proof>,
}

impl Reader {
    /// The bytes from the offset `from`. The last ones come only when the digest and size of the whole are
    /// proved; else the stream ends with an error.
    pub(crate) fn chunks(&self, from: u64) -> Chunks {
        let passage = Passage::new(self.proof.clone(), from);
        match &self.content {
            Content::Memory(bytes) => {
                let from = usize::try_from(from).map_or(bytes.len(), |from| from.min(bytes.len()));
                let bytes = bytes.slice(from..);
                futures_util::stream::once(async move { Ok(bytes) }).boxed()
            }
            Content::Absent => {
                let gone = io::Error::new(io::ErrorKind::NotFound, "the source does not hold it");
                futures_util::stream::once(async move { Err(gone) }).boxed()
            }
            Content::File { .. } | Content::Layer { .. } => {
                let content = self.content.clone();
                let (sender, receiver) = mpsc::channel(AHEAD);
                tokio::task::spawn_blocking(move || {
                    if let Err(error) = send_file(&content, passage, &sender) {
                        let text = format!("{}: {error}", content.place().display());
                        // When nobody listens any more the upload has ended already.
                        let _ = sender.blocking_send(Err(io::Error::other(text)));
                    }
                });
                stream(receiver)
            }
            Content::Registry {
                registry,
                repository,
            } => {
                let (registry, repository) = (registry.clone(), repository.clone());
                let proof = self.proof.clone();
                let (sender, receiver) = mpsc::channel(AHEAD);
                tokio::spawn(async move {
                    if let Err(error) = relay(&registry, &repository, passage, &sender).await {
                        registry.distrust(&proof.blob.digest, &error.to_string());
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
    content: &Content,
    mut passage: Passage,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let blob = &passage.proof.blob;
    let file = content.open(passage.start())?;
    let mut reader = file.take(blob.size.saturating_sub(passage.start()));
    while !passage.is_over() {
        let mut buffer = BytesMut::zeroed(CHUNK);
        let count = reader.read(&mut buffer)?;
        buffer.truncate(count);
        if count == 0 {
            return passage.end();
        }
        if let Some(bytes) = passage.pass(buffer.freeze())?
            && sender.blocking_send(Ok(bytes)).is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}

async fn relay(
    registry: &Arc<Registry>,
    repository: &str,
    mut passage: Passage,
    sender: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    let blob = &passage.proof.blob;
    let body = BlobStream::new(registry.clone(), repository, blob, passage.start());
    let mut body = body.in_turn();
    while !passage.is_over() {
        let Some(chunk) = body.next().await.map_err(io::Error::other)? else {
            return passage.end();
        };
        if let Some(bytes) = passage.pass(chunk)?
            && sender.send(Ok(bytes)).await.is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_oci::Digest;

    async fn collect(content: &Content, blob: &Descriptor) -> io::Result<Vec<u8>> {
        read(content.reader(blob).chunks(0)).await
    }

    async fn read(mut chunks: Chunks) -> io::Result<Vec<u8>> {
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

    #[tokio::test]
    async fn a_later_part_is_proved_with_the_parts_before_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("blob");
        let bytes = crate::testing::noise(3, 9_000_000);
        std::fs::write(&path, &bytes).expect("write");
        let blob = Descriptor::new("x", Digest::of(&bytes), bytes.len() as u64);
        let content = Content::File {
            path: path.clone(),
            offset: 0,
        };
        let reader = content.reader(&blob);
        let rest = |from: u64| read(reader.chunks(from));
        assert_eq!(rest(0).await.expect("whole"), bytes);
        for from in [1, 4_194_303, 4_194_304, 5_000_000, 8_999_999] {
            assert_eq!(rest(from).await.expect("a part"), &bytes[from as usize..]);
        }
        assert!(rest(9_000_000).await.expect("nothing").is_empty());
        // What was changed behind the place where the next try begins is noticed.
        let mut changed = bytes.clone();
        changed[8_999_999] ^= 1;
        std::fs::write(&path, &changed).expect("write");
        assert!(rest(8_500_000).await.is_err());
        let fresh = content.reader(&blob);
        changed[8_999_999] ^= 1;
        changed[0] ^= 1;
        std::fs::write(&path, &changed).expect("write");
        assert!(read(fresh.chunks(8_500_000)).await.is_err());
    }
}
