//! The kernel's requests, a few lines each.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use attachfs_vfs::{Access, FsErrorKind, HandleId, ReadOutcome, SetAttr, Vfs};
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags,
    INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, PollEvents,
    PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyBmap, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock, ReplyLseek,
    ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::{FileType as ModeType, OFlags};

use super::answer::{FileSystemSize, GENERATION, TTL};
use super::attr::{file_type, ino, kernel_attr, set_time};
use super::errno::errno;
use super::{Adapter, guarded, report};

/// Requests that the kernel may have under way in the background (read-ahead, for one). Its default
/// of 12 is too few for a store that takes tens of milliseconds.
const MAX_BACKGROUND: u16 = 64;

/// The capabilities to ask for; each is used if the kernel has it. No write-back cache: it would
/// keep the kernel from handing reads and writes through to local files.
const CAPABILITIES: [InitFlags; 5] = [
    // O_TRUNC comes with the open, so that truncating an input fetches none of it.
    InitFlags::FUSE_ATOMIC_O_TRUNC,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_PARALLEL_DIROPS,
    // The text of a link never changes under its inode number.
    InitFlags::FUSE_CACHE_SYMLINKS,
];

fn handle(fh: FileHandle) -> HandleId {
    HandleId(fh.0)
}

fn access(flags: OpenFlags) -> Access {
    match flags.acc_mode() {
        OpenAccMode::O_RDONLY => Access {
            read: true,
            write: false,
        },
        OpenAccMode::O_WRONLY => Access {
            read: false,
            write: true,
        },
        OpenAccMode::O_RDWR => Access {
            read: true,
            write: true,
        },
    }
}

fn owner(request: &Request) -> (u32, u32) {
    (request.uid(), request.gid())
}

