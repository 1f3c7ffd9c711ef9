//! The nodes that the adapter knows, and their numbers.
//!
//! A number is made of what the node is: of a directory its path, of a file or link also what the manifest says. Two that have the same
//! number are told apart by the rest of the hash, and the second one gets the next number that is free.

use std::collections::HashMap;
use std::sync::Arc;

use attachfs_manifest::{ContentHash, Hasher, LinkTarget, ManifestPath};
use attachfs_tree::{Attributes, Ino, Kind, Timestamp};
use attachfs_vfs::{Entry, FileAttr, FsError, FsErrorKind, NodeId, Settings};
use parking_lot::Mutex;

use crate::listing::Child;
use crate::place::{Dir, Place};
use crate::tree::FileItem;

/// What a node is.
#[derive(Debug, Clone)]
pub(crate) enum What {
    Dir(Arc<Dir>),
    File(Arc<FileItem>, Place),
    Link(Arc<[u8]>, Place),
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    identity: ContentHash,
    references: u64,
    pub(crate) attr: FileAttr,
    pub(crate) what: What,
    /// From the mount point, for messages.
    pub(crate) path: Arc<[u8]>,
}

/// All nodes that the adapter has references to, and the mount point.
#[derive(Debug)]
pub(crate) struct Nodes {
    settings: Settings,
    /// Held for single operations, with no other lock.
    table: Mutex<HashMap<NodeId, Node>>,
}

/// Numbers of nodes have 62 bits and none of the lowest ones.
const BITS: u64 = (1 << 62) - 1;
const LEAST: u64 = 1024;

fn number(identity: &ContentHash) -> u64 {
    let digits = identity.to_hex();
    let number = digits[..16].iter().fold(0_u64, |number, digit| {
        number << 4 | u64::from((*digit as char).to_digit(16).unwrap_or(0))
    });
    (number & BITS).max(LEAST)
}

/// What tells a node from every other one.
fn identity(path: &[u8], child: &Child) -> ContentHash {
    let mut hasher = Hasher::new();
    match child {
        Child::Dir(..) => hasher.update(b"d"),
        Child::File(file) => {
            hasher.update(b"f");
            hasher.update(&file.size.to_le_bytes());
            hasher.update(&file.mtime.0.to_le_bytes());
            hasher.update(&[u8::from(file.runnable)]);
            for hash in file.content.hashes() {
                hasher.update(&hash.to_hex());
            }
            hasher.update(b"/");
        }
        Child::Link(target, _) => {
            hasher.update(b"l");
            if let LinkTarget::Below(path) = target {
                hasher.update(path.as_bytes());
            }
            hasher.update(b"\0");
        }
    }
    hasher.update(path);
    hasher.finish()
}

/// The number that a name is listed with.
pub(crate) fn listed_ino(dir: &Dir, name: &[u8], child: &Child) -> Ino {
    Ino::from_raw(number(&identity(&dir.below(name), child)))
}

pub(crate) fn kind_of(child: &Child) -> Kind {
    match child {
        Child::Dir(..) => Kind::Dir,
        Child::File(_) => Kind::File,
        Child::Link(..) => Kind::Symlink,
    }
}

/// The text of a link, which is told from its directory.
fn link_text(path_in_root: &[u8], target: &LinkTarget) -> Arc<[u8]> {
    match ManifestPath::new(path_in_root) {
        Ok(link) => target.relative_to(&link).into(),
        Err(_) => b".".as_slice().into(),
    }
}

impl Nodes {
    pub(crate) fn new(settings: Settings, top: Place) -> Self {
        let nodes = Self {
            settings,
            table: Mutex::default(),
        };
        nodes.add_top(top);
        nodes
    }

    fn add_top(&self, place: Place) {
        let what = What::Dir(Arc::new(Dir {
            place,
            path: Box::default(),
            parent: None,
        }));
        let ino = Ino::ROOT;
        let attr = self.attr(ino, Kind::Dir, 0, self.settings.created, false);
        let node = Node {
            identity: ContentHash::of(b""),
            references: 1,
            attr,
            what,
            path: Arc::from([]),
        };
        self.table.lock().insert(NodeId::ROOT, node);
    }

    /// The adapter has ended and knows no node any more.
    pub(crate) fn clear(&self, top: Place) {
        self.table.lock().clear();
        self.add_top(top);
    }

    pub(crate) fn get(&self, node: NodeId) -> Result<Node, FsError> {
        let found = self.table.lock().get(&node).cloned();
        found.ok_or_else(|| FsErrorKind::NotFound.into())
    }

