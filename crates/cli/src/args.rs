//! The command line, as typed, with the default of each option.

pub(crate) mod browse;
pub(crate) mod cache;
pub(crate) mod client;
pub(crate) mod committing;
pub(crate) mod download;
pub(crate) mod early;
pub(crate) mod fetching;
pub(crate) mod fsck;
pub(crate) mod job_files;
pub(crate) mod jobs;
pub(crate) mod jobs_diff;
pub(crate) mod layering;
pub(crate) mod listing_jobs;
pub(crate) mod looking;
pub(crate) mod manifest;
pub(crate) mod names;
pub(crate) mod placing;
pub(crate) mod publishing;
pub(crate) mod reading;
pub(crate) mod report;
pub(crate) mod s3;
pub(crate) mod scratch;
pub(crate) mod showing;
pub(crate) mod since;
pub(crate) mod stats;
pub(crate) mod store;
pub(crate) mod submit;
pub(crate) mod sync_output;
pub(crate) mod traces;
pub(crate) mod unmounting;
pub(crate) mod upload;
pub(crate) mod values;
pub(crate) mod why;
pub(crate) mod writing;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Parser, Subcommand};

pub(crate) use self::committing::{Chosen, Commit, Diff, LinkChoice, ManifestTo, Session};
use self::showing::Layering;
use self::values::FormatName;

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 other failure, 2 usage, 10 mount, 11 store, 12 integrity \
(bytes are not what they should be), 13 incomplete (some of it is done), 14 busy, 15 cancelled, 16 unmapped (files of a job \
that have no place on this machine were left out).
After 13 the same command goes on with what is left: an upload, a download or a commit that broke off, \
or files that failed, which are listed. One whose object is damaged in the store fails again until the \
object is replaced; of several mounts that are unmounted, some are pending. `store verify` and `manifest check` exit with 12 if something is damaged, and with 13 \
if things are only missing.
`run` passes on the exit code of its command; its own failures are 125, as is a commit that had to leave \
files out which something the command left behind had open for writing; a command that cannot be run is \
126, one that does not exist 127, one killed by signal n 128+n.";

/// Mounts AWS Deadline Cloud job-attachment manifests as file systems.
///
/// A manifest lists a job's files: paths, sizes, times and the hashes of objects in a store (an S3
/// bucket or a directory). attachfs mounts it at once; bytes are fetched as they are read. What is
/// written goes to a session on the local disk and is committed as a diff manifest.
#[derive(Debug, Parser)]
#[command(version, about, after_help = format!("{}\n\n{EXIT_CODES}", values::SIZES), max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

impl Args {
    /// Where the log of a mount goes, if it was said.
    pub(crate) fn log(&self) -> Option<&Path> {
        match &self.verb {
            Verb::Mount(mount) => mount.log.as_deref(),
            Verb::Browse(browse) => browse.log.as_deref(),
            _ => None,
        }
    }
}

/// Options of every verb.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Globals {
    /// Print results as JSON, for programs.
    ///
    /// In paths of manifests, control characters, backslashes and bytes that are not UTF-8 are escaped in the text
    /// itself: `\n`, `\\`, `\xff`. Errors are text on standard error.
    #[arg(long, global = true, overrides_with = "json")]
    pub(crate) json: bool,
    /// Say more about what is going on; twice for everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(flatten)]
    pub(crate) s3: s3::S3,
    /// That what serves the paths which were given goes on answering.
    #[arg(skip)]
    pub(crate) watch: attachfs::Watch,
}

// A doc comment above a variant here would hide the one of its arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Run(Run),
    /// Make a manifest of a folder, and upload what the store lacks.
    Snapshot(Snapshot),
    Upload(upload::Upload),
    Download(download::Download),
    Submit(Box<submit::Submit>),
    Check(Box<submit::Check>),
    SyncOutput(sync_output::SyncOutput),
    Mount(Mount),
    Browse(browse::Browse),
    Umount(unmounting::Umount),
    Add(layering::Add),
    /// List the manifests of a mount, the lowest first.
    Layers(Session),
    Why(why::Why),
    List(List),
    /// Show how a session is.
    Status(Session),
    Stats(stats::Stats),
    Report(report::Report),
    Diff(Diff),
    Commit(Commit),
    Fsck(fsck::Fsck),
    Discard(Discard),
    Ls(looking::Ls),
    Cat(looking::Cat),
    Inspect(looking::Inspect),
    Jobs(listing_jobs::Jobs),
    Manifest(manifest::ManifestArgs),
    Store(store::StoreArgs),
    Cache(cache::CacheArgs),
}

