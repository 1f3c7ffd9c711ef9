//! The names in a session's directory, and the version of what they hold.

/// The version of the directory that this code writes and reads. It changes when the same manifests get
/// other inode numbers, too: a journal names files by them.
///
/// 1 numbered the nodes of the base by depth and path, and did not say how layers were put together;
/// 2 numbers them directory by directory; 3 has another journal, which tells a torn end from a damaged one.
pub(super) const FORMAT: u32 = 4;

pub(super) const DESCRIPTION: &str = "session.json";
pub(super) const LOCK: &str = "lock";
pub(super) const BASE: &str = "base";
pub(super) const JOURNAL: &str = "journal";
/// Room on the disk for a commit.
pub(super) const RESERVE: &str = "reserve";
pub(super) const SCRATCH: &str = "scratch";
pub(super) const COMMITS: &str = "commits";
pub(super) const WORK: &str = "work";
pub(super) const LAYERS: &str = "layers";
pub(super) const SOCKET: &str = "control.sock";
pub(super) const LOG: &str = "log";
pub(super) const MOUNT: &str = "mnt";
/// An empty file: the session is being deleted, and nothing in it is needed any more.
pub(super) const ENDING: &str = "ending";
