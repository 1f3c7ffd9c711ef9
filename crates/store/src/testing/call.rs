//! One call to a store, as data: what the recording and the failing store decide by and write down.

use std::ops::Range;

use attachfs_manifest::ContentHash;

use crate::{Folder, ManifestKey, Metadata};

/// A call and what it was made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// [`ChunkStore::get`](crate::ChunkStore::get).
    Get {
        /// The object.
        chunk: ContentHash,
        /// The bytes asked for.
        range: Range<u64>,
    },
    /// [`ChunkStore::head`](crate::ChunkStore::head).
    Head {
        /// The object.
        chunk: ContentHash,
    },
    /// [`ChunkStore::put`](crate::ChunkStore::put).
    Put {
        /// The object.
        chunk: ContentHash,
        /// Its length in bytes.
        len: u64,
    },
    /// [`ManifestStore::get_manifest`](crate::ManifestStore::get_manifest).
    GetManifest {
        /// The manifest.
        key: ManifestKey,
    },
    /// [`ManifestStore::put_manifest_if_absent`](crate::ManifestStore::put_manifest_if_absent).
    PutManifest {
        /// The manifest.
        key: ManifestKey,
        /// Its length in bytes.
        len: u64,
        /// Its metadata.
        metadata: Metadata,
    },
    /// [`ListStore::list`](crate::ListStore::list).
    List {
        /// What is listed.
        folder: Folder,
        /// From where on.
        after: Option<String>,
    },
}

/// Which method was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are the methods of the traits")]
pub enum CallKind {
    Get,
    Head,
    Put,
    GetManifest,
    PutManifest,
    List,
}

impl Call {
    /// Which method this is.
    pub fn kind(&self) -> CallKind {
        match self {
            Self::Get { .. } => CallKind::Get,
            Self::Head { .. } => CallKind::Head,
            Self::Put { .. } => CallKind::Put,
            Self::GetManifest { .. } => CallKind::GetManifest,
            Self::PutManifest { .. } => CallKind::PutManifest,
            Self::List { .. } => CallKind::List,
        }
    }

    /// The object, if it is about one.
    pub fn chunk(&self) -> Option<ContentHash> {
        match self {
            Self::Get { chunk, .. } | Self::Head { chunk } | Self::Put { chunk, .. } => {
                Some(*chunk)
            }
            Self::GetManifest { .. } | Self::PutManifest { .. } | Self::List { .. } => None,
        }
    }
}
