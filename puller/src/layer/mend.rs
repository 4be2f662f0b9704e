//! Directories that a layer has only because something is in them.
//!
//! A layer may hold `a/b/c` and not say what `a` is. Unpacked on its own, it gets an `a` that would
//! shadow the mode, owner and times of the `a` in a layer below: overlayfs takes a merged
//! directory's metadata from the topmost layer that has it. So a small tree of directories goes on
//! top of the whole stack, with the metadata of the highest layer that really says something.
//!
//! An opaque whiteout hides what is in the directory below, not what that directory is (image-spec, layer.md, "Opaque
//! Whiteout": "all children"), so that one is looked through. A directory that was whited out itself, and made again,
//! is another one: its layer does not list it as implied.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, Mode, OFlags};
use rustix::io::Errno;

use super::attributes::{Attributes, Metadata, Thread, Xattrs, is_of_the_machine};
use super::error::LayerError;
use super::meta::LayerMeta;
use super::name;
use super::options::{Ownership, UnpackOptions, XattrNamespace};
use super::tar::Time;
use super::tree;

/// Makes at `out` a tree of directories that, as the topmost of the lower layers, gives implied
/// directories the metadata of the highest layer that names them; `layers` are unpacked layers, top
/// first, those below an opaque root too. `Ok(false)`: nothing has to be mended, and `out` was not made. After an error `out` may
/// hold rubbish.
pub fn mend_parents(
    layers_top_first: &[PathBuf],
    out: &Path,
    options: &UnpackOptions,
) -> Result<bool, LayerError> {
    let tree = plan(layers_top_first, options)?;
    if tree.is_empty() {
        return Ok(false);
    }
    write(&tree, out, options)?;
    Ok(true)
}

/// Where the tree that [`mend_parents`] made at `stack/fs` for these layers is not what it would make now, in words.
pub fn unlike_mended(
    layers_top_first: &[PathBuf],
    stack: &Path,
    options: &UnpackOptions,
) -> Result<Vec<String>, LayerError> {
    let tree = plan(layers_top_first, options)?;
    let there = Layer::without_record(stack, options.xattrs)?;
    let mut differences = Vec::new();
    for (path, metadata) in &tree {
        let shown = tree::as_path(path).display();
        let Here::Directory(directory) = there.at(path)? else {
            differences.push(format!("directory /{shown} is missing"));
            continue;
        };
        if !is_alike(metadata, &there.metadata(path, &directory)?, options) {
            differences.push(format!(
                "directory /{shown} has another mode, owner, time or attributes"
            ));
        }
        if has_marks(&directory, options.xattrs)
            .map_err(there.failed("read the attributes of", path))?
        {
            differences.push(format!("directory /{shown} has a mark of overlayfs"));
        }
        let entries = Dir::read_from(&directory).map_err(there.failed("read", path))?;
        for entry in entries {
            let entry = entry.map_err(there.failed("read", path))?;
            let entry = name::join(path, entry.file_name().to_bytes());
            let itself = entry.ends_with(b"/.") || entry.ends_with(b"/..");
            if !itself && entry != b"." && entry != b".." && !tree.contains_key(&entry) {
                let shown = tree::as_path(&entry).display();
                differences.push(format!("/{shown} does not belong there"));
            }
        }
    }
    Ok(differences)
}

/// As far as a file system and an owner without privilege can keep it.
fn is_alike(wanted: &Metadata, found: &Metadata, options: &UnpackOptions) -> bool {
    let owner = options.ownership.of(wanted.uid, wanted.gid);
    let attributes = |metadata: &Metadata| -> BTreeSet<(Vec<u8>, Vec<u8>)> {
        let own = metadata.xattrs.iter();
        own.filter(|(name, _)| !is_of_the_machine(name))
            .cloned()
            .collect()
    };
    wanted.mode == found.mode
        && wanted.mtime == found.mtime
        && owner.is_none_or(|owner| owner == (found.uid, found.gid))
        && (options.ownership != Ownership::Keep || attributes(wanted) == attributes(found))
}

