//! A tree from the entries of a snapshot, or of a manifest as they are read, in time that is nearly linear.
//!
//! Entries come sorted by their whole path, so those of one directory come one after the other, and the
//! directory before them (a directory that no entry stands for may come as late as that). A plain stack of open directories is not enough, for two reasons: between `a`
//! and `a/b` comes all that begins with `a` and goes on with a character below `/`, as `a-b` and what
//! lies in it; and names are sorted by UTF-16 code units in the manifest, by bytes in the tree.
//!
//! ```text
//!     1. entries as they come     records, each with its directory; directories count their children
//!     2. breadth first            directories get their place in the order in which they lie themselves,
//!                                 each time with all children side by side
//!     3. in place                 records move to where they belong
//! ```

use std::borrow::Borrow;

use attachfs_manifest::wire::read_in_order;
use attachfs_manifest::{
    ChunkLayout, ChunkSize, ContentHash, LayoutError, LinkTarget, ManifestPath, Mtime, Node,
    Snapshot, SnapshotError,
};

use super::BaseTree;
use super::names::Names;
use super::paged::PagedBuilder;
use super::record::Record;
use crate::Kind;

/// Why a snapshot does not make a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A file without a hash cannot be read.
    #[error("\"{path}\": {source}")]
    Content {
        /// The file.
        path: ManifestPath,
        /// What is wrong with its chunks.
        #[source]
        source: LayoutError,
    },
    /// What a diff puts is no tree.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// More than 2^32 nodes, or names or hashes beyond that.
    #[error("the manifest is too large for a tree: more than 2^32 {0}")]
    TooLarge(&'static str),
}

impl BaseTree {
    /// Builds the tree of a snapshot.
    pub fn build(snapshot: &Snapshot) -> Result<Self, BuildError> {
        Self::build_from(snapshot.chunk_size(), snapshot.entries())
    }

    /// The tree of a manifest's bytes, without a snapshot in between: of a relative snapshot whose entries are in order
    /// ([`read_in_order`]). `None` for any other manifest, and for one that is wrong or makes no tree: decoding it and
    /// [`build`](Self::build) tell. Where both can be done, all nodes are the same, and have the same numbers.
    pub fn read(manifest: &[u8]) -> Option<Self> {
        // Replaced by what the manifest says, which its entries come with.
        let mut builder = Builder::new(ChunkSize::WholeFile).ok()?;
        builder.chunk_size = read_in_order(manifest, |chunk_size, path, node| {
            builder.chunk_size = chunk_size;
            builder.add(path.as_bytes(), node).ok()
        })?;
        Some(builder.finish())
    }

    /// Builds the tree of a snapshot's entries, in the snapshot's order.
    fn build_from(
        chunk_size: ChunkSize,
        entries: impl IntoIterator<Item = (impl AsRef<[u8]>, impl Borrow<Node>)>,
    ) -> Result<Self, BuildError> {
        let mut builder = Builder::new(chunk_size)?;
        for (path, node) in entries {
            builder.add(path.as_ref(), node.borrow())?;
        }
        Ok(builder.finish())
    }
}

struct Builder {
    chunk_size: ChunkSize,
    len: u32,
    /// Entries in the order in which they came. `parent` is the number of the directory in that
    /// order.
    nodes: PagedBuilder<Record>,
    names: Names,
    hashes: PagedBuilder<ContentHash>,
    targets: PagedBuilder<LinkTarget>,
    /// Directories in which something may still come. The path of each is the beginning of the next.
    open: Vec<OpenDir>,
    /// The path of the directory that was opened last; the paths of all in `open` are its beginnings.
    deepest: Vec<u8>,
}

struct OpenDir {
    path_len: usize,
    node: u32,
}

const ROOT: Record = Record {
    size: 0,
    mtime: Mtime(0),
    parent: 0,
    name: 0,
    first: 0,
    count: 0,
    name_len: 0,
    kind: Kind::Dir,
    runnable: false,
};

impl Builder {
    fn new(chunk_size: ChunkSize) -> Result<Self, BuildError> {
        let mut builder = Self {
            chunk_size,
            len: 0,
            nodes: PagedBuilder::default(),
            names: Names::new(),
            hashes: PagedBuilder::default(),
            targets: PagedBuilder::default(),
            open: Vec::new(),
            deepest: Vec::new(),
        };
        builder.push(ROOT)?;
        Ok(builder)
    }

    fn push(&mut self, record: Record) -> Result<u32, BuildError> {
        const TOO_LARGE: BuildError = BuildError::TooLarge("entries");
        let number = self.nodes.push_run(&[record]).ok_or(TOO_LARGE)?;
        self.len = number.checked_add(1).ok_or(TOO_LARGE)?;
        Ok(number)
    }

