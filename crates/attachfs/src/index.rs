//! Trees that were built once and are opened from then on.
//!
//! ```text
//!     <cache>/index/                  this user's alone; at most 64 files, at most 1 GiB
//!         <hash of the layers>.tree   an index of a tree; changed last when it was used last
//! ```
//!
//! A manifest of a million entries takes a good part of a second to decode; the index of its tree is opened
//! in no time, and is small enough to be kept for the next mount of the same manifests. It is a cache in
//! every respect: one that is missing, damaged, someone else's or in a place that cannot be written
//! to costs the time it would have saved. The session keeps the manifests, so what is found to be damaged
//! while it is mounted is built from them, and the file is replaced.

#[cfg(test)]
mod tests;

use std::fs::DirEntry;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::SystemTime;

use attachfs_durable::{OwnFile, check_own_dir, create_private_dir, publish, sweep_abandoned};
use attachfs_manifest::{Content, ContentHash, Node, Snapshot};
use attachfs_session::{BaseManifest, Session, SessionMeta};
use attachfs_transfer::error_chain;
use attachfs_tree::{
    BaseTree, Composed, IndexError, IndexIdentity, IndexSource, LayerOptions, Root, compose,
};

use crate::manifests::ManifestBytes;
use crate::{Error, Places};

/// A tree of fewer nodes is built about as quickly as it is opened.
const WORTH_KEEPING: usize = 10_000;
const MOST_FILES: usize = 64;
const MOST_BYTES: u64 = 1 << 30;
const SUFFIX: &str = "tree";
/// To be changed when the same layers make another tree than before; a change of the format of an index
/// has a number of its own.
const TREE_VERSION: u8 = 2;

/// What a mount stands on.
#[derive(Debug)]
pub(crate) struct MountBase {
    pub(crate) tree: Arc<BaseTree>,
    /// The hash that a diff against it names as its parent.
    pub(crate) parent: ContentHash,
    /// What is to be saved of it, once there is time.
    unsaved: Option<Unsaved>,
}

#[derive(Debug)]
struct Unsaved {
    shelf: Shelf,
    tree: Arc<BaseTree>,
    identity: IndexIdentity,
}

/// Opens the tree of a session's manifests if it was saved, and builds it otherwise; only then are the
/// manifests asked for. They are kept in `session`, or will be before the tree is looked at.
pub(crate) fn open_base<M: AsRef<[ManifestBytes]>>(
    described: &[BaseManifest],
    options: &LayerOptions,
    manifests: impl FnOnce() -> Result<M, Error>,
    session: &Path,
    places: &Places,
) -> Result<MountBase, Error> {
    let layers = key(described, options);
    let shelf = Shelf::of(places);
    if let Some(tree) = shelf.open(layers, session)
        && let Some(&IndexIdentity { composed, .. }) = tree.identity()
    {
        return Ok(MountBase {
            tree: Arc::new(tree),
            parent: composed,
            unsaved: None,
        });
    }
    let (tree, parent) = build(manifests()?.as_ref(), options)?;
    let identity = IndexIdentity {
        layers,
        composed: parent,
    };
    let unsaved = (tree.len() >= WORTH_KEEPING).then(|| Unsaved {
        shelf,
        tree: tree.clone(),
        identity,
    });
    Ok(MountBase {
        tree,
        parent,
        unsaved,
    })
}

/// As [`open_base`], of a session that is there.
pub(crate) fn base_of(session: &Session, places: &Places) -> Result<MountBase, Error> {
    let (dir, meta) = (session.dir(), session.meta());
    let manifests = || manifests_in(dir, meta);
    open_base(&meta.manifests, &meta.layers, manifests, dir, places)
}

impl MountBase {
    /// Saves the tree if it was built, on a thread of its own. The process need not wait for it.
    pub(crate) fn save_later(&mut self) -> Option<JoinHandle<()>> {
        self.unsaved.take()?.save_later()
    }
}

fn build(
    manifests: &[ManifestBytes],
    options: &LayerOptions,
) -> Result<(Arc<BaseTree>, ContentHash), Error> {
    let layers = manifests.iter().map(ManifestBytes::layer);
    let Composed { snapshot, hash } = compose(layers.collect::<Result<_, _>>()?, options)?;
    check_hashed(&snapshot)?;
    Ok((Arc::new(BaseTree::build(&snapshot)?), hash))
}

