//! Files that may be the same: those of which another has the size.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Dir, FileType, OFlags};

use super::super::error::LayerError;
use super::super::{name, tree};

/// A name of a regular file.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) tree: usize,
    pub(super) path: Vec<u8>,
    pub(super) size: u64,
    pub(super) inode: u64,
    /// How many names it has.
    pub(super) links: u32,
}

/// The files whose size another file has, sorted by it, tree and path. The trees are walked twice, so that only the
/// names of those that are told are in memory.
pub(super) fn same_sizes(
    roots: &[OwnedFd],
    shown: &[PathBuf],
    least: u64,
) -> Result<Vec<Found>, LayerError> {
    // The first inode of a size, and whether there is another one.
    let mut sizes: HashMap<u64, (u64, bool)> = HashMap::new();
    walk(roots, shown, least, &mut |file| {
        let seen = sizes.entry(file.size).or_insert((file.inode, false));
        seen.1 |= seen.0 != file.inode;
    })?;
    let mut files = Vec::new();
    walk(roots, shown, least, &mut |file| {
        if sizes.get(&file.size).is_some_and(|(_, another)| *another) {
            files.push(file);
        }
    })?;
    files.sort_by(|a, b| (a.size, a.tree, &a.path).cmp(&(b.size, b.tree, &b.path)));
    Ok(files)
}

fn walk(
    roots: &[OwnedFd],
    shown: &[PathBuf],
    least: u64,
    tell: &mut dyn FnMut(Found),
) -> Result<(), LayerError> {
    for (tree, root) in roots.iter().enumerate() {
        let mut todo: Vec<Vec<u8>> = vec![Vec::new()];
        while let Some(path) = todo.pop() {
            let failed = |error| {
                LayerError::io::<rustix::io::Errno>("list", &shown[tree].join(tree::as_path(&path)))(
                    error,
                )
            };
            let directory = tree::open(root, &path, OFlags::RDONLY | OFlags::DIRECTORY);
            let directory = directory.map_err(failed)?;
            for entry in Dir::read_from(&directory).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let last = entry.file_name().to_bytes();
                if last == b"." || last == b".." {
                    continue;
                }
                let stat = rustix::fs::statat(&directory, last, AtFlags::SYMLINK_NOFOLLOW);
                let stat = stat.map_err(failed)?;
                let size = u64::try_from(stat.st_size).unwrap_or_default();
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => todo.push(name::join(&path, last)),
                    FileType::RegularFile if size >= least => tell(Found {
                        tree,
                        path: name::join(&path, last),
                        size,
                        inode: stat.st_ino,
                        links: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
                    }),
                    _ => {}
                }
            }
        }
    }
    Ok(())
}
