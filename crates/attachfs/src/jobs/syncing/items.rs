//! What a new manifest puts where.
//!
//! ```text
//!     manifest of a root    -- Placing::parts -->    folders here with what goes into each; the rest is unmapped
//!     all new manifests     -- by local path  -->    the one that was written last keeps the path
//! ```

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use attachfs_durable::{path_bytes, slashed_bytes};
use attachfs_jobs::{JobId, ListedOutput, OutputManifest, StorageProfileId};
use attachfs_manifest::{
    ContentHash, EscapedBytes, FoldedName, LinkTarget, ManifestPath, Node, PathRef, Snapshot,
    SnapshotError,
};
use attachfs_paths::PathFormat;
use attachfs_transfer::{Failed, Tally};

use super::checkpoint::{Waiting, Why};
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
    /// What later manifests replace.
    pub(crate) replaced: Vec<(PathBuf, Snapshot)>,
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
            replaced: Vec::new(),
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
/// root of Windows are the same if they differ in case only; of one manifest nothing is left out, whatever its paths are.
pub(crate) fn keep_latest(items: &mut [Item]) {
    items.sort_by_key(|item| (item.modified, item.listed.key.place.task.is_some()));
    let mut last: HashMap<ContentHash, usize> = HashMap::new();
    for (number, item) in items.iter().enumerate() {
        for (folder, snapshot) in &item.placed {
            let place = Place::of(folder, &item.root);
            for (path, _) in snapshot.entries().filter(|(_, node)| !node.is_dir()) {
                last.insert(place.key(path), number);
            }
        }
    }
    for (number, item) in items.iter_mut().enumerate() {
        for (folder, snapshot) in &mut item.placed {
            let place = Place::of(folder, &item.root);
            let is_replaced = |key| last.get(&key).is_some_and(|last| *last != number);
            let files = snapshot.entries().filter(|(_, node)| !node.is_dir());
            let lost: Vec<ManifestPath> = files
                .filter(|(path, _)| is_replaced(place.key(*path)))
                .map(|(path, _)| path.to_owned())
                .collect();
            if !lost.is_empty() {
                let is_lost = |path: PathRef<'_>| {
                    let found = lost.binary_search_by(|lost| lost.borrowed().cmp(&path));
                    found.is_ok()
                };
                let replaced = snapshot.filter(|path, _| is_lost(path));
                *snapshot = snapshot.filter(|path, _| !is_lost(path));
                item.replaced.push((folder.clone(), replaced));
            }
        }
    }
}

/// The paths here that failed, by their keys, and whether what should be there is given up.
pub(crate) type Lost = HashMap<ContentHash, bool>;

impl Item {
    /// Notes which paths of what was placed of it these failures are of, be it by a directory above.
    pub(crate) fn note_lost(
        &self,
        placed: &[(PathBuf, Snapshot)],
        failed: &[Failed],
        is_given_up: bool,
        lost: &mut Lost,
    ) {
        let paths: HashSet<&str> = failed.iter().map(|of| of.path.as_str()).collect();
        for (folder, snapshot) in placed {
            let place = Place::of(folder, &self.root);
            for (path, _) in snapshot.entries().filter(|(_, node)| !node.is_dir()) {
                let whole = whole(folder, &path.to_string());
                let above = whole.match_indices('/').map(|(at, _)| &whole[..at]);
                if above.chain([&*whole]).any(|path| paths.contains(path)) {
                    lost.insert(place.key(path), is_given_up);
                }
            }
        }
    }

    /// What is placed after all, since what replaced it is given up; and whether something else of it waits for what replaced it.
    pub(crate) fn instead(&self, lost: &mut Lost) -> (Vec<(PathBuf, Snapshot)>, bool) {
        let (mut instead, mut waits) = (Vec::new(), false);
        for (folder, snapshot) in &self.replaced {
            let place = Place::of(folder, &self.root);
            let mut mine = HashSet::new();
            for (path, _) in snapshot.entries().filter(|(_, node)| !node.is_dir()) {
                let key = place.key(path);
                match lost.get(&key) {
                    Some(true) => {
                        mine.insert(key);
                    }
                    Some(false) => waits = true,
                    None => {}
                }
            }
            if !mine.is_empty() {
                let of_mine = snapshot.filter(|path, _| mine.contains(&place.key(path)));
                instead.push((folder.clone(), of_mine));
                lost.retain(|key, _| !mine.contains(key));
            }
        }
        (instead, waits)
    }

    /// What is noted of it if files of it have no place here.
    pub(crate) fn unmapped(&self) -> Waiting {
        Waiting {
            key: key_of(&self.listed),
            job: self.job(),
            why: Why::Unmapped {
                root: self.root.clone(),
                location: self.location.clone(),
                rules: self.rules.clone(),
                files: self.unmapped.count,
                bytes: self.unmapped.bytes,
            },
        }
    }
}

/// A path below a folder, as failures name it.
pub(crate) fn whole(folder: &Path, path: &str) -> String {
    let folder = EscapedBytes(path_bytes(folder)).to_string();
    format!("{}/{path}", folder.trim_end_matches('/'))
}

pub(crate) fn key_of(one: &ListedOutput) -> String {
    let key = one.key.manifest_key();
    key.unwrap_or_else(|error| unreachable!("it was read from a key: {error}"))
        .to_string()
}

pub(crate) fn hash_of(one: &ListedOutput) -> ContentHash {
    ContentHash::of(key_of(one).as_bytes())
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
