//! One blob from the registry into a file: resumed where an earlier try stopped, hashed as it
//! arrives, and never longer than promised.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use strata_oci::Descriptor;
use strata_oci::verify::Verifier;

use super::error::LayerFailure;
use super::follow::Writer;
use crate::progress::{Event, Progress};
use crate::registry::{BlobBody, OpenBlobError, Registry, RegistryError};

/// A try that brings less counts as one that brought nothing.
const WORTH_A_TRY: u64 = 4096;
/// Below this rate, over this time, a connection is stalled, even if it is not silent.
const STALLED: (u64, Duration) = (1024, Duration::from_secs(30));

/// The file that a blob's bytes are kept in until its layer is published. Who holds it open here
/// holds its lock: no two transfers write to one file, in whatever process they are.
pub(crate) struct Partial {
    file: File,
    /// The bytes that were there.
    pub(super) kept: u64,
}

impl Partial {
    /// Opens or makes the file with this mode; blocking, also while another process holds it.
    pub(crate) fn open(path: &Path, size: u64, mode: u32) -> io::Result<Self> {
        loop {
            let file = OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .mode(mode)
                .open(path)?;
            rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
            let held = file.metadata()?;
            // Whoever held it may have removed it.
            let named = std::fs::metadata(path).ok();
            if named.is_none_or(|named| (named.dev(), named.ino()) != (held.dev(), held.ino())) {
                continue;
            }
            let mut kept = held.len();
            if kept > size {
                file.set_len(0)?;
                kept = 0;
            }
            return Ok(Self { file, kept });
        }
    }

    /// The file, which keeps the lock, and the bytes that were there. Writing appends.
    pub(crate) fn into_parts(self) -> (File, u64) {
        (self.file, self.kept)
    }

    /// A second descriptor, to read from.
    pub(super) fn reader(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Hashes what is there.
    fn rehash(mut file: &File, kept: u64, verifier: &mut Verifier) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 18];
        let mut rest = (&mut file).take(kept);
        loop {
            let count = rest.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            verifier.update(&buffer[..count])?;
        }
    }
}

/// A blob that is to be brought here.
pub(super) struct Transfer<'a> {
    pub(super) registry: &'a Registry,
    pub(super) repository: &'a str,
    pub(super) blob: &'a Descriptor,
    pub(super) item: usize,
    pub(super) progress: &'a dyn Progress,
}

impl Transfer<'_> {
    /// Brings the rest of the blob and proves the whole; only then does the reader see the end.
    /// Gives the bytes that travelled.
    pub(super) async fn run(&self, partial: Partial, writer: Writer) -> Result<u64, LayerFailure> {
        let Partial { mut file, kept } = partial;
        let mut verifier = Verifier::new(self.blob.digest.clone(), self.blob.size);
        if kept > 0 {
            let (item, bytes) = (self.item, kept);
            self.progress.event(Event::Resumed { item, bytes });
            self.reached(&writer, kept);
            let hashed = tokio::task::spawn_blocking(move || {
                Partial::rehash(&file, kept, &mut verifier).map(|()| (file, verifier))
            });
            (file, verifier) = hashed.await.map_err(|_| LayerFailure::Interrupted)??;
        }
        let mut travelled = 0;
        let mut failures = 0;
        let mut ranges = true;
        while verifier.seen() < self.blob.size {
            let before = verifier.seen();
            let from = if ranges { before } else { 0 };
            let opened = self.registry.open_blob(self.repository, self.blob, from);
            let error = match opened.await {
                Ok(mut body) => {
                    let received = self
                        .receive(&mut body, &mut file, &mut verifier, &writer, &mut travelled)
                        .await;
                    match received {
                        Ok(()) => continue,
                        Err(LayerFailure::Transfer(error)) => error,
                        Err(error) => return Err(error),
                    }
                }
                Err(OpenBlobError::Range(error)) if ranges => {
                    ranges = false;
                    let text = format!("{error}: fetching the whole instead");
                    self.progress.event(Event::Message(text));
                    continue;
                }
                Err(OpenBlobError::Range(error) | OpenBlobError::Other(error)) => {
                    return Err(error.into());
                }
            };
            if verifier.seen() - before >= WORTH_A_TRY {
                failures = 0;
            }
            failures += 1;
            if failures > 1 {
                self.registry
                    .distrust(&self.blob.digest, &error.to_string());
            }
            let Some(wait) = self.registry.retry().wait(failures, None) else {
                return Err(error.into());
            };
            tracing::debug!(%error, at = verifier.seen(), ?wait, "resuming");
            let (item, why) = (self.item, error.to_string());
            self.progress.event(Event::Retrying { item, why, wait });
            tokio::time::sleep(wait).await;
        }
        verifier.finish()?;
        writer.whole();
        Ok(travelled)
    }

    /// Takes one answer's bytes until it ends. An answer that begins before what is here (of a
    /// server that ignores ranges) is passed over until it is level.
    async fn receive(
        &self,
        body: &mut BlobBody,
        file: &mut File,
        verifier: &mut Verifier,
        writer: &Writer,
        travelled: &mut u64,
    ) -> Result<(), LayerFailure> {
        let mut skip = verifier.seen() - body.start;
        let mut window = (Instant::now(), 0u64);
        while let Some(chunk) = body.next().await? {
            let count = chunk.len() as u64;
            *travelled += count;
            let (rate, time) = STALLED;
            window.1 += count;
            if window.0.elapsed() >= time {
                if window.1 < rate * time.as_secs() {
                    return Err(self.broken("the connection has all but stopped"));
                }
                window = (Instant::now(), 0);
            }
            if writer.abandoned() {
                return Err(LayerFailure::Interrupted);
            }
            let passed = skip.min(count);
            skip -= passed;
            let fresh = &chunk[passed as usize..];
            if !fresh.is_empty() {
                verifier.update(fresh)?;
                file.write_all(fresh)?;
                self.reached(writer, verifier.seen());
            }
        }
        if verifier.seen() < self.blob.size {
            return Err(self.broken("the answer ended before the blob"));
        }
        Ok(())
    }

    fn broken(&self, reason: &str) -> LayerFailure {
        LayerFailure::Transfer(RegistryError::Unreachable {
            host: self.registry.name().to_owned(),
            reason: reason.to_owned(),
        })
    }

    fn reached(&self, writer: &Writer, bytes: u64) {
        writer.reached(bytes);
        let item = self.item;
        self.progress.event(Event::Moved { item, bytes });
    }
}
