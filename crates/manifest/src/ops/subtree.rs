//! Cutting out what lies below a directory.
//!
//! **Law:** `m.join(&p)?.subtree(Some(&p), policy)` is `m` without its parent, for the policies that
//! leave links alone that do not escape; `m.subtree(None, CollapseEscaping)` is `m` without its parent.
//!
//! A link whose target lies outside of the directory has no meaning in what is cut out. The
//! [`SymlinkPolicy`] says what becomes of it:
//!
//! * *Collapsed*, it is replaced by what it points to: a file by a file of the same content, a
//!   directory by a copy of everything in it. Links in that copy, if they stay links, lead to the same
//!   place in the copy, or else to the same place in the subtree; those that lead elsewhere are
//!   collapsed too.
//! * A link that leads nowhere, or to a directory that it lies in, has nothing to be replaced by: it
//!   is left out, as by `openjd-snapshots`.
//!
//! Targets are resolved as a file system does it, through links on the way. (`openjd-snapshots` 0.3.2
//! compares paths only: it leaves out what is behind a link to a link to a directory, forgets empty
//! directories in a copy, and leaves links in a copy with targets of the whole.)
//!
//! What copies add is bounded, so that a few links cannot stand for more than the memory holds.

#[cfg(test)]
mod tests;

use super::links::{MOST_LINKS, Resolved, below, place, resolve, strip, target_bytes};
use crate::path::{PathRef, check_length, is_within};
use crate::snapshot::{Budget, TooMuch};
use crate::table::{Table, TooLarge};
use crate::{
    Change, Diff, DiffError, LinkTarget, ManifestPath, Node, PathError, Snapshot, SnapshotError,
    SymlinkPolicy,
};

/// Why a subtree cannot be cut out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubtreeError {
    /// Links that lead out of the subtree would stay links.
    #[error("a part of a manifest cannot be cut out with the symlink policy {0}")]
    Policy(SymlinkPolicy),
    /// The subtree would be below a file or a link, or is one.
    #[error("\"{path}\" is {kind}, not a directory")]
    NotADirectory {
        /// The file or link.
        path: ManifestPath,
        /// What it is, in words.
        kind: &'static str,
    },
    /// The copies that links stand for would fill the memory.
    #[error("the folders that links like \"{link}\" point to are too large, or too many, to copy")]
    TooMuch {
        /// The link at which the limit was reached.
        link: ManifestPath,
    },
    /// What a link points to would have too long a path in its place.
    #[error("what the link \"{link}\" points to would have too long a path in its place")]
    Path {
        /// The link.
        link: ManifestPath,
        /// What is wrong.
        #[source]
        source: PathError,
    },
    /// A diff puts a link to something that it does not put itself, so it cannot tell what to put
    /// in the link's place.
    #[error(
        "the link \"{link}\" cannot be replaced by what it points to, which the diff does not say"
    )]
    Unknown {
        /// The link.
        link: ManifestPath,
    },
    /// What was cut out is not a tree.
    #[error(transparent)]
    Tree(#[from] SnapshotError),
    /// What was cut out is not a diff.
    #[error(transparent)]
    Diff(#[from] DiffError),
}

/// The empty path is the root.
fn bytes_of(place: Option<&ManifestPath>) -> &[u8] {
    place.map_or(b"", ManifestPath::as_bytes)
}

fn check_policy(policy: SymlinkPolicy) -> Result<(), SubtreeError> {
    if policy.fits_below_a_root() {
        return Ok(());
    }
    Err(SubtreeError::Policy(policy))
}

/// A directory that is being copied, and where to. The first is the subtree itself.
struct Level {
    from: Vec<u8>,
    to: Vec<u8>,
    /// The link in this directory that the next level stands for.
    link: Vec<u8>,
}

struct Cut<'a> {
    table: &'a Table,
    policy: SymlinkPolicy,
    result: Table,
    budget: Budget,
    levels: Vec<Level>,
}

