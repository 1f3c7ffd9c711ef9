//! Pages of files in the kernel that may have changes the file system has not seen yet.
//!
//! A program that has a file open for reading and writing can map it. Its changes reach the file system when the
//! kernel writes the page back, perhaps much later, and then look like a write of that moment. So before the time of
//! such a file is set, the kernel is made to write its pages back.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use attachfs_vfs::{Access, Created, FsError, HandleId, OpenedFile, Passthrough, Reply};
use fuser::{FopenFlags, INodeNo, Notifier, ReplyCreate, ReplyOpen};
use parking_lot::Mutex;

use super::answer::Completion;
use super::passthrough::{self, PassedThrough};

/// The files that may be mapped for writing, and the connection for writing back their pages.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// How often each file is open for reading and writing.
    mappable: Mutex<HashMap<INodeNo, usize>>,
    kernel: OnceLock<Notifier>,
}

fn can_map(access: Access) -> bool {
    access.read && access.write
}

impl Pages {
    /// Sets the connection to the kernel.
    pub(super) fn connect(&self, kernel: Notifier) {
        // An adapter has one connection in its life.
        let _ = self.kernel.set(kernel);
    }

    /// A file was closed that was open with this access. The kernel keeps a handle as long as a mapping that was
    /// made through it.
    pub(super) fn closed(&self, number: INodeNo, access: Access) {
        if !can_map(access) {
            return;
        }
        let mut mappable = self.mappable.lock();
        if let Some(count) = mappable.get_mut(&number) {
            *count -= 1;
            if *count == 0 {
                mappable.remove(&number);
            }
        }
    }

    /// Whether the kernel may have unwritten changes to a mapping of a file.
    pub(super) fn may_be_unseen(&self, number: INodeNo) -> bool {
        self.mappable.lock().contains_key(&number)
    }

    /// Makes the kernel write back its pages of a file, and waits until it has: not to be called by an event loop,
    /// one of which has to answer these writes. The request that causes this holds the kernel's lock of the file; the
    /// file's length must not be changing.
    pub(super) fn write_back(&self, number: INodeNo) {
        let Some(kernel) = self.kernel.get() else {
            return;
        };
        if let Err(error) = kernel.inval_inode(number, 0, 0) {
            // The connection has ended, or a page could not be written: that is the writer's error, not this request's.
            tracing::debug!(%error, inode = %number, "pages were not written back");
        }
    }
}

/// The answer to an open, which updates [`Pages`].
#[derive(Debug)]
pub(super) struct OpenReply<R: super::Refuse> {
    pub(super) completion: Completion<R>,
    pub(super) access: Access,
    /// `None` if it cannot be mapped for writing.
    pages: Option<Arc<Pages>>,
    passthrough: Passthrough,
}

impl<R: super::Refuse> OpenReply<R> {
    pub(super) fn new(
        completion: Completion<R>,
        access: Access,
        pages: &Arc<Pages>,
        passthrough: &Passthrough,
    ) -> Self {
        Self {
            completion,
            access,
            pages: can_map(access).then(|| pages.clone()),
            passthrough: passthrough.clone(),
        }
    }

    fn note(&self, number: INodeNo) {
        if let Some(pages) = &self.pages {
            *pages.mappable.lock().entry(number).or_default() += 1;
        }
    }

    /// Changes that do not come through this kernel are invalidated, so pages stay valid from one open to the
    /// next.
    fn flags(&self) -> FopenFlags {
        if self.access.write {
            FopenFlags::FOPEN_KEEP_CACHE
        } else {
            FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH
        }
    }
}

impl Reply<OpenedFile> for OpenReply<ReplyOpen> {
    fn ok(self, opened: OpenedFile) {
        self.note(self.completion.number());
        let OpenedFile { handle, backing } = opened;
        // An open for writing is never offered one: the kernel would write to it.
        let backing = backing.as_ref().filter(|_| !self.access.write);
        let id = backing.and_then(|backing| {
            passthrough::take(backing, self.completion.reply()?, &self.passthrough)
        });
        match id {
            Some(id) => {
                // The kernel has pages of its own of the local file.
                let flags = FopenFlags::FOPEN_NOFLUSH;
                self.completion.ok(PassedThrough { handle, flags, id });
            }
            None => {
                let flags = self.flags();
                self.completion.ok((handle, flags));
            }
        }
    }

    fn fail(self, error: FsError) {
        Reply::<(HandleId, FopenFlags)>::fail(self.completion, error);
    }
}

impl Reply<Created> for OpenReply<ReplyCreate> {
    fn ok(self, created: Created) {
        self.note(INodeNo(created.entry.node.0));
        let flags = self.flags();
        self.completion.ok((created, flags));
    }

    fn fail(self, error: FsError) {
        Reply::<(Created, FopenFlags)>::fail(self.completion, error);
    }
}
