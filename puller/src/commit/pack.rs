//! An archive that is just being written becomes a layer of the store and, on the way, a blob whose digest and size a
//! manifest can name.
//!
//! The layer is unpacked by the very code that unpacks a pulled one, so it is what a pull of the image elsewhere gives,
//! with a record of its own. The blob is not kept: whoever pushes compresses the same bytes again.

use std::io::{self, Read, Write};
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use strata_oci::{Descriptor, media};

use super::error::CommitError;
use crate::layer::{self, LayerMeta, UnpackOptions};
use crate::push::{Compression, Format, weigh};
use crate::store::{Staging, Store};

/// Bytes that are passed on at once.
const CHUNK: usize = 512 << 10;
/// Chunks that may wait for the one who unpacks.
const AHEAD: usize = 4;

/// A layer that waits for its image to be published.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) staging: Staging,
    pub(super) meta: LayerMeta,
    /// Its blob, by OCI's name.
    pub(super) blob: Descriptor,
}

/// Makes a layer of what `write` writes.
pub(super) fn pack(
    store: &Store,
    compression: Compression,
    write: impl FnOnce(&mut dyn Write) -> Result<(), CommitError>,
) -> Result<Packed, CommitError> {
    let staging = store.stage()?;
    let options = UnpackOptions {
        holes: true,
        ..store.unpack_options()
    };
    let (to, from) = sync_channel(AHEAD);
    let (unpacked, written) = thread::scope(|scope| {
        let path = staging.path();
        let unpacking = scope.spawn(|| layer::unpack(Chunks::new(from), path, &options, &|_| {}));
        // The error that is worth telling, which io::Error has no room for.
        let mut failure = None;
        let weighed = weigh(compression, |compressor| {
            let mut tee = Tee {
                compressor,
                chunk: Vec::with_capacity(CHUNK),
                to,
            };
            let written = write(&mut tee).and_then(|()| tee.pass_on().map_err(CommitError::Write));
            written.map_err(|error| {
                failure = Some(error);
                io::Error::other("the archive ended early")
            })
        });
        let unpacked = unpacking
            .join()
            .unwrap_or_else(|panic| resume_unwind(panic));
        let written = match failure {
            Some(error) => Err(error),
            None => weighed.map_err(CommitError::Write),
        };
        (unpacked, written)
    });
    let (meta, (digest, size)) = match (unpacked, written) {
        // Whoever writes fails when the reader has gone: the reader's reason counts.
        (Err(error), Ok(_) | Err(CommitError::Write(_))) => return Err(error.into()),
        (_, Err(error)) => return Err(error),
        (Ok(meta), Ok(weighed)) => (meta, weighed),
    };
    let kind = match compression.format() {
        Format::Gzip => media::OCI_LAYER_GZIP,
        Format::Zstd => media::OCI_LAYER_ZSTD,
    };
    Ok(Packed {
        staging,
        meta,
        blob: Descriptor::new(kind, digest, size),
    })
}

/// Compresses what is written to it, and passes it on to whoever unpacks.
struct Tee<'a> {
    compressor: &'a mut dyn Write,
    chunk: Vec<u8>,
    to: SyncSender<Vec<u8>>,
}

impl Tee<'_> {
    fn pass_on(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        self.compressor.write_all(&chunk)?;
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.to.send(chunk).map_err(gone)
    }
}

impl Write for Tee<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..count]);
        if self.chunk.len() == CHUNK {
            self.pass_on()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The archive as it comes.
struct Chunks {
    from: Receiver<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
}

impl Chunks {
    fn new(from: Receiver<Vec<u8>>) -> Self {
        Self {
            from,
            current: Vec::new(),
            position: 0,
        }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A chunk may be empty; only a sender that is gone is the end.
        while self.position == self.current.len() {
            match self.from.recv() {
                Ok(chunk) => (self.current, self.position) = (chunk, 0),
                Err(_) => return Ok(0),
            }
        }
        let count = (&self.current[self.position..]).read(buffer)?;
        self.position += count;
        Ok(count)
    }
}
