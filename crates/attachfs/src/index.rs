//! Trees that were built once and are opened from then on.
//!
//! A manifest of a million entries takes a good part of a second to decode; the index of its tree is opened
//! in no time, and is small enough to be kept for the next mount of the same manifests
//! ([`TreeFiles`](attachfs_durable::TreeFiles)). It is a cache in
//! every respect: one that is missing, damaged, another user's or in a place that cannot be written
//! to costs the time it would have saved. The session keeps the manifests, so what is found to be damaged
//! while it is mounted is built from them, and the file is replaced.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use attachfs_durable::{Mapped, OwnFile, TreeFiles};
use attachfs_manifest::{Content, ContentHash, Node, Snapshot};
use attachfs_session::{BaseManifest, Session, SessionError};
use attachfs_transfer::error_chain;
use attachfs_tree::{
    BaseTree, Composed, IndexError, IndexIdentity, IndexSource, LayerOptions, Root, compose,
};

use crate::copying::{KeptManifest, kept};
use crate::error::Error;
use crate::manifest::without_hash;
use crate::manifests::layer;
use crate::places::Places;

/// A tree of fewer nodes is built about as quickly as it is opened.
const WORTH_KEEPING: usize = 10_000;
/// To be changed when the same layers make another tree than before; a change of the format of an index
/// has a number of its own.
const TREE_VERSION: u8 = 3;

/// The base tree of a mount.
#[derive(Debug)]
pub(crate) struct MountBase {
    pub(crate) tree: Arc<BaseTree>,
    /// The hash that a diff against it names as its parent.
    pub(crate) parent: ContentHash,
    /// The tree that is to be saved once there is time; `None` if it was read from a saved one.
    unsaved: Option<Unsaved>,
}

#[derive(Debug)]
struct Unsaved {
    saved: SavedTrees,
    tree: Arc<BaseTree>,
    identity: IndexIdentity,
}

/// Opens the tree of a session's manifests if it was saved, and builds it otherwise; only then are the
/// manifests' bytes asked for. They are kept in `session`.
pub(crate) fn open_base(
    described: &[BaseManifest],
    options: &LayerOptions,
    manifests: impl FnOnce() -> Result<Vec<Mapped>, SessionError>,
    session: &Path,
    places: &Places,
) -> Result<MountBase, Error> {
    let layers = key(described, options);
    let saved = SavedTrees::of(places);
    if let Some(tree) = saved.open(layers, session)
        && let Some(&IndexIdentity { composed, .. }) = tree.identity()
    {
        return Ok(MountBase {
            tree: Arc::new(tree),
            parent: composed,
            unsaved: None,
        });
    }
    let mapped = manifests()?;
    let (tree, parent) = Mapped::sparingly(&mapped, || {
        build(&kept(described, mapped.iter().collect()), options)
    })?;
    drop(mapped);
    let identity = IndexIdentity {
        layers,
        composed: parent,
    };
    let unsaved = (tree.len() >= WORTH_KEEPING).then(|| Unsaved {
        saved,
        tree: tree.clone(),
        identity,
    });
    Ok(MountBase {
        tree,
        parent,
        unsaved,
    })
}

/// As [`open_base`], for the manifests that an existing session keeps. They are mapped, so nobody is served yet.
pub(crate) fn base_of(session: &Session, places: &Places) -> Result<MountBase, Error> {
    let (dir, meta) = (session.dir(), session.meta());
    let manifests = || Session::map_manifests(dir, meta);
    open_base(&meta.manifests, &meta.layers, manifests, dir, places)
}

impl MountBase {
    /// Saves the tree if it was built, on a thread of its own. The process need not wait for it.
    pub(crate) fn save_later(&mut self) -> Option<JoinHandle<()>> {
        self.unsaved.take()?.save_later()
    }
}

/// One manifest that can be read entry by entry takes no memory but its tree's. All others are read whole, and put together.
fn build<B: AsRef<[u8]>>(
    manifests: &[KeptManifest<B>],
    options: &LayerOptions,
) -> Result<(Arc<BaseTree>, ContentHash), Error> {
    if let ([only], None) = (manifests, &options.root)
        && only.at.is_none()
        && let Some(tree) = BaseTree::read(only.bytes.as_ref())
    {
        return Ok((Arc::new(tree), only.hash));
    }
    let layers = manifests.iter().map(|manifest| {
        manifest.check_len()?;
        layer(&manifest.name, manifest.bytes.as_ref(), manifest.at.clone())
    });
    let Composed { snapshot, hash } = compose(layers.collect::<Result<_, _>>()?, options)?;
    check_hashed(&snapshot)?;
    Ok((Arc::new(BaseTree::build(&snapshot)?), hash))
}