    pub(crate) fn dir(&self, node: NodeId) -> Result<Arc<Dir>, FsError> {
        match self.get(node)?.what {
            What::Dir(dir) => Ok(dir),
            What::File(..) | What::Link(..) => Err(FsErrorKind::NotADirectory.into()),
        }
    }

    fn attr(&self, ino: Ino, kind: Kind, size: u64, time: Timestamp, runnable: bool) -> FileAttr {
        let attributes = Attributes {
            runnable,
            ..Attributes::default()
        };
        FileAttr {
            ino,
            kind,
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            perm: self.settings.perm(kind, &attributes),
            // A directory with one link: programs such as `find` do not derive the number of its subdirectories from that.
            nlink: 1,
            uid: self.settings.uid,
            gid: self.settings.gid,
            lasting: true,
        }
    }

    /// The entry of a name that is given to the adapter: one reference more.
    pub(crate) fn give(&self, dir: &Arc<Dir>, name: &[u8], child: &Child) -> Entry {
        let path = dir.below(name);
        let identity = identity(&path, child);
        let mut table = self.table.lock();
        let mut at = number(&identity);
        while table
            .get(&NodeId(at))
            .is_some_and(|node| node.identity != identity)
        {
            at = ((at + 1) & BITS).max(LEAST);
        }
        let ino = Ino::from_raw(at);
        let node = table.entry(NodeId(at)).or_insert_with(|| {
            let (attr, what) = self.make(dir, name, &path, ino, child);
            Node {
                identity,
                references: 0,
                attr,
                what,
                path: path.as_ref().into(),
            }
        });
        node.references += 1;
        if let Child::Dir(place, time) = child {
            // Another folder may have the name now, such as that of another root: then the node leads there.
            if matches!(&node.what, What::Dir(known) if known.place != *place) {
                node.what = self.make(dir, name, &path, ino, child).1;
            }
            (node.attr.mtime, node.attr.ctime, node.attr.atime) = (*time, *time, *time);
        }
        Entry {
            node: NodeId(at),
            attr: node.attr,
        }
    }

    fn make(
        &self,
        dir: &Arc<Dir>,
        name: &[u8],
        path: &[u8],
        ino: Ino,
        child: &Child,
    ) -> (FileAttr, What) {
        match child {
            Child::Dir(place, time) => {
                let what = What::Dir(Arc::new(Dir {
                    place: place.clone(),
                    path: path.into(),
                    parent: Some(Arc::clone(dir)),
                }));
                (self.attr(ino, Kind::Dir, 0, *time, false), what)
            }
            Child::File(file) => {
                let time = file.mtime.into();
                let attr = self.attr(ino, Kind::File, file.size, time, file.runnable);
                (attr, What::File(Arc::clone(file), dir.place.clone()))
            }
            Child::Link(target, time) => {
                let in_root = match &dir.place {
                    Place::In(_, path) => crate::place::joined(path, name),
                    _ => name.into(),
                };
                let text = link_text(&in_root, target);
                let attr = self.attr(ino, Kind::Symlink, text.len() as u64, *time, false);
                (attr, What::Link(text, dir.place.clone()))
            }
        }
    }

    /// Gives back references. A node without any is forgotten.
    pub(crate) fn forget(&self, node: NodeId, references: u64) {
        if node == NodeId::ROOT {
            return;
        }
        let mut table = self.table.lock();
        if let Some(found) = table.get_mut(&node) {
            found.references = found.references.saturating_sub(references);
            if found.references == 0 {
                table.remove(&node);
            }
        }
    }

    /// The files that an object of this hash and length is part of, with their paths.
    pub(crate) fn files_with(&self, object: ContentHash, len: u64) -> Vec<(NodeId, Arc<[u8]>)> {
        let has = |node: &Node| match &node.what {
            What::File(file, _) => {
                let hashes = file.content.hashes();
                hashes.contains(&object)
                    && file.layout().is_some_and(|layout| {
                        let mut pieces = layout.pieces(0..layout.size());
                        pieces.any(|piece| piece.hash == object && piece.object_len == len)
                    })
            }
            What::Dir(_) | What::Link(..) => false,
        };
        let table = self.table.lock();
        let found = table.iter().filter(|(_, node)| has(node));
        found
            .map(|(&id, node)| (id, Arc::clone(&node.path)))
            .collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.table.lock().len()
    }
}
