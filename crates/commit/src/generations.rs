//! Several commits of one session: the diff of the second is relative to the result of the first.
//!
//! Manifests that were added to the mount meanwhile change what lies below. As long as the earlier diffs can be laid over that, the next
//! commit goes on from them. Where they cannot (a diff puts a file into a directory, and the added manifest has a file in the place of that directory), the next commit starts over: it
//! says everything that the session changed, relative to the manifests that are shown. Readers then leave the
//! earlier diffs out.

use std::collections::{BTreeSet, HashSet};

use attachfs_durable::read_own_file;
use attachfs_manifest::wire::{Format, encode_snapshot};
use attachfs_manifest::{Change, ContentHash, Diff, LinkTarget, ManifestPath, Node};
use attachfs_session::{Session, SessionError};
use attachfs_tree::{Composed, Layer, LayerOptions, LayeredBase, compose};

use crate::error::CommitError;
use crate::node::{Changes, base_at};
use crate::plan::Left;
use crate::readback::read_back;

/// A path whose node changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeChange {
    pub(crate) path: ManifestPath,
    pub(crate) before: Option<Node>,
    pub(crate) after: Option<Node>,
}

impl NodeChange {
    /// The changes of a diff for this: a change of kind is a deletion and a new node.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (ManifestPath, Change)> {
        let stays_dir = |before: &Node| {
            self.after
                .as_ref()
                .map(|after| after.is_dir() == before.is_dir())
        };
        let delete = match &self.before {
            Some(before) if stays_dir(before) != Some(true) => Some(if before.is_dir() {
                Change::DeleteDir
            } else {
                Change::DeleteFile
            }),
            _ => None,
        };
        let put = self.after.clone().map(Change::Put);
        delete
            .into_iter()
            .chain(put)
            .map(|change| (self.path.clone(), change))
    }
}

/// The result of an earlier commit of the session, relative to the base.
#[derive(Debug, Default)]
pub(crate) struct Before {
    total: Changes,
    /// The first of the commits that the next one goes on from. `None`: it says everything.
    since: Option<u32>,
}

impl Before {
    /// The result of the last of the commits that came to their end, whose numbers these are.
    pub(crate) fn load(
        session: &Session,
        earlier: &[u32],
        tree: &LayeredBase,
    ) -> Result<Self, CommitError> {
        let Some(&last) = earlier.last() else {
            return Ok(Self::default());
        };
        let total = read_total(session, last)?;
        let since = goes_on_since(session, earlier, tree, &total)?;
        Ok(Self { total, since })
    }

    /// The first of the commits that the next one goes on from.
    pub(crate) fn since(&self) -> Option<u32> {
        self.since
    }

    /// The node that readers of the earlier commits have at a path.
    pub(crate) fn at(&self, tree: &LayeredBase, path: &ManifestPath) -> Option<Node> {
        match self.read().get(path) {
            Some(node) => node.clone(),
            None => base_at(tree, path),
        }
    }

    /// The changes that readers of the earlier commits see, relative to the base.
    fn read(&self) -> &Changes {
        const NOTHING: &Changes = &Changes::new();
        match self.since {
            Some(_) => &self.total,
            None => NOTHING,
        }
    }

    /// These changes relative to the base, where what is left out stays as it is here, and with the
    /// directories that the manifest will list for the sake of its links.
    pub(crate) fn keep(
        &self,
        tree: &LayeredBase,
        changes: impl IntoIterator<Item = (ManifestPath, Option<Node>)>,
        left: &Left,
    ) -> Changes {
        let mut now: Changes = changes.into_iter().collect();
        for path in &left.paths {
            if let Some(node) = self.total.get(path) {
                now.insert(path.clone(), node.clone());
            }
        }
        let put = now.iter().filter(|(_, node)| node.is_some());
        let leading = dirs_above(put.map(|(path, _)| path));
        for (path, node) in &self.total {
            // If something is put into a directory of the base that exists again, the directory is
            // no change any more.
            let is_back = !matches!(node, Some(Node::Dir)) && leading.contains(path);
            if left.is_outside(path) && !now.contains_key(path) && !is_back {
                now.insert(path.clone(), node.clone());
            }
        }
        self.keep_dirs_above(tree, left, &mut now);
        add_above_targets(tree, &mut now);
        now
    }

    /// Keeps the directories that an earlier commit made where something in them is kept that patterns leave out.
    fn keep_dirs_above(&self, tree: &LayeredBase, left: &Left, now: &mut Changes) {
        let kept = self.total.iter().filter(|(path, node)| {
            node.is_some() && left.is_outside(path) && now.get(*path) == Some(*node)
        });
        for dir in dirs_above(kept.map(|(path, _)| path)) {
            let was_made = self.total.get(&dir) == Some(&Some(Node::Dir));
            if was_made && !now.contains_key(&dir) && base_at(tree, &dir) != Some(Node::Dir) {
                now.insert(dir, Some(Node::Dir));
            }
        }
    }

    /// The changes from the result of the earlier commits to the base with `now` applied.
    pub(crate) fn node_changes(&self, tree: &LayeredBase, now: &Changes) -> Vec<NodeChange> {
        let paths: BTreeSet<&ManifestPath> = self.read().keys().chain(now.keys()).collect();
        let change = |path: &ManifestPath| NodeChange {
            path: path.clone(),
            before: self.at(tree, path),
            after: now
                .get(path)
                .cloned()
                .unwrap_or_else(|| base_at(tree, path)),
        };
        paths
            .into_iter()
            .map(change)
            .filter(|change| change.before != change.after)
            .collect()
    }
}

