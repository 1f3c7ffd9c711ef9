//! All layers over one another in one walk over their sorted entries.
//!
//! At each path the layers that have an entry for it are applied from the lowest up. What a layer
//! does to a whole directory also affects the paths below it, which come later in the walk, though
//! not at once: "a-b" lies between "a" and "a/b". So it is remembered for the directory, and only
//! where it happens:
//!
//! * a snapshot puts a file or link over a directory: everything that lower layers have below it is
//!   gone;
//! * a diff deletes a directory: what lower layers have in it must be named by the diff too;
//! * a diff needs a directory at a path where none can be, because there is a file or link at or
//!   above it.
//!
//! Errors are those of putting one layer at a time over the result of the ones before: after an error in a
//! layer, that layer and those above it are ignored, and the walk goes on, because a lower layer may still
//! fail further on. A diff's own errors count before those of the tree that it makes.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::rc::Rc;

use attachfs_manifest::wire::Manifest;
use attachfs_manifest::{
    Change, ChunkSize, DiffError, LinkTarget, ManifestPath, Node, PathRef, Snapshot,
    SnapshotBuilder, SnapshotError,
};

use super::stream::{Place, Says, Stream};
use super::{Layer, LayerError};

/// Puts layers over one another, each with its number, the lowest first. Those from `limit` on are
/// ignored.
pub(super) fn merge(
    layers: &[(usize, Layer)],
    limit: usize,
    chunk_size: ChunkSize,
) -> Result<Snapshot, LayerError> {
    let heard = layers.iter().take(limit);
    let streams = heard
        .enumerate()
        .flat_map(|(place, (_, layer))| Stream::all(place, layer));
    let mut streams: BinaryHeap<_> = streams.map(Reverse).collect();
    let most = layers.iter().map(|(_, layer)| layer.manifest_len()).sum();
    let mut merge = Merge {
        layers,
        limit,
        error: None,
        is_of_the_tree: false,
        result: SnapshotBuilder::with_capacity(most),
        covered: HashMap::new(),
        emptied: HashMap::new(),
        no_dirs: HashMap::new(),
        of_parent: (None, Rc::default()),
        above_targets: HashMap::new(),
    };
    let mut said = Vec::new();
    while let Some((place, layer, says)) = next(&mut streams) {
        said.push((layer, says));
        let path = place.path();
        while streams
            .peek()
            .is_some_and(|Reverse(next)| next.place.path() == path)
            && let Some((_, layer, says)) = next(&mut streams)
        {
            said.push((layer, says));
        }
        merge.hear(path, &mut said);
    }
    let top = layers.last().map_or(1, |(number, _)| *number);
    let failed = |source| LayerError::Snapshot { layer: top, source };
    match merge.error {
        Some(error) => Err(error),
        None => merge.result.finish(chunk_size, None).map_err(failed),
    }
}

/// The entry that comes first, and the place of its layer.
fn next<'a>(
    streams: &mut BinaryHeap<Reverse<Box<Stream<'a>>>>,
) -> Option<(Place<'a>, usize, Says)> {
    let mut first = streams.peek_mut()?;
    let layer = first.0.layer;
    let (place, says) = match first.0.advance() {
        Some(entry) => entry,
        None => {
            let Reverse(last) = PeekMut::pop(first);
            (last.place, last.says)
        }
    };
    Some((place, layer, says))
}

/// What a layer does to a path by a change further up.
#[derive(Clone, Copy)]
enum FromAbove {
    /// Something was put on a directory above.
    Covered,
    /// The directory that holds the path was deleted.
    Emptied,
}

/// The layers that do so, the lowest first.
type Coming = Rc<[(usize, FromAbove)]>;

/// By directory: what happened to it in which layers.
type ByPath<T> = HashMap<Box<[u8]>, Vec<T>>;

struct Merge<'a> {
    layers: &'a [(usize, Layer)],
    limit: usize,
    error: Option<LayerError>,
    /// Whether the error is one of the tree that the diff `limit - 1` makes.
    is_of_the_tree: bool,
    result: SnapshotBuilder,
    covered: ByPath<usize>,
    emptied: ByPath<usize>,
    /// Paths where no directory can be, with the file or link that is there or above.
    no_dirs: ByPath<(usize, ManifestPath)>,
    /// What layers did to the directory that the walk is in, or above it.
    of_parent: (Option<Box<[u8]>>, Coming),
    /// By layer: the directories above the targets of its links.
    above_targets: HashMap<usize, HashSet<Box<[u8]>>>,
}

