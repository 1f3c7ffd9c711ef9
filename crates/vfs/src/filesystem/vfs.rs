//! [`Vfs`] as a file system that adapters serve: calls its own operations, and hands on their answers.

use std::ops::Range;
use std::time::Duration;

use attachfs_manifest::ManifestPath;
use attachfs_tree::{DirEntry, Ino, Special};

use super::{
    Asker, Attachment, Created, DataReply, Entry, FileSystem, Found, Listed, ListedName,
    ListedReply, NameReply, NewNode, NodeId, OpenedDir, OpenedFile, Released, Reply, Usage,
};
use crate::ops::attributes::Numbered;
use crate::ops::origin::Whereabouts;
use crate::ops::xattrs::{Xattr, cached};
use crate::{
    Access, Allocation, DirView, FileAttr, FsError, FsErrorKind, HandleId, ReadOutcome, SeekTo,
    SetAttr, SetXattr, Vfs,
};

/// The block size where there is no disk.
const BLOCK_SIZE: u32 = 4096;

impl Vfs {
    /// Hands on an answer. Adds the path to a failure that has a cause.
    fn answer<T>(&self, ino: Ino, result: Result<T, FsError>, reply: impl Reply<T>) {
        reply.done(result.map_err(|error| self.located(ino, error)));
    }

    fn located(&self, ino: Ino, error: FsError) -> FsError {
        if error.has_cause() {
            error.at(self.describe(ino))
        } else {
            error
        }
    }

    /// As [`answer`](Self::answer), for an open file or directory.
    fn answer_of<T>(&self, handle: HandleId, result: Result<T, FsError>, reply: impl Reply<T>) {
        reply.done(result.map_err(|error| self.located_of(handle, error)));
    }

    fn located_of(&self, handle: HandleId, error: FsError) -> FsError {
        match self.handles.ino(handle) {
            Some(ino) => self.located(ino, error),
            None => error,
        }
    }

    /// A file that was opened by its node, unless wrong bytes would be read of it, or the kernel could not be given it as others have
    /// it.
    fn checked(&self, handle: HandleId) -> Result<OpenedFile, FsError> {
        let backing = self.handles.file(handle).and_then(|open| {
            self.check_backing(&open)?;
            self.note_late_writer(&open)?;
            self.backing(&open)
        });
        match backing {
            Ok(backing) => Ok(OpenedFile { handle, backing }),
            Err(error) => {
                Self::release(self, handle)?;
                Err(error)
            }
        }
    }

    /// A file that was just made: nobody else decided how it is served.
    fn made(&self, handle: HandleId) -> Result<OpenedFile, FsError> {
        let open = self.handles.file(handle)?;
        if let Err(error) = self.note_late_writer(&open) {
            Self::release(self, handle)?;
            return Err(error);
        }
        let backing = self.backing(&open).ok().flatten();
        Ok(OpenedFile { handle, backing })
    }

    /// Adds entries from an offset on, until `add` says that the reply is full.
    fn list<R: Reply<()>>(
        &self,
        handle: HandleId,
        offset: u64,
        mut reply: R,
        add: impl Fn(&mut R, &DirView, DirEntry<'_>, u64) -> bool,
    ) {
        let view = match self.dir_view_from(handle, offset) {
            Ok(view) => view,
            Err(error) => return self.answer_of(handle, Err(error), reply),
        };
        let mut next = offset;
        while let Some(entry) = view.entry(next) {
            next += 1;
            if !add(&mut reply, &view, entry, next) {
                break;
            }
        }
        reply.ok(());
    }
}

/// Extended attributes whose values have to be waited for. As with reads, what waits does not keep the file system alive.
impl Vfs {
    fn answer_layer(&self, ino: Ino, origin: ManifestPath, reply: impl DataReply) {
        let (Some(runtime), Some((layers, source_of))) = (self.runtime(), self.source_of()) else {
            return Reply::<&[u8]>::fail(reply, FsErrorKind::NoAttribute.into());
        };
        let path = self.describe(ino);
        runtime.spawn_blocking(move || match source_of(layers, &origin) {
            Ok(Some(source)) => reply.ok(source.as_bytes()),
            Ok(None) => Reply::<&[u8]>::fail(reply, FsErrorKind::NoAttribute.into()),
            Err(error) => {
                let doing = "look for the manifest of a file";
                let error = FsError::caused(FsErrorKind::Io, doing, error);
                Reply::<&[u8]>::fail(reply, error.at(path));
            }
        });
    }

