//! What is to be done, decided from what is wanted and what is there. Pure.
//!
//! ```text
//!     dirs         parents first
//!     files        whether the place is free, holds what may be the same file, or something else
//!     links
//!     swaps        what a diff deletes to put something else in its place, by what is put there
//!     deletions    what lies deepest first
//! ```
//!
//! What stands in a file's way is decided in two steps: a file of the right length has to be read before
//! anybody knows whether it is the same. [`resolve`](super::conflict::resolve) is the second step.

use std::collections::{BTreeMap, HashSet};

use attachfs_durable::FileStamp;
use attachfs_manifest::{Change, Content, LinkTarget, ManifestPath, Node};

use super::conflict::{Conflict, Occupant, Resolution, resolve};
use super::step::{Deletion, FileStep, LinkStep, Place, Swap};

const BEHIND_LINK: &str = "a directory above it is a symbolic link here, which is not followed";

/// Something that is wanted, and what is at its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SurveyedChange {
    pub(super) path: ManifestPath,
    pub(super) change: Change,
    pub(super) found: PathState,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PathState {
    Nothing,
    Dir(FileStamp),
    /// A file, and how many names it has.
    File(FileStamp, u64),
    /// A symbolic link that leads there, if that is in the root, and how many names it has.
    Link(Option<LinkTarget>, FileStamp, u64),
    Other,
    /// Nothing: something above it is no directory.
    InNoDirectory,
    /// Nobody looks: a directory above it is a symbolic link.
    BehindLink,
    /// Nobody can tell, because of something above it.
    Unreachable(String),
}

/// What is to be done. Every entry is in it once, or there already.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) dirs: Vec<ManifestPath>,
    pub(super) files: Vec<FileStep>,
    pub(super) links: Vec<LinkStep>,
    /// By the path at which something is deleted and something else is put.
    pub(super) swaps: BTreeMap<ManifestPath, Swap>,
    pub(super) deletions: Vec<Deletion>,
    /// What cannot be put, and why. Of files and links their lengths.
    pub(super) failed: Vec<(ManifestPath, Option<u64>, String)>,
    /// What cannot be deleted, and why.
    pub(super) not_deleted: Vec<(ManifestPath, String)>,
    /// Deletions that find something else than they mean, and what.
    pub(super) left: Vec<(ManifestPath, &'static str)>,
    /// Links that are there.
    pub(super) links_there: u64,
}

/// Decides. `entries` are in the order of their paths, a deletion before a put of the same path.
pub(super) fn plan(entries: Vec<SurveyedChange>, deletes: bool) -> Plan {
    let (mut swapped, mut kept) = (HashSet::new(), HashSet::new());
    if deletes {
        swapped = self::swapped(&entries);
        kept = self::kept(&entries, &swapped);
    }
    // Never two: below what is replaced nothing is put that was there.
    let swap_of = |path: &ManifestPath| {
        if swapped.is_empty() {
            return None;
        }
        let mut at_or_above = std::iter::once(path.clone()).chain(path.ancestors());
        at_or_above.find(|at| swapped.contains(at))
    };
    let mut plan = Plan::default();
    let mut links_there: HashSet<ManifestPath> = HashSet::new();
    let mut entries = entries.into_iter().peekable();
    while let Some(entry) = entries.next() {
        let swap = swap_of(&entry.path);
        let is_put_too = entries.peek().is_some_and(|next| next.path == entry.path);
        match &entry.change {
            Change::DeleteDir | Change::DeleteFile if !deletes => {}
            // What the diff wants to go is gone, and what it puts there is there or in conflict.
            Change::DeleteDir | Change::DeleteFile if is_put_too && swap.is_none() => {}
            Change::DeleteDir | Change::DeleteFile => {
                // The directory that it was in is gone, and a link of the diff is there.
                let is_gone = entry.found == PathState::BehindLink
                    && entry
                        .path
                        .ancestors()
                        .any(|above| links_there.contains(&above));
                if !is_gone {
                    plan.delete(entry, swap, &kept);
                }
            }
            Change::Put(node) => {
                if matches!(
                    (node, &entry.found),
                    (Node::Symlink(_), PathState::Link(..))
                ) {
                    links_there.insert(entry.path.clone());
                }
                plan.put(entry.path, node.clone(), entry.found, swap);
            }
        }
    }
    for swap in plan.swaps.values_mut() {
        swap.deletions.reverse();
    }
    plan.deletions.reverse();
    plan
}

