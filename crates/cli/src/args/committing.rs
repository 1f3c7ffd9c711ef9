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
/// manifest of that is.
#[derive(Debug, ClapArgs)]
pub(crate) struct Commit {
    #[command(flatten)]
    pub(crate) session: Session,
    /// Only show what would be published. The written files are read and hashed, as by `diff --hash`;
    /// nothing is sent, and nothing written. If the commit would stop, this says so and has its exit code.
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
    /// Publish files that were open for writing when the process of the mount died.
    ///
    /// They may be half written: look at them first. `attachfs status` lists them. Files that are open
    /// now still stop the commit.
    #[arg(long, conflicts_with = "skip_open")]
    pub(crate) accept_open: bool,
    /// Publish although programs read bytes of wrong objects.
    ///
    /// An object longer than 8 MiB is given out while it is fetched, and verified when all of it has been read. If it is
    /// wrong then, what the programs made of it may be wrong, too. `attachfs status` lists these objects and their
    /// files; `mount --verify strict` gives out nothing that is not verified.
    #[arg(long)]
    pub(crate) accept_tainted: bool,
    /// What to do with symbolic links that lead out of the mount.
    #[arg(long, value_enum, default_value = "stop")]
    pub(crate) symlinks: OutgoingLinks,
    /// Commit files outside of the output directories, too.
    #[arg(long)]
    pub(crate) everything: bool,
    #[command(flatten)]
    pub(crate) manifest_to: ManifestTo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutgoingLinks {
    /// Stop and list them.
    Stop,
    /// Leave them out.
    Skip,
}
