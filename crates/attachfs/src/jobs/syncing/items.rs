//! What a new manifest puts where.
//!
//! ```text
//!     manifest of a root    -- Placing::parts -->    folders here with what goes into each; the rest is unmapped
//!     all new manifests     -- by local path  -->    the one that was written last keeps the path
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use attachfs_durable::slashed_bytes;
use attachfs_jobs::{JobId, ListedOutput, OutputManifest, StorageProfileId};
use attachfs_manifest::{
    ContentHash, FoldedName, LinkTarget, ManifestPath, Node, PathRef, Snapshot, SnapshotError,
};
use attachfs_paths::PathFormat;
use attachfs_transfer::Tally;

use crate::jobs::placing::{Placed, PlacedParts, Placing};

/// A new manifest.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) listed: ListedOutput,
    /// The hash of its key.
    pub(crate) hash: ContentHash,
    pub(crate) root: String,
    pub(crate) location: Option<String>,
    modified: Option<SystemTime>,
    /// What goes where; without what later manifests replace, once that was [left out](keep_latest).
    pub(crate) placed: Vec<(PathBuf, Snapshot)>,
    pub(crate) unmapped: Tally,
    /// What the rules made of the root.
    pub(crate) rules: String,
}

impl Item {
    /// What a manifest puts where.
    pub(crate) fn of(
        output: OutputManifest,
        hash: ContentHash,
        placing: &Placing,
        profile: Option<&StorageProfileId>,
    ) -> Result<Self, SnapshotError> {
        let said = output.said;
        let parts = placing.parts(&said.asset_root, said.location.as_deref(), profile);
        let (placed, unmapped) = split(output.snapshot, &parts)?;
        Ok(Self {
            listed: output.listed,
            hash,
            rules: fingerprint(&parts),
            root: said.asset_root,
            location: said.location,
            modified: output.modified,
            placed,
            unmapped,
        })
    }

    pub(crate) fn job(&self) -> JobId {
        self.listed.key.place.job
    }

    /// Files and links to be placed.
    pub(crate) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for (_, snapshot) in &self.placed {
            tally += tally_of(snapshot);
        }
        tally
    }
}

/// What the rules make of a root, in few letters.
pub(crate) fn fingerprint(parts: &PlacedParts) -> String {
    ContentHash::of(format!("{:?}", parts.parts()).as_bytes()).to_string()
}

/// Files and links, without directories.
pub(crate) fn tally_of(snapshot: &Snapshot) -> Tally {
    let mut tally = Tally::default();
    for (_, node) in snapshot.entries().filter(|(_, node)| !node.is_dir()) {
        tally.add(node.as_file().map_or(0, |file| file.size));
    }
    tally
}

type Split = (Vec<(PathBuf, Snapshot)>, Tally);

fn split(snapshot: Snapshot, parts: &PlacedParts) -> Result<Split, SnapshotError> {
    if let [only] = parts.parts() {
        return Ok(match &only.placed {
            Placed::At(folder) => (vec![(folder.clone(), snapshot)], Tally::default()),
            Placed::Unmapped => (Vec::new(), tally_of(&snapshot)),
        });
    }
    let mut entries: Vec<Vec<(ManifestPath, Node)>> = vec![Vec::new(); parts.parts().len()];
    let mut unmapped = Tally::default();
    for (path, node) in snapshot.entries() {
        let part = parts.part_of(path);
        let size = node.as_file().map_or(0, |file| file.size);
        let is_dir = node.is_dir();
        let is_placed = matches!(parts.parts()[part].placed, Placed::At(_));
        match inside(path, node, part, parts).filter(|_| is_placed) {
            Some(entry) => entries[part].push(entry),
            // The directory itself is made with what is in it.
            None if is_dir => {}
            None => unmapped.add(size),
        }
    }
    let mut placed = Vec::new();
    for (part, entries) in parts.parts().iter().zip(entries) {
        if let (Placed::At(folder), false) = (&part.placed, entries.is_empty()) {
            let inside = Snapshot::new(snapshot.chunk_size(), None, entries)?;
            placed.push((folder.clone(), inside));
        }
    }
    Ok((placed, unmapped))
}

