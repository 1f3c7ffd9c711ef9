//! Two diffs as one, without the snapshot they were made for.
//!
//! **Laws**, for diffs that fit each other: `base.apply_composed(&a.then(&b)?)` is
//! `base.apply(&a)?.apply(&b)`, and `a.then(&b)?.then(&c)` and `a.then(&b.then(&c)?)` are the same but
//! for deletions of what the base cannot have: which of those are known depends on the order.
//!
//! What a diff says of a path is two things: which kind it takes away (a directory, or a file or
//! link; there may have been nothing) and what it leaves. So of two changes of one path the composed
//! one takes away what the first does and leaves what the second does:
//!
//! ```text
//!              leaves nothing   leaves a file or link     leaves a directory
//! takes a file     DeleteFile   Put(file)                 DeleteFile, Put(Dir)
//! takes a dir       DeleteDir   DeleteDir, Put(file)      Put(Dir)
//! ```
//!
//! Three things go beyond a single path:
//!
//! * What is put has directories above it. They are put too, as the formats list them anyway; so a
//!   directory that one diff deletes and another puts something into is not deleted.
//! * Below a path where there was no directory there was nothing to delete.
//! * A directory that is listed only because a link's target lies below it gives way to a file or
//!   link, as when a diff is applied. If the first diff does not say what is there and the second
//!   takes the link away, the composed diff puts the directory, and does not apply where a base has
//!   a file or link in its place.
//!
//! A composed diff may delete what is not there, hence [`Snapshot::apply_composed`]. (In the reference
//! every diff may.)
//!
//! [`Snapshot::apply_composed`]: crate::Snapshot::apply_composed

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::iter::Peekable;

use crate::path::{PathRef, ancestors_of, parent_of};
use crate::snapshot::{Budget, TooMuch};
use crate::table::{Table, TooLarge};
use crate::{Change, Diff, DiffError, LinkTarget, ManifestPath, Node, SnapshotError};

/// What a diff does to one path.
#[derive(Debug, Clone)]
struct PathEffect {
    takes_directory: bool,
    leaves: Option<Node>,
}

impl PathEffect {
    /// A directory is put.
    const DIRECTORY: Self = Self {
        takes_directory: true,
        leaves: Some(Node::Dir),
    };

    fn of(table: &Table, places: std::ops::Range<usize>) -> Option<Self> {
        let mut changes = places.map(|index| table.change(index));
        let first = changes.next()?;
        let leaves = match changes.next() {
            None => first.as_put().cloned(),
            Some(second) => second.as_put().cloned(),
        };
        let takes_directory = match first {
            Change::DeleteDir => true,
            Change::DeleteFile => false,
            Change::Put(node) => node.is_dir(),
        };
        Some(Self {
            takes_directory,
            leaves,
        })
    }

    fn changes(self) -> impl Iterator<Item = Change> {
        let deletion = match (self.takes_directory, &self.leaves) {
            (true, Some(Node::Dir)) | (false, Some(Node::File(_) | Node::Symlink(_))) => None,
            (true, _) => Some(Change::DeleteDir),
            (false, _) => Some(Change::DeleteFile),
        };
        deletion.into_iter().chain(self.leaves.map(Change::Put))
    }

    fn only_puts_a_directory(&self) -> bool {
        self.takes_directory && matches!(self.leaves, Some(Node::Dir))
    }

    fn leaves_file(&self) -> bool {
        self.leaves.as_ref().is_some_and(|node| !node.is_dir())
    }

