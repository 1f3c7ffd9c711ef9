//! What differs between the files of two jobs, of two runs of a scene for example: root by root, and frame by frame where names are
//! numbered.
//!
//! Roots are the same if the jobs call them the same. A file differs by its size or its hash; times and execute bits do not count.

mod sequences;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use attachfs_manifest::{By, Changes, DiffOptions, ManifestPath, Snapshot};
use serde::Serialize;

use self::sequences::sequences_of;
pub use self::sequences::{FrameRange, SequenceDiff, SequenceFrames};
use crate::jobs::fetching::{FoundFiles, FoundRoot};

/// How the files of job B differ from those of job A.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobsDiff {
    /// The first job, or the part of it.
    pub a: String,
    /// The second.
    pub b: String,
    /// Every root that one of them has, in the order of their names.
    pub roots: Vec<RootDiff>,
}

/// Which of two jobs has something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Only the first.
    A,
    /// Only the second.
    B,
    /// Both.
    Both,
}

/// How the files below one root differ. Paths are below the root, in the order of manifests, and with what is not safe to show
/// escaped; links count as files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RootDiff {
    /// The root, as the jobs have it.
    pub root: String,
    /// Which job has it.
    #[serde(rename = "in")]
    pub side: Side,
    /// Files that B has and A has not.
    pub added: Vec<String>,
    /// Files of both with another size or hash.
    pub changed: Vec<String>,
    /// Files that A has and B has not.
    pub missing: Vec<String>,
    /// How many files are the same in both.
    pub same: usize,
    /// Numbered sequences with frames missing.
    pub sequences: Vec<SequenceDiff>,
}

impl RootDiff {
    /// Whether both jobs have the root with the same files, and no frame is missing.
    pub fn is_same(&self) -> bool {
        self.side == Side::Both
            && self.added.is_empty()
            && self.changed.is_empty()
            && self.missing.is_empty()
            && self.sequences.is_empty()
    }
}

/// Compares what was found of two jobs. Only computes.
pub fn compare_jobs(a: &FoundFiles, b: &FoundFiles) -> JobsDiff {
    let mut roots: BTreeMap<&str, (Option<&Snapshot>, Option<&Snapshot>)> = BTreeMap::new();
    for FoundRoot { merged, .. } in &a.roots {
        roots.entry(&merged.root).or_default().0 = Some(&merged.snapshot);
    }
    for FoundRoot { merged, .. } in &b.roots {
        roots.entry(&merged.root).or_default().1 = Some(&merged.snapshot);
    }
    let roots = roots.into_iter().filter_map(|(root, of)| match of {
        (None, None) => None,
        (Some(a), None) => Some(compare_root(root, Side::A, a, &nothing_of(a))),
        (None, Some(b)) => Some(compare_root(root, Side::B, &nothing_of(b), b)),
        (Some(a), Some(b)) => Some(compare_root(root, Side::Both, a, b)),
    });
    JobsDiff {
        a: a.address.clone(),
        b: b.address.clone(),
        roots: roots.collect(),
    }
}

fn nothing_of(root: &Snapshot) -> Snapshot {
    root.filter(|_, _| false)
}

fn compare_root(root: &str, side: Side, a: &Snapshot, b: &Snapshot) -> RootDiff {
    let options = DiffOptions {
        compare: By::Hash,
        ..DiffOptions::default()
    };
    let changes = Changes::of(&b.diff_by(a, None, options), a);
    let shown = |paths: &[ManifestPath]| paths.iter().map(ManifestPath::to_string).collect();
    RootDiff {
        root: root.to_owned(),
        side,
        added: shown(&changes.new),
        changed: shown(&changes.modified),
        missing: shown(&changes.deleted),
        same: changes.unchanged,
        sequences: sequences_of(a, b),
    }
}