/// An entry as one of the part that it lies in. `None` for what is the part's own directory, and for a link that leads out of the
/// part: there is no way to write where it leads.
fn inside(
    path: PathRef<'_>,
    node: Node,
    part: usize,
    parts: &PlacedParts,
) -> Option<(ManifestPath, Node)> {
    let below = |path: PathRef<'_>| {
        let depth = depth(&parts.parts()[part].below);
        let names: Vec<&[u8]> = path.components().skip(depth).collect();
        ManifestPath::new(&names.join(&b'/')).ok()
    };
    let node = match node {
        Node::Symlink(LinkTarget::Below(target)) => {
            if parts.part_of(target.borrowed()) != part {
                return None;
            }
            Node::Symlink(match below(target.borrowed()) {
                Some(target) => LinkTarget::Below(target),
                None => LinkTarget::Root,
            })
        }
        Node::Symlink(LinkTarget::Root) if !parts.parts()[part].below.is_empty() => return None,
        node => node,
    };
    Some((below(path)?, node))
}

fn depth(below: &[u8]) -> usize {
    let names = below.split(|&byte| byte == b'/');
    names.filter(|name| !name.is_empty()).count()
}

/// Puts manifests in the order in which they were written, and leaves out of each what a later one has at the same path here. Paths of a
/// root of Windows are the same if they differ in case only.
pub(crate) fn keep_latest(items: &mut [Item]) {
    items.sort_by_key(|item| (item.modified, item.listed.key.place.task.is_some()));
    let mut last: HashMap<ContentHash, (usize, usize)> = HashMap::new();
    for (number, item) in items.iter().enumerate() {
        for (folder, snapshot) in &item.placed {
            let place = Place::of(folder, &item.root);
            for (entry, (path, node)) in snapshot.entries().enumerate() {
                if !node.is_dir() {
                    last.insert(place.key(path), (number, entry));
                }
            }
        }
    }
    for (number, item) in items.iter_mut().enumerate() {
        let root = &item.root;
        for (folder, snapshot) in &mut item.placed {
            let place = Place::of(folder, root);
            let mut is_last = vec![true; snapshot.len()];
            for (entry, (path, node)) in snapshot.entries().enumerate() {
                if !node.is_dir() {
                    is_last[entry] = last.get(&place.key(path)) == Some(&(number, entry));
                }
            }
            if is_last.contains(&false) {
                let lost: Vec<ManifestPath> = snapshot
                    .entries()
                    .zip(&is_last)
                    .filter(|(_, is_last)| !**is_last)
                    .map(|((path, _), _)| path.to_owned())
                    .collect();
                *snapshot = snapshot.filter(|path, _| {
                    let found = lost.binary_search_by(|lost| lost.borrowed().cmp(&path));
                    found.is_err()
                });
            }
        }
    }
}

/// A folder whose paths are compared.
struct Place {
    folder: Vec<u8>,
    is_folded: bool,
}

impl Place {
    fn of(folder: &Path, root: &str) -> Self {
        let mut folder = slashed_bytes(folder).into_owned();
        if !folder.ends_with(b"/") {
            folder.push(b'/');
        }
        Self {
            folder,
            is_folded: PathFormat::of_root(root) == PathFormat::Windows,
        }
    }

    fn key(&self, path: PathRef<'_>) -> ContentHash {
        let mut whole = self.folder.clone();
        if self.is_folded {
            whole.extend_from_slice(&FoldedName::of(path.as_bytes()).into_bytes());
        } else {
            whole.extend_from_slice(path.as_bytes());
        }
        ContentHash::of(&whole)
    }
}