    fn then(self, next: Self, path: PathRef<'_>) -> Result<Self, DiffError> {
        let fits = match &self.leaves {
            None => true,
            Some(node) => node.is_dir() == next.takes_directory,
        };
        if !fits {
            let path = path.to_owned();
            let found = self.leaves.as_ref().map_or("nothing", Node::kind);
            return Err(match next.changes().next() {
                Some(Change::Put(node)) => DiffError::Put {
                    path,
                    kind: node.kind(),
                    found,
                },
                Some(Change::DeleteDir) => DiffError::Delete {
                    path,
                    kind: "a directory",
                    found,
                },
                Some(Change::DeleteFile) | None => DiffError::Delete {
                    path,
                    kind: "a file",
                    found,
                },
            });
        }
        Ok(Self {
            takes_directory: self.takes_directory,
            leaves: next.leaves,
        })
    }
}

impl Diff {
    /// This diff and then `next` as one diff, with this one's parent.
    ///
    /// Errors say "the base" of what this diff leaves. `next` does not fit if it was made for
    /// something else: if it deletes a directory where this diff leaves a file, say, or only half of
    /// what this diff puts into a directory. (The reference composes any two diffs that cut files
    /// alike.)
    pub fn then(&self, next: &Self) -> Result<Self, DiffError> {
        if self.chunk_size() != next.chunk_size() {
            return Err(DiffError::ChunkSize {
                base: self.chunk_size(),
                diff: next.chunk_size(),
            });
        }
        let (first, second) = (self.table(), next.table());
        let deleted = next
            .changes()
            .filter(|(_, change)| *change == Change::DeleteDir);
        let emptied: HashSet<&[u8]> = deleted.map(|(path, _)| path.as_bytes()).collect();
        let leading = leading_to_targets(self);
        let next_leading = leading_to_targets(next);
        let mut composed = Composed::default();
        let mut effects = PathEffects::of(first)?.peekable();
        let mut next_effects = PathEffects::of(second)?.peekable();
        loop {
            let path = match (effects.peek(), next_effects.peek()) {
                (None, None) => break,
                (Some(&(path, _)), None) | (None, Some(&(path, _))) => path,
                (Some(&(path, _)), Some(&(next, _))) => path.min(next),
            };
            let mut effect = effects.next_if(|&(at, _)| at == path);
            let mut next_effect = next_effects.next_if(|&(at, _)| at == path);
            let is_leading = |effect: &Option<(PathRef<'_>, PathEffect)>,
                              leading: &HashSet<&[u8]>| {
                matches!(effect, Some((_, effect)) if effect.only_puts_a_directory())
                    && leading.contains(path.as_bytes())
            };
            // Left out where there is a file, or a file above: when the first diff is applied, ...
            if is_leading(&effect, &leading) && takes_a_file_at_or_above(second, path) {
                effect = None;
            }
            // ... and when the second is.
            if is_leading(&next_effect, &next_leading) {
                let leaves_file = matches!(&effect, Some((_, effect)) if effect.leaves_file());
                let there_is_a_file = leaves_file || composed.is_below_a_file(path);
                if there_is_a_file {
                    next_effect = None;
                }
            }
            let effect = match (effect, next_effect) {
                (Some((_, effect)), Some((_, next))) => Some(effect.then(next, path)?),
                (Some((_, effect)), None) => {
                    if effect.leaves.is_some()
                        && let Some(directory) = parent_of(path.as_bytes())
                        && emptied.contains(directory)
                    {
                        return Err(DiffError::NotEmpty {
                            directory: ManifestPath::from_ancestor(directory),
                            path: path.to_owned(),
                        });
                    }
                    Some(effect)
                }
                (None, next) => next.map(|(_, next)| next),
            };
            if let Some(effect) = effect {
                composed.push(path, effect)?;
            }
        }
        Ok(Self::from_table(
            self.chunk_size(),
            self.parent(),
            composed.table,
        )?)
    }
}

/// The directories above the targets of the links that a diff puts.
fn leading_to_targets(diff: &Diff) -> HashSet<&[u8]> {
    let mut leading = HashSet::new();
    for target in diff.targets() {
        if let LinkTarget::Below(target) = target {
            leading.extend(ancestors_of(target.as_bytes()));
        }
    }
    leading
}

/// Whether the second diff was made for a tree with a file or link at a path, or above it.
fn takes_a_file_at_or_above(second: &Table, path: PathRef<'_>) -> bool {
    std::iter::once(path.as_bytes())
        .chain(ancestors_of(path.as_bytes()))
        .any(|path| {
            let effect = PathEffect::of(second, second.find(path));
            effect.is_some_and(|effect| !effect.takes_directory)
        })
}

/// What a diff does to each path, with the directories above everything that it puts.
struct PathEffects<'a> {
    table: &'a Table,
    at: usize,
    /// The directories above what is put.
    above: HashSet<&'a [u8]>,
    /// Those that the diff does not mention, in order.
    missing: Peekable<std::vec::IntoIter<PathRef<'a>>>,
}