impl Verb {
    /// Whether it uses what is at the paths that it is given until it ends. The others ask the process of a session, and do not wait for one that does not answer.
    pub(crate) fn uses_paths(&self) -> bool {
        !matches!(
            self,
            Self::Umount(_)
                | Self::Layers(_)
                | Self::Why(_)
                | Self::List(_)
                | Self::Status(_)
                | Self::Stats(_)
                | Self::Report(_)
                | Self::Diff(_)
                | Self::Commit(_)
                | Self::Fsck(_)
                | Self::Discard(_)
        )
    }
}

/// Run a command on a folder, mounted from a store, and commit what it writes.
///
/// The folder is snapshotted into the store, mounted, and COMMAND runs in the mount. When it
/// succeeds, what it wrote is uploaded and published as a diff manifest. When it fails, what it
/// wrote is kept in a session, to be committed or discarded. What COMMAND leaves running in the mount is
/// given 5 seconds and then cut off; files that it still had open for writing are not committed.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Example:\n  attachfs run --input ./scene --output-dir frames -- render scene.json frames"
)]
pub(crate) struct Run {
    /// The folder to work on. It is only read.
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "manifest",
        conflicts_with_all = ["manifest", "root", "ignore_parent"]
    )]
    pub(crate) input: Option<PathBuf>,
    /// Mount this manifest instead of a folder's; again for more layers, a snapshot and then its
    /// diffs for example.
    #[arg(long, value_name = "MANIFEST")]
    pub(crate) manifest: Vec<OsString>,
    #[command(flatten)]
    pub(crate) layering: Layering,
    #[command(flatten)]
    pub(crate) names: names::Names,
    #[command(flatten)]
    pub(crate) scratch: scratch::ScratchBounds,
    /// Commit only files in this directory, relative to the folder; it is made if it is
    /// missing. May be given more than once. Default: everything is committed.
    #[arg(long, value_name = "DIR")]
    pub(crate) output_dir: Vec<String>,
    #[command(flatten)]
    pub(crate) chosen: Chosen,
    #[command(flatten)]
    pub(crate) links: LinkChoice,
    /// Where objects and manifests are: a directory or s3://bucket/prefix. Default: a store of your
    /// own on this machine, which is made.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<String>,
    #[command(flatten)]
    pub(crate) cache_bounds: cache::CacheBounds,
    #[command(flatten)]
    pub(crate) probing: Probing,
    #[command(flatten)]
    pub(crate) reading: reading::Reading,
    #[command(flatten)]
    pub(crate) early_upload: early::EarlyUpload,
    #[command(flatten)]
    pub(crate) writing: writing::Writing,
    #[command(flatten)]
    pub(crate) traces: traces::Traces,
    #[command(flatten)]
    pub(crate) metrics: stats::Metrics,
    #[command(flatten)]
    pub(crate) reports: report::ReportFiles,
    #[command(flatten)]
    pub(crate) extent: manifest::Extent,
    #[command(flatten)]
    pub(crate) manifest_to: ManifestTo,
    /// The command and its arguments. Its working directory is the mount.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// Requests to the store before the mount is made.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Probing {
    /// Mount without asking the store first. Default: a byte of one object is read, and if the store cannot be
    /// reached, refuses, or has none of three objects, nothing is mounted, unless the cache has all objects.
    #[arg(long)]
    pub(crate) no_probe: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Snapshot {
    /// The folder.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Write the manifest here; `-` is standard output.
    #[arg(
        short,
        long,
        value_name = "MANIFEST",
        required_unless_present_any = ["publish", "destination"]
    )]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) client: client::ClientSnapshot,
    /// Upload to this store: a directory or s3://bucket/prefix. Default: only hash.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<String>,
    #[command(flatten)]
    pub(crate) publishing: upload::Publishing,
    /// Cut files longer than this into objects of that length, or `none`. Default:
    /// 256MiB. 2023-03-03 cuts nothing.
    #[arg(long, value_name = "SIZE|none", value_parser = values::parse_chunk_size)]
    pub(crate) chunk_size: Option<attachfs::ChunkSize>,
    /// The format of the manifest.
    #[arg(long, value_enum, default_value = "2025-12")]
    pub(crate) format: FormatName,
    /// What becomes of symbolic links. 2023-03-03 replaces all of them.
    #[arg(long, value_enum, default_value = "collapse-escaping")]
    pub(crate) symlinks: manifest::Symlinks,
    #[command(flatten)]
    pub(crate) scanning: manifest::Scanning,
    #[command(flatten)]
    pub(crate) hashing: manifest::Hashing,
}

