//! The kernel's requests, answered from the model.
//!
//! The kernel keeps pages but passes every write on at once (no FUSE_WRITEBACK_CACHE), so the model sees writes in
//! their order; shared mappings work (SQLite's `-shm` file) and their pages come when the kernel writes them
//! back, at the latest with a sync of the file. Locks stay in the kernel. syncfs(2) does not reach a
//! FUSE server of this kind at all and so makes nothing durable here.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::content::{BLOCK, Content};
use super::disk::{Directory, Disk, Kind, Node};

/// Nobody but the kernel changes the tree: what it knows stays true.
const TRUE_FOR: Duration = Duration::from_secs(3600);
const SAME: Generation = Generation(0);
const HANDLE: FileHandle = FileHandle(0);

#[derive(Clone)]
pub(super) struct Driver(pub(super) Arc<Mutex<Disk>>);

type Result<T> = std::result::Result<T, rustix::io::Errno>;

impl Driver {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attributes(&self, inode: u64) -> Result<FileAttr> {
        Ok(attributes(inode, self.disk().node(inode)?))
    }

    fn make(
        &self,
        parent: INodeNo,
        name: &OsStr,
        kind: Kind,
        mode: u32,
        by: &Request,
    ) -> Result<FileAttr> {
        let owner = (by.uid(), by.gid());
        let inode = self.disk().make(parent.0, name, kind, mode, owner)?;
        self.attributes(inode)
    }
}

fn attributes(inode: u64, node: &Node) -> FileAttr {
    let (kind, size, blocks) = match &node.kind {
        Kind::File(content) => (FileType::RegularFile, content.size(), content.blocks()),
        Kind::Directory(_) => (FileType::Directory, BLOCK, 1),
        Kind::Link(target) => (FileType::Symlink, target.as_os_str().len() as u64, 0),
    };
    FileAttr {
        ino: INodeNo(inode),
        size,
        blocks: blocks * (BLOCK / 512),
        atime: node.modified,
        mtime: node.modified,
        ctime: node.modified,
        crtime: node.modified,
        kind,
        perm: node.mode as u16,
        nlink: node.links,
        uid: node.owner.0,
        gid: node.owner.1,
        rdev: 0,
        blksize: BLOCK as u32,
        flags: 0,
    }
}

fn code(error: rustix::io::Errno) -> Errno {
    Errno::from_i32(error.raw_os_error())
}

fn entry(reply: ReplyEntry, made: Result<FileAttr>) {
    match made {
        Ok(attributes) => reply.entry(&TRUE_FOR, &attributes, SAME),
        Err(error) => reply.error(code(error)),
    }
}

fn empty(reply: ReplyEmpty, done: Result<()>) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(code(error)),
    }
}

impl Filesystem for Driver {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.disk().lookup(parent.0, name);
        entry(reply, found.and_then(|inode| self.attributes(inode)));
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode.0) {
            Ok(attributes) => reply.attr(&TRUE_FOR, &attributes),
            Err(error) => reply.error(code(error)),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = || {
            let mut disk = self.disk();
            if let Some(size) = size {
                disk.resize(inode.0, size)?;
            }
            let node = disk.node_mut(inode.0)?;
            node.mode = mode.map_or(node.mode, |mode| mode & 0o7777);
            node.owner = (uid.unwrap_or(node.owner.0), gid.unwrap_or(node.owner.1));
            match modified {
                Some(TimeOrNow::SpecificTime(time)) => node.modified = time,
                Some(TimeOrNow::Now) => node.modified = SystemTime::now(),
                None => {}
            }
            Ok(attributes(inode.0, node))
        };
        match change() {
            Ok(attributes) => reply.attr(&TRUE_FOR, &attributes),
            Err(error) => reply.error(code(error)),
        }
    }

    fn readlink(&self, _: &Request, inode: INodeNo, reply: ReplyData) {
        match self.disk().node(inode.0).map(|node| &node.kind) {
            Ok(Kind::Link(target)) => reply.data(target.as_os_str().as_bytes()),
            Ok(_) => reply.error(Errno::EINVAL),
            Err(error) => reply.error(code(error)),
        }
    }

    fn mkdir(
        &self,
        by: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let kind = Kind::Directory(Directory::default());
        entry(reply, self.make(parent, name, kind, mode & !umask, by));
    }

    fn symlink(
        &self,
        by: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let kind = Kind::Link(target.to_owned());
        entry(reply, self.make(parent, name, kind, 0o777, by));
    }

    fn create(
        &self,
        by: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let kind = Kind::File(Content::default());
        match self.make(parent, name, kind, mode & !umask, by) {
            Ok(attributes) => {
                let flags = FopenFlags::FOPEN_KEEP_CACHE;
                reply.created(&TRUE_FOR, &attributes, SAME, HANDLE, flags);
            }
            Err(error) => reply.error(code(error)),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.disk().unlink(parent.0, name, false));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.disk().unlink(parent.0, name, true));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let replace = !flags.contains(RenameFlags::RENAME_NOREPLACE);
        if !(flags - RenameFlags::RENAME_NOREPLACE).is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let (from, to) = ((parent.0, name), (new_parent.0, new_name));
        empty(reply, self.disk().rename(from, to, replace));
    }

    fn link(&self, _: &Request, inode: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let linked = self.disk().link(inode.0, parent.0, name);
        entry(reply, linked.and_then(|()| self.attributes(inode.0)));
    }

    fn open(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.disk().node(inode.0) {
            Ok(_) => reply.opened(HANDLE, FopenFlags::FOPEN_KEEP_CACHE),
            Err(error) => reply.error(code(error)),
        }
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.disk().content(inode.0) {
            Ok(content) => reply.data(&content.read(offset, size.into())),
            Err(error) => reply.error(code(error)),
        }
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.disk().write(inode.0, offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(code(error)),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        // Only what posix_fallocate(3) asks for; a size that grows is all that shows of it.
        if mode != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let mut disk = self.disk();
        let end = offset.saturating_add(length);
        let size = disk.content(inode.0).map(Content::size);
        empty(
            reply,
            size.and_then(|size| disk.resize(inode.0, size.max(end))),
        );
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(reply, self.disk().sync(inode.0));
    }

    fn fsyncdir(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(reply, self.disk().sync(inode.0));
    }

    fn readdir(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        after: u64,
        mut reply: ReplyDirectory,
    ) {
        let disk = self.disk();
        let entries = match disk.list(inode.0, after) {
            Ok(entries) => entries,
            Err(error) => return reply.error(code(error)),
        };
        for (position, child, name) in entries {
            let kind = match disk.node(child).map(|node| &node.kind) {
                Ok(Kind::Directory(_)) => FileType::Directory,
                Ok(Kind::Link(_)) => FileType::Symlink,
                _ => FileType::RegularFile,
            };
            if reply.add(INodeNo(child), position, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (all, used) = self.disk().space();
        let (free, block) = (all - used, BLOCK as u32);
        reply.statfs(all, free, free, 1 << 20, 1 << 20, block, 255, block);
    }
}
