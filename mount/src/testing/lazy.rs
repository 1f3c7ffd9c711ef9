//! A tree that is listed when it is read, one directory at a time, like a listing in a store: the second kind of file
//! system that this crate's tests mount. It is read-only, its nodes differ from its inode numbers, and it forgets
//! nodes when the kernel does.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use attachfs_tree::{Ino, Kind, Timestamp};
use attachfs_vfs::{
    Asker, Attachment, DataReply, Entry, FileAttr, Found, FsError, FsErrorKind, HandleId,
    Invalidation, Listed, ListedName, ListedReply, NameReply, NodeId, OpenedDir, OpenedFile,
    ReadOnlyFileSystem, Released, Reply, SeekTo, Usage,
};
use parking_lot::Mutex;

/// An entry of a listed directory.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    Dir,
    File(Vec<u8>),
    /// A file whose reads are never answered.
    Lost,
}

type Lister = Box<dyn Fn(&str) -> Result<Vec<(&'static str, Item)>, FsError> + Send + Sync>;
type Names = Arc<Vec<(String, NodeId)>>;

/// The tree, to be handed to `mount`.
#[derive(Debug)]
pub(crate) struct LazyTree(Arc<Inner>);

struct Inner {
    /// Lists the directory with this path; may take long.
    list: Lister,
    state: Mutex<State>,
    adapter: Mutex<Option<Attachment>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LazyTree").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    nodes: HashMap<NodeId, Node>,
    last_node: u64,
    open: HashMap<HandleId, Open>,
    last_handle: u64,
    forgotten: Vec<String>,
}

struct Node {
    path: String,
    ino: Ino,
    item: Item,
    references: u64,
    /// Of a directory, once it was listed. Locked while that is done.
    names: Arc<Mutex<Option<Names>>>,
    /// The node that has the file's name now.
    moved: Option<NodeId>,
}

struct Open {
    node: NodeId,
    /// Of a directory that is being read.
    names: Option<Names>,
}

fn below(dir: &str, name: &str) -> String {
    match dir {
        "" => name.to_owned(),
        dir => format!("{dir}/{name}"),
    }
}

impl State {
    fn add(&mut self, path: String, ino: Option<Ino>, item: Item) -> NodeId {
        self.last_node += 1;
        let node = NodeId(self.last_node);
        let made = Node {
            path,
            ino: ino.unwrap_or(Ino::from_raw(1_000_000 + node.0)),
            item,
            references: 0,
            names: Arc::default(),
            moved: None,
        };
        self.nodes.insert(node, made);
        node
    }

    fn node(&self, node: NodeId) -> Result<&Node, FsError> {
        self.nodes
            .get(&node)
            .ok_or(FsError::plain(FsErrorKind::NotFound))
    }

    fn find(&self, path: &str) -> NodeId {
        let found = self
            .nodes
            .iter()
            .find(|(_, node)| node.path == path && node.moved.is_none());
        *found.unwrap().0
    }

    fn attr(&self, node: NodeId) -> Result<FileAttr, FsError> {
        let Node { ino, item, .. } = self.node(node)?;
        let (kind, size, perm) = match item {
            Item::Dir => (Kind::Dir, 0, 0o755),
            Item::File(bytes) => (Kind::File, bytes.len() as u64, 0o644),
            Item::Lost => (Kind::File, 1, 0o644),
        };
        Ok(FileAttr {
            ino: *ino,
            kind,
            size,
            blocks: size.div_ceil(512),
            atime: Timestamp::default(),
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
            perm,
            nlink: 1,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            lasting: true,
        })
    }

    /// An entry that is given out.
    fn entry(&mut self, node: NodeId) -> Result<Entry, FsError> {
        let attr = self.attr(node)?;
        if let Some(node) = self.nodes.get_mut(&node) {
            node.references += 1;
        }
        Ok(Entry { node, attr })
    }

    fn open(&mut self, node: NodeId) -> HandleId {
        self.last_handle += 1;
        let handle = HandleId(self.last_handle);
        self.open.insert(handle, Open { node, names: None });
        handle
    }

    fn opened(&self, handle: HandleId) -> Result<&Open, FsError> {
        self.open
            .get(&handle)
            .ok_or(FsError::plain(FsErrorKind::BadHandle))
    }
}

impl Inner {
    /// Lists a directory, unless that was done.
    fn names(&self, dir: NodeId) -> Result<Names, FsError> {
        let (path, names) = {
            let state = self.state.lock();
            let node = state.node(dir)?;
            (node.path.clone(), node.names.clone())
        };
        let mut names = names.lock();
        if let Some(names) = &*names {
            return Ok(names.clone());
        }
        let listed = (self.list)(&path)?;
        let mut state = self.state.lock();
        let made = listed.into_iter().map(|(name, item)| {
            let node = state.add(below(&path, name), None, item);
            (name.to_owned(), node)
        });
        let made: Names = Arc::new(made.collect());
        *names = Some(made.clone());
        Ok(made)
    }

    /// The names in a directory, if that needs no waiting.
    fn known_names(&self, dir: NodeId) -> Option<Names> {
        let names = self.state.lock().nodes.get(&dir)?.names.clone();
        let names = names.try_lock()?;
        names.clone()
    }

    fn find(&self, names: &Names, name: &[u8]) -> Result<Option<Entry>, FsError> {
        let found = names.iter().find(|(known, _)| known.as_bytes() == name);
        let Some(&(_, node)) = found else {
            return Ok(None);
        };
        let mut state = self.state.lock();
        let node = state.node(node)?.moved.unwrap_or(node);
        state.entry(node).map(Some)
    }

    /// The names that a pass over a directory returns; a pass from the beginning takes the present
    /// ones.
    fn view(&self, handle: HandleId, offset: u64) -> Result<Names, FsError> {
        let (node, names) = {
            let state = self.state.lock();
            let open = state.opened(handle)?;
            (open.node, open.names.clone())
        };
        match names {
            Some(names) if offset > 0 => Ok(names),
            _ => {
                let names = self.names(node)?;
                let mut state = self.state.lock();
                let open = state.open.get_mut(&handle);
                open.ok_or(FsError::plain(FsErrorKind::BadHandle))?.names = Some(names.clone());
                Ok(names)
            }
        }
    }
}

impl LazyTree {
    /// A tree whose directories are listed by `list`; the root has the empty path.
    pub(crate) fn new(
        list: impl Fn(&str) -> Result<Vec<(&'static str, Item)>, FsError> + Send + Sync + 'static,
    ) -> Self {
        let mut state = State::default();
        state.add(String::new(), Some(Ino::from_raw(77)), Item::Dir);
        Self(Arc::new(Inner {
            list: Box::new(list),
            state: Mutex::new(state),
            adapter: Mutex::new(None),
        }))
    }

    /// Changes the bytes of a file without telling the kernel.
    pub(crate) fn change(&self, path: &str, bytes: &[u8]) -> NodeId {
        let mut state = self.0.state.lock();
        let node = state.find(path);
        state.nodes.get_mut(&node).unwrap().item = Item::File(bytes.to_vec());
        node
    }

    /// The node that has a path.
    pub(crate) fn node(&self, path: &str) -> NodeId {
        self.0.state.lock().find(path)
    }

    /// Moves a file to a new node with other bytes; the inode number that it shows stays.
    pub(crate) fn replace(&self, path: &str, bytes: &[u8]) {
        let mut state = self.0.state.lock();
        let old = state.find(path);
        let ino = state.nodes[&old].ino;
        let new = state.add(path.to_owned(), Some(ino), Item::File(bytes.to_vec()));
        state.nodes.get_mut(&old).unwrap().moved = Some(new);
    }

    pub(crate) fn invalidate(&self, what: Invalidation) {
        let adapter = self.0.adapter.lock();
        adapter.as_ref().unwrap().invalidations.send(what).unwrap();
    }

    /// The paths of the nodes that the kernel has forgotten.
    pub(crate) fn forgotten(&self) -> Vec<String> {
        self.0.state.lock().forgotten.clone()
    }

    pub(crate) fn has_adapter(&self) -> bool {
        self.0.adapter.lock().is_some()
    }

    /// Answers at once, or on another thread if the directory has to be listed first.
    fn answer(&self, dir: NodeId, answer: impl FnOnce(&Inner) + Send + 'static) {
        if self.0.known_names(dir).is_some() {
            return answer(&self.0);
        }
        let inner = self.0.clone();
        let adapter = self.0.adapter.lock();
        let runtime = &adapter.as_ref().unwrap().runtime;
        runtime.spawn_blocking(move || answer(&inner));
    }

    fn dir_of(&self, handle: HandleId) -> NodeId {
        let state = self.0.state.lock();
        state.opened(handle).map_or(NodeId(0), |open| open.node)
    }
}

impl ReadOnlyFileSystem for LazyTree {
    fn keeps_for(&self) -> Option<Duration> {
        None
    }

    fn attach(&self, adapter: Attachment) {
        *self.0.adapter.lock() = Some(adapter);
    }

    fn detach(&self) -> Result<(), FsError> {
        *self.0.adapter.lock() = None;
        self.0.state.lock().open.clear();
        Ok(())
    }

    fn lookup(
        &self,
        parent: NodeId,
        name: &[u8],
        _: impl FnOnce() -> Option<Asker>,
        reply: impl Reply<Found>,
    ) {
        let name = name.to_vec();
        self.answer(parent, move |inner| {
            let found = inner.names(parent);
            let found = found.and_then(|names| inner.find(&names, &name));
            reply.done(found.map(|entry| Found {
                entry,
                lasting: true,
            }));
        });
    }

    fn forget(&self, node: NodeId, references: u64) {
        let mut state = self.0.state.lock();
        let State {
            nodes, forgotten, ..
        } = &mut *state;
        if let Some(node) = nodes.get_mut(&node) {
            node.references -= references;
            if node.references == 0 {
                node.names = Arc::default();
                forgotten.push(node.path.clone());
            }
        }
    }

    fn getattr(&self, node: NodeId, reply: impl Reply<FileAttr>) {
        reply.done(self.0.state.lock().attr(node));
    }

    fn open(&self, node: NodeId, reply: impl Reply<OpenedFile>) {
        let mut state = self.0.state.lock();
        let opened = match state.node(node) {
            Ok(node) if node.moved.is_some() => Err(FsErrorKind::Moved.into()),
            Ok(_) => Ok(OpenedFile {
                handle: state.open(node),
                backing: None,
            }),
            Err(error) => Err(error),
        };
        reply.done(opened);
    }

    fn read(&self, handle: HandleId, offset: u64, len: u32, reply: impl DataReply) {
        let state = self.0.state.lock();
        let node = state.opened(handle).and_then(|open| state.node(open.node));
        match node.map(|node| &node.item) {
            Ok(Item::File(bytes)) => {
                let begin = bytes.len().min(offset as usize);
                let end = bytes.len().min(begin + len as usize);
                reply.ok(&bytes[begin..end]);
            }
            Ok(Item::Lost) => drop(reply),
            Ok(Item::Dir) => Reply::<&[u8]>::fail(reply, FsErrorKind::IsADirectory.into()),
            Err(error) => Reply::<&[u8]>::fail(reply, error),
        }
    }

    fn release(&self, handle: HandleId, reply: impl Reply<Released>) {
        let mut state = self.0.state.lock();
        let Some(closed) = state.open.remove(&handle) else {
            return reply.fail(FsErrorKind::BadHandle.into());
        };
        let last = !state.open.values().any(|open| open.node == closed.node);
        reply.ok(Released { last });
    }

    fn opendir(&self, node: NodeId, reply: impl Reply<OpenedDir>) {
        reply.ok(OpenedDir {
            handle: self.0.state.lock().open(node),
            may_be_kept: false,
        });
    }

    fn readdir(&self, handle: HandleId, offset: u64, mut reply: impl NameReply) {
        self.answer(self.dir_of(handle), move |inner| {
            let names = match inner.view(handle, offset) {
                Ok(names) => names,
                Err(error) => return reply.fail(error),
            };
            let state = inner.state.lock();
            for (position, (name, node)) in names.iter().enumerate().skip(offset as usize) {
                let attr = state.attr(*node).unwrap();
                let entry = ListedName {
                    name: name.as_bytes(),
                    ino: attr.ino,
                    kind: attr.kind,
                };
                if !reply.add(entry, position as u64 + 1) {
                    break;
                }
            }
            reply.ok(());
        });
    }

    fn readdirplus(&self, handle: HandleId, offset: u64, mut reply: impl ListedReply) {
        self.answer(self.dir_of(handle), move |inner| {
            let names = match inner.view(handle, offset) {
                Ok(names) => names,
                Err(error) => return reply.fail(error),
            };
            let mut state = inner.state.lock();
            for (position, (name, node)) in names.iter().enumerate().skip(offset as usize) {
                let (name, entry) = (name.as_bytes(), state.entry(*node).unwrap());
                if !reply.add(Listed { name, entry }, position as u64 + 1) {
                    state.nodes.get_mut(node).unwrap().references -= 1;
                    break;
                }
            }
            reply.ok(());
        });
    }

    fn releasedir(&self, handle: HandleId, reply: impl Reply<()>) {
        self.0.state.lock().open.remove(&handle);
        reply.ok(());
    }

    fn statfs(&self, reply: impl Reply<Usage>) {
        reply.ok(Usage {
            total: 0,
            free: 0,
            available: 0,
            files_total: self.0.state.lock().nodes.len() as u64,
            files_free: 0,
            block_size: 4096,
        });
    }

    fn seek(&self, _: HandleId, _: u64, _: SeekTo, reply: impl Reply<u64>) {
        reply.fail(FsErrorKind::NotSupported.into());
    }

    fn getxattr(&self, _: NodeId, _: &[u8], reply: impl DataReply) {
        Reply::<&[u8]>::fail(reply, FsErrorKind::NoAttribute.into());
    }

    fn listxattr(&self, _: NodeId, _: bool, reply: impl DataReply) {
        Reply::<&[u8]>::ok(reply, b"");
    }

    fn readlink(&self, _: NodeId, reply: impl DataReply) {
        Reply::<&[u8]>::fail(reply, FsErrorKind::Invalid.into());
    }
}
