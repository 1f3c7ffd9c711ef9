//! The tree that a mount shows: an immutable base and what mutations made of it.
//!
//! ```text
//!     manifests --compose--> Snapshot --> BaseTree (compact, immutable, shared)
//!                                             |
//!     journal --> Mutation --apply--> Namespace (base + whiteouts + new names + new contents)
//!                                             |
//!                         lookup, list, attributes, plan_read, changes
//! ```
//!
//! A [`Mutation`] is the journal's record *and* the only way to change a [`Namespace`], so replaying
//! the journal rebuilds it. Names point to inode records, so that a new content moves all names of
//! a file at once. This crate is pure: no I/O, no clock (times come in mutations), no locks.

mod base;
mod changes;
mod extents;
mod inode;
mod layers;
mod list;
mod mutation;
mod namespace;
mod root;
#[cfg(test)]
mod testing;

pub use base::{
    AddLayerError, BaseKind, BaseTree, BuildError, DiffLayer, Flip, Index, IndexError,
    IndexIdentity, IndexSource, LayeredBase, Rebuild,
};
pub use changes::{ChangedPath, Changes, PathChange};
pub use extents::ExtentSet;
pub use inode::{
    Attributes, FileContent, Ino, Inode, InodeKind, Kind, Mapping, Segment, SegmentSource, Special,
    Timestamp,
};
pub use layers::{Composed, Layer, LayerError, LayerOptions, Said, compose};
pub use list::{DirEntry, Listing};
pub use mutation::{AttributeChange, Mutation, MutationError};
pub use namespace::{Checked, Namespace, NamespacePart};
pub use root::{ParseRootError, Root, RootError};
