//! `umount`, as typed.

use std::path::PathBuf;

use clap::Args;

use super::committing::{Chosen, LinkChoice, ManifestTo};

/// Unmount: wait, seal the session, commit if it was mounted with --commit.
///
/// Several mounts are ended at once, with an account of each. An unmount that was begun goes on in the mount's process, also if this
/// command is interrupted: the same command waits for it and tells its result. If the process of a mount was killed, its session is
/// committed here. Of several, the exit code is 0 if all are unmounted, and committed where that was asked for, and 13 if something is
/// pending: then nothing is lost, and the last line says how to go on. A name that means no session keeps no other from being ended; it has failed, and if
/// nothing is pending the exit code is that of the first that failed. What is written and not to be committed stays in its session.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  attachfs umount /mnt/scene
  attachfs umount --commit -o out.manifest /mnt/scene
  attachfs umount --commit --timeout 30 /mnt/a /mnt/b /mnt/c")]
pub(crate) struct Umount {
    /// The mount point, a path in the mount, or the session's id (four digits of it will do) or directory. May be given more than once.
    #[arg(value_name = "MOUNTPOINT|SESSION", required = true)]
    pub(crate) session: Vec<PathBuf>,
    /// Unmount although programs use the mount: they are cut off, and what they had written is kept. The mount of a process
    /// that does not answer is taken away; the process keeps the session.
    #[arg(long)]
    pub(crate) force: bool,
    /// Detach now, also if programs use the mount. They go on; when the last of them is done it is unmounted, and committed if that
    /// was asked for, by its process. `attachfs status SESSION` shows how that is.
    #[arg(long, conflicts_with_all = ["force", "timeout", "output"])]
    pub(crate) lazy: bool,
    /// Wait so many seconds for programs that use the mount, before it is found to be busy or, with --force, they are cut off.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(crate) timeout: u64,
    /// Commit what was written, also if it was not mounted with --commit. --output, --publish, --include and --exclude imply
    /// this. The first two are for one mount.
    #[arg(long)]
    pub(crate) commit: bool,
    #[command(flatten)]
    pub(crate) chosen: Chosen,
    #[command(flatten)]
    pub(crate) links: LinkChoice,
    #[command(flatten)]
    pub(crate) manifest_to: ManifestTo,
}
