//! [`Browse`]: the file system that adapters serve.
//!
//! What can be answered from memory is answered on the adapter's thread, anything else by a task: an answer is a future that is
//! tried once, and goes on in the runtime if it has to wait.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use attachfs_fetch::{Doubt, FetchError, Fetcher, FileRead};
use attachfs_manifest::ContentHash;
use attachfs_store::{Store, data_key};
use attachfs_tree::{Ino, Kind};
use attachfs_vfs::{
    Asker, Attachment, Blame, DataReply, Entry, FailedRead, FileAttr, Found, FsError, FsErrorKind,
    HandleId, Invalidation, Listed, ListedName, ListedReply, NameReply, NodeId, OpenedDir,
    OpenedFile, ReadOnlyFileSystem, Released, Reply, SeekTo, Usage,
};
use futures::FutureExt as _;
use parking_lot::RwLock;
use tokio::runtime::Handle;

use crate::engine::Engine;
use crate::failed::Failed;
use crate::handles::{Handles, OpenDir};
use crate::listing::{Child, Listing};
use crate::nodes::{Nodes, What, kind_of, listed_ino};
use crate::options::BrowseOptions;
use crate::place::Dir;
use crate::xattrs::xattr;

/// Outputs of jobs as folders. Read-only; nothing is listed before somebody looks.
#[derive(Debug)]
pub struct Browse {
    shared: Arc<Shared>,
    fetcher: Fetcher,
    /// Held for single operations, with no other lock.
    adapter: RwLock<Option<Attachment>>,
}

#[derive(Debug)]
struct Shared {
    engine: Arc<Engine>,
    nodes: Nodes,
    handles: Handles,
    failed: Failed,
}

/// The most files that are named.
const NAMED: usize = 10;
const GONE: FsError = FsError::plain(FsErrorKind::NotFound);

impl Browse {
    /// Asks for nothing. `fetcher` gives the bytes of files; what it fetches beside what is read is its setting
    /// ([`BrowseOptions::fetching`]).
    pub fn new(store: Arc<dyn Store>, fetcher: Fetcher, options: BrowseOptions) -> Self {
        let settings = options.settings;
        let engine = Engine::new(store, options);
        let nodes = Nodes::new(settings, engine.top());
        Self {
            shared: Arc::new(Shared {
                engine,
                nodes,
                handles: Handles::default(),
                failed: Failed::default(),
            }),
            fetcher,
            adapter: RwLock::default(),
        }
    }

    /// How many nodes the adapter knows, the mount point included.
    pub fn known_nodes(&self) -> usize {
        self.shared.nodes.len()
    }

    /// Whether a file or a directory is open, as far as the kernel has told.
    pub fn is_open(&self) -> bool {
        self.shared.handles.is_open()
    }

    /// Has the adapter drop the bytes that it has cached of the files of an object, which the store has wrong or has replaced. What is
    /// still on its way to the adapter is dropped by a second call, a moment later.
    pub fn drop_cached(&self, doubt: &Doubt) {
        let files = self.shared.nodes.files_with(doubt.hash, doubt.len);
        let Some(invalidations) = self
            .adapter
            .read()
            .as_ref()
            .map(|to| to.invalidations.clone())
        else {
            return;
        };
        for (node, _) in files {
            let range = 0..u64::MAX;
            // An adapter that has ended has no cache.
            let _ = invalidations.send(Invalidation::Pages { node, range });
        }
    }

    /// The paths of files that an object is part of, as far as the adapter knows them; ten at most.
    pub fn files_of(&self, object: ContentHash, len: u64) -> Vec<String> {
        let files = self.shared.nodes.files_with(object, len).into_iter();
        files.take(NAMED).map(|(_, path)| text(&path)).collect()
    }

    /// How many folders could not be listed and how many reads failed, since it was made.
    pub fn failures(&self) -> u64 {
        self.shared.failed.count()
    }

    /// The last of them.
    pub fn last_failure(&self) -> Option<FailedRead> {
        self.shared.failed.last()
    }

