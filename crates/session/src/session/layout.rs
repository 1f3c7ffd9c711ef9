//! The names in a session's directory, and the version of its format.

use attachfs_manifest::ContentHash;

/// The version of the directory that this code writes and reads. It changes when the same manifests get
/// other inode numbers, too: a journal names files by them.
///
/// 1 numbered the nodes of the base by depth and path, and did not say how layers were put together;
/// 2 numbers them directory by directory; 3 has another journal, which tells a torn end from a damaged one;
/// 4 numbers inodes by layer and index, and its journal has layers and is compacted.
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
pub(crate) const SOCKET: &str = "control.sock";
pub(super) const LOG: &str = "log";
pub(super) const MOUNT: &str = "mnt";
/// Wrong objects of which programs were given bytes.
pub(super) const TAINTED: &str = "tainted.json";
/// An empty file: the journal was damaged and lost its end.
pub(super) const CUT: &str = "cut";
/// An empty file: the session is being made, and nothing in it is needed yet.
pub(super) const UNFINISHED: &str = "unfinished";
/// An empty file: the session is being deleted, and nothing in it is needed any more.
pub(super) const ENDING: &str = "ending";

/// The file in the directory of layers that has the manifests which are shown from a layer on.
pub(super) fn stack_name(layer: u32) -> String {
    format!("{layer}.json")
}

/// The file in that directory that has the bytes of a manifest which was added.
pub(super) fn stacked_manifest_name(hash: ContentHash) -> String {
    format!("{hash}.manifest")
}

/// Whether a name is one of these.
pub(super) fn is_of_a_stack(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    name.strip_suffix(".json").is_some_and(is_number) || hash_of_stacked(name).is_some()
}

/// Whether a damaged journal that was set aside has this name.
pub(super) fn is_journal_aside(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match name.split_once('.') {
        Some((name, number)) => name == JOURNAL && is_number(number),
        None => name == JOURNAL,
    }
}

/// The number of the layer that a file in that directory is about: its diff, or its stack.
pub(super) fn layer_of(name: &str) -> Option<u32> {
    let number = name.strip_suffix(".json").unwrap_or(name);
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse().ok().filter(|_| is_number)
}

/// The hash of the manifest that a file of this name has the bytes of.
pub(super) fn hash_of_stacked(name: &str) -> Option<ContentHash> {
    name.strip_suffix(".manifest")?.parse().ok()
}
