//! `attachfs submit` and `attachfs check`, as typed.

use std::path::PathBuf;

use attachfs::{FarmId, QueueId};
use clap::{Args, ValueEnum};

use super::manifest::Hashing;

/// Put the files of a new job into the store of its queue, and print the job's attachments.
///
/// Files are grouped by roots, hashed, and sent where the store lacks them; then a manifest of each root is published, and the
/// attachments document printed, which `aws deadline create-job` takes; that call is printed on standard error. What is interrupted
/// has published nothing that a job uses: the same command goes on. Inputs in SHARED locations are left out, and those that are
/// missing become references; both are named.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  attachfs submit --bundle ./job --queue-json queue.json -o attachments.json
  attachfs submit scene.blend ./textures --output-dir ./frames --farm farm-0… --queue queue-0… \\
      --store s3://bucket/DeadlineCloud
  attachfs submit --bundle ./job --dry-run
  attachfs submit --bundle ./job --queue-json queue.json --background
  attachfs submit --status 0123456789abcdef")]
pub(crate) struct Submit {
    #[command(flatten)]
    pub(crate) assets: Assets,
    #[command(flatten)]
    pub(crate) place: QueueOptions,
    /// How workers see the inputs.
    #[arg(long, value_enum, default_value = "copied")]
    pub(crate) file_system: FileSystem,
    /// Write the attachments document here. Default: standard output.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Submit although inputs or outputs lie in places that nobody named. Default: a person is asked, a script is refused.
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Say what would be sent at most: files and bytes of each root. Nothing is written, and no store is asked.
    #[arg(long, conflicts_with_all = ["output", "snapshot_to", "background"])]
    pub(crate) dry_run: bool,
    /// Put everything into this directory instead of the queue's store, to look at it: data, manifests, the document and the
    /// files of the bundle. It is made if it is missing, and has to be empty.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["store", "output", "background"])]
    pub(crate) snapshot_to: Option<PathBuf>,
    /// Go on in the background, and print an id for --status.
    #[arg(long)]
    pub(crate) background: bool,
    /// Say how far a submission in the background is, and where its document is.
    #[arg(long, value_name = "ID", conflicts_with_all = ["inputs", "bundle", "output", "dry_run", "snapshot_to", "background"])]
    pub(crate) status: Option<String>,
    /// How the background process is started. Not for people.
    #[arg(long, hide = true, value_name = "ID", requires = "background")]
    pub(crate) background_process: Option<String>,
    /// Ask the bucket for every object, even if an earlier upload remembers it.
    #[arg(long)]
    pub(crate) force_s3_check: bool,
    #[command(flatten)]
    pub(crate) hashing: Hashing,
}

/// Find out what would go wrong with a submission, without sending anything.
///
/// Lists missing inputs, too little room for the cache of hashes, and names that differ only in case; for Windows workers also
/// paths that are too long and names that cannot be there. Exit code 0 if nothing is found, 12 if objects in the store are damaged,
/// else 13.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  attachfs check --bundle ./job
  attachfs check --bundle ./job --windows-root 'C:\\work' --deep --store s3://bucket/DeadlineCloud")]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) assets: Assets,
    #[command(flatten)]
    pub(crate) place: QueueOptions,
    /// Where Windows workers will have each root: names and lengths of paths are checked for them.
    #[arg(long, value_name = "PATH")]
    pub(crate) windows_root: Option<String>,
    /// Hash the files and ask the store for their objects: those that are gone or have another length are listed.
    #[arg(long)]
    pub(crate) deep: bool,
    #[command(flatten)]
    pub(crate) hashing: Hashing,
}

/// What a job needs, makes and speaks of.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "What is submitted")]
pub(crate) struct Assets {
    /// Input files, and directories with everything in them. A link to a file is that file; links to directories are not followed.
    #[arg(value_name = "PATH")]
    pub(crate) inputs: Vec<PathBuf>,
    /// A job bundle: a directory with a template, parameter values and asset references.
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: Option<PathBuf>,
    /// The value of a parameter of the bundle. May be given more than once.
    #[arg(short, long, value_name = "NAME=VALUE", requires = "bundle", value_parser = parameter)]
    pub(crate) parameter: Vec<(String, String)>,
    /// A path that the job speaks of, and that is not sent. May be given more than once.
    #[arg(long, value_name = "PATH")]
    pub(crate) reference: Vec<PathBuf>,
    /// A directory that workers upload from. May be given more than once.
    #[arg(long, value_name = "DIR")]
    pub(crate) output_dir: Vec<PathBuf>,
    /// A missing input is an error. All of them are listed.
    #[arg(long)]
    pub(crate) require_paths_exist: bool,
    /// Do not ask about paths below this one. May be given more than once.
    #[arg(long, value_name = "PATH")]
    pub(crate) known_asset_path: Vec<PathBuf>,
    /// The storage profile of this machine, as `aws deadline get-storage-profile-for-queue` prints it; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) storage_profile_json: Option<PathBuf>,
}

/// The queue that the job is for.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "The queue")]
pub(crate) struct QueueOptions {
    /// The farm.
    #[arg(long, value_name = "ID", visible_alias = "farm-id")]
    pub(crate) farm: Option<FarmId>,
    /// The queue.
    #[arg(long, value_name = "ID", visible_alias = "queue-id")]
    pub(crate) queue: Option<QueueId>,
    /// What `aws deadline get-queue` prints, `-` for standard input: names the farm, the queue and its store.
    #[arg(long, value_name = "FILE")]
    pub(crate) queue_json: Option<PathBuf>,
    /// The store of the queue: a directory or s3://bucket/rootPrefix. Default: that of --queue-json.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<String>,
}

/// How workers see the inputs of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileSystem {
    /// They are copied before a session begins.
    Copied,
    /// They are mounted.
    Virtual,
}

fn parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| "a name, `=` and a value are expected".to_owned())?;
    Ok((name.to_owned(), value.to_owned()))
}