    fn answer_cached(&self, ino: Ino, content: Whereabouts, reply: impl DataReply) {
        let Some(runtime) = self.runtime() else {
            return Reply::<&[u8]>::fail(reply, FsErrorKind::Ended.into());
        };
        let (fetcher, path) = (self.fetcher().clone(), self.describe(ino));
        runtime.spawn(async move {
            match content.presence(&fetcher).await {
                Some(presence) => reply.ok(cached(&presence).as_bytes()),
                None => {
                    let doing = "look for a file in the disk cache";
                    let why = "the disk of the cache does not answer";
                    let error = FsError::caused(FsErrorKind::Io, doing, why);
                    Reply::<&[u8]>::fail(reply, error.at(path));
                }
            }
        });
    }
}

impl FileSystem for Vfs {
    fn is_read_only(&self) -> bool {
        Self::is_read_only(self)
    }

    fn keeps_for(&self) -> Option<Duration> {
        None
    }

    fn attach(&self, adapter: Attachment) {
        self.begin_serving(adapter);
    }

    fn detach(&self) -> Result<(), FsError> {
        self.end_serving()
    }

    fn lookup(
        &self,
        parent: NodeId,
        name: &[u8],
        asker: impl FnOnce() -> Option<Asker>,
        reply: impl Reply<Found>,
    ) {
        if let Some(of) = Numbered::by_name(name) {
            let found = self.look_up_node(parent, of).map(|entry| Found {
                entry: Some(entry),
                lasting: true,
            });
            return self.answer(parent.into(), found, reply);
        }
        let found = match self.look_up(parent.into(), name) {
            Ok((entry, is_written_so)) => Ok(Found {
                entry: Some(entry),
                lasting: is_written_so,
            }),
            Err(error) if error.kind() == FsErrorKind::NotFound => {
                self.missing.note(parent.into(), name, asker);
                Ok(Found {
                    entry: None,
                    lasting: self.case_index.is_none(),
                })
            }
            Err(error) => Err(error),
        };
        self.answer(parent.into(), found, reply);
    }

    fn forget(&self, node: NodeId, references: u64) {
        Self::forget(self, node, references);
    }

    fn getattr(&self, node: NodeId, reply: impl Reply<FileAttr>) {
        self.answer(node.into(), self.attr_of(node), reply);
    }

    fn setattr(&self, node: NodeId, set: SetAttr, reply: impl Reply<FileAttr>) {
        self.answer(node.into(), self.setattr_of(node, set), reply);
    }

    fn getxattr(&self, node: NodeId, name: &[u8], reply: impl DataReply) {
        match self.xattr(node.into(), name) {
            Ok(Xattr::Known(value)) => reply.ok(&value[..]),
            Ok(Xattr::Layer(origin)) => self.answer_layer(node.into(), origin, reply),
            Ok(Xattr::Cached(content)) => self.answer_cached(node.into(), content, reply),
            Err(error) => Reply::<&[u8]>::fail(reply, self.located(node.into(), error)),
        }
    }

    fn setxattr(
        &self,
        node: NodeId,
        name: &[u8],
        value: &[u8],
        how: SetXattr,
        reply: impl Reply<()>,
    ) {
        self.answer(node.into(), self.set_xattr(node, name, value, how), reply);
    }

    fn listxattr(&self, node: NodeId, all: bool, reply: impl DataReply) {
        match self.list_xattrs(node.into(), all) {
            Ok(names) => reply.ok(&names[..]),
            Err(error) => Reply::<&[u8]>::fail(reply, self.located(node.into(), error)),
        }
    }

    fn removexattr(&self, node: NodeId, name: &[u8], reply: impl Reply<()>) {
        self.answer(node.into(), self.remove_xattr(node, name), reply);
    }

    fn readlink(&self, node: NodeId, reply: impl DataReply) {
        match Self::readlink(self, node.into()) {
            Ok(text) => reply.ok(&text[..]),
            Err(error) => Reply::<&[u8]>::fail(reply, self.located(node.into(), error)),
        }
    }