/// The reply to a read that waits for the store. If the program ends before, which is no failure of the read's,
/// it is answered as one that failed.
struct Waiting(Option<ReplyData>);

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(reply) = self.0.take() {
            reply.error(Errno::EIO);
        }
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // fuser already asks for the longest writes and the most read-ahead that the kernel offers.
        for capability in CAPABILITIES {
            if let Err(missing) = config.add_capabilities(capability) {
                tracing::debug!(?missing, "this kernel lacks a capability");
            }
        }
        if let Err(nearest) = config.set_max_background(MAX_BACKGROUND) {
            tracing::debug!(nearest, "the number of background requests stays as it is");
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.answer("lookup", parent, reply, |vfs| {
            match vfs.lookup(ino(parent), name.as_bytes()) {
                Ok(attr) => Ok(Some(attr)),
                Err(error) if error.kind() == FsErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        });
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.answer("getattr", number, reply, |vfs| vfs.getattr(ino(number)));
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
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
            mtime: mtime.map(set_time),
        };
        self.answer("setattr", number, reply, |vfs| {
            vfs.setattr(ino(number), set)
        });
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        self.answer("readlink", number, reply, |vfs| vfs.readlink(ino(number)));
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
        self.answer("mknod", parent, reply, |vfs| {
            // 0 means a regular file too (mknod(2)).
            let kind = ModeType::from_raw_mode(mode);
            if kind != ModeType::RegularFile && mode & 0o170_000 != 0 {
                return Err(FsErrorKind::NotPermitted.into());
            }
            let access = Access {
                read: false,
                write: false,
            };
            let name = name.as_bytes();
            let (attr, opened) =
                vfs.create_file(ino(parent), name, mode & !umask, owner(request), access)?;
            vfs.release(opened.handle)?;
            Ok(attr)
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
        self.answer("mkdir", parent, reply, |vfs| {
            vfs.mkdir(ino(parent), name.as_bytes(), mode & !umask, owner(request))
        });
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.answer("unlink", parent, reply, |vfs| {
            vfs.unlink(ino(parent), name.as_bytes())
        });
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.answer("rmdir", parent, reply, |vfs| {
            vfs.rmdir(ino(parent), name.as_bytes())
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
        let text = target.as_os_str().as_bytes();
        self.answer("symlink", parent, reply, |vfs| {
            vfs.symlink(ino(parent), name.as_bytes(), text, owner(request))
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
        self.answer("rename", parent, reply, |vfs| {
            let no_replace = flags.contains(RenameFlags::RENAME_NOREPLACE);
            if !(flags - RenameFlags::RENAME_NOREPLACE).is_empty() {
                return Err(FsErrorKind::Invalid.into());
            }
            let (from, to) = ((ino(parent), name), (ino(newparent), newname));
            vfs.rename(
                (from.0, from.1.as_bytes()),
                (to.0, to.1.as_bytes()),
                no_replace,
            )
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
        self.answer("link", number, reply, |vfs| {
            vfs.link(ino(number), ino(newparent), newname.as_bytes())
        });
    }

    fn open(&self, _: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.answer("open", number, reply, |vfs| {
            let access = access(flags);
            let truncate = flags.0 & OFlags::TRUNC.bits() as i32 != 0;
            let opened = vfs.open(ino(number), access, truncate)?;
            // What is in scratch changes only through this kernel's own cache, and an input not at
            // all, so pages stay good from one open to the next.
            let mut keep = FopenFlags::FOPEN_KEEP_CACHE;
            if !access.write {
                keep |= FopenFlags::FOPEN_NOFLUSH;
            }
            Ok((FileHandle(opened.handle.0), keep))
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
        guarded("read", number, || {
            match self.vfs.read(handle(fh), offset, size) {
                Ok(ReadOutcome::Ready(bytes)) => reply.data(&bytes),
                Ok(ReadOutcome::Pending(bytes)) => {
                    // Weak: who unmounts may want the file system for itself, whatever the store does.
                    let vfs = Arc::downgrade(&self.vfs);
                    let mut reply = Waiting(Some(reply));
                    self.runtime.spawn(async move {
                        let read = bytes.await;
                        if let (Err(error), Some(vfs)) = (&read, vfs.upgrade()) {
                            report::failed(&vfs, "read", ino(number), error);
                        }
                        match (read, reply.0.take()) {
                            (Ok(bytes), Some(reply)) => reply.data(&bytes),
                            (Err(error), Some(reply)) => reply.error(errno(error.kind())),
                            (_, None) => {}
                        }
                    });
                }
                Err(error) => reply.error(self.failed("read", ino(number), &error)),
            }
        });
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.answer("write", number, reply, |vfs| {
            vfs.write(handle(fh), offset, data)
        });
    }

    /// Writes are in scratch when they return, so there is nothing left to flush: ENOSYS makes the
    /// kernel, which still writes mapped pages back on close, ask no more.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        _: &Request,
        number: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.answer("release", number, reply, |vfs| vfs.release(handle(fh)));
    }

    fn fsync(
        &self,
        _: &Request,
        number: INodeNo,
        fh: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.answer("fsync", number, reply, |vfs| {
            vfs.fsync(handle(fh), datasync)
        });
    }

    fn opendir(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.answer("opendir", number, reply, |vfs| {
            let opened = vfs.opendir(ino(number))?;
            Ok((FileHandle(opened.0), FopenFlags::empty()))
        });
    }

    fn readdir(
        &self,
        _: &Request,
        number: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        guarded("readdir", number, || match self.vfs.dir_view(handle(fh)) {
            Err(error) => reply.error(self.failed("readdir", ino(number), &error)),
            Ok(view) => {
                let mut next = offset;
                while let Some(entry) = view.entry(next) {
                    next += 1;
                    let (name, kind) = (OsStr::from_bytes(entry.name), file_type(entry.kind));
                    if reply.add(INodeNo(entry.ino.raw()), next, kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
        });
    }

    fn readdirplus(
        &self,
        _: &Request,
        number: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        guarded("readdirplus", number, || {
            match self.vfs.dir_view(handle(fh)) {
                Err(error) => reply.error(self.failed("readdirplus", ino(number), &error)),
                Ok(view) => {
                    let mut next = offset;
                    while let Some(entry) = view.entry(next) {
                        next += 1;
                        // A name that has gone since is left out; what follows it is not.
                        let Some(attr) = self.vfs.entry_attr(&view, &entry) else {
                            continue;
                        };
                        let (name, attr) = (OsStr::from_bytes(entry.name), kernel_attr(&attr));
                        if reply.add(attr.ino, next, name, &TTL, &attr, GENERATION) {
                            break;
                        }
                    }
                    reply.ok();
                }
            }
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
        self.answer("releasedir", number, reply, |vfs| {
            vfs.releasedir(handle(fh))
        });
    }

    fn fsyncdir(
        &self,
        _: &Request,
        number: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.answer("fsyncdir", number, reply, Vfs::fsyncdir);
    }

    fn statfs(&self, _: &Request, number: INodeNo, reply: ReplyStatfs) {
        self.answer("statfs", number, reply, |vfs| {
            let files = vfs.base_len();
            Ok(match vfs.space()? {
                Some(space) => FileSystemSize {
                    total: space.total,
                    free: space.free,
                    available: space.available,
                    files_total: space.files_total.saturating_add(files),
                    files_free: space.files_free,
                    block_size: u32::try_from(space.block_size).unwrap_or(4096).max(512),
                },
                None => FileSystemSize {
                    total: 0,
                    free: 0,
                    available: 0,
                    files_total: files,
                    files_free: 0,
                    block_size: 4096,
                },
            })
        });
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
        self.answer("create", parent, reply, |vfs| {
            let access = access(OpenFlags(flags));
            vfs.create_file(
                ino(parent),
                name.as_bytes(),
                mode & !umask,
                owner(request),
                access,
            )
        });
    }

    // What this file system does not do. ENOSYS tells the kernel not to ask again: it has a way of
    // its own (poll, lseek, copy_file_range) or answers EOPNOTSUPP from then on.

    fn setxattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: &[u8],
        _: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        // The kernel checks permissions itself (default_permissions).
        reply.error(Errno::ENOSYS);
    }

    fn getlk(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: LockOwner,
        _: u64,
        _: u64,
        _: i32,
        _: u32,
        reply: ReplyLock,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn setlk(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: LockOwner,
        _: u64,
        _: u64,
        _: i32,
        _: u32,
        _: bool,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn bmap(&self, _: &Request, _: INodeNo, _: u32, _: u64, reply: ReplyBmap) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: PollNotifier,
        _: PollEvents,
        _: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn lseek(&self, _: &Request, _: INodeNo, _: FileHandle, _: i64, _: i32, reply: ReplyLseek) {
        reply.error(Errno::ENOSYS);
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::ENOSYS);
    }
}
