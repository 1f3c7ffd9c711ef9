//! Where the roots of jobs are on this machine: options of all verbs that place files of jobs.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args as ClapArgs;

/// How the paths of jobs become paths of this machine. --map-root counts before the rules of a file, and these count
/// before storage profiles.
#[derive(Debug, Clone, Default, ClapArgs)]
#[command(next_help_heading = "Where files go")]
pub(crate) struct PlacingArgs {
    /// What is below this root of a job goes into this folder. May be given more than once. The last `=` counts.
    #[arg(long, value_name = "OLD=NEW")]
    pub(crate) map_root: Vec<OsString>,
    /// Path mapping rules, as Open Job Description or Deadline Cloud's client writes them; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) path_mapping_rules: Option<PathBuf>,
    /// The storage profile of the machine that submitted, as `aws deadline get-storage-profile-for-queue` prints it. May be
    /// given more than once, for jobs of several machines.
    #[arg(long, value_name = "FILE", requires = "local_storage_profile_json")]
    pub(crate) storage_profile_json: Vec<PathBuf>,
    /// The storage profile of this machine.
    #[arg(long, value_name = "FILE", conflicts_with = "ignore_storage_profiles")]
    pub(crate) local_storage_profile_json: Option<PathBuf>,
    /// Files go where the job has them, if that is a path of this system and no rule says otherwise: for jobs that were
    /// submitted on this machine or one like it.
    #[arg(long)]
    pub(crate) ignore_storage_profiles: bool,
}
