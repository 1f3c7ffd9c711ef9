//! [`Tree`]: manifests laid over one another, what lies in each directory side by side.
//!
//! The manifests come in the order of time, and each is laid over what came before it, whatever that is: a browser shows what
//! there is, and has no commit to refuse. So a file hides a directory and the other way round, and a deletion of what is not
//! there (an input, for example) changes nothing. A directory that is deleted stays if something is in it that the same manifest does not
//! delete: another task made that.
//!
//! A directory's time is that of the last manifest that put something below it.

use std::collections::BTreeMap;
use std::sync::Arc;

use attachfs_manifest::wire::Manifest;
use attachfs_manifest::{
    Change, ChunkLayout, ChunkSize, Content, LinkTarget, Mtime, Node, PathRef,
};
use attachfs_store::ManifestKey;
use attachfs_tree::Timestamp;

/// A file of a tree.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileItem {
    pub(crate) size: u64,
    pub(crate) mtime: Mtime,
    pub(crate) runnable: bool,
    pub(crate) chunk_size: ChunkSize,
    pub(crate) content: Content,
    /// The manifest that it comes from.
    pub(crate) from: Arc<ManifestKey>,
}

impl FileItem {
    /// Where its bytes lie; `None` if the manifest does not say.
    pub(crate) fn layout(&self) -> Option<ChunkLayout<'_>> {
        ChunkLayout::from_hashes(self.size, self.chunk_size, self.content.hashes()).ok()
    }
}

/// What is in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Dir(u32),
    File(Arc<FileItem>),
    Link(LinkTarget, Timestamp),
}

#[derive(Debug)]
struct DirNode {
    newest: Timestamp,
    /// In the order of names.
    entries: Box<[(Box<[u8]>, Item)]>,
}

/// A tree that does not change. The first directory is the root.
#[derive(Debug)]
pub(crate) struct Tree {
    dirs: Box<[DirNode]>,
    /// The bytes that it takes, about.
    pub(crate) weight: u64,
}

impl Tree {
    pub(crate) const ROOT: u32 = 0;

    /// What is in a directory, in the order of names.
    pub(crate) fn entries(&self, dir: u32) -> &[(Box<[u8]>, Item)] {
        &self.dirs[dir as usize].entries
    }

    /// When something was put below a directory last.
    pub(crate) fn newest(&self, dir: u32) -> Timestamp {
        self.dirs[dir as usize].newest
    }

    /// The directory at a path; `None` if no directory is there.
    pub(crate) fn dir_at(&self, path: &[u8]) -> Option<u32> {
        let names = path
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty());
        let mut dir = Self::ROOT;
        for name in names {
            let entries = self.entries(dir);
            let found = entries.binary_search_by(|(other, _)| other.as_ref().cmp(name));
            match &entries[found.ok()?].1 {
                Item::Dir(below) => dir = *below,
                Item::File(_) | Item::Link(..) => return None,
            }
        }
        Some(dir)
    }
}

/// A tree in the making.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    root: Growing,
}

#[derive(Debug, Default)]
struct Growing {
    newest: Timestamp,
    entries: BTreeMap<Box<[u8]>, Grown>,
}

#[derive(Debug)]
enum Grown {
    Dir(Growing),
    File(Arc<FileItem>),
    Link(LinkTarget, Timestamp),
}

/// Where a manifest comes from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) key: Arc<ManifestKey>,
    /// When it was written.
    pub(crate) time: Timestamp,
}

impl Layers {
    /// Lays a manifest over those before it.
    pub(crate) fn add(&mut self, manifest: &Manifest, origin: &Origin) {
        let chunk_size = manifest.chunk_size();
        self.root.newest = self.root.newest.max(origin.time);
        match manifest {
            Manifest::Snapshot(snapshot) => {
                for (path, node) in snapshot.entries() {
                    self.put(path, node, chunk_size, origin);
                }
            }
            Manifest::Diff(diff) => {
                // Deletions of what is in a directory come before that of the directory.
                for (path, change) in diff.changes().rev() {
                    match change {
                        Change::DeleteDir => self.delete(path, true),
                        Change::DeleteFile => self.delete(path, false),
                        Change::Put(_) => {}
                    }
                }
                for (path, change) in diff.changes() {
                    if let Change::Put(node) = change {
                        self.put(path, node, chunk_size, origin);
                    }
                }
            }
        }
    }

    fn put(&mut self, path: PathRef<'_>, node: Node, chunk_size: ChunkSize, origin: &Origin) {
        let mut dir = &mut self.root;
        if let Some(parent) = path.parent() {
            for name in parent.components() {
                dir = dir.dir(name, origin.time);
            }
        }
        let grown = match node {
            Node::Dir => {
                dir.dir(path.name(), origin.time);
                return;
            }
            Node::File(file) => Grown::File(Arc::new(FileItem {
                size: file.size,
                mtime: file.mtime,
                runnable: file.runnable,
                chunk_size,
                content: file.content,
                from: Arc::clone(&origin.key),
            })),
            Node::Symlink(target) => Grown::Link(target, origin.time),
        };
        dir.entries.insert(path.name().into(), grown);
    }

    fn delete(&mut self, path: PathRef<'_>, is_dir: bool) {
        let mut dir = &mut self.root;
        if let Some(parent) = path.parent() {
            for name in parent.components() {
                match dir.entries.get_mut(name) {
                    Some(Grown::Dir(below)) => dir = below,
                    _ => return,
                }
            }
        }
        let goes = match dir.entries.get(path.name()) {
            Some(Grown::Dir(below)) => is_dir && below.entries.is_empty(),
            Some(Grown::File(_) | Grown::Link(..)) => !is_dir,
            None => false,
        };
        if goes {
            dir.entries.remove(path.name());
        }
    }

    /// The tree.
    pub(crate) fn finish(self) -> Tree {
        let mut dirs = Vec::new();
        let mut weight = 0;
        // A directory is numbered when its parent is written out, and the directories are written out in the order of their numbers.
        let mut waiting = std::collections::VecDeque::from([self.root]);
        let mut next: u32 = 1;
        while let Some(Growing { newest, entries }) = waiting.pop_front() {
            let entries = entries.into_iter().map(|(name, grown)| {
                weight += ENTRY + name.len() as u64;
                let item = match grown {
                    Grown::Dir(below) => {
                        waiting.push_back(below);
                        next += 1;
                        Item::Dir(next - 1)
                    }
                    Grown::File(file) => {
                        weight += FILE + 16 * file.content.hashes().len() as u64;
                        Item::File(file)
                    }
                    Grown::Link(target, time) => Item::Link(target, time),
                };
                (name, item)
            });
            let entries = entries.collect();
            dirs.push(DirNode { newest, entries });
        }
        Tree {
            dirs: dirs.into(),
            weight,
        }
    }
}

impl Growing {
    /// The directory of this name, which takes the place of anything else.
    fn dir(&mut self, name: &[u8], time: Timestamp) -> &mut Self {
        let entry = self.entries.entry(name.into());
        let grown = entry.or_insert_with(|| Grown::Dir(Self::default()));
        if !matches!(grown, Grown::Dir(_)) {
            *grown = Grown::Dir(Self::default());
        }
        match grown {
            Grown::Dir(dir) => {
                dir.newest = dir.newest.max(time);
                dir
            }
            Grown::File(_) | Grown::Link(..) => unreachable!("it was replaced"),
        }
    }
}

/// What an entry takes beside its name, and a file beside its entry, in bytes.
const ENTRY: u64 = 64;
const FILE: u64 = 112;
