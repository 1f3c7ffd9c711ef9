//! Operations on manifests: what `attachfs manifest` does.
//!
//! ```text
//!     folder --collect--> snapshot without hashes --hash--> snapshot
//!     manifests --compose, merge, filter, subtree, join, partition, convert--> manifests
//!     manifest --check--> its faults, and the objects that a store lacks
//!     manifest --publish--> a store --fetch--> manifest, with its metadata
//! ```
//!
//! The operations themselves are the manifest crate's; here they are given files, folders and stores.

mod checking;
mod combining;
mod cutting;
mod folder;
mod opened;
mod publishing;

pub use checking::{CheckReport, CheckRequest, NameTrouble, ObjectTrouble, check_manifest};
pub(crate) use checking::{UNHASHED, each_put, needed, reason, unhashed, without_hash};
pub use combining::{Comparison, compare, compose_manifests, merge_manifests};
pub use cutting::{
    PartManifest, convert_manifest, filter_manifest, join_manifest, partition_manifest,
    subtree_manifest,
};
pub use folder::{
    Collected, CollectedFrom, FolderChanges, FolderDiff, Hashed, Hashing, HashingPlaces, Selection,
    SkippedPath, collect_manifest, diff_folder, hash_manifest, open_hash_caches,
};
pub(crate) use folder::{find, skipped, unreadable};
pub use opened::{MadeManifest, OpenedManifest, OperationError, open_manifest};
pub use publishing::{
    FetchedManifest, PlacedManifest, Publication, PublishRequest, fetch_manifest, publish_manifest,
};