/// The directories that mend these layers, the root among them; none when nothing has to be mended.
fn plan(
    layers_top_first: &[PathBuf],
    options: &UnpackOptions,
) -> Result<BTreeMap<Vec<u8>, Metadata>, LayerError> {
    let layers: Vec<Layer> = layers_top_first
        .iter()
        .map(|layer| Layer::open(layer, options.xattrs))
        .collect::<Result<_, _>>()?;
    let all: BTreeSet<&Vec<u8>> = layers.iter().flat_map(|layer| &layer.implied).collect();
    let mut mended = BTreeSet::new();
    for path in all {
        if look(&layers, path)?.is_some_and(|seen| seen.mended) {
            // The directories above come along: they are in the topmost layer then, too.
            mended.extend(name::ancestors(path).map(<[u8]>::to_vec));
        }
    }
    let mut tree = BTreeMap::new();
    for path in mended {
        if let Some(seen) = look(&layers, &path)? {
            tree.insert(path, seen.metadata);
        }
    }
    Ok(tree)
}

/// Whether the layer unpacked in `layer` makes its root opaque, so that no layer below it counts.
/// overlayfs does not look at this mark on the root of a layer: the stack has to end there.
pub fn hides_everything_below(layer: &Path, namespace: XattrNamespace) -> Result<bool, LayerError> {
    Layer::open(layer, namespace)?.is_opaque(b"")
}

struct Layer {
    path: PathBuf,
    root: OwnedFd,
    namespace: XattrNamespace,
    implied: HashSet<Vec<u8>>,
}

/// What a layer has at a path.
enum Here {
    Directory(OwnedFd),
    /// Nothing: the layer below decides.
    Nothing,
    /// A file or a whiteout, there or above: no directory below shows.
    Blocked,
}

impl Layer {
    fn open(path: &Path, namespace: XattrNamespace) -> Result<Self, LayerError> {
        let mut layer = Self::without_record(path, namespace)?;
        layer.implied = LayerMeta::load(path)?.implied_paths().collect();
        Ok(layer)
    }

    /// What has no `layer.json`.
    fn without_record(path: &Path, namespace: XattrNamespace) -> Result<Self, LayerError> {
        let fs = path.join("fs");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            rustix::fs::open(&fs, flags, Mode::empty()).map_err(LayerError::io("open", &fs))?;
        Ok(Self {
            path: path.to_owned(),
            root,
            namespace,
            implied: HashSet::new(),
        })
    }

    fn at(&self, path: &[u8]) -> Result<Here, LayerError> {
        match tree::open(&self.root, path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(directory) => Ok(Here::Directory(directory)),
            Err(Errno::NOENT) => Ok(Here::Nothing),
            Err(Errno::NOTDIR | Errno::LOOP) => Ok(Here::Blocked),
            Err(error) => Err(self.failed("look at", path)(error)),
        }
    }

    fn is_opaque(&self, path: &[u8]) -> Result<bool, LayerError> {
        let Here::Directory(directory) = self.at(path)? else {
            return Ok(false);
        };
        let mut value = [0; 2];
        match rustix::fs::fgetxattr(&directory, self.namespace.opaque(), &mut value) {
            Ok(length) => Ok(&value[..length] == b"y"),
            Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(false),
            Err(error) => Err(self.failed("read the attributes of", path)(error)),
        }
    }

