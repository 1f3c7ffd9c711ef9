//! Reads and listings without an open (`--no-open`).
//!
//! ```text
//!     OPEN, OPENDIR    answered ENOSYS once: from then on the kernel opens files and directories by itself and says nothing
//!     READ             names the node alone: the file that this table keeps open for it, opened here at the first read
//!     READDIR          the same; from offset 0 on it is a new listing, whose number is part of the offsets in it
//! ```
//!
//! So who reads again what the kernel has in its page cache, names and attributes included, sends no message. The file
//! system is opened as ever, once for all who read a file, and decides as ever whether it may be read. The kernel does not say when
//! nobody needs a file any more: it is closed when it was not read for a while, when the kernel forgets its node, or when there
//! are too many. A listing is kept much longer: the kernel gives its own copy to many readers and asks for nothing, and when a manifest
//! that is added makes it drop that copy, those who are half-way go on here, at a place in the listing that the copy was of.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use attachfs_vfs::{
    Access, DataReply, FileSystem, FsError, HandleId, ListReply, NodeId, OpenedDir, OpenedFile,
    Released, Reply,
};
use fuser::{InitFlags, KernelConfig};
use hashlink::LinkedHashMap;
use parking_lot::Mutex;

/// Files and listings that are kept open.
pub(super) const MOST_FILES: usize = 512;
const MOST_LISTINGS: usize = 16_384;
/// How long one is kept that nobody reads, and how often that is looked at.
const IDLE: Duration = Duration::from_secs(10);
const IDLE_LISTING: Duration = Duration::from_hours(1);
const LOOK: Duration = Duration::from_secs(5);
/// The bits of an offset in a listing that are the entry's place; those above are the listing's number, and the sign stays free.
const PLACE_BITS: u32 = 40;
const PLACE: u64 = (1 << PLACE_BITS) - 1;
const NUMBERS: u64 = 1 << (63 - PLACE_BITS);

/// What is open for a kernel that opens nothing.
#[derive(Debug)]
pub(super) struct Unopened<F: FileSystem> {
    fs: Arc<F>,
    is_used: AtomicBool,
    files: KeptOpen<F, NodeId>,
    listings: KeptOpen<F, (NodeId, u64)>,
    last_listing: AtomicU64,
}

impl<F: FileSystem> Unopened<F> {
    pub(super) fn new(fs: Arc<F>) -> Self {
        Self {
            fs,
            is_used: AtomicBool::new(false),
            files: KeptOpen::new(MOST_FILES),
            listings: KeptOpen::new(MOST_LISTINGS),
            last_listing: AtomicU64::new(0),
        }
    }

    /// Asks the kernel for it: it needs both, or a directory would be opened and a file not.
    pub(super) fn negotiate(&self, config: &mut KernelConfig) {
        let both = InitFlags::FUSE_NO_OPEN_SUPPORT | InitFlags::FUSE_NO_OPENDIR_SUPPORT;
        match config.add_capabilities(both) {
            Ok(()) => self.is_used.store(true, Ordering::Relaxed),
            Err(missing) => {
                tracing::debug!(?missing, "this kernel opens every file; so it is asked to");
            }
        }
    }

    /// Whether the kernel was found to do without opens.
    pub(super) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }

    /// Hands the open file of a node to `read`, with the reply; a node that cannot be opened is answered so.
    pub(super) fn file<R: DataReply>(
        self: &Arc<Self>,
        node: NodeId,
        reply: R,
        read: impl FnOnce(&F, HandleId, R) + Send + 'static,
    ) {
        if let Some(open) = self.files.get(&node) {
            return read(&self.fs, open.handle, reply);
        }
        let access = Access {
            read: true,
            write: false,
            sync: false,
        };
        let table = Arc::clone(self);
        let opened = move |opened: Result<OpenedFile, FsError>| match opened {
            Ok(OpenedFile { handle, .. }) => {
                let open = Open {
                    fs: Arc::clone(&table.fs),
                    handle,
                    is_dir: false,
                };
                let open = table.files.keep(node, open);
                read(&table.fs, open.handle, reply);
            }
            Err(error) => Reply::<&[u8]>::fail(reply, error),
        };
        self.fs.open(node, access, false, Then(Some(opened)));
    }

    /// Hands a listing of a directory to `list`: its handle, the place to go on from, and the number for [`Numbered`].
    pub(super) fn listing<R: Reply<()>>(
        self: &Arc<Self>,
        node: NodeId,
        offset: u64,
        reply: R,
        list: impl FnOnce(&F, HandleId, u64, Numbered<R>) + Send + 'static,
    ) {
        let place = offset & PLACE;
        let number = match offset {
            0 => self.last_listing.fetch_add(1, Ordering::Relaxed) % NUMBERS,
            _ => offset >> PLACE_BITS,
        };
        let key = (node, number);
        if place > 0
            && let Some(open) = self.listings.get(&key)
        {
            return list(&self.fs, open.handle, place, Numbered { reply, number });
        }
        let table = Arc::clone(self);
        let opened = move |opened: Result<OpenedDir, FsError>| match opened {
            Ok(OpenedDir { handle, .. }) => {
                let open = Open {
                    fs: Arc::clone(&table.fs),
                    handle,
                    is_dir: true,
                };
                let open = table.listings.keep(key, open);
                list(&table.fs, open.handle, place, Numbered { reply, number });
            }
            Err(error) => reply.fail(error),
        };
        self.fs.opendir(node, Then(Some(opened)));
    }

    /// The kernel forgets a node: nobody has it open.
    pub(super) fn forget(&self, node: NodeId) {
        self.files.close(&node);
    }

    /// Closes what nobody reads, for as long as the connection lasts.
    pub(super) async fn close_idle(table: Weak<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(table) = table.upgrade() else {
                return;
            };
            table.files.close_unread_for(IDLE);
            table.listings.close_unread_for(IDLE_LISTING);
        }
    }
}

