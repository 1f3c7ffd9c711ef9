//! Version 2025-12: directories, files and links of a snapshot or a diff.
//!
//! ```text
//! {"dirs":[{"name":"d"},{"name":"$0/e"},{"delete":true,"name":"old"}],
//!  "fileChunkSizeBytes":268435456,
//!  "files":[{"hash":"<32 hex>","mtime":<us>,"name":"$1/run.sh","runnable":true,"size":10},
//!           {"chunkhashes":["<32 hex>","<32 hex>"],"mtime":5,"name":"big","size":268435457},
//!           {"delete":true,"name":"gone"},
//!           {"name":"l","symlink":{"name":"$0/t"}}],
//!  "hashAlg":"xxh128","parentManifestHash":"<32 hex>",
//!  "specificationVersion":"relative-manifest-diff-beta-2025-12","totalSize":268435467}
//! ```
//!
//! `$N/name` is a name in the directory with index N in `dirs`. `dirs` lists every directory that
//! anything refers to: parents of files and of directories, and also those above the target of a
//! link, whether they exist or not. Source: `openjd-snapshots` 0.3.2.

mod decode;
mod encode;
mod entry;
mod paths;

pub(super) use decode::decode;
pub(super) use encode::{encode_diff, encode_snapshot};

use super::DecodeError;

/// The kinds of manifest that this crate reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Snapshot,
    Diff,
}

impl Kind {
    const fn version(self) -> &'static str {
        match self {
            Self::Snapshot => "relative-manifest-snapshot-beta-2025-12",
            Self::Diff => "relative-manifest-diff-beta-2025-12",
        }
    }

    /// The kind whose `specificationVersion` this is.
    pub(super) fn of(version: &[u8]) -> Result<Option<Self>, DecodeError> {
        const NOT_YET: [&str; 2] = [
            "absolute-manifest-snapshot-beta-2025-12",
            "absolute-manifest-diff-beta-2025-12",
        ];
        if let Some(known) = NOT_YET.iter().find(|known| known.as_bytes() == version) {
            return Err(DecodeError::NotYet(known));
        }
        let mut kinds = [Self::Snapshot, Self::Diff].into_iter();
        Ok(kinds.find(|kind| kind.version().as_bytes() == version))
    }
}