/// Mount manifests, or take up a session that was left.
///
/// Returns when the mount answers; a process stays in the background. Writes go to a session, which
/// survives everything but `discard`. It ends when it is unmounted with all of it committed, or nothing written.
#[derive(Debug, ClapArgs)]
#[command(
    override_usage = "attachfs mount [OPTIONS] <MANIFEST[=SUBDIR]>... <MOUNTPOINT>\n       \
attachfs mount [OPTIONS] deadline://<FARM>/<QUEUE>/<JOB>[/<STEP>[/<TASK>]] <MOUNTPOINT>\n       \
attachfs mount [OPTIONS] --session <DIR> <MOUNTPOINT>",
    after_help = "Examples:
  attachfs mount --store s3://bucket/DeadlineCloud scene.manifest /mnt/scene
  attachfs mount --store ./store base.manifest diff.manifest textures.manifest=assets/tex /mnt/scene
  attachfs mount --queue-json queue.json --job job-0… /mnt/job             (what a job wrote, to work on)
  attachfs mount --session ~/.local/state/attachfs/sessions/0123… /mnt/scene    (take up a session)"
)]
pub(crate) struct Mount {
    /// Manifests, the lowest layer first, and the mount point last. A manifest is a file, an s3://
    /// address, or `-` for standard input; with =SUBDIR it is placed in that directory. Instead of manifests a job can be
    /// named, by its address or by options.
    #[arg(required = true, value_name = "MANIFEST[=SUBDIR]... MOUNTPOINT")]
    pub(crate) paths: Vec<OsString>,
    /// Where the objects are: a directory or s3://bucket/prefix. Default: the store of an s3://
    /// manifest, else your own store on this machine.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<String>,
    #[command(flatten)]
    pub(crate) of_job: job_files::JobFileOptions,
    #[command(flatten)]
    pub(crate) layering: Layering,
    #[command(flatten)]
    pub(crate) names: names::Names,
    /// Mount read-only.
    #[arg(long, conflicts_with_all = ["commit", "scratch_dir", "max_scratch"])]
    pub(crate) read_only: bool,
    /// Let the kernel open files by itself (with --read-only): nobody waits for this process but who reads a file first. It
    /// pays where small files are read again and again: they open and read as fast as local ones, four times as fast as
    /// otherwise. The kernel then gets no files of the cache to read by itself (see --no-passthrough): long files read
    /// faster without this. A file that may not be read opens, and reading it fails. `stats` and reports tell of first
    /// reads, not of opens.
    #[arg(long)]
    pub(crate) no_open: bool,
    /// Keep the session in this directory; if one is there already, take it up.
    #[arg(long, value_name = "DIR")]
    pub(crate) session: Option<PathBuf>,
    /// Keep fetched objects here. Default: $XDG_CACHE_HOME/attachfs.
    #[arg(long, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) cache_bounds: cache::CacheBounds,
    /// Keep written files in this directory instead of in the session's.
    #[arg(long, value_name = "DIR")]
    pub(crate) scratch_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) scratch: scratch::ScratchBounds,
    /// Commit when it is unmounted with `attachfs umount`.
    #[arg(long)]
    pub(crate) commit: bool,
    /// Commit only files in this directory of the mount, relative to its root. May be given more than once. It need not be there
    /// yet; what is a file or a link in the manifests is refused.
    #[arg(long, value_name = "DIR")]
    pub(crate) output_dir: Vec<String>,
    /// Stay in the foreground; Ctrl-C unmounts.
    #[arg(short, long)]
    pub(crate) foreground: bool,
    #[command(flatten)]
    pub(crate) probing: Probing,
    #[command(flatten)]
    pub(crate) reading: reading::Reading,
    #[command(flatten)]
    pub(crate) early_upload: early::EarlyUpload,
    #[command(flatten)]
    pub(crate) writing: writing::Writing,
    #[command(flatten)]
    pub(crate) traces: traces::Traces,
    #[command(flatten)]
    pub(crate) metrics: stats::Metrics,
    #[command(flatten)]
    pub(crate) reports: report::ReportFiles,
    /// Where the log goes: a file, `journald`, or by default the session's own `log`. In the
    /// foreground by default to standard error. The session's own is kept below 32 MiB (`log` and
    /// `log.1`); a file of yours is only appended to (for logrotate: copytruncate).
    #[arg(long, value_name = "FILE|journald")]
    pub(crate) log: Option<PathBuf>,
    /// Owner of what is shown. Default: the user who mounts.
    #[arg(long, value_name = "UID", help_heading = "What is shown")]
    pub(crate) uid: Option<u32>,
    /// Group of what is shown. Default: the group of the user who mounts.
    #[arg(long, value_name = "GID", help_heading = "What is shown")]
    pub(crate) gid: Option<u32>,
    /// Permission bits of files; runnable files get an execute bit for each read bit.
    #[arg(long, value_name = "OCTAL", default_value = "0644", value_parser = values::parse_mode, help_heading = "What is shown")]
    pub(crate) file_mode: u32,
    /// Permission bits of directories.
    #[arg(long, value_name = "OCTAL", default_value = "0755", value_parser = values::parse_mode, help_heading = "What is shown")]
    pub(crate) dir_mode: u32,
    /// Let other users use the mount, as far as permissions let them.
    #[arg(long, help_heading = "What is shown")]
    pub(crate) allow_other: bool,
    /// How the background process is started. Not for people.
    #[arg(long, hide = true)]
    pub(crate) daemon: bool,
}

