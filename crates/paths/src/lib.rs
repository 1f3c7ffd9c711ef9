//! Paths as Deadline Cloud's jobs have them: written on another system, kept as text.
//!
//! ```text
//!     rules (a file, two storage profiles, a session) --> Mapping --map--> where a path is here
//!     inputs, outputs, references + what is on disk   --group_assets-->    AssetRoots
//!     options, bundle, locations, settings            --> KnownPaths -->   which of them to ask about
//! ```
//!
//! A [`ForeignPath`] is taken apart by the rules of the system that wrote it ([`PathFormat`]), as Python's
//! `PurePosixPath` and `PureWindowsPath` do it, whatever system this program runs on. Paths are bytes, because names on
//! Linux need not be UTF-8; what comes from a document is UTF-8 and stays so. On Windows case does not count when paths are
//! compared, and is kept in results. Two names are the same there if [`FoldedName`]s are, which is closer to what Windows
//! does than Python's `lower` is: to that, `σ` and `ς` differ.
//!
//! Nothing here looks at a disk, a clock or the environment: what exists, where a link leads and where the home
//! directory is, the caller says. Nothing here is a permission either: a mapped path may be relative or have
//! components `..`, as it may in the rules and paths that it was made of.
//!
//! Sources: `deadline-job-attachments` 0.1.5 (`_path_mapping.py`, `_utils.py`, `upload.py`), `deadline` 0.60.10
//! (`client/_path_utils.py`, `client/api/_submit_job_bundle.py`), Open Job Description's path mapping rules.
//!
//! [`FoldedName`]: attachfs_manifest::FoldedName

mod fields;
mod foreign;
mod format;
mod known;
mod mapping;
mod names;
mod place;
mod profile;
mod roots;
mod rules;
mod split;
#[cfg(test)]
mod tests;

pub use fields::FieldProblem;
pub use foreign::{ForeignPath, UnfitName};
pub use format::{ParseFormatError, PathFormat};
pub use known::{KnownFrom, KnownPath, KnownPaths, KnownSource, UnknownPaths};
pub use mapping::{Mapping, MixedFormats};
pub use names::{
    asset_root_dir_name, downloaded_file_name, input_root_hash, output_root_hash, session_rules,
    snapshot_file_name,
};
pub use profile::{
    FileSystemLocation, LocationType, OsFamily, ProfileError, StorageProfile, rules_between,
};
pub use roots::{
    AssetPaths, AssetRoot, AssetRoots, Disk, GroupOptions, InputFaults, OnDisk, Role, Skipped,
    group_assets,
};
pub use rules::{MappingRule, RulesError, parse_rules, rules_document, rules_list};
