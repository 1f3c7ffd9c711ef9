//! What is to be done, decided from what is wanted and what is there. Pure.
//!
//! ```text
//!     clear        what a diff deletes to put something else in its place, by what is put there
//!     dirs         parents first
//!     files        whether the place is free, holds what may be the same file, or something else
//!     links
//!     deletions    what lies deepest first
//! ```
//!
//! What stands in a file's way is decided in two steps: a file of the right length and time has to be
//! read before anybody knows whether it is the same. [`resolve`] is the second step.

use std::collections::{HashMap, HashSet};

use attachfs_durable::FileStamp;
use attachfs_manifest::{Change, Content, File, LinkTarget, ManifestPath, Mtime, Node};

/// Something that is wanted, and what is at its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: ManifestPath,
    pub(super) change: Change,
    pub(super) found: Found,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Dir,
    File(FileStamp),
    /// A symbolic link that says this.
    Link(Vec<u8>),
    Other,
    /// Nobody can tell, because of something above it.
    Unreachable(String),
}

/// What stands where something else is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occupant {
    Dir,
    File,
    Link,
    Other,
}

/// What the place of a file is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Free,
    /// There is a file of the right length and time.
    Alike(FileStamp),
    Taken(Occupant),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileStep {
    pub(super) path: ManifestPath,
    pub(super) file: File,
    pub(super) place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LinkStep {
    pub(super) path: ManifestPath,
    pub(super) target: LinkTarget,
    /// What is in its place.
    pub(super) taken: Option<Occupant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Deletion {
    pub(super) path: ManifestPath,
    pub(super) is_dir: bool,
}

/// What is to be done. Every entry is in it once, or there already.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// By the path that something else gets.
    pub(super) clear: HashMap<ManifestPath, Vec<Deletion>>,
    pub(super) dirs: Vec<ManifestPath>,
    pub(super) files: Vec<FileStep>,
    pub(super) links: Vec<LinkStep>,
    pub(super) deletions: Vec<Deletion>,
    /// What cannot be done, and why. Of files and links their lengths.
    pub(super) failed: Vec<(ManifestPath, Option<u64>, String)>,
    /// Deletions that find something else than they mean, and what.
    pub(super) left: Vec<(ManifestPath, &'static str)>,
    /// Links that are there.
    pub(super) links_there: u64,
}

/// What happens to a file whose place is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Conflict {
    /// It gets another name: `stem (1).suffix`, or the next number that is free.
    #[default]
    CreateCopy,
    /// It is not fetched.
    Skip,
    /// It replaces what is there. A directory is never replaced.
    Overwrite,
}

/// What [`Conflict`] means for what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolution {
    Leave(&'static str),
    Replace,
    Copy,
    Refuse(&'static str),
}

/// What happens where `occupant` is in the way.
pub(super) fn resolve(conflict: Conflict, occupant: Occupant) -> Resolution {
    match (conflict, occupant) {
        (Conflict::Skip, Occupant::File) => Resolution::Leave("there is another file in its place"),
        (Conflict::Skip, Occupant::Link) => Resolution::Leave("there is another link in its place"),
        (Conflict::Skip, Occupant::Dir) => Resolution::Leave("there is a directory in its place"),
        (Conflict::Skip, Occupant::Other) => {
            Resolution::Leave("there is a FIFO, a socket or a device in its place")
        }
        (Conflict::CreateCopy, _) => Resolution::Copy,
        (Conflict::Overwrite, Occupant::File | Occupant::Link) => Resolution::Replace,
        (Conflict::Overwrite, Occupant::Dir) => {
            Resolution::Refuse("there is a directory in its place, which is not replaced")
        }
        (Conflict::Overwrite, Occupant::Other) => Resolution::Refuse(
            "there is a FIFO, a socket or a device in its place, which is not replaced",
        ),
    }
}

/// Whether two times are the same, as far as they travel: the Python client sets them through a floating
/// point number, which moves them by up to a microsecond.
pub(super) fn is_same_time(one: Mtime, other: Mtime) -> bool {
    one.0.abs_diff(other.0) <= 1
}

/// A stamp's modification time as manifests have it.
pub(super) fn mtime_of(stamp: &FileStamp) -> Mtime {
    let microseconds = stamp.mtime_ns.div_euclid(1000);
    Mtime(microseconds.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
}

/// Decides. `entries` are in the order of their paths, a deletion before a put of the same path.
pub(super) fn plan(entries: Vec<Entry>, deletes: bool) -> Plan {
    let replaced = if deletes {
        replaced(&entries)
    } else {
        HashSet::new()
    };
    // Never two: below what is replaced nothing is put that was there.
    let replaced_above = |path: &ManifestPath| {
        let mut above = path.ancestors().filter(|_| !replaced.is_empty());
        above.find(|above| replaced.contains(above))
    };
    let mut plan = Plan::default();
    for Entry {
        path,
        change,
        mut found,
    } in entries
    {
        let is_cleared = replaced.contains(&path);
        match change {
            Change::DeleteDir | Change::DeleteFile if !deletes => {}
            Change::DeleteDir | Change::DeleteFile => {
                let makes_room_for = if is_cleared {
                    Some(path.clone())
                } else {
                    replaced_above(&path)
                };
                plan.delete(path, change == Change::DeleteDir, &found, makes_room_for);
            }
            Change::Put(node) => {
                let goes = match (&found, &node) {
                    (Found::Dir, Node::File(_) | Node::Symlink(_))
                    | (Found::File(_) | Found::Link(_), Node::Dir) => is_cleared,
                    (Found::Unreachable(_), _) => replaced_above(&path).is_some(),
                    _ => false,
                };
                if goes {
                    found = Found::Nothing;
                }
                plan.put(path, node, found);
            }
        }
    }
    for deletions in plan.clear.values_mut() {
        deletions.reverse();
    }
    plan.deletions.reverse();
    plan
}

/// Paths where a diff deletes one thing and puts another.
fn replaced(entries: &[Entry]) -> HashSet<ManifestPath> {
    let pairs = entries.windows(2).filter(|pair| {
        pair[0].path == pair[1].path && pair[0].change.as_put().is_none() && {
            match pair[0].change {
                Change::DeleteDir => pair[0].found == Found::Dir,
                _ => matches!(pair[0].found, Found::File(_) | Found::Link(_)),
            }
        }
    });
    pairs.map(|pair| pair[0].path.clone()).collect()
}

impl Plan {
    fn delete(
        &mut self,
        path: ManifestPath,
        is_dir: bool,
        found: &Found,
        makes_room_for: Option<ManifestPath>,
    ) {
        let fits = match found {
            Found::Nothing | Found::Unreachable(_) => return,
            Found::Dir => is_dir,
            Found::File(_) | Found::Link(_) => !is_dir,
            Found::Other => false,
        };
        if !fits {
            let what = match found {
                Found::Dir => "it is a directory now",
                _ => "it is something else now",
            };
            self.left.push((path, what));
        } else if let Some(put) = makes_room_for {
            let clear = self.clear.entry(put).or_default();
            clear.push(Deletion { path, is_dir });
        } else {
            self.deletions.push(Deletion { path, is_dir });
        }
    }

    fn put(&mut self, path: ManifestPath, node: Node, found: Found) {
        if let Found::Unreachable(why) = found {
            let size = match &node {
                Node::Dir => None,
                Node::File(file) => Some(file.size),
                Node::Symlink(_) => Some(0),
            };
            self.failed.push((path, size, why));
            return;
        }
        let occupant = found.occupant();
        match node {
            Node::Dir => match occupant {
                None => self.dirs.push(path),
                Some(Occupant::Dir) => {}
                Some(occupant) => {
                    let why = format!(
                        "there is {} in its place, which is not replaced by a directory",
                        occupant.name()
                    );
                    self.failed.push((path, None, why));
                }
            },
            Node::Symlink(target) => {
                if matches!(&found, Found::Link(text) if *text == target.relative_to(&path)) {
                    self.links_there += 1;
                    return;
                }
                self.links.push(LinkStep {
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
                    (Found::File(stamp), _)
                        if stamp.size == file.size
                            && is_same_time(mtime_of(&stamp), file.mtime) =>
                    {
                        Place::Alike(stamp)
                    }
                    (_, None) => Place::Free,
                    (_, Some(occupant)) => Place::Taken(occupant),
                };
                self.files.push(FileStep { path, file, place });
            }
        }
    }

    /// Bytes that may have to be written, in blocks of the file system.
    pub(super) fn bytes_to_write(&self, conflict: Conflict, block: u64) -> u64 {
        let block = block.max(1);
        let is_written = |step: &&FileStep| match step.place {
            Place::Free => true,
            Place::Alike(_) => false,
            Place::Taken(occupant) => {
                matches!(
                    resolve(conflict, occupant),
                    Resolution::Replace | Resolution::Copy
                )
            }
        };
        let written = self.files.iter().filter(is_written);
        written.fold(0, |sum: u64, step| {
            sum.saturating_add(step.file.size.div_ceil(block).saturating_mul(block))
        })
    }

    /// Paths that cannot be here: with a name longer than `longest_name` bytes, or, below a root of
    /// `root_len` bytes, longer than the system can name.
    pub(super) fn too_long(&self, root_len: usize, longest_name: u64) -> Vec<&ManifestPath> {
        /// `PATH_MAX` of Linux, less its NUL.
        const LONGEST_PATH: usize = 4095;
        let files = self.files.iter().map(|step| &step.path);
        let links = self.links.iter().map(|step| &step.path);
        let made = self.dirs.iter().chain(files).chain(links);
        let is_too_long = |path: &&ManifestPath| {
            root_len + 1 + path.as_bytes().len() > LONGEST_PATH
                || path
                    .components()
                    .any(|name| name.len() as u64 > longest_name)
        };
        made.filter(is_too_long).collect()
    }
}

impl Found {
    fn occupant(&self) -> Option<Occupant> {
        match self {
            Self::Nothing | Self::Unreachable(_) => None,
            Self::Dir => Some(Occupant::Dir),
            Self::File(_) => Some(Occupant::File),
            Self::Link(_) => Some(Occupant::Link),
            Self::Other => Some(Occupant::Other),
        }
    }
}

impl Occupant {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dir => "a directory",
            Self::File => "a file",
            Self::Link => "a symbolic link",
            Self::Other => "a FIFO, a socket or a device",
        }
    }
}
