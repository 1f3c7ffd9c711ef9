//! `fsck`.

use clap::Args as ClapArgs;

use super::Session;

/// Check the files of a session that is not mounted, and repair them.
///
/// Its manifests, its journal, the files that were written and its commits are read; no store is asked. Without --repair
/// nothing changes. Exit code 12 if something is wrong.
#[derive(Debug, ClapArgs)]
pub(crate) struct Fsck {
    #[command(flatten)]
    pub(crate) session: Session,
    /// Make a damaged session fit to be used again. The journal keeps its records up to the first damaged one, and the damaged
    /// journal and the bytes that no record before the damage needs are moved to `aside` in the scratch directory. What was
    /// done later is lost to the mount; so a commit asks about all files that were written. Files whose bytes are missing are
    /// empty, and a commit asks about them. A manifest, layer or scratch directory that is missing is named: put it back.
    /// Nothing is deleted.
    #[arg(long)]
    pub(crate) repair: bool,
}
