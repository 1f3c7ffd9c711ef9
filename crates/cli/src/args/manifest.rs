//! `attachfs manifest`: operations on manifests.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::publishing::{Download, Upload};
use super::values::{FormatName, parse_chunk_size};

/// Operations on manifests: collect, hash, diff, compose, filter, check and more.
///
/// A MANIFEST is a file, an s3:// address, or `-` for standard input. A result goes to the file named
/// by --output, or to standard output with `-o -`; it has the format of what it was made from.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  attachfs manifest collect ./scene -o scene.manifest              (names, sizes, times; no bytes are read)
  attachfs manifest hash scene.manifest --root ./scene -o scene.manifest
  attachfs manifest diff old.manifest new.manifest -o changes.diff
  attachfs manifest diff scene.manifest --root ./scene             (what changed in the folder since)
  attachfs manifest compose scene.manifest changes.diff -o now.manifest
  attachfs manifest check now.manifest --store s3://bucket/DeadlineCloud --deep")]
pub(crate) struct ManifestArgs {
    #[command(subcommand)]
    pub(crate) verb: ManifestVerb,
}

// As with `Verb`: a subcommand that describes itself has no doc comment here.
#[derive(Debug, Subcommand)]
pub(crate) enum ManifestVerb {
    /// List folders and files as a manifest without hashes: no bytes are read.
    Collect(Collect),
    /// Hash the files that have no hash.
    Hash(Hash),
    Diff(Diff),
    Compose(Compose),
    /// Put snapshots over one another, file by file; of each path the last counts.
    Merge(Combine),
    /// Choose files.
    Filter(Filter),
    /// Take out a directory.
    Subtree(Subtree),
    /// Put everything into a directory.
    Join(Join),
    Partition(Partition),
    /// Write in another format, and say what that drops.
    Convert(Convert),
    Check(Check),
    Upload(Upload),
    Download(Download),
}

/// Where a manifest comes from, and how strictly it is read.
#[derive(Debug, Args)]
pub(crate) struct Input {
    /// The manifest.
    #[arg(value_name = "MANIFEST")]
    pub(crate) manifest: OsString,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Reading {
    /// Read faulty manifests that AWS's libraries accept, as far as they can be held safely, and list their faults.
    #[arg(long)]
    pub(crate) lenient: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Output {
    /// Write the result here; `-` is standard output.
    #[arg(short, long, value_name = "MANIFEST")]
    pub(crate) output: PathBuf,
}

/// Which paths: as `deadline manifest snapshot` chooses them.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Choice {
    /// Only paths that match this pattern (Python's glob: `**` is any directories, names that begin with
    /// a dot have to be named). May be given more than once.
    #[arg(short, long, value_name = "GLOB", help_heading = "Choosing files")]
    pub(crate) include: Vec<OsString>,
    /// Not the paths that match this pattern. May be given more than once.
    #[arg(short, long, value_name = "GLOB", help_heading = "Choosing files")]
    pub(crate) exclude: Vec<OsString>,
    /// Patterns as JSON, `{"include":[...],"exclude":[...]}`, or a file that has it.
    #[arg(
        long,
        value_name = "JSON|FILE",
        conflicts_with_all = ["include", "exclude"],
        help_heading = "Choosing files"
    )]
    pub(crate) globs: Option<OsString>,
}

/// How far a folder goes.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Extent {
    /// Whether names that begin with a dot are taken where no pattern says what is. Default: yes, since a
    /// snapshot is meant to have all that is there; the deadline client leaves them out.
    #[arg(
        long,
        value_enum,
        value_name = "yes|no",
        help_heading = "Choosing files"
    )]
    pub(crate) hidden: Option<YesNo>,
    /// Do not go into other file systems that are mounted in the folder. Their directories are taken without
    /// what is in them, and links that are to be replaced by something there are left out; both is said.
    #[arg(long, conflicts_with = "cross_mounts", help_heading = "Choosing files")]
    pub(crate) one_file_system: bool,
    /// Go into mounts of attachfs, too, that lie in the folder: all of their files are fetched. Without this or
    /// --one-file-system such a mount is an error.
    #[arg(long, help_heading = "Choosing files")]
    pub(crate) cross_mounts: bool,
}

impl Extent {
    pub(crate) fn hidden(self) -> Option<bool> {
        self.hidden.map(|hidden| hidden == YesNo::Yes)
    }

