//! What is to be submitted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use attachfs_durable::path_bytes;
use attachfs_paths::{ForeignPath, PathFormat, StorageProfile};

/// Whether an input has to be there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PathIsRequired {
    /// One that is missing becomes a reference, which is told.
    #[default]
    No,
    /// One that is missing is a fault.
    Yes,
}

/// What is to be submitted.
#[derive(Debug, Clone, Default)]
pub struct AssetRequest {
    /// A job bundle: a directory with a template.
    pub bundle: Option<PathBuf>,
    /// Values of parameters, instead of those of the bundle.
    pub parameters: BTreeMap<String, String>,
    /// Files, and directories with everything in them.
    pub inputs: Vec<PathBuf>,
    /// Paths that the job speaks of.
    pub references: Vec<PathBuf>,
    /// Directories that workers upload from.
    pub outputs: Vec<PathBuf>,
    /// Whether inputs have to be there.
    pub required: PathIsRequired,
    /// Places that nobody has to be asked about, besides the bundle, LOCAL locations and what is named above.
    pub known: Vec<PathBuf>,
    /// The storage profile of this machine.
    pub profile: Option<StorageProfile>,
    /// Where relative paths begin; absolute.
    pub working_dir: PathBuf,
    /// What `~` in known paths stands for.
    pub home: Option<PathBuf>,
}

/// A path of this machine.
pub(super) fn foreign(path: &Path) -> ForeignPath {
    ForeignPath::parse(PathFormat::HOST, path_bytes(path))
}
