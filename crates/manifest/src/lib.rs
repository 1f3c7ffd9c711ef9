//! Job-attachment manifests as types: what a folder held, and what changed in it.
//!
//! A [`Snapshot`] lists every directory, file and symbolic link below a root; a [`Diff`] lists what
//! to put and what to delete to get from one snapshot to another. [`wire`] turns both into the
//! exact bytes of the formats of AWS Deadline Cloud, and back; `ops` makes new ones of them. Nothing in this crate does I/O,
//! reads a clock or the environment: text becomes checked types at its edge ([`ContentHash`],
//! [`ManifestPath`]) and the rest believes them.

mod apply;
mod builder;
mod diff;
mod glob;
mod hash;
mod layout;
mod node;
mod ops;
mod path;
mod snapshot;
mod symlinks;
mod table;
#[cfg(test)]
mod testing;
pub mod wire;

pub use builder::SnapshotBuilder;
pub use diff::{Diff, DiffError};
pub use glob::{DownloadFilter, FilterState, GlobConfig, GlobError, PathFilter};
pub use hash::{ContentHash, Hasher, ParseHashError};
pub use layout::{ChunkLayout, ChunkSize, LayoutError, OwnedChunkLayout, Piece};
pub use node::{Change, Content, File, LinkTarget, Mtime, Node};
pub use ops::{
    BadName, By, CaseOptions, Changes, DiffOptions, DowngradeError, JoinError, Losses, Lost,
    MergeError, NameProblem, PartitionError, PartitionOptions, SubtreeError, case_report, merge,
    what_is_lost,
};
pub use path::{EscapedBytes, FoldedName, ManifestPath, Name, PathError, PathRef, is_drive};
pub use snapshot::{Snapshot, SnapshotError};
pub use symlinks::SymlinkPolicy;
