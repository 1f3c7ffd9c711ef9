//! How fuser's replies take the answers of a file system.
//!
//! The kernel may cache names, attributes and the absence of names for as long as the file system says. Where all changes go
//! through this mount that is without limit, and other changes are invalidated explicitly.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use attachfs_vfs::{
    Created, Entry, FileAttr, Found, FsError, HandleId, ListReply, Listed, ListedName, NodeId,
    OpenedDir, Released, Reply, Usage,
};
use fuser::{
    Errno, FileHandle, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite,
};

use super::attr::{entry_attr, file_type, kernel_attr, nothing};
use super::errno::errno;
use super::passthrough::PassedThrough;
use super::report;

/// Without limit.
const LONGEST: Duration = Duration::from_hours(24);

/// What goes with every answer of a mount.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Inode numbers are never used twice in a session, so it has one generation. Another one has another, so that a file handle of this
    /// one leads to nothing in it.
    generation: Generation,
    /// How long the kernel may cache answers that last.
    ttl: Duration,
}

impl Terms {
    pub(super) fn new(generation: u32, keeps_for: Option<Duration>) -> Self {
        Self {
            generation: Generation(generation.into()),
            ttl: keeps_for.unwrap_or(LONGEST).min(LONGEST),
        }
    }

    /// How long an answer is valid: for no time where it does not last.
    fn ttl(&self, lasting: bool) -> Duration {
        if lasting { self.ttl } else { Duration::ZERO }
    }

    /// How long the attributes of an entry are valid. fuser 0.18 takes the node from the inode number in them: where the
    /// two differ, the attributes are valid for no time, and the kernel asks for them separately.
    fn attr_ttl(&self, entry: &Entry) -> Duration {
        self.ttl(entry.node == entry.attr.ino.into() && entry.attr.lasting)
    }
}

/// The answer to one request, on its way. Dropped, it answers EIO.
#[derive(Debug)]
pub(super) struct Completion<R: Refuse> {
    reply: Option<R>,
    operation: &'static str,
    node: NodeId,
    terms: Terms,
}

impl<R: Refuse> Completion<R> {
    pub(super) fn new(operation: &'static str, number: INodeNo, reply: R, terms: Terms) -> Self {
        Self {
            reply: Some(reply),
            operation,
            node: NodeId(number.0),
            terms,
        }
    }

    /// The reply, unless it was answered.
    pub(super) fn reply(&self) -> Option<&R> {
        self.reply.as_ref()
    }

    /// The node that the request is about.
    pub(super) fn number(&self) -> INodeNo {
        INodeNo(self.node.0)
    }
}

impl<R: Refuse> Drop for Completion<R> {
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            tracing::debug!(operation = self.operation, node = %self.node, "a request was given up");
            reply.refuse(Errno::EIO);
        }
    }
}

impl<T, R: Answer<T>> Reply<T> for Completion<R> {
    fn ok(mut self, value: T) {
        if let Some(reply) = self.reply.take() {
            reply.answer(value, self.terms);
        }
    }

    fn fail(mut self, error: FsError) {
        report::failed(self.operation, self.node, &error);
        if let Some(reply) = self.reply.take() {
            reply.refuse(errno(error.kind()));
        }
    }
}

/// A reply that can answer an error.
pub(super) trait Refuse: Send + 'static {
    fn refuse(self, errno: Errno);
}

/// A reply that can answer `T`.
pub(super) trait Answer<T>: Refuse {
    fn answer(self, value: T, terms: Terms);
}

macro_rules! refuse {
    ($($reply:ty),*) => {$(
        impl Refuse for $reply {
            fn refuse(self, errno: Errno) {
                self.error(errno);
            }
        }
    )*};
}

refuse!(
    ReplyAttr,
    ReplyCreate,
    ReplyData,
    ReplyDirectory,
    ReplyDirectoryPlus,
    ReplyEmpty,
    ReplyEntry,
    ReplyLseek,
    ReplyOpen,
    ReplyStatfs,
    ReplyWrite
);

macro_rules! answer {
    ($reply:ty, $value:ty, |$this:ident, $it:ident| $success:expr) => {
        answer!($reply, $value, |$this, $it, _terms| $success);
    };
    ($reply:ty, $value:ty, |$this:ident, $it:ident, $terms:ident| $success:expr) => {
        impl Answer<$value> for $reply {
            fn answer(self, $it: $value, $terms: Terms) {
                let $this = self;
                $success;
            }
        }
    };
}

