//! Options by which manifests go to and fro between this program and AWS's `deadline`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

/// Of a snapshot: what `deadline manifest snapshot` has beside patterns.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ClientSnapshot {
    /// Write the manifest into this directory, under the name that `deadline manifest snapshot` gives it. It has the hash of the
    /// folder's path in it, by which `deadline attachment` and --path-mapping-rules know where the files belong.
    #[arg(short, long, value_name = "DIR", conflicts_with = "output")]
    pub(crate) destination: Option<PathBuf>,
    /// What that name begins with. Default: the folder's path, with `_` for slashes.
    #[arg(short, long, requires = "destination")]
    pub(crate) name: Option<String>,
    /// Take only files that are new or changed since this manifest of the folder. If there are none, no manifest is written.
    ///
    /// A file changed if its size did, or its time by more than a microsecond; with --force-rehash if its bytes did. What was deleted
    /// is not in the manifest: `attachfs manifest diff` lists it.
    #[arg(long, value_name = "MANIFEST", conflicts_with_all = ["files_from", "optional_from"], help_heading = "Choosing files")]
    pub(crate) diff: Option<OsString>,
}

/// Of an upload: where the files of each manifest are, and what a job is told of it.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ClientUpload {
    /// The files of a manifest are in the folder that these rules have for its root, as with `deadline attachment upload`: the
    /// rule is taken whose source is in the manifest's file name, as hash (see `snapshot --destination`).
    #[arg(long, value_name = "FILE", conflicts_with = "root")]
    pub(crate) path_mapping_rules: Option<PathBuf>,
    /// The root that a job has for the folder: the published manifest says so. Default: the source of the rule, if there are rules.
    #[arg(long, value_name = "PATH", requires = "publish")]
    pub(crate) asset_root: Option<String>,
}
