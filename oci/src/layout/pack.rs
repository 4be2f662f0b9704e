//! Writing a layout as one tar file.
//!
//! Every size is known beforehand, so each blob's place in the tar is, too: blobs are written in parallel,
//! in any order, and the same images always give the same file. Until it is whole it is `FILE.part`, which a
//! later try takes up: what of a blob is there is told by the holes of the file (lseek(2), "SEEK_HOLE").

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags, SeekFrom};

use super::{blob_name, incremental, write};
use crate::archive::Span;
use crate::digest::Digest;
use crate::manifest::Descriptor;
use crate::output::Output;

/// The unit of a tar (POSIX pax, "ustar Interchange Format").
const BLOCK: u64 = 512;

/// A layout that is being written into a tar file.
#[derive(Debug)]
pub struct ArchiveWriter {
    target: PathBuf,
    part: PathBuf,
    file: File,
    spans: HashMap<Digest, Span>,
    /// An earlier try began it.
    resumed: bool,
    named: bool,
    /// What is there of it without being whole stays for the next try.
    keep: bool,
}

/// What goes into an archive.
#[derive(Debug, Default)]
pub struct Contents<'a> {
    /// What the index lists.
    pub entries: &'a [Descriptor],
    /// The blobs, manifests among them; each once.
    pub blobs: &'a [Descriptor],
    /// Blobs that are left out, because whoever gets the archive has them.
    pub absent: BTreeSet<Digest>,
    /// A docker archive's `manifest.json` beside the layout.
    pub docker: Option<Vec<u8>>,
}

impl ArchiveWriter {
    /// Begins the archive that will be at `target`, or takes up what an earlier try has left of the same one:
    /// everything but the blobs' bytes is written. What a failure leaves of it is for the next try if that may `keep` it.
    ///
    /// # Errors
    /// `target` is a directory or, because blobs are written in any order, a device or a pipe.
    pub fn create(
        target: impl AsRef<Path>,
        contents: &Contents<'_>,
        keep: bool,
    ) -> io::Result<Self> {
        let Output::File(target) = Output::at(target.as_ref())? else {
            let text = "it is no file, and an archive is not written from its beginning to its end";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        let mut plan = Plan::default();
        let mut index = write::empty_index();
        if let Some(listed) = index["manifests"].as_array_mut() {
            for entry in contents.entries {
                write::add(listed, entry);
            }
        }
        let documents = [
            ("oci-layout", Some(write::MARKER.as_bytes().to_vec())),
            ("index.json", Some(index.to_string().into_bytes())),
            ("manifest.json", contents.docker.clone()),
            (incremental::NAME, incremental::list(&contents.absent)),
        ];
        for (name, bytes) in documents {
            let Some(bytes) = bytes else { continue };
            let span = plan.header(name, bytes.len() as u64)?;
            plan.pieces.push((span.offset, bytes));
        }
        let algorithms: BTreeSet<_> = contents
            .blobs
            .iter()
            .map(|blob| blob.digest.algorithm().name())
            .collect();
        plan.directory("blobs/")?;
        for algorithm in algorithms {
            plan.directory(&format!("blobs/{algorithm}/"))?;
        }
        let mut spans = HashMap::new();
        for blob in contents.blobs {
            if !spans.contains_key(&blob.digest) {
                let span = plan.header(&blob_name(&blob.digest), blob.size)?;
                spans.insert(blob.digest.clone(), span);
            }
        }
        let (file, part) = open_part(&target)?;
        let resumed = plan.is_begun_in(&file)?;
        let writer = Self {
            target,
            part,
            file,
            spans,
            resumed,
            named: false,
            keep,
        };
        if !resumed {
            let file = &writer.file;
            file.set_len(0)?;
            for (at, bytes) in &plan.pieces {
                file.write_all_at(bytes, *at)?;
            }
            file.set_len(plan.len())?;
        }
        Ok(writer)
    }

    /// How many bytes of a blob an earlier try may have left, as guesses: the digest says whether one is right.
    /// The last is always 0.
    pub fn gathered(&self, digest: &Digest) -> io::Result<Vec<u64>> {
        let span = self.span(digest).filter(|_| self.resumed);
        let mut guesses = match span {
            Some(span) => self.before_hole(span)?,
            None => Vec::new(),
        };
        guesses.push(0);
        guesses.dedup();
        Ok(guesses)
    }

    /// The bytes before a span's first hole. A block that is written in part looks like a whole one, and one that
    /// the next header stands in is there from the beginning: the last one counts only if all do.
    fn before_hole(&self, span: Span) -> io::Result<Vec<u64>> {
        let end = span.offset + span.size;
        let Ok(hole) = rustix::fs::seek(&self.file, SeekFrom::Hole(span.offset)) else {
            return Ok(Vec::new());
        };
        let block = self.file.metadata()?.blksize().max(1);
        let sure = hole.min(end) / block * block;
        let sure = sure.saturating_sub(block).saturating_sub(span.offset);
        Ok(match hole >= end {
            true => vec![span.size, sure],
            false => vec![sure],
        })
    }

    /// Forgets the bytes of a blob that are wrong.
    pub fn discard(&self, digest: &Digest) -> io::Result<()> {
        let Some(span) = self.span(digest) else {
            return Ok(());
        };
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(
            &self.file,
            flags,
            span.offset,
            span.size.max(1),
        )?)
    }

