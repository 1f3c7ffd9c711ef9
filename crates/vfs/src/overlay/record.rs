//! What the journal says.

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
    /// Someone who has a file open begins to write to it. The creation of a file says so by itself.
    Opened(Ino),
    /// Nobody has the file open for writing any more; or what it is was accepted although that was
    /// never said.
    Closed(Ino),
    /// A diff was laid over the base.
    Layer {
        /// 1 for the first.
        number: u32,
        /// The hash of its bytes, which are in the layer's file.
        diff: ContentHash,
    },
    /// A part of the namespace as it was when the journal was compacted. They come before all mutations.
    State(NamespacePart),
    /// When the journal was compacted: deleted files whose scratch files may be there still.
    Deleted(Vec<Ino>),
}

/// How far a commit has come. Between the two records the outcome of the manifest's PUT is unknown,
/// and the commit is finished by sending the same bytes to the same key again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommitRecord {
    /// The manifest is about to be sent. Its bytes are in the session, durably.
    Intent {
        /// 1 for the first commit of the session.
        generation: u32,
        /// Where it goes.
        key: String,
        /// The hash of its bytes.
        hash: ContentHash,
        /// The files whose bytes the store has.
        clean: Vec<CleanFile>,
    },
    /// The manifest is in the store.
    Published {
        /// As in the intent.
        generation: u32,
    },
}

/// A file whose bytes are in the store as long as its scratch file stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanFile {
    /// The file.
    pub ino: Ino,
    /// Its scratch file when it was hashed.
    pub stamp: ScratchStamp,
    /// Of a file that is partly the base's: when it was changed last.
    pub changed: Option<Timestamp>,
    /// The hashes.
    pub content: Content,
}

/// What tells whether a scratch file was written since.
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
