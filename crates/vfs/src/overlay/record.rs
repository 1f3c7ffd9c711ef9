//! The records of the journal.

use attachfs_durable::FileStamp;
use attachfs_manifest::{Content, ContentHash};
use attachfs_tree::{Ino, Mutation, NamespacePart, Timestamp};
use serde::{Deserialize, Serialize};

/// One record of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// The namespace changed.
    Mutation(Mutation),
    /// A step of a commit.
    Commit(CommitRecord),
    /// The session was unmounted in order.
    Sealed {
        /// When.
        time: Timestamp,
    },
    /// A file begins to be written to. The creation of a file implies this.
    Opened(Ino),
    /// The file is not open for writing any more, or was accepted as complete although its close
    /// was never recorded.
    Closed(Ino),
    /// A layer was added to the base.
    Layer {
        /// 1 for the first.
        number: u32,
        /// The hash of its bytes, which are in the layer's file.
        diff: ContentHash,
    },
    /// A part of the namespace at the time of a compaction. These come before all mutations.
    State(NamespacePart),
    /// At a compaction: deleted files whose scratch files may still exist.
    Deleted(Vec<Ino>),
    /// This start of the machine writes from here on. What earlier ones wrote and did not [save](Self::Saved) may be lost, if the
    /// power was.
    Boot(String),
    /// All bytes that were written before this are on the disk.
    Saved,
}

/// What a record does to the session, which says how much of the journal's room it has to leave when the disk is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// More is there afterwards.
    Adding,
    /// Something goes, or nothing is added.
    Removing,
    /// The session ends, or is committed.
    Ending,
}

impl Record {
    pub(crate) fn purpose(&self) -> Purpose {
        match self {
            Self::Mutation(Mutation::Unlink { .. } | Mutation::RemoveDir { .. })
            | Self::Closed(_)
            | Self::Deleted(_) => Purpose::Removing,
            Self::Commit(_) | Self::Sealed { .. } | Self::Boot(_) | Self::Saved => Purpose::Ending,
            Self::Mutation(_) | Self::Opened(_) | Self::Layer { .. } | Self::State(_) => {
                Purpose::Adding
            }
        }
    }
}

/// How far a commit has come. Between the two records the outcome of the manifest's PUT is unknown,
/// and the commit is finished by sending the same bytes to the same key again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommitRecord {
    /// The manifest is about to be sent. Its bytes are in the session, durably.
    Intent {
        /// 1 for the first commit of the session.
        generation: u32,
        /// Its key in the store.
        key: String,
        /// The hash of its bytes.
        hash: ContentHash,
        /// The files whose bytes are in the store.
        clean: Vec<CleanFile>,
    },
    /// The manifest is in the store.
    Published {
        /// That of the intent.
        generation: u32,
    },
}

/// A file whose bytes are in the store, as long as its scratch file does not change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanFile {
    /// The file.
    pub ino: Ino,
    /// The stamp of its scratch file when it was hashed.
    pub stamp: ScratchStamp,
    /// The last change of a file whose content is partly the base's.
    pub changed: Option<Timestamp>,
    /// The hashes.
    pub content: Content,
}

/// Tells whether a scratch file was written to since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScratchStamp {
    size: u64,
    mtime_ns: i128,
    ctime_ns: i128,
}

impl From<FileStamp> for ScratchStamp {
    fn from(stamp: FileStamp) -> Self {
        Self {
            size: stamp.size,
            mtime_ns: stamp.mtime_ns,
            ctime_ns: stamp.ctime_ns,
        }
    }
}