impl Merge<'_> {
    /// Applies what the layers have for a path, and what they did further up.
    fn hear(&mut self, path: PathRef<'_>, said: &mut Vec<(usize, Says)>) {
        let from_above = self.what_comes_to(path);
        let mut from_above = from_above.iter().copied().peekable();
        let mut node = None;
        for (layer, says) in said.drain(..) {
            // A change of the path says what its own layer's deletion of the directory leaves of
            // it.
            let is_change = matches!(says, Says::Does(_));
            while let Some((above, what)) =
                from_above.next_if(|&(above, _)| above < layer || !is_change && above == layer)
            {
                node = self.pass(path, node, above, what);
            }
            while is_change && from_above.next_if(|&(above, _)| above == layer).is_some() {}
            if layer < self.limit {
                node = match says {
                    Says::Has(upper) => Some(self.overlay(path, node.as_ref(), layer, upper)),
                    Says::Does(change) => self.change(path, node, layer, change),
                    Says::LeadsOn => self.lead_on(path, node, layer),
                };
            }
        }
        for (above, what) in from_above {
            node = self.pass(path, node, above, what);
        }
        if let Some(node) = node
            && self.error.is_none()
            && let Err(source) = self.result.push(path, node)
        {
            let layer = self.layers.len().saturating_sub(1);
            self.fail(
                layer,
                LayerError::Snapshot {
                    layer: self.number(layer),
                    source,
                },
            );
        }
    }

    fn number(&self, layer: usize) -> usize {
        self.layers[layer].0
    }

    fn fail(&mut self, layer: usize, error: LayerError) {
        (self.limit, self.error, self.is_of_the_tree) = (layer, Some(error), false);
    }

    fn fail_diff(&mut self, layer: usize, source: DiffError) {
        let number = self.number(layer);
        self.fail(
            layer,
            LayerError::Diff {
                layer: number,
                source,
            },
        );
    }

    /// An error of the tree that a diff makes, unless there is an earlier one.
    fn fail_tree(&mut self, layer: usize, error: SnapshotError) {
        if !(self.is_of_the_tree && self.limit == layer + 1) {
            self.fail_diff(layer, error.into());
            (self.limit, self.is_of_the_tree) = (layer + 1, true);
        }
    }

    /// What happened to the directories above a path, the lowest layer first.
    fn what_comes_to(&mut self, path: PathRef<'_>) -> Coming {
        let Some(parent) = path.parent() else {
            return Rc::default();
        };
        if self.covered.is_empty() && self.emptied.is_empty() {
            return Rc::default();
        }
        if self.of_parent.0.as_deref() != Some(parent.as_bytes()) {
            let covered = path
                .ancestors()
                .filter_map(|above| self.covered.get(above.as_bytes()));
            let covered = covered.flatten().map(|&layer| (layer, FromAbove::Covered));
            let emptied = self.emptied.get(parent.as_bytes()).into_iter().flatten();
            let emptied = emptied.map(|&layer| (layer, FromAbove::Emptied));
            let mut all: Vec<_> = covered.chain(emptied).collect();
            all.sort_by_key(|&(layer, _)| layer);
            self.of_parent = (Some(parent.as_bytes().into()), all.into());
        }
        Rc::clone(&self.of_parent.1)
    }

    /// What happens to a path by a change further up, in a layer that has no entry for the path.
    fn pass(
        &mut self,
        path: PathRef<'_>,
        node: Option<Node>,
        layer: usize,
        what: FromAbove,
    ) -> Option<Node> {
        if layer >= self.limit {
            return node;
        }
        match (what, node) {
            (FromAbove::Covered, _) | (_, None) => None,
            (FromAbove::Emptied, node) => {
                if let Some(directory) = path.parent() {
                    let directory = directory.to_owned();
                    let path = path.to_owned();
                    self.fail_diff(layer, DiffError::NotEmpty { directory, path });
                }
                node
            }
        }
    }

    /// A snapshot's node over what lies below.
    fn overlay(
        &mut self,
        path: PathRef<'_>,
        node: Option<&Node>,
        layer: usize,
        upper: Node,
    ) -> Node {
        if node.is_some_and(Node::is_dir) && !upper.is_dir() {
            remember(&mut self.covered, path, layer);
        }
        upper
    }

    /// What is at `path` after a diff's change, where `node` was.
    fn change(
        &mut self,
        path: PathRef<'_>,
        node: Option<Node>,
        layer: usize,
        change: Change,
    ) -> Option<Node> {
        let found = node.as_ref().map_or("nothing", Node::kind);
        let put = match (change, &node) {
            (Change::DeleteDir, Some(Node::Dir)) => {
                remember(&mut self.emptied, path, layer);
                return None;
            }
            (Change::DeleteFile, Some(Node::File(_) | Node::Symlink(_))) => return None,
            // Several diffs in one delete what some of them put, and the base may not have had.
            (Change::DeleteDir | Change::DeleteFile, None) if self.names_its_parent(layer) => {
                return None;
            }
            (change @ (Change::DeleteDir | Change::DeleteFile), _) => {
                let kind = if change == Change::DeleteDir {
                    "a directory"
                } else {
                    "a file"
                };
                let path = path.to_owned();
                self.fail_diff(layer, DiffError::Delete { path, kind, found });
                return node;
            }
            (Change::Put(put), _) => put,
        };
        let in_the_way = match &node {
            Some(Node::Dir) => None,
            Some(_) => Some(path.to_owned()),
            None => self.in_the_way_above(path, layer),
        };
        if let Some(file) = &in_the_way
            && put.is_dir()
            && self.leads_to_a_target(path, layer)
        {
            remember(&mut self.no_dirs, path, (layer, file.clone()));
            return node;
        }
        if node
            .as_ref()
            .is_some_and(|found| found.is_dir() != put.is_dir())
        {
            let (path, kind) = (path.to_owned(), put.kind());
            self.fail_diff(layer, DiffError::Put { path, kind, found });
            return node;
        }
        if let (None, Some(file)) = (&node, in_the_way) {
            let path = path.to_owned();
            self.fail_tree(layer, SnapshotError::BelowFile { path, file });
        }
        Some(put)
    }

    /// What is at `path` where a diff puts something below it and does not put a directory there.
    fn lead_on(&mut self, path: PathRef<'_>, node: Option<Node>, layer: usize) -> Option<Node> {
        let file = match &node {
            Some(Node::Dir) => return node,
            Some(_) => Some(path.to_owned()),
            None => self.in_the_way_above(path, layer),
        };
        let Some(file) = file else {
            return Some(Node::Dir);
        };
        // It is an error if what is put below it is not left out too.
        remember(&mut self.no_dirs, path, (layer, file));
        node
    }

    /// The file or link above a path, after the changes of a layer that speaks of the path.
    fn in_the_way_above(&self, path: PathRef<'_>, layer: usize) -> Option<ManifestPath> {
        let no_dir = self.no_dirs.get(path.parent()?.as_bytes())?;
        let (_, file) = no_dir.iter().find(|(of, _)| *of == layer)?;
        Some(file.clone())
    }

    /// Whether the diff names its parent, which is checked elsewhere: then a deletion without effect
    /// does not mean that it was made for another base.
    fn names_its_parent(&self, layer: usize) -> bool {
        self.layers[layer].1.manifest.parent().is_some()
    }

    /// Whether a diff has a link whose target lies below a path.
    fn leads_to_a_target(&mut self, path: PathRef<'_>, layer: usize) -> bool {
        let above = self.above_targets.entry(layer).or_insert_with(|| {
            match &self.layers[layer].1.manifest {
                Manifest::Diff(diff) => above_targets(diff),
                Manifest::Snapshot(_) => HashSet::new(),
            }
        });
        above.contains(path.as_bytes())
    }
}

fn remember<T>(by_path: &mut ByPath<T>, path: PathRef<'_>, what: T) {
    match by_path.get_mut(path.as_bytes()) {
        Some(all) => all.push(what),
        None => {
            by_path.insert(path.as_bytes().into(), vec![what]);
        }
    }
}

fn above_targets(diff: &attachfs_manifest::Diff) -> HashSet<Box<[u8]>> {
    let mut above = HashSet::new();
    for (_, change) in diff.changes() {
        if let Change::Put(Node::Symlink(LinkTarget::Below(target))) = change {
            for directory in target.borrowed().ancestors() {
                if !above.insert(directory.as_bytes().into()) {
                    break;
                }
            }
        }
    }
    above
}