impl<'a> PathEffects<'a> {
    fn of(table: &'a Table) -> Result<Self, DiffError> {
        let mut above = HashSet::new();
        let mut missing = Vec::new();
        let mut budget = Budget::default();
        for index in 0..table.len() {
            let path = table.path(index);
            budget.give(path.as_bytes());
            if table.is_deletion(index) {
                continue;
            }
            for directory in path.ancestors() {
                if !above.insert(directory.as_bytes()) {
                    break;
                }
                if table.find(directory.as_bytes()).is_empty() {
                    let path = || path.to_owned();
                    budget
                        .add(directory.as_bytes())
                        .map_err(|TooMuch| SnapshotError::TooDeep { path: path() })?;
                    missing.push(directory);
                }
            }
        }
        missing.sort_unstable();
        Ok(Self {
            table,
            at: 0,
            above,
            missing: missing.into_iter().peekable(),
        })
    }
}

impl<'a> Iterator for PathEffects<'a> {
    type Item = (PathRef<'a>, PathEffect);

    fn next(&mut self) -> Option<Self::Item> {
        let listed = (self.at < self.table.len()).then(|| self.table.path(self.at));
        if let Some(missing) = self
            .missing
            .next_if(|&missing| listed.is_none_or(|listed| missing < listed))
        {
            return Some((missing, PathEffect::DIRECTORY));
        }
        let path = listed?;
        let start = self.at;
        while self.at < self.table.len() && self.table.path(self.at) == path {
            self.at += 1;
        }
        let mut effect = PathEffect::of(self.table, start..self.at)?;
        if effect.leaves.is_none() && self.above.contains(path.as_bytes()) {
            effect.leaves = Some(Node::Dir);
        }
        Some((path, effect))
    }
}

/// The composed changes, in order, as far as they have come.
#[derive(Default)]
struct Composed {
    table: Table,
}

impl Composed {
    fn push(&mut self, path: PathRef<'_>, mut effect: PathEffect) -> Result<(), DiffError> {
        let only_puts = match &effect.leaves {
            Some(node) => node.is_dir() == effect.takes_directory,
            None => false,
        };
        if !only_puts && self.is_below_what_was_no_directory(path) {
            match &effect.leaves {
                Some(node) => effect.takes_directory = node.is_dir(),
                None => return Ok(()),
            }
        }
        for change in effect.changes() {
            let pushed = self.table.push(path, change);
            pushed.map_err(|TooLarge| SnapshotError::TooLarge {
                path: path.to_owned(),
            })?;
        }
        Ok(())
    }

    // What lies above a path sorts before it, so it is there already.
    fn is_below_what_was_no_directory(&self, path: PathRef<'_>) -> bool {
        ancestors_of(path.as_bytes()).any(|above| {
            let effect = PathEffect::of(&self.table, self.table.find(above));
            effect.is_some_and(|effect| !effect.takes_directory)
        })
    }

    fn is_below_a_file(&self, path: PathRef<'_>) -> bool {
        ancestors_of(path.as_bytes()).any(|above| {
            let effect = PathEffect::of(&self.table, self.table.find(above));
            effect.is_some_and(|effect| effect.leaves_file())
        })
    }
}