answer!(ReplyEmpty, (), |reply, _done| reply.ok());
answer!(ReplyEmpty, Released, |reply, _released| reply.ok());
answer!(ReplyAttr, FileAttr, |reply, attr, terms| reply
    .attr(&terms.ttl(attr.lasting), &kernel_attr(&attr)));
answer!(ReplyEntry, Entry, |reply, entry, terms| {
    let attr = entry_attr(&entry);
    reply.entry_with_ttls(
        &terms.attr_ttl(&entry),
        &terms.ttl(true),
        &attr,
        terms.generation,
    );
});
answer!(ReplyEntry, Found, |reply, found, terms| {
    let ttl = terms.ttl(found.lasting);
    match found.entry {
        Some(entry) => {
            let attr = entry_attr(&entry);
            reply.entry_with_ttls(&terms.attr_ttl(&entry), &ttl, &attr, terms.generation);
        }
        None => reply.entry(&ttl, &nothing(), terms.generation),
    }
});
answer!(ReplyData, &[u8], |reply, bytes| reply.data(bytes));
answer!(ReplyWrite, usize, |reply, written| reply
    .written(written as u32));
answer!(ReplyLseek, u64, |reply, offset| reply
    .offset(i64::try_from(offset).unwrap_or(i64::MAX)));
answer!(ReplyOpen, OpenedDir, |reply, opened| {
    let flags = if opened.may_be_kept {
        FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE
    } else {
        FopenFlags::empty()
    };
    reply.opened(FileHandle(opened.handle.0), flags);
});
answer!(ReplyOpen, (HandleId, FopenFlags), |reply, opened| {
    let (handle, flags): (HandleId, FopenFlags) = opened;
    reply.opened(FileHandle(handle.0), flags);
});
answer!(ReplyOpen, PassedThrough<'_, HandleId>, |reply, passed| {
    let PassedThrough { opened, flags, id } = passed;
    reply.opened_passthrough(FileHandle(opened.0), flags, id);
});
answer!(
    ReplyCreate,
    (Created, FopenFlags),
    |reply, created, terms| {
        let (created, flags) = created;
        let (entry, handle) = (created.entry, FileHandle(created.opened.handle.0));
        reply.created(
            &terms.attr_ttl(&entry),
            &entry_attr(&entry),
            terms.generation,
            handle,
            flags,
        );
    }
);
answer!(
    ReplyCreate,
    PassedThrough<'_, Created>,
    |reply, passed, terms| {
        let PassedThrough { opened, flags, id } = passed;
        let (entry, handle) = (opened.entry, FileHandle(opened.opened.handle.0));
        let (ttl, attr) = (terms.attr_ttl(&entry), entry_attr(&entry));
        reply.created_passthrough(&ttl, &attr, terms.generation, handle, flags, id);
    }
);
answer!(ReplyStatfs, Usage, |reply, usage| {
    let block = u64::from(usage.block_size);
    reply.statfs(
        usage.total / block,
        usage.free / block,
        usage.available / block,
        usage.files_total,
        usage.files_free,
        usage.block_size,
        255,
        usage.block_size,
    );
});
answer!(ReplyDirectory, (), |reply, _done| reply.ok());
answer!(ReplyDirectoryPlus, (), |reply, _done| reply.ok());

impl ListReply<ListedName<'_>> for Completion<ReplyDirectory> {
    fn add(&mut self, entry: ListedName<'_>, next: u64) -> bool {
        let (number, name) = (INodeNo(entry.ino.raw()), OsStr::from_bytes(entry.name));
        let reply = self.reply.as_mut();
        reply.is_some_and(|reply| !reply.add(number, next, file_type(entry.kind), name))
    }
}

impl ListReply<Listed<'_>> for Completion<ReplyDirectoryPlus> {
    fn add(&mut self, Listed { name, entry }: Listed<'_>, next: u64) -> bool {
        let (name, attr) = (OsStr::from_bytes(name), entry_attr(&entry));
        let (ttl, generation) = (self.terms.attr_ttl(&entry), self.terms.generation);
        let reply = self.reply.as_mut();
        reply.is_some_and(|reply| !reply.add(attr.ino, next, name, &ttl, &attr, generation))
    }
}