/// A file or directory that is open; dropped, it is closed.
#[derive(Debug)]
struct Open<F: FileSystem> {
    fs: Arc<F>,
    handle: HandleId,
    is_dir: bool,
}

impl<F: FileSystem> Drop for Open<F> {
    fn drop(&mut self) {
        if self.is_dir {
            self.fs.releasedir(self.handle, Closed);
        } else {
            self.fs.release(self.handle, Closed);
        }
    }
}

/// Nobody waits for the end of a close. That a handle is unknown means that the file system has ended.
struct Closed;

impl Reply<()> for Closed {
    fn ok(self, (): ()) {}

    fn fail(self, error: FsError) {
        tracing::debug!(%error, "a file that was kept open was not closed");
    }
}

impl Reply<Released> for Closed {
    fn ok(self, _: Released) {}

    fn fail(self, error: FsError) {
        Reply::<()>::fail(self, error);
    }
}

/// A reply to an open, which goes on with what was opened.
struct Then<G>(Option<G>);

impl<T, G: FnOnce(Result<T, FsError>) + Send + 'static> Reply<T> for Then<G> {
    fn ok(mut self, opened: T) {
        if let Some(go_on) = self.0.take() {
            go_on(Ok(opened));
        }
    }

    fn fail(mut self, error: FsError) {
        if let Some(go_on) = self.0.take() {
            go_on(Err(error));
        }
    }
}

/// The reply to a listing, whose number is put into the offsets: each listing shows the directory as it was when it began.
#[derive(Debug)]
pub(super) struct Numbered<R> {
    reply: R,
    number: u64,
}

impl<T, R: Reply<T>> Reply<T> for Numbered<R> {
    fn ok(self, value: T) {
        self.reply.ok(value);
    }

    fn fail(self, error: FsError) {
        self.reply.fail(error);
    }
}

impl<E, R: ListReply<E>> ListReply<E> for Numbered<R> {
    fn add(&mut self, entry: E, next: u64) -> bool {
        self.reply.add(entry, self.number << PLACE_BITS | next)
    }
}

/// What is kept open, the one that was read last at the end.
#[derive(Debug)]
struct KeptOpen<F: FileSystem, K: Eq + Hash> {
    open: Mutex<LinkedHashMap<K, Kept<F>>>,
    most: usize,
}

#[derive(Debug)]
struct Kept<F: FileSystem> {
    open: Arc<Open<F>>,
    read: Instant,
}

/// Nothing is closed under the lock.
impl<F: FileSystem, K: Eq + Hash> KeptOpen<F, K> {
    fn new(most: usize) -> Self {
        Self {
            open: Mutex::default(),
            most,
        }
    }

    fn get(&self, key: &K) -> Option<Arc<Open<F>>> {
        let mut all = self.open.lock();
        let kept = all.to_back(key)?;
        kept.read = Instant::now();
        Some(Arc::clone(&kept.open))
    }

    /// Keeps one, and gives it; the one that is there, if another thread was faster.
    fn keep(&self, key: K, open: Open<F>) -> Arc<Open<F>> {
        let open = Arc::new(open);
        let mut all = self.open.lock();
        if let Some(kept) = all.to_back(&key) {
            let faster = Arc::clone(&kept.open);
            drop(all);
            return faster;
        }
        let kept = Kept {
            open: Arc::clone(&open),
            read: Instant::now(),
        };
        all.insert(key, kept);
        let is_full = all.len() > self.most;
        let oldest = is_full.then(|| all.pop_front()).flatten();
        drop(all);
        drop(oldest);
        open
    }

    fn close(&self, key: &K) {
        let closed = self.open.lock().remove(key);
        drop(closed);
    }

    fn close_unread_for(&self, long: Duration) {
        loop {
            let mut all = self.open.lock();
            let is_idle = all
                .front()
                .is_some_and(|(_, kept)| kept.read.elapsed() >= long);
            if !is_idle {
                return;
            }
            let closed = all.pop_front();
            drop(all);
            drop(closed);
        }
    }
}