/// The tree of the manifests that a session keeps, which may be in use. They are not mapped: a disk that fails must not end a process that
/// serves a mount.
fn build_again(session: &Path) -> Result<(Arc<BaseTree>, ContentHash), Error> {
    let meta = Session::read_meta(session)?;
    let manifests = Session::read_manifests(session, &meta)?;
    build(&kept(&meta.manifests, manifests), &meta.layers)
}

/// Fails if a file has no hash: its bytes could not be fetched.
pub(crate) fn check_hashed(snapshot: &Snapshot) -> Result<(), Error> {
    let is_unhashed = |node: &Node| {
        node.as_file()
            .is_some_and(|file| matches!(file.content, Content::Unhashed))
    };
    let mut unhashed = snapshot.entries().filter(|(_, node)| is_unhashed(node));
    match unhashed.next() {
        None => Ok(()),
        Some((first, _)) => Err(without_hash(&first.to_owned(), 1 + unhashed.count())),
    }
}

/// What a tree is made of: how its manifests are put together, each of them and where it is placed, in
/// order. What precedes a path is its length, so no two lists are the same bytes.
fn key(described: &[BaseManifest], options: &LayerOptions) -> ContentHash {
    let LayerOptions {
        root,
        ignore_parent,
    } = options;
    // A tree whose parents were not looked at is not one whose parents are right.
    let mut bytes = vec![TREE_VERSION, u8::from(*ignore_parent)];
    let mut add = |path: &[u8]| {
        bytes.extend((path.len() as u64).to_le_bytes());
        bytes.extend(path);
    };
    add(root
        .as_ref()
        .map(Root::to_string)
        .unwrap_or_default()
        .as_bytes());
    for manifest in described {
        add(manifest.hash.as_bytes());
        add(manifest.at.as_ref().map_or(b"", |at| at.as_bytes()));
    }
    ContentHash::of(&bytes)
}

#[derive(Debug)]
struct IndexFile(OwnFile);

impl IndexSource for IndexFile {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.0.read_at(offset, len).map(Vec::from)
    }
}

/// The trees that were saved.
#[derive(Debug, Clone)]
struct SavedTrees(TreeFiles);

impl SavedTrees {
    fn of(places: &Places) -> Self {
        Self(places.cache.trees())
    }

    fn open(&self, layers: ContentHash, session: &Path) -> Option<BaseTree> {
        let path = self.0.path(*layers.as_bytes());
        let file = match self.0.open(*layers.as_bytes()) {
            Ok(file) => file?,
            Err(error) => {
                let error = error_chain(&error);
                tracing::info!(%error, "a saved tree is not used");
                return None;
            }
        };
        let (saved, session) = (self.clone(), session.to_owned());
        let rebuild = move |error| saved.rebuild(layers, &session, &error);
        match BaseTree::open(Box::new(IndexFile(file)), layers, Box::new(rebuild)) {
            Ok(tree) => Some(tree),
            Err(error) => {
                let error = error_chain(&error);
                tracing::info!(path = %path.display(), %error, "a saved tree is not used");
                None
            }
        }
    }

    /// Takes the place of a saved tree that turned out to be damaged.
    fn rebuild(
        &self,
        layers: ContentHash,
        session: &Path,
        error: &IndexError,
    ) -> Option<Arc<BaseTree>> {
        let path = self.0.path(*layers.as_bytes());
        let error = error_chain(error);
        tracing::info!(path = %path.display(), %error, "a saved tree is damaged; it is built again");
        match build_again(session) {
            Ok((tree, composed)) => {
                let unsaved = Unsaved {
                    saved: self.clone(),
                    tree: tree.clone(),
                    identity: IndexIdentity { layers, composed },
                };
                // The thread is not joined: saving the tree is not part of any request.
                drop(unsaved.save_later());
                Some(tree)
            }
            Err(error) => {
                let error = error_chain(&error);
                tracing::error!(session = %session.display(), %error, "the tree cannot be built again");
                None
            }
        }
    }
}

impl Unsaved {
    fn save_later(self) -> Option<JoinHandle<()>> {
        let thread = std::thread::Builder::new().name("attachfs-index".to_owned());
        match thread.spawn(move || self.save()) {
            Ok(thread) => Some(thread),
            Err(error) => {
                tracing::info!(%error, "a tree is not kept");
                None
            }
        }
    }

    fn save(&self) {
        if let Err(error) = self.try_save() {
            let path = self.saved.0.path(*self.identity.layers.as_bytes());
            let error = error_chain(&error);
            tracing::info!(path = %path.display(), %error, "a tree is not kept");
        }
    }

    fn try_save(&self) -> io::Result<()> {
        let Some(index) = self.tree.index(&self.identity) else {
            return Err(io::Error::other("a part of it cannot be read any more"));
        };
        let layers = *self.identity.layers.as_bytes();
        let write = |file: &mut File| index.write(|part| file.write_all(part));
        self.saved.0.save(layers, index.size(), write)?;
        tracing::debug!(layers = %self.identity.layers, bytes = index.size(), "kept a tree");
        Ok(())
    }
}