    fn make_file(&self, parent: NodeId, name: &[u8], new: NewNode, reply: impl Reply<Entry>) {
        let access = Access {
            read: false,
            write: false,
            sync: false,
        };
        let owner = (new.uid, new.gid);
        let made = Self::create_file(self, parent.into(), name, new.mode, owner, access);
        let made = made.and_then(|(attr, opened)| {
            let closed = Self::release(self, opened.handle);
            closed.inspect_err(|_| Self::forget(self, attr.ino.into(), 1))?;
            Ok(attr.into())
        });
        self.answer(parent.into(), made, reply);
    }

    fn create(
        &self,
        parent: NodeId,
        name: &[u8],
        new: NewNode,
        access: Access,
        reply: impl Reply<Created>,
    ) {
        let owner = (new.uid, new.gid);
        let made = Self::create_file(self, parent.into(), name, new.mode, owner, access);
        let made = made.and_then(|(attr, opened)| {
            Ok(Created {
                // Lasting: a file that is empty cannot be written through a mapping, and who gives it a length has the adapter ask
                // again.
                entry: attr.into(),
                opened: self.made(opened.handle)?,
            })
        });
        self.answer(parent.into(), made, reply);
    }

    fn mkdir(&self, parent: NodeId, name: &[u8], new: NewNode, reply: impl Reply<Entry>) {
        let made = Self::mkdir(self, parent.into(), name, new.mode, (new.uid, new.gid));
        self.answer(parent.into(), made.map(Entry::from), reply);
    }

    fn make_special(
        &self,
        parent: NodeId,
        name: &[u8],
        special: Special,
        new: NewNode,
        reply: impl Reply<Entry>,
    ) {
        let owner = (new.uid, new.gid);
        let made = Self::make_special(self, parent.into(), name, special, new.mode, owner);
        self.answer(parent.into(), made.map(Entry::from), reply);
    }

    fn symlink(
        &self,
        parent: NodeId,
        name: &[u8],
        text: &[u8],
        new: NewNode,
        reply: impl Reply<Entry>,
    ) {
        let made = Self::symlink(self, parent.into(), name, text, (new.uid, new.gid));
        self.answer(parent.into(), made.map(Entry::from), reply);
    }

    fn link(&self, node: NodeId, parent: NodeId, name: &[u8], reply: impl Reply<Entry>) {
        let linked = self.link_entry(node.into(), parent.into(), name);
        self.answer(node.into(), linked, reply);
    }

    fn unlink(&self, parent: NodeId, name: &[u8], reply: impl Reply<()>) {
        self.answer(
            parent.into(),
            Self::unlink(self, parent.into(), name),
            reply,
        );
    }

    fn rmdir(&self, parent: NodeId, name: &[u8], reply: impl Reply<()>) {
        self.answer(parent.into(), Self::rmdir(self, parent.into(), name), reply);
    }

    fn rename(
        &self,
        from: (NodeId, &[u8]),
        to: (NodeId, &[u8]),
        no_replace: bool,
        reply: impl Reply<()>,
    ) {
        let parent = from.0.into();
        let renamed = Self::rename(self, (parent, from.1), (to.0.into(), to.1), no_replace);
        self.answer(parent, renamed, reply);
    }

    fn exchange(&self, from: (NodeId, &[u8]), to: (NodeId, &[u8]), reply: impl Reply<()>) {
        let parent = from.0.into();
        let exchanged = Self::exchange(self, (parent, from.1), (to.0.into(), to.1));
        self.answer(parent, exchanged, reply);
    }

    fn open(&self, node: NodeId, access: Access, truncate: bool, reply: impl Reply<OpenedFile>) {
        let opened = self.open_node(node, access, truncate);
        let opened = opened.and_then(|opened| self.checked(opened.handle));
        self.answer(node.into(), opened, reply);
    }