    pub(crate) fn cross_mounts(self) -> attachfs::CrossMounts {
        if self.one_file_system {
            attachfs::CrossMounts::None
        } else if self.cross_mounts {
            attachfs::CrossMounts::All
        } else {
            attachfs::CrossMounts::Foreign
        }
    }

    /// Whether anything of it was given.
    pub(crate) fn is_said(self) -> bool {
        self.hidden.is_some() || self.one_file_system || self.cross_mounts
    }
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum YesNo {
    /// They are taken.
    Yes,
    /// They are left out.
    No,
}

/// What of a folder is looked at.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Scanning {
    #[command(flatten)]
    pub(crate) choice: Choice,
    #[command(flatten)]
    pub(crate) extent: Extent,
    /// Take the files listed in this file (one path a line, relative to the folder; `-` is standard
    /// input) instead of looking for them. A file that is missing is an error.
    #[arg(long, value_name = "FILE", help_heading = "Choosing files")]
    pub(crate) files_from: Option<PathBuf>,
    /// Like --files-from, but files that are missing are left out.
    #[arg(long, value_name = "FILE", help_heading = "Choosing files")]
    pub(crate) optional_from: Option<PathBuf>,
    /// Leave out what cannot be read, or has no place in a manifest, and say so, instead of stopping.
    #[arg(long)]
    pub(crate) skip_unreadable: bool,
}

/// How hashes are found without reading.
#[derive(Debug, Clone, Args)]
pub(crate) struct Hashing {
    /// Read all files, also those whose hashes are remembered.
    #[arg(long)]
    pub(crate) force_rehash: bool,
    #[command(flatten)]
    pub(crate) remembering: Remembering,
}

/// Where hashes of files, and objects that were seen in buckets, are remembered.
#[derive(Debug, Clone, Args)]
pub(crate) struct Remembering {
    /// Remember hashes, and what was seen in buckets, here. Default: $XDG_CACHE_HOME/attachfs.
    #[arg(long, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Use the caches of the deadline client too, in this directory; by default ~/.deadline/cache,
    /// where its programs keep them. Its hashes know modification times only, not sizes; what it saw
    /// in buckets is used only without another endpoint.
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = "")]
    pub(crate) share_deadline_cache: Option<PathBuf>,
}

/// What becomes of symbolic links. A link escapes if it leads out of the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Symlinks {
    /// Replace links that lead out by what they point to.
    CollapseEscaping,
    /// Replace all links by what they point to.
    CollapseAll,
    /// Leave out links that lead out.
    ExcludeEscaping,
    /// Leave out all links.
    ExcludeAll,
    /// Keep all links (absolute manifests only).
    Preserve,
    /// Keep all links, and take what they point to as well (absolute manifests only).
    TransitiveIncludeTargets,
}

#[derive(Debug, Args)]
pub(crate) struct Collect {
    /// The folder; with --absolute any number of folders and files.
    #[arg(required = true, value_name = "DIR")]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Make an absolute manifest: paths from `/`.
    #[arg(long)]
    pub(crate) absolute: bool,
    /// What becomes of symbolic links.
    #[arg(long, value_enum, default_value = "collapse-escaping")]
    pub(crate) symlinks: Symlinks,
    /// Cut files longer than this into objects of that length, or `none`. Default: 256MiB.
    #[arg(long, value_name = "SIZE|none", value_parser = parse_chunk_size)]
    pub(crate) chunk_size: Option<attachfs::ChunkSize>,
    #[command(flatten)]
    pub(crate) scanning: Scanning,
}

#[derive(Debug, Args)]
pub(crate) struct Hash {
    #[command(flatten)]
    pub(crate) input: Input,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Where the files are. Default for an absolute manifest: where it says.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Leave files that cannot be read without a hash, and say so, instead of stopping.
    #[arg(long)]
    pub(crate) skip_unreadable: bool,
    #[command(flatten)]
    pub(crate) hashing: Hashing,
}