/// All directories above some paths. Each is looked at once: thousands of links may lead far down in the same ones.
fn dirs_above<'a>(paths: impl Iterator<Item = &'a ManifestPath>) -> HashSet<ManifestPath> {
    let mut above = HashSet::new();
    for path in paths {
        let _known = path.ancestors().find(|dir| !above.insert(dir.clone()));
    }
    above
}

/// Adds the missing directories above the targets of links. A manifest names a target by listing its
/// directories, and every reader makes them, so the session has to remember them too.
fn add_above_targets(tree: &LayeredBase, now: &mut Changes) {
    let targets = now.values().filter_map(|node| match node {
        Some(Node::Symlink(LinkTarget::Below(target))) => Some(target),
        _ => None,
    });
    let mut above: Vec<ManifestPath> = dirs_above(targets).into_iter().collect();
    // In order, so that everything above a path is decided before the path.
    above.sort_unstable();
    let mut no_directory: HashSet<ManifestPath> = HashSet::new();
    for path in above {
        let found = match now.get(&path) {
            Some(node) => node.clone(),
            None => base_at(tree, &path),
        };
        let is_below_a_file = path.parent().is_some_and(|dir| no_directory.contains(&dir));
        match found {
            Some(Node::Dir) => {}
            None if !is_below_a_file => {
                now.insert(path, Some(Node::Dir));
            }
            None | Some(Node::File(_) | Node::Symlink(_)) => {
                no_directory.insert(path);
            }
        }
    }
}

/// Encodes changes relative to the base as a file of the session: a hash of the rest, then a list
/// of paths and nodes.
pub(crate) fn encode_total(total: &Changes) -> Vec<u8> {
    let list: Vec<_> = total.iter().collect();
    let payload = postcard::to_stdvec(&list)
        .expect("paths and nodes are plain data, which postcard can always write");
    let mut bytes = ContentHash::of(&payload).as_bytes().to_vec();
    bytes.extend(payload);
    bytes
}

/// Whether everything that was committed up to a commit can be read.
pub fn check_total(session: &Session, generation: u32) -> Result<(), CommitError> {
    read_total(session, generation).map(drop)
}

pub(crate) fn read_total(session: &Session, generation: u32) -> Result<Changes, CommitError> {
    let path = session.commit_total(generation);
    let bytes = read_own_file(&path).map_err(SessionError::from)?;
    let damaged = || CommitError::Damaged(format!("{} is not what was written", path.display()));
    let (hash, payload) = bytes.split_first_chunk().ok_or_else(damaged)?;
    if ContentHash::of(payload) != ContentHash::from_bytes(*hash) {
        return Err(damaged());
    }
    let list: Vec<(ManifestPath, Option<Node>)> =
        postcard::from_bytes(payload).map_err(|source| CommitError::Total {
            path: path.display().to_string(),
            source,
        })?;
    Ok(list.into_iter().collect())
}

/// The diff with these changes.
pub(crate) fn diff_of(
    tree: &LayeredBase,
    node_changes: &[NodeChange],
    parent: Option<ContentHash>,
) -> Result<Diff, CommitError> {
    let changes = node_changes.iter().flat_map(NodeChange::changes);
    Ok(Diff::new(tree.chunk_size(), parent, changes)?)
}

/// The first of the commits from which their diffs can be laid over what is shown, and make `total` of it.
fn goes_on_since(
    session: &Session,
    earlier: &[u32],
    tree: &LayeredBase,
    total: &Changes,
) -> Result<Option<u32>, CommitError> {
    // Where a number is missing the session may have lost a commit, or was made to begin anew.
    if tree.layers() == 1
        && earlier
            .iter()
            .zip(1..)
            .all(|(&number, place)| number == place)
    {
        return Ok(Some(1));
    }
    let read = |&number: &u32| read_own_file(&session.commit_manifest(number));
    let manifests: Result<Vec<_>, _> = earlier.iter().map(read).collect();
    let manifests = manifests.map_err(SessionError::from)?;
    // Usually all of them can; if not, the last commit that started over is not long ago.
    for first in std::iter::once(0).chain((1..manifests.len()).rev()) {
        if let Some((last, before)) = manifests[first..].split_last() {
            match read_back(tree, before, last, total) {
                Ok(()) => return Ok(Some(earlier[first])),
                Err(CommitError::Unreadable(_) | CommitError::Differs(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(None)
}

/// The hash that the next diff names as its parent: of the manifests that are mounted, with what the earlier commits
/// that it goes on from made of them.
pub(crate) fn parent_hash(
    session: &Session,
    layers: &[Vec<u8>],
    tree: &LayeredBase,
    before: &Before,
) -> Result<ContentHash, CommitError> {
    if before.since.is_none() && layers.is_empty() {
        return Ok(session.meta().parent);
    }
    let node_changes = Before::default().node_changes(tree, before.read());
    let snapshot = compose_base(session, layers)?.snapshot;
    let snapshot = snapshot.apply(&diff_of(tree, &node_changes, None)?)?;
    Ok(ContentHash::of(&encode_snapshot(
        &snapshot,
        Format::V2025_12,
    )?))
}

/// The session's manifests as one, with the layers that were added since.
pub(crate) fn compose_base(session: &Session, layers: &[Vec<u8>]) -> Result<Composed, CommitError> {
    let manifests = session.manifests()?;
    let mounted = manifests.iter().zip(&session.meta().manifests);
    let mounted = mounted.map(|(bytes, manifest)| Layer::decode(bytes, manifest.at.clone()));
    let added = layers.iter().map(|bytes| Layer::decode(bytes, None));
    let layers = mounted.chain(added);
    let options = LayerOptions {
        // The parents were checked when they were mounted.
        ignore_parent: true,
        ..session.meta().layers.clone()
    };
    Ok(compose(layers.collect::<Result<_, _>>()?, &options)?)
}
