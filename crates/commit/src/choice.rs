//! Which changes a commit takes: those in the output directories whose paths the patterns choose.
//!
//! A choice must be one that a manifest can hold. So a directory that leads to something that is taken is taken, too; and one that was
//! deleted stays if anything in it is not taken.

use std::collections::HashSet;

use attachfs_manifest::{GlobError, ManifestPath, PathFilter};
use attachfs_tree::{ChangedPath, Kind, Namespace, PathChange};

use crate::states::CommitOptions;

/// Patterns that choose paths, in the language of `snapshot` and `manifest filter`.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    /// Everything if `None`, names with a dot at their beginning too.
    include: Option<PathFilter>,
    exclude: Option<PathFilter>,
}

impl Patterns {
    /// Chooses what one of `include` matches, or everything if there are none, and none of `exclude`.
    pub fn new<P: AsRef<[u8]>>(include: &[P], exclude: &[P]) -> Result<Self, GlobError> {
        let side = |patterns: &[P]| {
            let is_given = !patterns.is_empty();
            is_given.then(|| PathFilter::new(patterns, &[])).transpose()
        };
        Ok(Self {
            include: side(include)?,
            exclude: side(exclude)?,
        })
    }

    /// Whether a path is chosen, whatever is there.
    fn choose(&self, path: &[u8]) -> bool {
        let matches = |filter: &PathFilter| filter.matches(path) || filter.matches_dir(path);
        self.include.as_ref().is_none_or(matches) && !self.exclude.as_ref().is_some_and(matches)
    }

    fn are_none(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }
}

impl CommitOptions {
    /// Whether a path is in the output directories.
    pub(crate) fn is_output(&self, path: &[u8]) -> bool {
        let is_in = |dir: &ManifestPath| {
            let rest = path.strip_prefix(dir.as_bytes());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        self.output_dirs.is_empty() || self.output_dirs.iter().any(is_in)
    }

    /// Whether a change at a path is taken, as far as the path alone says so.
    pub(crate) fn takes(&self, path: &[u8]) -> bool {
        self.is_output(path) && self.patterns.choose(path)
    }

    /// The changes that are not taken, by their place in the list, which is in the order of a walk.
    pub(crate) fn not_taken(
        &self,
        namespace: &Namespace,
        changed: &[ChangedPath],
    ) -> HashSet<usize> {
        let mut not_taken = HashSet::new();
        if self.output_dirs.is_empty() && self.patterns.are_none() {
            return not_taken;
        }
        // The directories above what is put, and above what is left out.
        let (mut lead, mut keep) = (Above::default(), Above::default());
        // What lies in a directory comes before it.
        for (at, ChangedPath { path, change }) in changed.iter().enumerate().rev() {
            let is_dir_now = match change {
                PathChange::Put { ino, .. } => namespace.kind(*ino) == Some(Kind::Dir),
                PathChange::Delete { .. } => false,
            };
            let was_dir = match change {
                PathChange::Put { base, .. } => {
                    base.and_then(|base| namespace.base().plain_kind(base)) == Some(Kind::Dir)
                }
                PathChange::Delete { was } => *was == Kind::Dir,
            };
            let is_taken = if is_dir_now {
                self.takes(path.as_bytes()) || lead.holds(path)
            } else {
                self.takes(path.as_bytes()) && !(was_dir && keep.holds(path))
            };
            if !is_taken {
                not_taken.insert(at);
                keep.add(path);
            } else if matches!(change, PathChange::Put { .. }) {
                lead.add(path);
            }
        }
        not_taken
    }
}

/// The directories above some paths.
#[derive(Default)]
struct Above(HashSet<ManifestPath>);

impl Above {
    fn add(&mut self, path: &ManifestPath) {
        for dir in path.ancestors() {
            // Those above it are here already.
            if !self.0.insert(dir) {
                break;
            }
        }
    }

    fn holds(&self, path: &ManifestPath) -> bool {
        self.0.contains(path)
    }
}
