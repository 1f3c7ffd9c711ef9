//! The entries of a layer, in order, where the layer is placed.

use std::cmp::Ordering;
use std::collections::HashSet;

use attachfs_manifest::wire::Manifest;
use attachfs_manifest::{
    Change, Diff, LinkTarget, ManifestPath, Node, PathError, PathRef, Snapshot,
};

use super::Layer;

/// A path that is in a manifest, or was made of one.
pub(super) enum Place<'a> {
    There(PathRef<'a>),
    Made(ManifestPath),
}

impl Place<'_> {
    pub(super) fn path(&self) -> PathRef<'_> {
        match self {
            Self::There(path) => *path,
            Self::Made(path) => path.borrowed(),
        }
    }
}

/// What a layer has for a path.
pub(super) enum Says {
    /// A snapshot has this there.
    Has(Node),
    /// A diff does this.
    Does(Change),
    /// A diff puts something below this path, and has nothing for the path itself or deletes it: a
    /// directory will be there.
    LeadsOn,
}

type Entries<'a> = Box<dyn Iterator<Item = (Place<'a>, Says)> + 'a>;

/// The entries of a layer that are left, and the next of them. Streams are ordered by the path of the
/// next entry, then by layer; of one diff, changes come before the directories that they need.
pub(super) struct Stream<'a> {
    pub(super) place: Place<'a>,
    pub(super) says: Says,
    /// The place in the list of layers.
    pub(super) layer: usize,
    is_lead: bool,
    rest: Entries<'a>,
}

impl<'a> Stream<'a> {
    fn start(layer: usize, is_lead: bool, mut rest: Entries<'a>) -> Option<Box<Self>> {
        let (place, says) = rest.next()?;
        Some(Box::new(Self {
            place,
            says,
            layer,
            is_lead,
            rest,
        }))
    }

    /// The streams of a layer: one, or two of a diff.
    pub(super) fn all(number: usize, layer: &'a Layer) -> impl Iterator<Item = Box<Self>> {
        let (first, second): (Entries<'a>, Option<Entries<'a>>) = match (&layer.manifest, &layer.at)
        {
            (Manifest::Snapshot(snapshot), None) => {
                let entries = snapshot.entries();
                let there = entries.map(|(path, node)| (Place::There(path), Says::Has(node)));
                (Box::new(there), None)
            }
            (Manifest::Snapshot(snapshot), Some(at)) => (Box::new(placed(snapshot, at)), None),
            (Manifest::Diff(diff), _) => {
                let changes = diff.changes();
                let does = changes.map(|(path, change)| (Place::There(path), Says::Does(change)));
                let leads = leads(diff).into_iter();
                let leads = leads.map(|path| (Place::There(path), Says::LeadsOn));
                (Box::new(does), Some(Box::new(leads)))
            }
        };
        let second = second.and_then(|leads| Self::start(number, true, leads));
        Self::start(number, false, first).into_iter().chain(second)
    }

    /// Goes on to the next entry and gives the one before; only that if it was the last.
    pub(super) fn advance(&mut self) -> Option<(Place<'a>, Says)> {
        let next = self.rest.next()?;
        let place = std::mem::replace(&mut self.place, next.0);
        Some((place, std::mem::replace(&mut self.says, next.1)))
    }
}

impl PartialEq for Stream<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Stream<'_> {}

impl PartialOrd for Stream<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Stream<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_path = self.place.path().cmp(&other.place.path());
        by_path.then_with(|| (self.layer, self.is_lead).cmp(&(other.layer, other.is_lead)))
    }
}

/// The directories above what a diff puts that it does not put itself, in order.
fn leads(diff: &Diff) -> Vec<PathRef<'_>> {
    let mut seen: HashSet<PathRef<'_>> = HashSet::new();
    let mut leads = Vec::new();
    let mut last = None;
    let is_put = |change: &Change| matches!(change, Change::Put(_));
    for (path, change) in diff.changes() {
        if !is_put(&change) || path.parent() == last {
            continue;
        }
        last = path.parent();
        for above in path.ancestors() {
            if !seen.insert(above) {
                break;
            }
            if !diff.at(above).any(|change| is_put(&change)) {
                leads.push(above);
            }
        }
    }
    leads.sort_unstable();
    leads
}

/// A snapshot's entries moved below `at`, which [`check_fit`] allowed.
fn placed<'a>(
    snapshot: &'a Snapshot,
    at: &'a ManifestPath,
) -> impl Iterator<Item = (Place<'a>, Says)> {
    let mut above: Vec<_> = at.ancestors().collect();
    above.reverse();
    above.push(at.clone());
    let above = above
        .into_iter()
        .map(|path| (Place::Made(path), Says::Has(Node::Dir)));
    let below = snapshot.entries().filter_map(|(path, node)| {
        let path = path.to_owned().below(at).ok()?;
        Some((Place::Made(path), Says::Has(moved(node, at).ok()?)))
    });
    above.chain(below)
}

fn moved(node: Node, at: &ManifestPath) -> Result<Node, PathError> {
    Ok(match node {
        Node::Symlink(LinkTarget::Root) => Node::Symlink(LinkTarget::Below(at.clone())),
        Node::Symlink(LinkTarget::Below(target)) => {
            Node::Symlink(LinkTarget::Below(target.below(at)?))
        }
        node => node,
    })
}

/// Checks that paths and targets stay valid when they are moved below `at`. Only their length can
/// forbid it, so checking the longest is enough.
pub(super) fn check_fit(
    snapshot: &Snapshot,
    at: &ManifestPath,
) -> Result<(), (ManifestPath, PathError)> {
    let mut longest: Option<PathRef<'_>> = None;
    let mut longest_target: Option<ManifestPath> = None;
    for (path, node) in snapshot.entries() {
        if longest.is_none_or(|longest| path.as_bytes().len() > longest.as_bytes().len()) {
            longest = Some(path);
        }
        if let Node::Symlink(LinkTarget::Below(target)) = node {
            let len = |path: &ManifestPath| path.as_bytes().len();
            if longest_target
                .as_ref()
                .is_none_or(|longest| len(&target) > len(longest))
            {
                longest_target = Some(target);
            }
        }
    }
    let longest = longest.map(PathRef::to_owned);
    if [longest, longest_target]
        .into_iter()
        .flatten()
        .all(|path| path.below(at).is_ok())
    {
        return Ok(());
    }
    for (path, node) in snapshot.entries() {
        let path = path.to_owned();
        if let Err(error) = moved(node, at).and_then(|_| path.below(at)) {
            return Err((path, error));
        }
    }
    Ok(())
}
