//! `attachfs upload`, and what it shares with `snapshot`.

use std::ffi::OsString;
use std::path::PathBuf;

use attachfs::ManifestKey;
use clap::Args;

use super::client::ClientUpload;
use super::manifest::Remembering;

/// Upload the files of manifests that there are, where a store lacks them.
///
/// A file is uploaded if it has the size and time that the manifest says, and its bytes have the hash.
/// Those that are not so, cannot be read, or are refused by the store are listed, all others are
/// uploaded, and the exit code is 13. Files are found below the folder and nowhere else.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  attachfs upload scene.manifest --root ./scene --store s3://bucket/DeadlineCloud
  attachfs upload scene.manifest --root ./scene --store s3://bucket/DeadlineCloud --publish farm/queue/Inputs/scene_input")]
pub(crate) struct Upload {
    /// Snapshots and diffs: files, s3:// addresses, or `-` for standard input.
    #[arg(required = true, value_name = "MANIFEST")]
    pub(crate) manifests: Vec<OsString>,
    /// The folder that has the files. Default for absolute manifests: where they say.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Upload to this store: a directory or s3://bucket/prefix.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: String,
    #[command(flatten)]
    pub(crate) client: ClientUpload,
    #[command(flatten)]
    pub(crate) publishing: Publishing,
    #[command(flatten)]
    pub(crate) remembering: Remembering,
}

/// Work beside uploading files.
#[derive(Debug, Clone, Args)]
pub(crate) struct Publishing {
    /// When all files are in the store, put the manifest there too, as Manifests/KEY. The same manifest may
    /// be there already; another one is an error, and stays.
    #[arg(long, value_name = "KEY", requires = "store")]
    pub(crate) publish: Option<ManifestKey>,
    /// Ask the bucket for every object, even if an earlier upload remembers it. Without this,
    /// objects that were seen in the last 30 days are believed to be there if 30 of them, chosen at
    /// random, are.
    #[arg(long, requires = "store")]
    pub(crate) force_s3_check: bool,
}