    fn failed(&self, action: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> LayerError {
        let path = self.path.join("fs").join(tree::as_path(path));
        move |error| LayerError::io(action, &path)(error)
    }

    fn metadata(&self, path: &[u8], directory: &OwnedFd) -> Result<Metadata, LayerError> {
        let stat = rustix::fs::fstat(directory).map_err(self.failed("look at", path))?;
        let xattrs = xattrs(directory, self.namespace);
        Ok(Metadata {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: Time {
                seconds: stat.st_mtime,
                nanoseconds: stat.st_mtime_nsec as u32,
            },
            xattrs: xattrs.map_err(self.failed("read the attributes of", path))?,
        })
    }
}

/// xattr(7): neither a list of names nor a value can be longer.
const MAX_XATTR: usize = 1 << 16;

/// How the names begin of an image's own attributes that overlayfs would take for marks.
fn escape(namespace: XattrNamespace) -> Vec<u8> {
    [namespace.overlay(), b"overlay."].concat()
}

/// All attributes but overlayfs' marks; the image's own, escaped ones as the image has them.
fn xattrs(directory: &OwnedFd, namespace: XattrNamespace) -> Result<Xattrs, Errno> {
    let mut buffer = vec![0; MAX_XATTR];
    let mut found = Vec::new();
    for name in names(directory)? {
        let own = match name.strip_prefix(escape(namespace).as_slice()) {
            Some(rest) => [namespace.overlay(), rest].concat(),
            None if name.starts_with(namespace.overlay()) => continue,
            None => name.clone(),
        };
        let length = rustix::fs::fgetxattr(directory, &*name, &mut buffer)?;
        found.push((own, buffer[..length].to_vec()));
    }
    Ok(found)
}

/// Whether overlayfs takes an attribute for a mark of its own.
fn has_marks(directory: &OwnedFd, namespace: XattrNamespace) -> Result<bool, Errno> {
    let is_mark = |name: &Vec<u8>| {
        name.starts_with(namespace.overlay()) && !name.starts_with(&escape(namespace))
    };
    Ok(names(directory)?.iter().any(is_mark))
}

/// The names of all attributes.
fn names(directory: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut buffer = vec![0; MAX_XATTR];
    let length = match rustix::fs::flistxattr(directory, &mut buffer) {
        Err(Errno::NOTSUP) => 0,
        listed => listed?,
    };
    let names = buffer[..length].split(|byte| *byte == 0);
    let names = names.filter(|name| !name.is_empty());
    Ok(names.map(<[u8]>::to_vec).collect())
}

/// A directory as the stack shows it.
struct Seen {
    /// Of the highest layer that names it, or of the highest that has it.
    metadata: Metadata,
    /// Whether those two differ.
    mended: bool,
}

/// Goes down the stack as overlayfs does.
fn look(layers: &[Layer], path: &[u8]) -> Result<Option<Seen>, LayerError> {
    let mut topmost = None;
    for layer in layers {
        match layer.at(path)? {
            Here::Blocked => break,
            Here::Nothing => {}
            Here::Directory(directory) => {
                let metadata = layer.metadata(path, &directory)?;
                if !layer.implied.contains(path) {
                    let mended = topmost.is_some_and(|topmost| topmost != metadata);
                    return Ok(Some(Seen { metadata, mended }));
                }
                topmost.get_or_insert(metadata);
            }
        }
        for above in name::ancestors(path).filter(|above| above.len() < path.len()) {
            if layer.is_opaque(above)? {
                return Ok(topmost.map(unmended));
            }
        }
    }
    Ok(topmost.map(unmended))
}

fn unmended(metadata: Metadata) -> Seen {
    Seen {
        metadata,
        mended: false,
    }
}

/// Makes the directories, then sets their metadata, the deepest first.
fn write(
    tree: &BTreeMap<Vec<u8>, Metadata>,
    out: &Path,
    options: &UnpackOptions,
) -> Result<(), LayerError> {
    let attributes = Attributes::new(options, Thread::default());
    let at = |path: &[u8]| out.join(tree::as_path(path));
    for path in tree.keys() {
        let path = at(path);
        rustix::fs::mkdir(&path, Mode::RWXU)
            .map_err(LayerError::io("make the directory", &path))?;
    }
    for (path, metadata) in tree.iter().rev() {
        let full = at(path);
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory =
            rustix::fs::open(&full, flags, Mode::empty()).map_err(LayerError::io("open", &full))?;
        attributes.set(&directory, path, metadata, true)?;
    }
    Ok(())
}