impl Cut<'_> {
    fn put(&mut self, to: &[u8], node: Node) -> Result<(), SubtreeError> {
        let to = PathRef::from_checked(to);
        let pushed = self.result.push(to, Change::Put(node));
        pushed.map_err(|TooLarge| {
            let path = to.to_owned();
            SnapshotError::TooLarge { path }.into()
        })
    }

    /// Copies everything below a directory.
    fn copy(&mut self, from: &[u8], to: &[u8]) -> Result<(), SubtreeError> {
        let is_copy = !self.levels.is_empty();
        self.levels.push(Level {
            from: from.to_vec(),
            to: to.to_vec(),
            link: Vec::new(),
        });
        let start = if from.is_empty() { 0 } else { from.len() + 1 };
        let mut path_to = to.to_vec();
        for index in self.table.below(from) {
            let path = self.table.path(index);
            path_to.truncate(to.len());
            if !to.is_empty() {
                path_to.push(b'/');
            }
            path_to.extend_from_slice(&path.as_bytes()[start..]);
            if is_copy {
                let link = || ManifestPath::from_ancestor(to);
                check_length(&path_to).map_err(|source| SubtreeError::Path {
                    link: link(),
                    source,
                })?;
                self.budget
                    .add(&path_to)
                    .map_err(|TooMuch| SubtreeError::TooMuch { link: link() })?;
            }
            match self.table.node(index) {
                Some(Node::Symlink(target)) => self.link(path, &path_to, &target)?,
                Some(node) => self.put(&path_to, node)?,
                None => {}
            }
        }
        self.levels.pop();
        Ok(())
    }

    /// Puts what becomes of the link at `path`.
    fn link(
        &mut self,
        path: PathRef<'_>,
        to: &[u8],
        target: &LinkTarget,
    ) -> Result<(), SubtreeError> {
        let stays = match self.policy {
            SymlinkPolicy::ExcludeAll => return Ok(()),
            SymlinkPolicy::CollapseAll => None,
            _ => self.target_in_the_copy(target_bytes(target)),
        };
        if let Some(target) = stays {
            let target = place(&target).map_err(|source| SubtreeError::Path {
                link: ManifestPath::from_ancestor(to),
                source,
            })?;
            return self.put(to, Node::Symlink(target));
        }
        if self.policy == SymlinkPolicy::ExcludeEscaping {
            return Ok(());
        }
        match resolve(self.table, target) {
            Resolved::Nowhere => Ok(()),
            Resolved::File(index) => match self.table.node(index) {
                Some(file) => self.put(to, file),
                None => Ok(()),
            },
            Resolved::Directory(from) => {
                if let Some(level) = self.levels.last_mut() {
                    level.link = path.as_bytes().to_vec();
                }
                if self.is_being_copied(&from) {
                    return Ok(());
                }
                if self.levels.len() > MOST_LINKS {
                    let link = ManifestPath::from_ancestor(to);
                    return Err(SubtreeError::TooMuch { link });
                }
                self.put(to, Node::Dir)?;
                self.copy(&from, to)
            }
        }
    }

    /// The target of a link if it is in what is being copied, as a path of the result.
    fn target_in_the_copy(&self, target: &[u8]) -> Option<Vec<u8>> {
        self.levels
            .iter()
            .rev()
            .find_map(|level| Some(below(&level.to, strip(target, &level.from)?)))
    }

    /// Whether a directory lies on the way from the top of a copy to the link in it: copying it
    /// would never end.
    fn is_being_copied(&self, directory: &[u8]) -> bool {
        self.levels
            .iter()
            .any(|level| is_within(directory, &level.from) && is_within(&level.link, directory))
    }
}

impl Snapshot {
    /// What lies below a directory (`None`: the root itself), as a snapshot of its own without a
    /// parent. Nothing, if the directory is not there.
    ///
    /// A file or link at or above the directory is an error (the reference gives an empty snapshot),
    /// and so is a policy that leaves links that escape.
    pub fn subtree(
        &self,
        directory: Option<&ManifestPath>,
        policy: SymlinkPolicy,
    ) -> Result<Self, SubtreeError> {
        check_policy(policy)?;
        if let Some(directory) = directory {
            let above = directory.borrowed().ancestors();
            for path in std::iter::once(directory.borrowed()).chain(above) {
                match self.get(path) {
                    None => {}
                    Some(Node::Dir) => break,
                    Some(node) => {
                        return Err(SubtreeError::NotADirectory {
                            path: path.to_owned(),
                            kind: node.kind(),
                        });
                    }
                }
            }
        }
        let from = bytes_of(directory);
        let table = self.table();
        let mut cut = Cut {
            table,
            policy,
            result: Table::with_capacity(table.below(from).len()),
            budget: Budget::default(),
            levels: Vec::new(),
        };
        for index in 0..table.len() {
            cut.budget.give(table.path(index).as_bytes());
        }
        cut.copy(from, b"")?;
        Ok(Self::from_table(self.chunk_size(), None, cut.result)?)
    }
}

impl Diff {
    /// The changes below a directory (`None`: the root itself), as a diff of its own without a
    /// parent: one for a subtree that was cut out likewise.
    ///
    /// A diff does not say what a link of it leads to unless it puts that itself. So a link that is
    /// to be collapsed can only lead to a file that the diff puts; anything else is an error, where
    /// the reference leaves the link out. A link that is left out leaves what was there before.
    pub fn subtree(
        &self,
        directory: Option<&ManifestPath>,
        policy: SymlinkPolicy,
    ) -> Result<Self, SubtreeError> {
        check_policy(policy)?;
        let from = bytes_of(directory);
        let table = self.table();
        let places = table.below(from);
        let mut result = Table::with_capacity(places.len());
        for index in places {
            let path = table.path(index);
            let Some(to) = strip(path.as_bytes(), from).map(PathRef::from_checked) else {
                continue;
            };
            let change = match table.change(index) {
                Change::Put(Node::Symlink(target)) => {
                    match changed_link(table, path, from, &target, policy)? {
                        Some(node) => Change::Put(node),
                        None => continue,
                    }
                }
                change => change,
            };
            result.push(to, change).map_err(|TooLarge| {
                let path = path.to_owned();
                SnapshotError::TooLarge { path }
            })?;
        }
        Ok(Self::from_table(self.chunk_size(), None, result)?)
    }
}

/// What a diff puts where it puts a link, if anything.
fn changed_link(
    table: &Table,
    link: PathRef<'_>,
    directory: &[u8],
    target: &LinkTarget,
    policy: SymlinkPolicy,
) -> Result<Option<Node>, SubtreeError> {
    let inside = strip(target_bytes(target), directory);
    match (policy, inside) {
        (SymlinkPolicy::ExcludeAll, _) | (SymlinkPolicy::ExcludeEscaping, None) => Ok(None),
        (SymlinkPolicy::CollapseAll, _) | (_, None) => match resolve(table, target) {
            Resolved::File(index) => Ok(table.node(index)),
            Resolved::Directory(_) | Resolved::Nowhere => Err(SubtreeError::Unknown {
                link: link.to_owned(),
            }),
        },
        (_, Some(inside)) => {
            let target = place(inside).map_err(|source| SubtreeError::Path {
                link: link.to_owned(),
                source,
            })?;
            Ok(Some(Node::Symlink(target)))
        }
    }
}