/// Say what changed: between two snapshots, or in a folder since its snapshot.
///
/// Between two snapshots, --output writes a diff manifest. In a folder, a file changed if its size did,
/// or its time by more than a microsecond; with --force-rehash if its bytes did. A manifest that the deadline client
/// made without patterns has no names that begin with a dot: hold it against the folder with --hidden no.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The snapshot before.
    #[arg(value_name = "OLD")]
    pub(crate) old: OsString,
    /// The snapshot after.
    #[arg(
        value_name = "NEW",
        required_unless_present = "root",
        conflicts_with = "root"
    )]
    pub(crate) new: Option<OsString>,
    /// The folder as it is now, instead of a snapshot.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Write a diff manifest here; `-` is standard output.
    #[arg(short, long, value_name = "MANIFEST", conflicts_with = "root")]
    pub(crate) output: Option<PathBuf>,
    /// What makes two files differ. Default: everything that the manifest says of them.
    #[arg(
        long,
        value_enum,
        default_value = "everything",
        conflicts_with = "root"
    )]
    pub(crate) by: By,
    /// Take the execute bits from the old snapshot: they mean nothing on Windows.
    #[arg(long, conflicts_with = "root")]
    pub(crate) preserve_runnable: bool,
    /// Compare the bytes of files in the folder.
    #[arg(long, requires = "root")]
    pub(crate) force_rehash: bool,
    #[command(flatten)]
    pub(crate) choice: Choice,
    #[command(flatten)]
    pub(crate) extent: Extent,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// Everything that the manifest says.
    Everything,
    /// Size, and time by more than a microsecond.
    SizeAndMtime,
    /// Content alone.
    Hash,
}

/// Put a snapshot and diffs, or diffs alone, together into one.
///
/// Each diff is checked against what lies before it: it deletes only what is there, and the parent that
/// it names is what it is put on.
#[derive(Debug, Args)]
#[command(visible_alias = "apply")]
pub(crate) struct Compose {
    /// A snapshot or a diff, then diffs, in their order.
    #[arg(required = true, num_args = 1.., value_name = "MANIFEST")]
    pub(crate) manifests: Vec<OsString>,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Do not check which manifest a diff was made from.
    #[arg(long)]
    pub(crate) ignore_parent: bool,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

#[derive(Debug, Args)]
pub(crate) struct Combine {
    /// Snapshots, the oldest first.
    #[arg(required = true, num_args = 1.., value_name = "MANIFEST")]
    pub(crate) manifests: Vec<OsString>,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

#[derive(Debug, Args)]
pub(crate) struct Filter {
    #[command(flatten)]
    pub(crate) input: Input,
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) choice: Choice,
}

#[derive(Debug, Args)]
pub(crate) struct Subtree {
    #[command(flatten)]
    pub(crate) input: Input,
    /// The directory, which becomes the root. Of an absolute manifest an absolute path.
    #[arg(value_name = "DIR")]
    pub(crate) directory: OsString,
    #[command(flatten)]
    pub(crate) output: Output,
    /// What becomes of symbolic links that lead out of the directory.
    #[arg(long, value_enum, default_value = "collapse-escaping")]
    pub(crate) symlinks: Symlinks,
}

#[derive(Debug, Args)]
pub(crate) struct Join {
    #[command(flatten)]
    pub(crate) input: Input,
    /// The directory. An absolute path makes an absolute manifest.
    #[arg(value_name = "DIR")]
    pub(crate) directory: OsString,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Split by root directories.
///
/// Without --root it is the longest directory that everything has in common; if that is `/`, there is one
/// root for each directory below it.
#[derive(Debug, Args)]
pub(crate) struct Partition {
    #[command(flatten)]
    pub(crate) input: Input,
    /// A root. May be given more than once; roots may not lie in one another.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Vec<OsString>,
    /// Write the parts here, as `0.manifest`, `1.manifest` and so on.
    #[arg(long, value_name = "DIR")]
    pub(crate) output_dir: PathBuf,
    /// What becomes of symbolic links that lead from one root to another.
    #[arg(long, value_enum, default_value = "collapse-escaping")]
    pub(crate) symlinks: Symlinks,
}

#[derive(Debug, Args)]
pub(crate) struct Convert {
    #[command(flatten)]
    pub(crate) input: Input,
    #[command(flatten)]
    pub(crate) output: Output,
    /// The format to write.
    #[arg(long, value_enum)]
    pub(crate) format: FormatName,
}

/// Check a manifest, and whether a store has its objects.
///
/// Exit code 12 if something is damaged: the manifest, or an object by its length or (with --deep) its bytes. 13
/// if something is only missing: an object, or a hash that a store would be asked for.
#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) input: Input,
    /// Ask this store for each object, and its length: a directory or s3://bucket/prefix.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<String>,
    /// Read and hash each object as well.
    #[arg(long, requires = "store")]
    pub(crate) deep: bool,
    /// List names that clash where upper and lower case are one, that Windows cannot have, and paths
    /// too long for it.
    #[arg(long)]
    pub(crate) case_report: bool,
}