/// Paths where a diff deletes one thing that is there and puts another.
fn swapped(entries: &[SurveyedChange]) -> HashSet<ManifestPath> {
    let pairs = entries.windows(2).filter(|pair| {
        let [deleted, put] = pair else { return false };
        deleted.path == put.path
            && match (&deleted.change, &put.change) {
                (Change::DeleteDir, Change::Put(Node::File(_) | Node::Symlink(_))) => {
                    matches!(deleted.found, PathState::Dir(_))
                }
                (Change::DeleteFile, Change::Put(Node::Dir)) => {
                    matches!(deleted.found, PathState::File(..) | PathState::Link(..))
                }
                _ => false,
            }
    });
    pairs.map(|pair| pair[0].path.clone()).collect()
}

/// What is at the paths of what is put and stays: the device and number of each inode. Where names differ
/// in nothing but case, what is put may be what is deleted. What has several names is deleted under one of
/// them and stays under the others.
fn kept(entries: &[SurveyedChange], swapped: &HashSet<ManifestPath>) -> HashSet<(u64, u64)> {
    let puts = entries
        .iter()
        .filter(|entry| entry.change.as_put().is_some() && !swapped.contains(&entry.path));
    let stamps = puts.filter_map(|entry| match &entry.found {
        PathState::Dir(stamp) | PathState::File(stamp, 1) | PathState::Link(_, stamp, 1) => {
            Some(stamp)
        }
        _ => None,
    });
    stamps.map(|stamp| (stamp.dev, stamp.ino)).collect()
}

/// How many bytes so many take in blocks of the file system.
pub(super) fn in_blocks(bytes: u64, block: u64) -> u64 {
    let block = block.max(1);
    bytes.div_ceil(block).saturating_mul(block)
}

impl Plan {
    fn delete(
        &mut self,
        entry: SurveyedChange,
        swap: Option<ManifestPath>,
        kept: &HashSet<(u64, u64)>,
    ) {
        let SurveyedChange {
            path,
            change,
            found,
        } = entry;
        let is_dir = change == Change::DeleteDir;
        let stamp = match found {
            PathState::Nothing | PathState::InNoDirectory => return,
            PathState::Unreachable(why) => return self.not_deleted.push((path, why)),
            PathState::BehindLink => return self.left.push((path, BEHIND_LINK)),
            PathState::Dir(stamp) if is_dir => stamp,
            PathState::File(stamp, _) | PathState::Link(_, stamp, _) if !is_dir => stamp,
            PathState::Dir(_) => return self.left.push((path, "it is a directory now")),
            PathState::File(..) | PathState::Link(..) | PathState::Other => {
                return self.left.push((path, "it is something else now"));
            }
        };
        if kept.contains(&(stamp.dev, stamp.ino)) {
            let why = "the manifest has the same under another name";
            return self.left.push((path, why));
        }
        let deletions = match swap {
            Some(at) => &mut self.swaps.entry(at).or_default().deletions,
            None => &mut self.deletions,
        };
        deletions.push(Deletion {
            path,
            is_dir,
            stamp,
        });
    }