    /// Where the bytes of a blob belong; `None` when it is not to be in the archive.
    pub fn span(&self, digest: &Digest) -> Option<Span> {
        self.spans.get(digest).copied()
    }

    /// The file, to write a blob's bytes to by position.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Where the file is until it has its name.
    pub fn path(&self) -> &Path {
        &self.part
    }

    /// Gives the archive its name. The caller has written all blobs, proved.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.part, &self.target)?;
        self.named = true;
        match self.target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => crate::cas::sync_dir(parent),
            _ => crate::cas::sync_dir(Path::new(".")),
        }
    }

    /// Whether there is anything that another try could take up.
    fn is_worth_keeping(&self) -> bool {
        let left = |span: &Span| self.before_hole(*span).is_ok_and(|g| g.last() > Some(&0));
        self.spans.values().any(left)
    }
}

/// All that is known of an archive before its blobs come.
#[derive(Default)]
struct Plan {
    pieces: Vec<(u64, Vec<u8>)>,
    at: u64,
}

impl Plan {
    fn header(&mut self, name: &str, size: u64) -> io::Result<Span> {
        let header = header(name, tar::EntryType::Regular, 0o644, size)?;
        self.pieces.push((self.at, header.as_bytes().to_vec()));
        let offset = self.at + BLOCK;
        let end = offset
            .checked_add(size)
            .and_then(|end| end.checked_next_multiple_of(BLOCK))
            // Two blocks of zeros end a tar.
            .filter(|end| *end < i64::MAX as u64 - 2 * BLOCK);
        self.at = end.ok_or_else(|| io::Error::other("the archive would be too large"))?;
        Ok(Span { offset, size })
    }

    fn directory(&mut self, name: &str) -> io::Result<()> {
        let header = header(name, tar::EntryType::Directory, 0o755, 0)?;
        self.pieces.push((self.at, header.as_bytes().to_vec()));
        self.at += BLOCK;
        Ok(())
    }

    fn len(&self) -> u64 {
        self.at + 2 * BLOCK
    }