/// List sessions: mounts, and sessions with uncommitted changes.
///
/// `mounted`, `browsing` if it shows outputs of jobs, or `in use` by a process without a mount (detached, or being committed: `status` tells); `left` without a process, or `dead` if its mount is
/// still there, which `umount` takes away; `ending` if it was half deleted. A session whose directory is not there now, because its disk is not mounted for example, is
/// `unreachable`, and is not forgotten. One in whose directory there is another session now is `lost`.
#[derive(Debug, ClapArgs)]
pub(crate) struct List {
    /// List sessions that have ended instead, with the addresses of what they published.
    #[arg(long, conflicts_with = "prune")]
    pub(crate) ended: bool,
    /// Forget sessions that have ended and those that are lost, and remove what killed processes left of sessions that they had not made
    /// yet. No session is deleted, and what is unreachable stays: `discard --forget` takes one of those from the list.
    #[arg(long)]
    pub(crate) prune: bool,
}

/// Delete a session and everything in it that was not committed.
///
/// If its directory holds anything that attachfs did not make, nothing is deleted, and that is named. A
/// directory that was there before the session stays, empty.
#[derive(Debug, ClapArgs)]
pub(crate) struct Discard {
    #[command(flatten)]
    pub(crate) session: Session,
    /// Take a session from the list that cannot be reached. What is on its disk stays there, uncommitted
    /// work too, and can be mounted again by its directory.
    #[arg(long)]
    pub(crate) forget: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }

    #[test]
    fn what_asks_for_json_may_be_said_again() {
        for line in [
            &["attachfs", "list", "--json", "--json"][..],
            &["attachfs", "--json", "list", "--json"],
            &["attachfs", "--json", "--json", "list"],
        ] {
            assert!(super::Args::try_parse_from(line).unwrap().globals.json);
        }
    }
}
