//! Whether an unpacked layer is still what its archive says.
//!
//! Two proofs at once, in one pass over the files. The archive is written again from the record and
//! hashed: its digest covers every byte of every file. And its entries, read as they pass, say what
//! the tree has to be: type, size, mode, owner, time as far as file systems keep it, link target, device number,
//! extended attributes, which names are the same file, whiteouts and opaque marks, nothing missing
//! and nothing more.
//!
//! Not looked at: access and change times, `security.*` attributes but capabilities (they belong to the machine), and, where owners
//! cannot be kept, owners and the attributes that need privilege.

mod compare;

use std::io::{self, BufRead, Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use strata_oci::digest::{Algorithm, Digest, Digester};

use super::error::LayerError;
use super::meta::LayerMeta;
use super::model::Model;
use super::options::UnpackOptions;
use super::rebuild::rebuild_past;
use super::tar::{TarError, TarReader};
pub(super) use compare::Place;
use compare::compare;

/// Differences that are told one by one; the rest are counted.
const TOLD: usize = 16;
/// Bytes that go from the one who writes the archive to the one who reads it at once.
const CHUNK: usize = 256 << 10;
/// How many of those may wait.
const WAITING: usize = 4;

/// What [`verify`] found out.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Whether the archive could be written again, to the last bit.
    pub proven: bool,
    /// What is not as it has to be, in words, the first few; none: the layer is sound.
    pub problems: Vec<String>,
    /// How many more there are.
    pub more: usize,
    /// Bytes of the archive that were written and hashed.
    pub bytes: u64,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, text: impl FnOnce() -> String) {
        match self.problems.len() {
            0..TOLD => self.problems.push(text()),
            _ => self.more += 1,
        }
    }
}

/// Proves the layer unpacked in `dir`, which nobody changes meanwhile, against `diff_id` and the
/// headers of its own archive. `options` are those that it was unpacked with. `progress` is told the
/// bytes of the archive so far. Blocking; uses one more thread while it runs. Nothing is written.
pub fn verify(
    dir: &Path,
    diff_id: &Digest,
    options: &UnpackOptions,
    progress: &(dyn Fn(u64) + Sync),
) -> Verdict {
    let mut verdict = Verdict::default();
    let mut faults = Vec::new();
    let (sender, receiver) = sync_channel(WAITING);
    let (rebuilt, model, bytes) = std::thread::scope(|scope| {
        let reading = scope.spawn(move || read_model(receiver, options));
        let mut tee = Tee {
            digester: Digester::new(Algorithm::Sha256),
            reader: Some(sender),
            chunk: Vec::with_capacity(CHUNK),
            written: 0,
            progress,
        };
        let rebuilt = rebuild_past(dir, &mut tee, &mut |fault| {
            faults.push(told(&fault));
            Ok(())
        });
        tee.pass_on();
        // The reader waits for more as long as there is a sender.
        tee.reader = None;
        let (digest, bytes) = (tee.digester.finish(), tee.written);
        let model = reading
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (rebuilt.map(|()| digest), model, bytes)
    });
    verdict.bytes = bytes;
    match rebuilt {
        Ok(digest) if digest == *diff_id => verdict.proven = faults.is_empty(),
        Ok(digest) => {
            verdict.problem(|| format!("its content has changed: its archive has digest {digest}"))
        }
        Err(error) => verdict.problem(|| told(&error)),
    }
    // That a file is missing or short is told with everything else that is.
    let told_below =
        |fault: &String| fault.ends_with("(os error 2)") || fault.ends_with("end of file");
    for fault in faults.into_iter().filter(|fault| !told_below(fault)) {
        verdict.problem(|| fault);
    }
    match LayerMeta::load(dir) {
        Ok(meta) if meta.diff_id == *diff_id => {}
        Ok(meta) => verdict.problem(|| format!("layer.json is that of {}", meta.diff_id)),
        Err(error) => verdict.problem(|| told(&error)),
    }
    match model {
        Ok(model) => compare(dir, &model, options, &mut verdict),
        // Of an archive that broke off there is nothing to say but that.
        Err(error) if verdict.proven => verdict.problem(|| told(&error.into())),
        Err(_) => {}
    }
    verdict
}

fn told(error: &LayerError) -> String {
    use std::error::Error as _;
    match error {
        LayerError::Damaged { what, .. } => what.clone(),
        error => match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        },
    }
}

fn read_model(chunks: Receiver<Vec<u8>>, options: &UnpackOptions) -> Result<Model, TarError> {
    let archive = Chunks {
        chunks,
        current: Vec::new(),
        position: 0,
    };
    let mut reader = TarReader::new(archive, options.limits.reader());
    let mut model = Model::new();
    while let Some(entry) = reader.next()? {
        reader.clear_raw();
        model.entry(entry, &options.ownership);
    }
    model.finish();
    Ok(model)
}

/// Hashes what is written and hands it on. Who reads may stop early.
struct Tee<'a> {
    digester: Digester,
    reader: Option<SyncSender<Vec<u8>>>,
    chunk: Vec<u8>,
    written: u64,
    progress: &'a (dyn Fn(u64) + Sync),
}

impl Tee<'_> {
    fn pass_on(&mut self) {
        if self.chunk.is_empty() {
            return;
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        self.digester.update(&chunk);
        self.written += chunk.len() as u64;
        (self.progress)(self.written);
        if self
            .reader
            .as_ref()
            .is_some_and(|to| to.send(chunk).is_err())
        {
            self.reader = None;
        }
    }
}

impl Write for Tee<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..count]);
        if self.chunk.len() == CHUNK {
            self.pass_on();
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The archive as it comes.
struct Chunks {
    chunks: Receiver<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.current.len() {
            self.current = self.chunks.recv().unwrap_or_default();
            self.position = 0;
        }
        Ok(&self.current[self.position..])
    }

    fn consume(&mut self, count: usize) {
        self.position += count;
    }
}
