//! Pages of files in the kernel that may have changes the file system has not seen yet.
//!
//! A program that has a file open for reading and writing can map it. Its changes reach the file system when the
//! kernel writes the page back, perhaps much later, and then look like a write of that moment. So before the time of
//! such a file is set, the kernel is made to write its pages back.
//!
//! With the kernel's write-back cache all that is written is first in its pages, through whatever handle. Then it flushes them by itself before
//! it sets times, at each close, and before it lets go of a handle; and the length and the time of modification that it has of a file are
//! the true ones. A length that it sets without a time (truncate(2) to the length that the file has) leaves the time as it is. It reads the rest of a page that is written in part, also through a handle that was opened for writing only, and it
//! appends by itself.
//!
//! A file that the kernel has itself (`passthrough.rs`) has no pages here, and what is read of it before and after may be others:
//! when it is opened so, the kernel drops the pages that it had of it, and it makes none as long as it is open. What is stored
//! through a mapping of it changes its times without the kernel's noticing: so it drops the attributes, too, and keeps none as long as such an open may be mapped.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use attachfs_vfs::{Access, Backing, Created, FsError, HandleId, OpenedFile, Passthrough, Reply};
use fuser::{FopenFlags, INodeNo, Notifier, ReplyCreate, ReplyOpen};
use parking_lot::Mutex;

use super::answer::{Answer, Completion};
use super::invalidate::ATTRIBUTES_ALONE;
use super::passthrough::{self, GivesFiles, PassedThrough};

/// The files that may be written to in the kernel alone, and the connection for writing back their pages.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// How often each file is open so that its pages may be unseen: for reading and writing, with the write-back cache for writing.
    unseen: Mutex<HashMap<INodeNo, usize>>,
    kernel: OnceLock<Notifier>,
    /// Whether the kernel has its write-back cache. Set before the first request.
    late: AtomicBool,
}

impl Pages {
    /// The kernel keeps what is written.
    pub(super) fn write_late(&self) {
        self.late.store(true, Ordering::Relaxed);
    }

    /// Whether the kernel keeps what is written.
    pub(super) fn are_written_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }

    /// Whether pages may be unseen that are written through a handle: those of a mapping, or all.
    fn may_hide(&self, access: Access) -> bool {
        access.write && (access.read || self.are_written_late())
    }

    /// Sets the connection to the kernel.
    pub(super) fn connect(&self, kernel: Notifier) {
        // An adapter has one connection in its life.
        let _ = self.kernel.set(kernel);
    }

    /// A file was closed that was open with this access. The kernel keeps a handle as long as a mapping that was
    /// made through it.
    pub(super) fn closed(&self, number: INodeNo, access: Access) {
        if !self.may_hide(access) {
            return;
        }
        let mut unseen = self.unseen.lock();
        if let Some(count) = unseen.get_mut(&number) {
            *count -= 1;
            if *count == 0 {
                unseen.remove(&number);
            }
        }
    }

    /// Whether the kernel may have changes to a file that it has not written back.
    pub(super) fn may_be_unseen(&self, number: INodeNo) -> bool {
        self.unseen.lock().contains_key(&number)
    }

    /// Whether that is so when the kernel sets a file's times: with the write-back cache it has flushed all pages before, and the time may
    /// be that of the flush itself.
    pub(super) fn may_be_unseen_by_times(&self, number: INodeNo) -> bool {
        !self.are_written_late() && self.may_be_unseen(number)
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

    /// Makes the kernel drop the attributes that it keeps of a file. It waits for nobody, so an event loop may call this.
    fn drop_attributes(&self, number: INodeNo) {
        let Some(kernel) = self.kernel.get() else {
            return;
        };
        if let Err(error) = kernel.inval_inode(number, ATTRIBUTES_ALONE, 0) {
            // The connection has ended, or the file is being made and the kernel does not know it yet.
            tracing::debug!(%error, inode = %number, "attributes were not dropped");
        }
    }
}

/// The answer to an open, which updates [`Pages`].
#[derive(Debug)]
pub(super) struct OpenReply<R: super::Refuse> {
    pub(super) completion: Completion<R>,
    pub(super) access: Access,
    /// `None` if all that is written is seen.
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
            pages: pages.may_hide(access).then(|| pages.clone()),
            passthrough: passthrough.clone(),
        }
    }

    fn note(&self, number: INodeNo) {
        if let Some(pages) = &self.pages {
            *pages.unseen.lock().entry(number).or_default() += 1;
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

impl<R: super::Refuse + GivesFiles> OpenReply<R> {
    /// Answers with what was opened of a node: the kernel has its local file, if one is offered and it takes that.
    fn answer<T>(self, number: INodeNo, backing: Option<&Backing>, opened: T)
    where
        R: Answer<(T, FopenFlags)> + for<'a> Answer<PassedThrough<'a, T>>,
    {
        let id = backing.and_then(|backing| {
            passthrough::take(backing, self.completion.reply()?, &self.passthrough)
        });
        if let Some(id) = id {
            if let Some(pages) = &self.pages {
                pages.drop_attributes(number);
            }
            // Without FOPEN_KEEP_CACHE, so that the pages of before go.
            let flags = FopenFlags::FOPEN_NOFLUSH;
            self.completion.ok(PassedThrough { opened, flags, id });
        } else {
            self.note(number);
            let flags = self.flags();
            self.completion.ok((opened, flags));
        }
    }
}

impl Reply<OpenedFile> for OpenReply<ReplyOpen> {
    fn ok(self, opened: OpenedFile) {
        let OpenedFile { handle, backing } = opened;
        let number = self.completion.number();
        self.answer(number, backing.as_deref(), handle);
    }

    fn fail(self, error: FsError) {
        Reply::<(HandleId, FopenFlags)>::fail(self.completion, error);
    }
}

impl Reply<Created> for OpenReply<ReplyCreate> {
    fn ok(self, created: Created) {
        let backing = created.opened.backing.clone();
        let number = INodeNo(created.entry.node.0);
        self.answer(number, backing.as_deref(), created);
    }

    fn fail(self, error: FsError) {
        Reply::<(Created, FopenFlags)>::fail(self.completion, error);
    }
}