    /// Closes the directories in which nothing comes any more: those whose path, with a slash, is neither
    /// the beginning of this path nor sorted after it.
    fn close_before(&mut self, path: &[u8]) {
        while let Some(dir) = self.open.last() {
            let goes_on = path.get(dir.path_len).is_some_and(|&next| next <= b'/');
            if goes_on && path.starts_with(&self.deepest[..dir.path_len]) {
                break;
            }
            self.open.pop();
        }
    }

    /// The open directory whose path has this length.
    fn open_dir(&self, path_len: usize) -> u32 {
        // Each was opened within the one before it, and is closed before that.
        let found = self
            .open
            .binary_search_by_key(&path_len, |dir| dir.path_len);
        let found = found.expect("a snapshot has each directory before what is in it");
        self.open[found].node
    }

    fn add(&mut self, path: &[u8], node: &Node) -> Result<(), BuildError> {
        let too_large = |what| move || BuildError::TooLarge(what);
        self.close_before(path);
        let (parent, name) = match path.iter().rposition(|&b| b == b'/') {
            Some(slash) => (self.open_dir(slash), &path[slash + 1..]),
            None => (0, path),
        };
        let mut record = Record {
            parent,
            name: self
                .names
                .intern(name)
                .ok_or_else(too_large("bytes of names"))?,
            name_len: u8::try_from(name.len()).expect("a name has at most 255 bytes"),
            ..ROOT
        };
        match node {
            Node::Dir => {}
            Node::File(file) => {
                let layout = ChunkLayout::new(file.size, self.chunk_size, &file.content);
                let layout = layout.map_err(|source| BuildError::Content {
                    path: ManifestPath::new(path).expect("a snapshot has valid paths"),
                    source,
                })?;
                let hashes = layout.hashes();
                record.kind = Kind::File;
                record.size = file.size;
                record.mtime = file.mtime;
                record.runnable = file.runnable;
                let first = self.hashes.push_run(hashes);
                record.first = first.ok_or_else(too_large("hashes"))?;
                record.count =
                    u32::try_from(hashes.len()).map_err(|_| BuildError::TooLarge("hashes"))?;
            }
            Node::Symlink(target) => {
                record.kind = Kind::Symlink;
                let target = self.targets.push_run(std::slice::from_ref(target));
                record.first = target.ok_or_else(too_large("links"))?;
            }
        }
        let number = self.push(record)?;
        let above = self.nodes.cell_mut(parent);
        above.count += 1;
        if node.is_dir() {
            above.size += 1;
            self.open.push(OpenDir {
                path_len: path.len(),
                node: number,
            });
            self.deepest.clear();
            self.deepest.extend_from_slice(path);
        }
        Ok(())
    }

    fn finish(mut self) -> BaseTree {
        // The table that finds them is as large as they are, and is not needed for what follows.
        self.names.forget_table();
        let mut to = self.lay_out();
        self.nodes.permute(&mut to);
        BaseTree {
            layer: 0,
            chunk_size: self.chunk_size,
            len: self.len,
            nodes: self.nodes.finish(),
            names: self.names.into_bytes().finish(),
            hashes: self.hashes.finish(),
            targets: self.targets.finish(),
            opened: None,
        }
    }

    /// All nodes but the root, those of one directory side by side as they came. The `first` of each
    /// directory becomes the end of its part.
    fn by_directory(&mut self) -> Vec<u32> {
        let mut total = 0;
        for number in 0..self.len {
            let record = self.nodes.cell_mut(number);
            if record.kind == Kind::Dir {
                record.first = total;
                total += record.count;
            }
        }
        let mut children = vec![0; total as usize];
        for number in 1..self.len {
            let parent = self.nodes.cell_mut(number).parent;
            let next = &mut self.nodes.cell_mut(parent).first;
            children[*next as usize] = number;
            *next += 1;
        }
        children
    }

    /// Says where each node goes, and has `parent` and `first` say so too.
    fn lay_out(&mut self) -> Vec<u32> {
        let mut children = self.by_directory();
        let mut order = Vec::with_capacity(self.len as usize);
        order.push(0);
        for at in 0..self.len {
            let record = self.nodes.cell_mut(order[at as usize]);
            if record.kind != Kind::Dir {
                continue;
            }
            let end = record.first as usize;
            record.first = if record.count == 0 {
                0
            } else {
                order.len() as u32
            };
            let own = &mut children[end - record.count as usize..end];
            if !own.is_sorted_by(|&a, &b| self.name(a) <= self.name(b)) {
                own.sort_unstable_by(|&a, &b| self.name(a).cmp(self.name(b)));
            }
            for &child in &*own {
                self.nodes.cell_mut(child).parent = at;
            }
            order.extend_from_slice(own);
        }
        drop(children);
        let mut to = vec![0; order.len()];
        for (at, &number) in order.iter().enumerate() {
            to[number as usize] = at as u32;
        }
        to
    }

    fn name(&self, number: u32) -> &[u8] {
        let record = self.nodes.cell(number);
        self.names.get(record.name, usize::from(record.name_len))
    }
}