/// Fails if a file has no hash: nobody could read it.
fn check_hashed(snapshot: &Snapshot) -> Result<(), Error> {
    let is_unhashed = |node: &Node| {
        node.as_file()
            .is_some_and(|file| matches!(file.content, Content::Unhashed))
    };
    let mut unhashed = snapshot.entries().filter(|(_, node)| is_unhashed(node));
    match unhashed.next() {
        None => Ok(()),
        Some((first, _)) => Err(Error::Unhashed {
            first: first.to_owned(),
            count: 1 + unhashed.count(),
        }),
    }
}

/// The manifests that a session keeps, whoever has it.
fn manifests_in(session: &Path, meta: &SessionMeta) -> Result<Vec<ManifestBytes>, Error> {
    let bytes = Session::read_manifests(session, meta)?;
    let named = bytes.into_iter().zip(&meta.manifests);
    let whole = named.map(|(bytes, manifest)| ManifestBytes {
        name: manifest.source.clone(),
        bytes,
        at: manifest.at.clone(),
    });
    Ok(whole.collect())
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
struct Source(OwnFile);

impl IndexSource for Source {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.0.read_at(offset, len).map(Vec::from)
    }
}

/// The directory of saved trees.
#[derive(Debug, Clone)]
struct Shelf {
    dir: PathBuf,
}

impl Shelf {
    fn of(places: &Places) -> Self {
        Self {
            dir: places.cache.join("index"),
        }
    }

    fn path(&self, layers: ContentHash) -> PathBuf {
        self.dir.join(layers.to_string()).with_extension(SUFFIX)
    }

    fn open(&self, layers: ContentHash, session: &Path) -> Option<BaseTree> {
        let path = self.path(layers);
        let file = match check_own_dir(&self.dir).and_then(|()| OwnFile::open(&path)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                let error = error_chain(&error);
                tracing::info!(%error, "a saved tree is not used");
                return None;
            }
        };
        if let Err(error) = file.touch() {
            tracing::debug!(path = %path.display(), %error, "a saved tree will count as unused");
        }
        let (shelf, session) = (self.clone(), session.to_owned());
        let rebuild = move |error| shelf.rebuild(layers, &session, &error);
        match BaseTree::open(Box::new(Source(file)), layers, Box::new(rebuild)) {
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
        let path = self.path(layers);
        let error = error_chain(error);
        tracing::info!(path = %path.display(), %error, "a saved tree is damaged; it is built again");
        let built = Session::read_meta(session)
            .map_err(Error::from)
            .and_then(|meta| build(&manifests_in(session, &meta)?, &meta.layers));
        match built {
            Ok((tree, composed)) => {
                let unsaved = Unsaved {
                    shelf: self.clone(),
                    tree: tree.clone(),
                    identity: IndexIdentity { layers, composed },
                };
                // Nobody waits for it.
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

    /// Removes what was not used for longest, until the rest is within the bounds.
    fn trim(&self) -> io::Result<()> {
        let entries = self.dir.read_dir()?.collect::<io::Result<Vec<_>>>()?;
        let mut kept: Vec<_> = entries.iter().filter_map(saved).collect();
        kept.sort_unstable_by(|a, b| b.cmp(a));
        let mut bytes = 0;
        for (number, (_, len, path)) in kept.into_iter().enumerate() {
            bytes += len;
            if number >= MOST_FILES || bytes > MOST_BYTES {
                std::fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

/// When a saved tree was last used, its length and its path; nothing for any other file.
fn saved(entry: &DirEntry) -> Option<(SystemTime, u64, PathBuf)> {
    let path = entry.path();
    let meta = entry.metadata().ok()?;
    let is_tree = meta.is_file() && path.extension().is_some_and(|suffix| suffix == SUFFIX);
    is_tree.then_some((meta.modified().ok()?, meta.len(), path))
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
        let path = self.shelf.path(self.identity.layers);
        if let Err(error) = self.try_save(&path) {
            let error = error_chain(&error);
            tracing::info!(path = %path.display(), %error, "a tree is not kept");
        }
    }

    fn try_save(&self, path: &Path) -> io::Result<()> {
        let Some(index) = self.tree.index(&self.identity) else {
            return Err(io::Error::other("a part of it cannot be read any more"));
        };
        if index.size() > MOST_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        create_private_dir(&self.shelf.dir)?;
        check_own_dir(&self.shelf.dir)?;
        sweep_abandoned(&self.shelf.dir)?;
        publish(path, |file| index.write(|part| file.write_all(part)))?;
        tracing::debug!(path = %path.display(), bytes = index.size(), "kept a tree");
        self.shelf.trim()
    }
}
