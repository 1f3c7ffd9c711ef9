//! The kernel's requests, a few lines each.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::SystemTime;

use attachfs_vfs::{Entry, FileAttr, FileSystem, FsErrorKind, HandleId, Reply, SetAttr};
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, INodeNo,
    IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier,
    RenameFlags, ReplyAttr, ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::attr::{Made, access, allocation, made, new_node, node, seek_to, set_time, truncates};
use super::pages::OpenReply;
use super::xattr::{XattrReply, set_xattr};
use super::{Adapter, guarded};

fn handle(fh: FileHandle) -> HandleId {
    HandleId(fh.0)
}

/// Requests that are refused without asking the file system. ENOSYS tells the kernel not to ask again: it has its own
/// implementation (poll, copy_file_range), or answers EOPNOTSUPP from then on.
macro_rules! refused {
    ($($(#[$why:meta])* $name:ident($($argument:ty),*) $reply:ty, $errno:ident;)*) => {$(
        $(#[$why])*
        fn $name(&self, _: &Request, $(_: $argument,)* reply: $reply) {
            reply.error(Errno::$errno);
        }
    )*};
}

impl<F: FileSystem> Filesystem for Adapter<F> {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        self.negotiate(config);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let asker = || self.askers.of(request.pid());
        self.ask("lookup", parent, reply, |fs, reply| {
            fs.lookup(node(parent), name.as_bytes(), asker, reply);
        });
    }

    fn forget(&self, _: &Request, number: INodeNo, lookups: u64) {
        guarded("forget", number, || {
            if let Some(unopened) = self.unopened() {
                unopened.forget(node(number));
            }
            self.fs.forget(node(number), lookups);
        });
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.ask("getattr", number, reply, |fs, reply| {
            fs.getattr(node(number), reply);
        });
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = SetAttr {
            size,
            mode,
            uid,
            gid,
            atime: atime.map(set_time),
            mtime: mtime.map(set_time),
            keeps_mtime: self.pages.are_written_late(),
        };
        self.ask("setattr", number, reply, |fs, reply| {
            // While the kernel changes a length, it writes no pages back.
            if set.mtime.is_some()
                && set.size.is_none()
                && self.pages.may_be_unseen_by_times(number)
            {
                self.after_write_back::<FileAttr, _>("setattr", number, reply, move |fs, reply| {
                    fs.setattr(node(number), set, reply);
                });
            } else {
                fs.setattr(node(number), set, reply);
            }
        });
    }

    fn getxattr(&self, _: &Request, number: INodeNo, name: &OsStr, room: u32, reply: ReplyXattr) {
        self.ask(
            "getxattr",
            number,
            XattrReply::new(reply, room),
            |fs, reply| {
                fs.getxattr(node(number), name.as_bytes(), reply);
            },
        );
    }

    fn setxattr(
        &self,
        _: &Request,
        number: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        self.ask("setxattr", number, reply, |fs, reply| {
            match set_xattr(flags) {
                Some(how) => fs.setxattr(node(number), name.as_bytes(), value, how, reply),
                None => Reply::<()>::fail(reply, FsErrorKind::Invalid.into()),
            }
        });
    }

    fn listxattr(&self, request: &Request, number: INodeNo, room: u32, reply: ReplyXattr) {
        if self.fs.is_read_only() {
            // There are none, and the kernel asks no more.
            return reply.error(Errno::ENOSYS);
        }
        let (is_root, reply) = (request.uid() == 0, XattrReply::new(reply, room));
        self.ask("listxattr", number, reply, |fs, reply| {
            fs.listxattr(node(number), is_root, reply);
        });
    }

    fn removexattr(&self, _: &Request, number: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.ask("removexattr", number, reply, |fs, reply| {
            fs.removexattr(node(number), name.as_bytes(), reply);
        });
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        self.ask("readlink", number, reply, |fs, reply| {
            fs.readlink(node(number), reply);
        });
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        let (parent_node, name) = (node(parent), name.as_bytes());
        let new = new_node(request, mode & !umask);
        let made = made(mode);
        self.ask("mknod", parent, reply, |fs, reply| match made {
            Made::File => fs.make_file(parent_node, name, new, reply),
            Made::Special(special) => fs.make_special(parent_node, name, special, new, reply),
            Made::Device => Reply::<Entry>::fail(reply, FsErrorKind::NotPermitted.into()),
        });
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let new = new_node(request, mode & !umask);
        self.ask("mkdir", parent, reply, |fs, reply| {
            fs.mkdir(node(parent), name.as_bytes(), new, reply);
        });
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.ask("unlink", parent, reply, |fs, reply| {
            fs.unlink(node(parent), name.as_bytes(), reply);
        });
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.ask("rmdir", parent, reply, |fs, reply| {
            fs.rmdir(node(parent), name.as_bytes(), reply);
        });
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let (text, new) = (target.as_os_str().as_bytes(), new_node(request, 0o777));
        self.ask("symlink", parent, reply, |fs, reply| {
            fs.symlink(node(parent), name.as_bytes(), text, new, reply);
        });
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let from = (node(parent), name.as_bytes());
        let to = (node(newparent), newname.as_bytes());
        let plain = RenameFlags::empty();
        self.ask("rename", parent, reply, |fs, reply| match flags {
            RenameFlags::RENAME_EXCHANGE => fs.exchange(from, to, reply),
            RenameFlags::RENAME_NOREPLACE => fs.rename(from, to, true, reply),
            flags if flags == plain => fs.rename(from, to, false, reply),
            // Two that exclude each other, or one that leaves a device behind (RENAME_WHITEOUT).
            _ => Reply::<()>::fail(reply, FsErrorKind::Invalid.into()),
        });
    }

    fn link(
        &self,
        _: &Request,
        number: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        self.ask("link", number, reply, |fs, reply| {
            fs.link(node(number), node(newparent), newname.as_bytes(), reply);
        });
    }

    fn open(&self, _: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if self.unopened().is_some() {
            return reply.error(Errno::ENOSYS);
        }
        self.ask("open", number, reply, |fs, reply| {
            let access = access(flags);
            let reply = OpenReply::new(reply, access, &self.pages, &self.passthrough);
            fs.open(node(number), access, truncates(flags), reply);
        });
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.ask("read", number, reply, |fs, reply| match self.unopened() {
            Some(unopened) => unopened.file(node(number), reply, move |fs, handle, reply| {
                fs.read(handle, offset, size, reply);
            }),
            None => fs.read(handle(fh), offset, size, reply),
        });
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.ask("write", number, reply, |fs, reply| {
            let is_late = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
            fs.write(handle(fh), offset, data, is_late, reply);
        });
    }

    fn release(
        &self,
        _: &Request,
        number: INodeNo,
        fh: FileHandle,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.pages.closed(number, access(flags));
        self.ask("release", number, reply, |fs, reply| {
            fs.release(handle(fh), reply);
        });
    }

    fn fsync(
        &self,
        _: &Request,
        number: INodeNo,
        fh: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.ask("fsync", number, reply, |fs, reply| {
            fs.fsync(handle(fh), datasync, reply);
        });
    }

    fn opendir(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        if self.unopened().is_some() {
            return reply.error(Errno::ENOSYS);
        }
        self.ask("opendir", number, reply, |fs, reply| {
            fs.opendir(node(number), reply);
        });
    }

    fn readdir(
        &self,
        _: &Request,
        number: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        self.ask("readdir", number, reply, |fs, reply| {
            let Some(unopened) = self.unopened() else {
                return fs.readdir(handle(fh), offset, reply);
            };
            let list = |fs: &F, handle, place, reply| fs.readdir(handle, place, reply);
            unopened.listing(node(number), offset, reply, list);
        });
    }

    fn readdirplus(
        &self,
        _: &Request,
        number: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        self.ask("readdirplus", number, reply, |fs, reply| {
            let Some(unopened) = self.unopened() else {
                return fs.readdirplus(handle(fh), offset, reply);
            };
            let list = |fs: &F, handle, place, reply| fs.readdirplus(handle, place, reply);
            unopened.listing(node(number), offset, reply, list);
        });
    }

    fn releasedir(
        &self,
        _: &Request,
        number: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.ask("releasedir", number, reply, |fs, reply| {
            fs.releasedir(handle(fh), reply);
        });
    }

    fn fsyncdir(
        &self,
        _: &Request,
        number: INodeNo,
        fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.ask("fsyncdir", number, reply, |fs, reply| {
            fs.fsyncdir(handle(fh), reply);
        });
    }

    fn statfs(&self, _: &Request, number: INodeNo, reply: ReplyStatfs) {
        self.ask("statfs", number, reply, F::statfs);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (access, new) = (access(OpenFlags(flags)), new_node(request, mode & !umask));
        self.ask("create", parent, reply, |fs, reply| {
            let reply = OpenReply::new(reply, access, &self.pages, &self.passthrough);
            fs.create(node(parent), name.as_bytes(), new, access, reply);
        });
    }

    fn fallocate(
        &self,
        _: &Request,
        number: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.ask("fallocate", number, reply, |fs, reply| {
            // A length that leads beyond all files.
            let range = offset..offset.saturating_add(length);
            match allocation(mode) {
                Some(how) => fs.allocate(handle(fh), how, range, reply),
                None => Reply::<()>::fail(reply, FsErrorKind::NotSupported.into()),
            }
        });
    }

    fn lseek(
        &self,
        _: &Request,
        number: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        if self.unopened().is_some() {
            // Everything is data then, which the kernel answers by itself.
            return reply.error(Errno::ENOSYS);
        }
        self.ask("lseek", number, reply, |fs, reply| {
            let (offset, to) = match seek_to(offset, whence) {
                Ok(asked) => asked,
                Err(kind) => return Reply::<u64>::fail(reply, kind.into()),
            };
            if self.pages.may_be_unseen(number) {
                // What was stored through a mapping would look like a hole.
                self.after_write_back::<u64, _>("lseek", number, reply, move |fs, reply| {
                    fs.seek(handle(fh), offset, to, reply);
                });
            } else {
                fs.seek(handle(fh), offset, to, reply);
            }
        });
    }

    refused! {
        /// Writes are in the file system when they return, so there is nothing left to flush. The kernel still writes
        /// mapped pages back on close.
        flush(INodeNo, FileHandle, LockOwner) ReplyEmpty, ENOSYS;
        /// The kernel checks permissions itself (default_permissions).
        access(INodeNo, AccessFlags) ReplyEmpty, ENOSYS;
        getlk(INodeNo, FileHandle, LockOwner, u64, u64, i32, u32) ReplyLock, ENOSYS;
        setlk(INodeNo, FileHandle, LockOwner, u64, u64, i32, u32, bool) ReplyEmpty, ENOSYS;
        bmap(INodeNo, u32, u64) ReplyBmap, ENOSYS;
        ioctl(INodeNo, FileHandle, IoctlFlags, u32, &[u8], u32) ReplyIoctl, ENOTTY;
        poll(INodeNo, FileHandle, PollNotifier, PollEvents, PollFlags) ReplyPoll, ENOSYS;
        copy_file_range(INodeNo, FileHandle, u64, INodeNo, FileHandle, u64, u64, CopyFileRangeFlags) ReplyWrite, ENOSYS;
    }
}