    fn read(&self, handle: HandleId, offset: u64, len: u32, reply: impl DataReply) {
        let bytes = match Self::read(self, handle, offset, len) {
            Ok(ReadOutcome::Ready(bytes)) => return reply.ok(&bytes[..]),
            Err(error) => {
                return Reply::<&[u8]>::fail(reply, self.located_of(handle, error));
            }
            Ok(ReadOutcome::Pending(bytes)) => bytes,
        };
        // Reads that wait do not keep the file system alive, so that it can be unmounted whatever the
        // store does.
        let path = self.handles.ino(handle).map(|ino| self.describe(ino));
        let Some(runtime) = self.runtime() else {
            return Reply::<&[u8]>::fail(reply, FsErrorKind::Ended.into());
        };
        runtime.spawn(async move {
            match (bytes.await, path) {
                (Ok(bytes), _) => reply.ok(&bytes[..]),
                (Err(error), Some(path)) => Reply::<&[u8]>::fail(reply, error.at(path)),
                (Err(error), None) => Reply::<&[u8]>::fail(reply, error),
            }
        });
    }

    fn write(
        &self,
        handle: HandleId,
        offset: u64,
        data: &[u8],
        is_late: bool,
        reply: impl Reply<usize>,
    ) {
        let written = Self::write(self, handle, offset, data);
        if is_late && !matches!(written, Ok(written) if written == data.len()) {
            self.note_lost(handle);
        }
        self.answer_of(handle, written, reply);
    }

    fn allocate(
        &self,
        handle: HandleId,
        how: Allocation,
        range: Range<u64>,
        reply: impl Reply<()>,
    ) {
        self.answer_of(handle, Self::allocate(self, handle, how, range), reply);
    }

    fn seek(&self, handle: HandleId, offset: u64, to: SeekTo, reply: impl Reply<u64>) {
        self.answer_of(handle, Self::seek(self, handle, offset, to), reply);
    }

    fn fsync(&self, handle: HandleId, data_only: bool, reply: impl Reply<()>) {
        self.answer_of(handle, Self::fsync(self, handle, data_only), reply);
    }

    fn release(&self, handle: HandleId, reply: impl Reply<Released>) {
        if let Ok(open) = self.handles.file(handle) {
            // Those who hear of it mark the session; this program has read what it has read.
            let _ = self.check_backing(&open);
        }
        self.answer_of(handle, Self::release(self, handle), reply);
    }

    fn opendir(&self, node: NodeId, reply: impl Reply<OpenedDir>) {
        self.answer(node.into(), Self::opendir(self, node.into()), reply);
    }

    fn readdir(&self, handle: HandleId, offset: u64, reply: impl NameReply) {
        self.list(handle, offset, reply, |reply, _, entry, next| {
            let named = ListedName {
                name: entry.name,
                ino: entry.ino,
                kind: entry.kind,
            };
            reply.add(named, next)
        });
    }

    fn readdirplus(&self, handle: HandleId, offset: u64, reply: impl ListedReply) {
        self.list(handle, offset, reply, |reply, view, entry, next| {
            // A name that was removed since is left out; the names after it are not.
            let Some(attr) = self.entry_attr(view, &entry) else {
                return true;
            };
            let node = self.node_of(attr.ino);
            let listed = Listed {
                name: entry.name,
                entry: Entry { node, attr },
            };
            let taken = reply.add(listed, next);
            if taken && !matches!(entry.name, b"." | b"..") {
                self.references.add(node);
            }
            taken
        });
    }

    fn releasedir(&self, handle: HandleId, reply: impl Reply<()>) {
        self.answer_of(handle, Self::releasedir(self, handle), reply);
    }

    fn fsyncdir(&self, handle: HandleId, reply: impl Reply<()>) {
        self.answer_of(handle, Self::fsyncdir(self), reply);
    }

    fn statfs(&self, reply: impl Reply<Usage>) {
        let files = self.base_len();
        let usage = self.space().map(|space| match space {
            Some(space) => Usage {
                total: space.total,
                free: space.free,
                available: space.available,
                files_total: space.files_total.saturating_add(files),
                files_free: space.files_free,
                block_size: u32::try_from(space.block_size)
                    .unwrap_or(BLOCK_SIZE)
                    .max(512),
            },
            None => Usage {
                total: 0,
                free: 0,
                available: 0,
                files_total: files,
                files_free: 0,
                block_size: BLOCK_SIZE,
            },
        });
        self.answer(Ino::ROOT, usage, reply);
    }
}
