//! The arguments of `download`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::fetching::Fetching;
use super::manifest::Hashing;
use super::values::parse_mode;

/// Place the files of manifests, or those of a job, in folders.
///
/// A file appears under its name when all of it was fetched and verified. Files that are there and are what
/// the manifest says are left alone, so the same command goes on after an interruption, and brings a folder up to
/// date. A file that fails is listed at the end, with the reason; the others are fetched.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  attachfs download --store s3://bucket/DeadlineCloud scene.manifest --root ./scene
  attachfs download --store ./store base.manifest diff.manifest --root ./scene     (layers, put together)
  attachfs download --store ./store diff.manifest --root ./scene --conflict overwrite   (applied to what is there)
  attachfs download --map a.manifest=./a --map b.manifest=./b --include '*.exr'
  attachfs download deadline://FARM/QUEUE/JOB ./frames --store s3://bucket/DeadlineCloud   (a job's outputs)
  attachfs download --queue-json queue.json --job-json job.json --map-root 'C:\\show=/mnt/show' -i '*.exr'
  attachfs download --queue-json queue.json --job-json job.json --inputs ./inputs

Of a job, one root goes into DEST itself, several go each into a folder of its own there. Without a DEST each goes to
its place on this machine, which rules, storage profiles and --map-root say; a root that none of them names goes to
the path that it has in the job, if that is a path of this system. Before anything is placed you are shown what goes
where, and are asked: about the job's own paths with No as the default answer, since the job's author chose them.
Where nobody can be asked, these want --yes, and what you mapped yourself does not. A root of another
system has to be mapped. What cannot be placed is listed, and the exit code is 16.

Patterns are those of `deadline job download-output`: they are held against the whole path that a file has
here, that of the folder with the manifest's path behind it; `*` matches slashes too, `renders/` means
everything below any such directory, and one that begins neither with a slash nor a star matches at any depth,
in the folder's own path too.")]
pub(crate) struct Download {
    /// Manifests that are put together in --root: a snapshot and what lies over it, the lowest first, or
    /// diffs alone. A manifest is a file, an s3:// address, or `-` for standard input. Or the address of a job,
    /// deadline://FARM/QUEUE/JOB[/STEP[/TASK]], and the folder that it goes to.
    #[arg(value_name = "MANIFEST")]
    pub(crate) manifests: Vec<OsString>,
    /// The folder. It is made if it is missing.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Place this manifest in this folder. May be given more than once; manifests of one folder are put
    /// together. The last `=` counts: the manifest's name may have others, the folder's none.
    #[arg(long, value_name = "MANIFEST=DIR")]
    pub(crate) map: Vec<OsString>,
    /// Where the objects are: a directory or s3://bucket/prefix. Default: the store of an s3:// manifest,
    /// else your own store on this machine.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<String>,
    /// For manifests of absolute paths: the directory in them that becomes the folder. All that is in the
    /// manifests must lie below it.
    #[arg(long, value_name = "DIR")]
    pub(crate) from: Option<attachfs::Root>,
    /// Apply diffs although they were not made from what lies below them.
    #[arg(long)]
    pub(crate) ignore_parent: bool,
    /// What to do with a file where something else is in its place.
    #[arg(
        long,
        value_enum,
        default_value = "create-copy",
        visible_alias = "conflict-resolution"
    )]
    pub(crate) conflict: OnConflict,
    /// Leave what a diff deletes. It deletes by name: it does not say what was in a file, so one that somebody else put
    /// there goes too.
    #[arg(long)]
    pub(crate) no_deletes: bool,
    /// Only files that match this pattern. May be given more than once.
    #[arg(short, long, value_name = "GLOB", help_heading = "Choosing files")]
    pub(crate) include: Vec<OsString>,
    /// Not the files that match this pattern. May be given more than once.
    #[arg(short, long, value_name = "GLOB", help_heading = "Choosing files")]
    pub(crate) exclude: Vec<OsString>,
    /// Give the files and directories that are made to this group.
    #[arg(long, value_name = "NAME|GID", help_heading = "Permissions")]
    pub(crate) group: Option<String>,
    /// Permission bits that files get in addition.
    #[arg(long, value_name = "OCTAL", default_value = "0", value_parser = parse_mode, help_heading = "Permissions")]
    pub(crate) add_file_mode: u32,
    /// Permission bits that directories get in addition.
    #[arg(long, value_name = "OCTAL", default_value = "0", value_parser = parse_mode, help_heading = "Permissions")]
    pub(crate) add_dir_mode: u32,
    /// Sync everything to the disk before the program ends: without it, a power loss soon after may tear files,
    /// which the same command with --force-rehash finds and fetches again.
    #[arg(long)]
    pub(crate) sync: bool,
    #[command(flatten)]
    pub(crate) hashing: Hashing,
    #[command(flatten)]
    pub(crate) fetching: Fetching,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnConflict {
    /// Fetch it as `stem (1).suffix`, or with the next number that is free.
    CreateCopy,
    /// Leave the existing file.
    Skip,
    /// Replace the existing file, unless it is a directory.
    Overwrite,
}
