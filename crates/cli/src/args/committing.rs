//! Options of `commit` and `diff`, and what other verbs share with them.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};

/// Where the manifest of a commit goes, beside its own place in the store.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct ManifestTo {
    /// Write the manifest to this file, too, in place of a manifest there; `-` is standard output, which has
    /// nothing else then (not with `run`, whose command has it). If nothing changed since the last commit, it is that one's manifest; if there was
    /// none, nothing is written.
    #[arg(short, long, value_name = "MANIFEST")]
    pub(crate) output: Option<PathBuf>,
    /// Put the manifest into the store as Manifests/KEY, too. The same manifest may be there already;
    /// another one is an error, and stays. After an interruption the same command goes on.
    #[arg(long, value_name = "KEY")]
    pub(crate) publish: Option<attachfs::ManifestKey>,
    /// The format of what --output and --publish get: the session's diff, or the new and changed files for AWS's library. That has no
    /// deletions, which are named, and no links and files in chunks, which are errors unless what a link leads to is new as well.
    #[arg(long, value_enum, default_value = "2025-12")]
    pub(crate) format: HandedFormat,
}

impl ManifestTo {
    /// Whether only new and changed files are handed over.
    pub(crate) fn files_only(&self) -> bool {
        self.format == HandedFormat::Files
    }
}

/// What of the changes is committed.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(crate) struct Chosen {
    /// Commit only paths that match this pattern (Python's glob, as in `manifest filter`: `**` is any directories, names that begin with
    /// a dot have to be named). May be given more than once. What is left out stays in the session. Default: everything.
    #[arg(short, long, value_name = "GLOB", help_heading = "Choosing files")]
    pub(crate) include: Vec<String>,
    /// Do not commit paths that match this pattern. May be given more than once.
    #[arg(short, long, value_name = "GLOB", help_heading = "Choosing files")]
    pub(crate) exclude: Vec<String>,
}

impl From<Chosen> for attachfs::ChosenPaths {
    fn from(chosen: Chosen) -> Self {
        let Chosen { include, exclude } = chosen;
        Self { include, exclude }
    }
}

/// Show what changed in a session and is not committed.
///
/// Names, lengths and times tell what changed; nothing is read. So a file that was written to is listed as
/// changed also if its bytes are what they were. What is open for writing is left out, as in a commit with
/// --skip-open.
#[derive(Debug, ClapArgs)]
pub(crate) struct Diff {
    #[command(flatten)]
    pub(crate) session: Session,
    /// Read and hash what was written to, and list only what is different: exactly what a commit would
    /// publish.
    #[arg(long)]
    pub(crate) hash: bool,
    #[command(flatten)]
    pub(crate) chosen: Chosen,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Session {
    /// The mount point, or the session's id (four digits of it will do) or directory.
    #[arg(value_name = "MOUNTPOINT|SESSION")]
    pub(crate) session: PathBuf,
}

/// Publish what a session changed as a diff manifest.
///
/// All or nothing: objects first, the manifest last. If it is interrupted, the same command goes on.
/// A session that is mounted ends when it is unmounted with all of it committed; one that is not stays until it
/// is discarded. `list --ended` has the addresses of what ended ones published. If nothing changed since the last commit, it says where the
/// manifest of that is; that, and patterns that choose no change, are no failure: nothing is published, and what is left is counted.
#[derive(Debug, ClapArgs)]
pub(crate) struct Commit {
    #[command(flatten)]
    pub(crate) session: Session,
    /// Only show what would be published, with the same options. The written files are read and hashed, as by `diff --hash`;
    /// nothing is sent, and nothing written. If the commit would stop, this says so, why, and has its exit code.
    #[arg(long, conflicts_with_all = ["output", "publish"])]
    pub(crate) dry_run: bool,
    /// Wait so many seconds for files that are open for writing.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(crate) wait: u64,
    /// Leave out files that are open for writing, instead of stopping.
    ///
    /// Also those that were open when the process of the mount died.
    #[arg(long)]
    pub(crate) skip_open: bool,
    /// Publish files that were open for writing when the process of the mount died, or may have lost bytes with the power.
    ///
    /// They may be half written: look at them first. `attachfs status` lists them. Files that are open
    /// now still stop the commit. After `attachfs fsck --repair` of a damaged journal this publishes what is left.
    #[arg(long, conflicts_with = "skip_open")]
    pub(crate) accept_open: bool,
    /// Publish although programs read bytes of wrong objects.
    ///
    /// An object longer than 8 MiB is given out while it is fetched, and verified when all of it has been read. If it is
    /// wrong then, what the programs made of it may be wrong, too. `attachfs status` lists these objects and their
    /// files; `mount --verify strict` gives out nothing that is not verified.
    #[arg(long)]
    pub(crate) accept_tainted: bool,
    #[command(flatten)]
    pub(crate) links: LinkChoice,
    /// Commit files outside of the output directories, too.
    #[arg(long)]
    pub(crate) everything: bool,
    #[command(flatten)]
    pub(crate) chosen: Chosen,
    #[command(flatten)]
    pub(crate) manifest_to: ManifestTo,
    /// Stop before anything is sent unless this is the hash of what the diff goes over: of the mounted manifests, with what was
    /// committed before.
    #[arg(long, value_name = "HASH")]
    pub(crate) expect_parent: Option<attachfs::ContentHash>,
    /// Only finish an interrupted commit; what changed since stays in the session. Without an interrupted commit nothing is done, and
    /// the result says so.
    #[arg(long, conflicts_with_all = ["dry_run", "include", "exclude", "everything", "wait"])]
    pub(crate) resume: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HandedFormat {
    /// The diff, with deletions, links and all else.
    #[value(name = "2025-12")]
    Diff,
    /// New and changed files only.
    #[value(name = "2023-03-03")]
    Files,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutgoingLinks {
    /// Stop and list them.
    Stop,
    /// Leave them out.
    Skip,
    /// Put them as they are; a manifest of relative paths cannot hold that, and then it is an error that lists them.
    Keep,
    /// Put what they show: a file's bytes, all that is in a directory. It is read as the user who commits sees it, up to 100,000
    /// files and 256 GiB, and nothing through a mount of attachfs.
    Collapse,
}

impl From<OutgoingLinks> for attachfs::OutgoingLinks {
    fn from(links: OutgoingLinks) -> Self {
        match links {
            OutgoingLinks::Stop => Self::Stop,
            OutgoingLinks::Skip => Self::Skip,
            OutgoingLinks::Keep => Self::Keep,
            OutgoingLinks::Collapse => Self::Collapse,
        }
    }
}

/// What becomes of links.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub(crate) struct LinkChoice {
    /// What to do with symbolic links that lead out of the mount, as Python's virtual environments have them.
    #[arg(long, value_enum, default_value = "stop")]
    pub(crate) symlinks: OutgoingLinks,
}