    fn put(
        &mut self,
        path: ManifestPath,
        node: Node,
        found: PathState,
        swap: Option<ManifestPath>,
    ) {
        // The swap will have deleted what is there now.
        let found = if swap.is_some() {
            PathState::Nothing
        } else {
            found
        };
        let why_not = match &found {
            PathState::InNoDirectory => Some("something above it is no directory here"),
            PathState::BehindLink => Some(BEHIND_LINK),
            PathState::Unreachable(why) => Some(&why[..]),
            _ => None,
        };
        if let Some(why) = why_not {
            let size = match &node {
                Node::Dir => None,
                Node::File(file) => Some(file.size),
                Node::Symlink(_) => Some(0),
            };
            self.failed.push((path, size, why.to_owned()));
            return;
        }
        let occupant = found.occupant();
        match node {
            Node::Dir => match (occupant, swap) {
                (None, Some(at)) => self.swaps.entry(at).or_default().dirs.push(path),
                (None, None) => self.dirs.push(path),
                (Some(Occupant::Dir), _) => {}
                (Some(occupant), _) => {
                    let why = format!(
                        "there is {} in its place, which is not replaced by a directory",
                        occupant.name()
                    );
                    self.failed.push((path, None, why));
                }
            },
            Node::Symlink(target) => {
                if matches!(&found, PathState::Link(Some(leads), ..) if *leads == target) {
                    self.links_there += 1;
                    return;
                }
                let links = match swap {
                    Some(at) => &mut self.swaps.entry(at).or_default().links,
                    None => &mut self.links,
                };
                links.push(LinkStep {
                    path,
                    target,
                    taken: occupant,
                });
            }
            Node::File(file) if file.content == Content::Unhashed => {
                let why = "it has no hash in the manifest".to_owned();
                self.failed.push((path, Some(file.size), why));
            }
            Node::File(file) => {
                let place = match (found, occupant) {
                    (PathState::File(stamp, _), _) if stamp.size == file.size => {
                        Place::Alike(stamp)
                    }
                    (_, None) => Place::Free,
                    (_, Some(occupant)) => Place::Taken(occupant),
                };
                if let Some(at) = &swap {
                    // Also where nothing is left to delete.
                    self.swaps.entry(at.clone()).or_default();
                }
                self.files.push(FileStep {
                    path,
                    file,
                    place,
                    swap,
                });
            }
        }
    }

    /// Files that are fetched whatever else is found out.
    pub(super) fn fetched(&self, conflict: Conflict) -> impl Iterator<Item = &FileStep> {
        self.files.iter().filter(move |step| match step.place {
            Place::Free => true,
            Place::Alike(_) => false,
            Place::Taken(occupant) => {
                matches!(
                    resolve(conflict, occupant),
                    Resolution::Replace | Resolution::Copy
                )
            }
        })
    }

    /// Bytes that may have to be written, in blocks of the file system.
    pub(super) fn bytes_to_write(&self, conflict: Conflict, block: u64) -> u64 {
        self.fetched(conflict).fold(0, |sum: u64, step| {
            sum.saturating_add(in_blocks(step.file.size, block))
        })
    }

    /// Links that are to be made.
    pub(super) fn all_links(&self) -> impl Iterator<Item = &LinkStep> {
        let swapped = self.swaps.values().flat_map(|swap| &swap.links);
        self.links.iter().chain(swapped)
    }

    /// Directories that are to be made.
    pub(super) fn all_dirs(&self) -> impl Iterator<Item = &ManifestPath> {
        let swapped = self.swaps.values().flat_map(|swap| &swap.dirs);
        self.dirs.iter().chain(swapped)
    }

    /// Paths that cannot be here: with a name longer than `longest_name` bytes, or, below a root of
    /// `root_len` bytes, longer than the system can name.
    pub(super) fn too_long(&self, root_len: usize, longest_name: u64) -> Vec<&ManifestPath> {
        /// `PATH_MAX` of Linux, less its NUL.
        const LONGEST_PATH: usize = 4095;
        let files = self.files.iter().map(|step| &step.path);
        let links = self.all_links().map(|step| &step.path);
        let made = self.all_dirs().chain(files).chain(links);
        let is_too_long = |path: &&ManifestPath| {
            root_len + 1 + path.as_bytes().len() > LONGEST_PATH
                || path
                    .components()
                    .any(|name| name.len() as u64 > longest_name)
        };
        made.filter(is_too_long).collect()
    }
}

impl PathState {
    fn occupant(&self) -> Option<Occupant> {
        match self {
            Self::Nothing | Self::InNoDirectory | Self::BehindLink | Self::Unreachable(_) => None,
            Self::Dir(_) => Some(Occupant::Dir),
            Self::File(..) => Some(Occupant::File),
            Self::Link(..) => Some(Occupant::Link),
            Self::Other => Some(Occupant::Other),
        }
    }
}