    /// Answers with what a future gives: now, if it does not have to wait.
    fn answer<T, R: Reply<T>>(
        &self,
        reply: R,
        answer: impl Future<Output = Result<T, FsError>> + Send + 'static,
    ) {
        self.finish(async move { reply.done(answer.await) });
    }

    fn runtime(&self) -> Option<Handle> {
        let adapter = self.adapter.read();
        adapter.as_ref().map(|adapter| adapter.runtime.clone())
    }

    fn finish(&self, answer: impl Future<Output = ()> + Send + 'static) {
        // Without an adapter nobody asks; a reply that is dropped is an error.
        let Some(runtime) = self.runtime() else {
            return;
        };
        let mut answer = Box::pin(answer);
        let entered = runtime.enter();
        let is_answered = (&mut answer).now_or_never().is_some();
        drop(entered);
        if !is_answered {
            runtime.spawn(answer);
        }
    }
}

impl Shared {
    async fn listing(&self, dir: &Dir) -> Result<Listing, FsError> {
        let listing = self.engine.listing(&dir.place).await;
        let listing = listing.map_err(|error| {
            let error = error.at(text(&dir.path));
            self.failed.note(&dir.path, error)
        });
        listing?.ok_or(GONE)
    }

    async fn find(&self, parent: NodeId, name: &[u8]) -> Result<Option<Entry>, FsError> {
        let dir = self.nodes.dir(parent)?;
        let listing = match self.listing(&dir).await {
            Ok(listing) => listing,
            // The directory itself is gone, and all that was in it.
            Err(error) if error.kind() == FsErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let child = listing.find(name);
        Ok(child.map(|child| self.nodes.give(&dir, name, &child)))
    }

    /// The view of an open directory from an offset on: a new one where reading begins.
    async fn view(&self, handle: HandleId, offset: u64) -> Result<(OpenDir, Listing), FsError> {
        let open = self.handles.dir(handle)?;
        if let Some(view) = open.view.clone().filter(|_| offset > 0) {
            return Ok((open, view));
        }
        let view = self.listing(&open.dir).await?;
        self.handles.begin_dir(handle, view.clone())?;
        Ok((open, view))
    }

    /// The node of the directory above, as far as the adapter knows it; the attributes of the directory itself otherwise.
    fn above(&self, open: &OpenDir) -> FileAttr {
        let own = self.nodes.get(open.node).map(|node| node.attr);
        let own = own.unwrap_or_else(|_| self.top_attr());
        let Some(parent) = &open.dir.parent else {
            return own;
        };
        let ino = match parent.path.as_ref() {
            [] => Ino::ROOT,
            path => {
                let child = Child::Dir(parent.place.clone(), own.mtime);
                let name_at = path.iter().rposition(|&byte| byte == b'/');
                let name = &path[name_at.map_or(0, |at| at + 1)..];
                let above = parent.parent.as_deref();
                above.map_or(Ino::ROOT, |above| listed_ino(above, name, &child))
            }
        };
        FileAttr { ino, ..own }
    }

    fn top_attr(&self) -> FileAttr {
        let top = self.nodes.get(NodeId::ROOT);
        top.map_or_else(
            |_| unreachable!("the mount point is always known"),
            |top| top.attr,
        )
    }
}

/// Offsets 0 and 1 are `.` and `..`.
const DOTS: u64 = 2;

fn position(offset: u64) -> usize {
    usize::try_from(offset - DOTS).unwrap_or(usize::MAX)
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn read_failed(path: &[u8], error: FetchError) -> FsError {
    let path = text(path);
    let blame = if error.is_of_the_store() {
        Blame::Store
    } else {
        Blame::Object(data_key(error.object()).into())
    };
    let doing = format!("read \"{path}\"");
    let error = FsError::caused(FsErrorKind::Io, doing, error);
    error.blaming(blame).at(path)
}

impl ReadOnlyFileSystem for Browse {
    /// A quarter of what may pass before new outputs are seen: listings may be half of it old.
    fn keeps_for(&self) -> Option<Duration> {
        Some(self.shared.engine.options.refresh / 4)
    }

    fn attach(&self, adapter: Attachment) {
        *self.adapter.write() = Some(adapter);
    }

    fn detach(&self) -> Result<(), FsError> {
        *self.adapter.write() = None;
        self.shared.handles.clear();
        self.shared.nodes.clear(self.shared.engine.top());
        self.shared.engine.forget();
        Ok(())
    }

    fn lookup(
        &self,
        parent: NodeId,
        name: &[u8],
        _: impl FnOnce() -> Option<Asker>,
        reply: impl Reply<Found>,
    ) {
        let found = |entry| Found {
            entry,
            lasting: true,
        };
        if matches!(name, b"." | b"..") {
            // Nodes are found by path, so a number alone, without a reference, leads nowhere.
            return reply.fail(GONE);
        }
        let (shared, name) = (Arc::clone(&self.shared), Box::<[u8]>::from(name));
        self.answer(
            reply,
            async move { shared.find(parent, &name).await.map(found) },
        );
    }

    fn forget(&self, node: NodeId, references: u64) {
        self.shared.nodes.forget(node, references);
    }

    fn getattr(&self, node: NodeId, reply: impl Reply<FileAttr>) {
        reply.done(self.shared.nodes.get(node).map(|node| node.attr));
    }

    fn getxattr(&self, node: NodeId, name: &[u8], reply: impl DataReply) {
        let node = self.shared.nodes.get(node);
        let runtime = self.runtime();
        let entered = runtime.as_ref().map(Handle::enter);
        let value = node.and_then(|node| xattr(&self.shared.engine, &node, name));
        drop(entered);
        match value {
            Ok(value) => reply.ok(&value),
            Err(error) => Reply::<&[u8]>::fail(reply, error),
        }
    }

    fn listxattr(&self, _: NodeId, _: bool, reply: impl DataReply) {
        reply.ok(&[]);
    }

    fn readlink(&self, node: NodeId, reply: impl DataReply) {
        match self.shared.nodes.get(node).map(|node| node.what) {
            Ok(What::Link(text, _)) => reply.ok(&text),
            Ok(What::Dir(_) | What::File(..)) => {
                Reply::<&[u8]>::fail(reply, FsErrorKind::Invalid.into());
            }
            Err(error) => Reply::<&[u8]>::fail(reply, error),
        }
    }

    fn open(&self, node: NodeId, reply: impl Reply<OpenedFile>) {
        let known = match self.shared.nodes.get(node) {
            Ok(known) => known,
            Err(error) => return reply.fail(error),
        };
        let path = || text(&known.path);
        let What::File(file, _) = &known.what else {
            return reply.fail(FsErrorKind::IsADirectory.into());
        };
        let Some(layout) = file.layout() else {
            let why = "the manifest does not say where its bytes are";
            let doing = format!("open \"{}\"", path());
            return reply.fail(FsError::caused(FsErrorKind::Io, doing, why).at(path()));
        };
        if let Some(error) = self.fetcher.refused(&layout) {
            let error = read_failed(&known.path, error);
            return reply.fail(self.shared.failed.note(&known.path, error));
        }
        let reader = self.fetcher.open(&layout);
        let handles = &self.shared.handles;
        reply.ok(OpenedFile {
            handle: handles.open_file(node, reader, Arc::clone(&known.path)),
            backing: None,
        });
    }

    fn read(&self, handle: HandleId, offset: u64, len: u32, reply: impl DataReply) {
        let file = match self.shared.handles.file(handle) {
            Ok(file) => file,
            Err(error) => return Reply::<&[u8]>::fail(reply, error),
        };
        let end = offset.saturating_add(len.into());
        let shared = Arc::clone(&self.shared);
        match file.reader.read(offset..end) {
            FileRead::Ready(bytes) => reply.ok(&bytes),
            FileRead::Pending(read) => self.finish(async move {
                match read.bytes().await {
                    Ok(bytes) => reply.ok(&bytes),
                    Err(error) => {
                        let error = read_failed(&file.path, error);
                        let error = shared.failed.note(&file.path, error);
                        Reply::<&[u8]>::fail(reply, error);
                    }
                }
            }),
        }
    }

    fn seek(&self, handle: HandleId, offset: u64, to: SeekTo, reply: impl Reply<u64>) {
        let size = self
            .shared
            .handles
            .file(handle)
            .map(|file| file.reader.size());
        reply.done(size.and_then(|size| match to {
            _ if offset >= size => Err(FsErrorKind::BeyondEnd.into()),
            SeekTo::Data => Ok(offset),
            SeekTo::Hole => Ok(size),
        }));
    }

    fn release(&self, handle: HandleId, reply: impl Reply<Released>) {
        reply.done(self.shared.handles.close_file(handle));
    }

    fn opendir(&self, node: NodeId, reply: impl Reply<OpenedDir>) {
        let dir = self.shared.nodes.dir(node);
        reply.done(dir.map(|dir| OpenedDir {
            handle: self.shared.handles.open_dir(node, dir),
            may_be_kept: false,
        }));
    }

    fn readdir(&self, handle: HandleId, offset: u64, mut reply: impl NameReply) {
        let shared = Arc::clone(&self.shared);
        self.finish(async move {
            let (open, view) = match shared.view(handle, offset).await {
                Ok(view) => view,
                Err(error) => return reply.fail(error),
            };
            let own = shared.nodes.get(open.node).map(|node| node.attr.ino);
            let dots = [
                (b".".as_slice(), own.unwrap_or(Ino::ROOT)),
                (b"..", shared.above(&open).ino),
            ];
            let mut next = offset;
            loop {
                let found = match usize::try_from(next).ok().and_then(|at| dots.get(at)) {
                    Some(&(name, ino)) => Some((name, ino, Kind::Dir)),
                    None => view.at(position(next)).map(|(name, child)| {
                        (name, listed_ino(&open.dir, name, &child), kind_of(&child))
                    }),
                };
                let Some((name, ino, kind)) = found else {
                    break;
                };
                next += 1;
                if !reply.add(ListedName { name, ino, kind }, next) {
                    break;
                }
            }
            reply.ok(());
        });
    }

    fn readdirplus(&self, handle: HandleId, offset: u64, mut reply: impl ListedReply) {
        let shared = Arc::clone(&self.shared);
        self.finish(async move {
            let (open, view) = match shared.view(handle, offset).await {
                Ok(view) => view,
                Err(error) => return reply.fail(error),
            };
            let own = shared.nodes.get(open.node).map(|node| node.attr);
            let own = own.unwrap_or_else(|_| shared.top_attr());
            let dots = [(b".".as_slice(), own), (b"..", shared.above(&open))];
            let mut next = offset;
            loop {
                if let Some(&(name, attr)) = usize::try_from(next).ok().and_then(|at| dots.get(at))
                {
                    next += 1;
                    let entry = attr.into();
                    if !reply.add(Listed { name, entry }, next) {
                        break;
                    }
                    continue;
                }
                let Some((name, child)) = view.at(position(next)) else {
                    break;
                };
                next += 1;
                let entry = shared.nodes.give(&open.dir, name, &child);
                if !reply.add(Listed { name, entry }, next) {
                    shared.nodes.forget(entry.node, 1);
                    break;
                }
            }
            reply.ok(());
        });
    }

    fn releasedir(&self, handle: HandleId, reply: impl Reply<()>) {
        reply.done(self.shared.handles.close_dir(handle));
    }

    fn statfs(&self, reply: impl Reply<Usage>) {
        reply.ok(Usage {
            total: 0,
            free: 0,
            available: 0,
            files_total: self.shared.nodes.len() as u64,
            files_free: 0,
            block_size: 4096,
        });
    }
}