    /// Whether the file is this archive but for its blobs.
    fn is_begun_in(&self, file: &File) -> io::Result<bool> {
        if file.metadata()?.len() != self.len() {
            return Ok(false);
        }
        for (at, bytes) in &self.pieces {
            let mut there = vec![0; bytes.len()];
            file.read_exact_at(&mut there, *at)?;
            if there != *bytes {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Opens `TARGET.part`, locked; one of another name when another process, or another user, has that.
fn open_part(target: &Path) -> io::Result<(File, PathBuf)> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let part = target.with_file_name(format!("{name}.part"));
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let opened = options
        .clone()
        .create(true)
        .truncate(false)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(&part);
    match opened {
        Ok(file) if is_ours(&file, &part)? => return Ok((file, part)),
        Ok(_) => {}
        // What is no file is not ours either.
        Err(error) if part.symlink_metadata().is_err() => return Err(error),
        Err(_) => {}
    }
    let unique: u64 = rand::random();
    let part = target.with_file_name(format!("{name}.{unique:016x}.part"));
    Ok((options.create_new(true).open(&part)?, part))
}

fn is_ours(file: &File, part: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    let own = rustix::process::geteuid().as_raw();
    if !held.is_file() || held.uid() != own || held.nlink() != 1 {
        return Ok(false);
    }
    if rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(false);
    }
    // Whoever held it may have given it its name. One that cannot be looked at is not ours: another name is taken.
    let named = fs::symlink_metadata(part).ok();
    Ok(named.is_some_and(|named| (named.dev(), named.ino()) == (held.dev(), held.ino())))
}

impl Drop for ArchiveWriter {
    fn drop(&mut self) {
        let stays = self.named || (self.keep && self.is_worth_keeping());
        if !stays {
            // What stays is only in the way until the next try takes it up.
            let _ = fs::remove_file(&self.part);
        }
    }
}

fn header(name: &str, kind: tar::EntryType, mode: u32, size: u64) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{Layout, REF_NAME};
    use crate::media;

    fn blob(content: &[u8]) -> Descriptor {
        Descriptor::new("x", Digest::of(content), content.len() as u64)
    }

    fn write(path: &Path, absent: &[&[u8]]) -> Descriptor {
        let config = blob(b"{}");
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
            "config": config, "layers": [blob(b"layer"), blob(b"base")],
        });
        let manifest = manifest.to_string().into_bytes();
        let mut root = Descriptor::new(
            media::OCI_MANIFEST,
            Digest::of(&manifest),
            manifest.len() as u64,
        );
        root.annotations = Some([(REF_NAME.to_owned(), "v1".to_owned())].into());
        let contents: Vec<&[u8]> = vec![&manifest, b"{}", b"layer", b"base"];
        let absent: BTreeSet<_> = absent.iter().map(|bytes| Digest::of(bytes)).collect();
        let contents: Vec<_> = contents
            .into_iter()
            .filter(|c| !absent.contains(&Digest::of(c)))
            .collect();
        let blobs: Vec<_> = contents.iter().map(|c| blob(c)).collect();
        let all = Contents {
            entries: std::slice::from_ref(&root),
            blobs: &blobs,
            absent,
            docker: None,
        };
        let writer = ArchiveWriter::create(path, &all, true).expect("create");
        let file = writer.file().expect("file");
        for content in contents.iter().rev() {
            let span = writer.span(&Digest::of(content)).expect("a place");
            file.write_all_at(content, span.offset).expect("write");
        }
        assert!(!path.exists());
        writer.finish().expect("finish");
        root
    }

    #[test]
    fn what_is_packed_is_read_again_and_always_the_same() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (one, two) = (dir.path().join("1.tar"), dir.path().join("2.tar"));
        let root = write(&one, &[]);
        write(&two, &[]);
        assert_eq!(fs::read(&one).expect("read"), fs::read(&two).expect("read"));
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 2);
        let layout = Layout::open_archive(&one).expect("open");
        let found = layout.find(Some("v1")).expect("there");
        assert_eq!(found.digest, root.digest);
        let (_, manifest) = layout.manifest(found).expect("manifest");
        for blob in manifest.required_blobs() {
            assert_eq!(
                layout.read(blob, 100).expect("read").len() as u64,
                blob.size
            );
        }
        assert_eq!(layout.digests().expect("digests").len(), 4);
        assert!(
            layout
                .find_blob(&blob(b"other"))
                .expect("no error")
                .is_none()
        );
    }

    #[test]
    fn what_was_left_out_counts_for_those_that_build_on_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a.tar");
        write(&path, &[b"base"]);
        let layout = Layout::open_archive(&path).expect("open");
        assert!(
            layout
                .find_blob(&blob(b"base"))
                .expect("no error")
                .is_none()
        );
        assert_eq!(
            layout.left_out().expect("list"),
            [Digest::of(b"base")].into()
        );
        assert_eq!(layout.digests().expect("digests").len(), 4);
    }

    fn large(fill: u8) -> Vec<u8> {
        vec![fill; 300_000]
    }

    fn begin(path: &Path, blobs: &[&[u8]]) -> ArchiveWriter {
        let blobs: Vec<_> = blobs.iter().map(|bytes| blob(bytes)).collect();
        let all = Contents {
            blobs: &blobs,
            ..Contents::default()
        };
        ArchiveWriter::create(path, &all, true).expect("create")
    }

    fn put(writer: &ArchiveWriter, content: &[u8], bytes: usize) {
        let span = writer.span(&Digest::of(content)).expect("a place");
        let file = writer.file().expect("file");
        let write = file.write_all_at(&content[..bytes], span.offset);
        write.expect("write");
    }

    #[test]
    fn a_later_try_finds_what_an_earlier_one_has_brought() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a.tar");
        let (whole, half, none) = (large(1), large(2), large(3));
        let all: [&[u8]; 3] = [&whole, &half, &none];
        let writer = begin(&path, &all);
        put(&writer, &whole, whole.len());
        put(&writer, &half, 150_000);
        drop(writer);
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1);
        let writer = begin(&path, &all);
        let guesses = |content: &[u8]| writer.gathered(&Digest::of(content)).expect("guesses");
        assert_eq!(guesses(&whole)[0], 300_000);
        let half_there = guesses(&half)[0];
        assert!((100_000..=150_000).contains(&half_there), "{half_there}");
        assert_eq!(guesses(&none), [0]);
        let span = writer.span(&Digest::of(&half)).expect("a place");
        let mut kept = vec![0; usize::try_from(half_there).expect("small")];
        let file = writer.file().expect("file");
        file.read_exact_at(&mut kept, span.offset).expect("read");
        assert!(kept.iter().all(|b| *b == 2), "only what was written");
        writer.discard(&Digest::of(&whole)).expect("discard");
        assert!(guesses(&whole).iter().all(|g| *g == 0));
        // Meanwhile nobody else writes there.
        let other = begin(&path, &all);
        assert_eq!(other.gathered(&Digest::of(&half)).expect("guesses"), [0]);
        drop(other);
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1);
    }

    #[test]
    fn another_archive_begins_anew() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a.tar");
        let (one, two) = (large(1), large(2));
        let writer = begin(&path, &[&one]);
        put(&writer, &one, one.len());
        drop(writer);
        let writer = begin(&path, &[&one, &two]);
        assert_eq!(writer.gathered(&Digest::of(&one)).expect("guesses"), [0]);
        // What someone else put there is not written to.
        let target = dir.path().join("b.tar");
        fs::write(dir.path().join("precious"), b"x").expect("write");
        std::os::unix::fs::symlink("precious", dir.path().join("b.tar.part")).expect("link");
        drop(begin(&target, &[&one]));
        assert_eq!(fs::read(dir.path().join("precious")).expect("read"), b"x");
    }

    #[test]
    fn what_is_not_to_be_taken_up_leaves_nothing() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a.tar");
        let one = large(1);
        let blobs = [blob(&one)];
        let contents = Contents {
            blobs: &blobs,
            ..Contents::default()
        };
        for (keep, left) in [(true, 1), (false, 0)] {
            let writer = ArchiveWriter::create(&path, &contents, keep).expect("create");
            put(&writer, &one, one.len());
            drop(writer);
            assert_eq!(fs::read_dir(dir.path()).expect("list").count(), left);
        }
    }

    #[test]
    fn an_archive_that_nothing_came_into_leaves_nothing() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a.tar");
        drop(ArchiveWriter::create(&path, &Contents::default(), true).expect("create"));
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 0);
    }
}
