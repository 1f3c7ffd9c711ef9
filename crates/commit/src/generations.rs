//! Several commits of one session: what the second says is relative to what the first left.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use attachfs_durable::read_own_file;
use attachfs_manifest::wire::{Format, encode_snapshot};
use attachfs_manifest::{Change, ContentHash, Diff, LinkTarget, ManifestPath, Node};
use attachfs_session::{Session, SessionError};
use attachfs_tree::{Composed, Layer, LayerOptions, LayeredBase, compose};

use crate::CommitError;
use crate::node::base_at;
use crate::plan::Left;

/// What stands at each changed path afterwards; `None` where nothing does.
pub(crate) type Changes = BTreeMap<ManifestPath, Option<Node>>;

/// A path whose node is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) path: ManifestPath,
    pub(crate) before: Option<Node>,
    pub(crate) after: Option<Node>,
}

impl Step {
    /// The same as a diff says it: a change of kind is a deletion and a new node.
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

/// What an earlier commit of the session left, relative to the base.
#[derive(Debug, Default)]
pub(crate) struct Before {
    total: Changes,
}

impl Before {
    /// The changes themselves.
    pub(crate) fn into_total(self) -> Changes {
        self.total
    }

    /// What commit `generation` left; nothing for 0.
    pub(crate) fn load(session: &Session, generation: u32) -> Result<Self, CommitError> {
        if generation == 0 {
            return Ok(Self::default());
        }
        Ok(Self {
            total: read_total(session, generation)?,
        })
    }

    /// What stands at a path.
    fn at(&self, tree: &LayeredBase, path: &ManifestPath) -> Option<Node> {
        match self.total.get(path) {
            Some(node) => node.clone(),
            None => base_at(tree, path),
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
        let leading: HashSet<_> = put.flat_map(|(path, _)| path.ancestors()).collect();
        for (path, node) in &self.total {
            // Where a directory of the base stands again and something is put into it, it is back.
            let is_back = !matches!(node, Some(Node::Dir)) && leading.contains(path);
            if left.is_outside(path) && !now.contains_key(path) && !is_back {
                now.insert(path.clone(), node.clone());
            }
        }
        add_above_targets(tree, &mut now);
        now
    }

    /// From what was here to what changes relative to the base make of it.
    pub(crate) fn steps(&self, tree: &LayeredBase, now: &Changes) -> Vec<Step> {
        let paths: BTreeSet<&ManifestPath> = self.total.keys().chain(now.keys()).collect();
        let step = |path: &ManifestPath| Step {
            path: path.clone(),
            before: self.at(tree, path),
            after: now
                .get(path)
                .cloned()
                .unwrap_or_else(|| base_at(tree, path)),
        };
        paths
            .into_iter()
            .map(step)
            .filter(|step| step.before != step.after)
            .collect()
    }
}

/// Adds the directories above the targets of links, where nothing is. A manifest lists them, because
/// that is how it names a target, and whoever reads it makes them: what the session remembers must be
/// what readers have.
fn add_above_targets(tree: &LayeredBase, now: &mut Changes) {
    let targets = now.values().filter_map(|node| match node {
        Some(Node::Symlink(LinkTarget::Below(target))) => Some(target),
        _ => None,
    });
    let above: BTreeSet<ManifestPath> = targets.flat_map(ManifestPath::ancestors).collect();
    // In order, so that what lies above a path is known when it is looked at.
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

/// Changes relative to the base as a file of the session: the hash of what follows, then a list of
/// path and node.
pub(crate) fn encode_total(total: &Changes) -> Vec<u8> {
    let list: Vec<_> = total.iter().collect();
    let payload = postcard::to_stdvec(&list)
        .expect("paths and nodes are plain data, which postcard can always write");
    let mut bytes = ContentHash::of(&payload).as_bytes().to_vec();
    bytes.extend(payload);
    bytes
}

fn read_total(session: &Session, generation: u32) -> Result<Changes, CommitError> {
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

/// Steps as the diff of a manifest.
pub(crate) fn diff_of(
    tree: &LayeredBase,
    steps: &[Step],
    parent: Option<ContentHash>,
) -> Result<Diff, CommitError> {
    let changes = steps.iter().flat_map(Step::changes);
    Ok(Diff::new(tree.chunk_size(), parent, changes)?)
}

/// The hash that the diff of commit `generation` names as its parent: of the manifests that are
/// mounted, with what earlier commits made of them.
pub(crate) fn parent_hash(
    session: &Session,
    layers: &[Vec<u8>],
    tree: &LayeredBase,
    generation: u32,
) -> Result<ContentHash, CommitError> {
    if generation <= 1 && layers.is_empty() {
        return Ok(session.meta().parent);
    }
    let total = match generation {
        0 | 1 => Changes::default(),
        later => read_total(session, later - 1)?,
    };
    let steps = Before::default().steps(tree, &total);
    let snapshot = compose_base(session, layers)?.snapshot;
    let snapshot = snapshot.apply(&diff_of(tree, &steps, None)?)?;
    Ok(ContentHash::of(&encode_snapshot(
        &snapshot,
        Format::V2025_12,
    )?))
}

/// The session's manifests as one, with what was laid over them since.
pub(crate) fn compose_base(session: &Session, layers: &[Vec<u8>]) -> Result<Composed, CommitError> {
    let manifests = session.manifests()?;
    let mounted = manifests.iter().zip(&session.meta().manifests);
    let mounted = mounted.map(|(bytes, manifest)| Layer::decode(bytes, manifest.at.clone()));
    let added = layers.iter().map(|bytes| Layer::decode(bytes, None));
    let layers = mounted.chain(added);
    let options = LayerOptions {
        // They were looked at when they were mounted.
        ignore_parent: true,
        ..session.meta().layers.clone()
    };
    Ok(compose(layers.collect::<Result<_, _>>()?, &options)?)
}
