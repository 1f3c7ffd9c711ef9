//! A file of an upload or a snapshot, before and after.

use attachfs_manifest::{ChunkSize, ContentHash, File, ManifestPath};
use attachfs_scan::ScannedFile;

use super::report::Unreadable;
use crate::error::TransferError;
use crate::hash::content_of;
use crate::upload::Outcome;

/// A file that is to be hashed or stored.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) path: ManifestPath,
    pub(super) scanned: ScannedFile,
    /// Its hashes, if they are known from an earlier time.
    pub(super) known: Option<Vec<ContentHash>>,
    /// How it is cut, if it is long enough.
    pub(super) chunk_size: ChunkSize,
    /// What became of objects of it before.
    pub(super) stored: Vec<(Outcome, u64)>,
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Done {
    File {
        path: ManifestPath,
        file: File,
        was_known: bool,
        stored: Vec<(Outcome, u64)>,
        /// The file as it is, if something was seen in the store at an earlier time only.
        relied: Option<Box<Item>>,
    },
    /// Left out, as was asked for. As long as the scan found it.
    Unreadable { file: Unreadable, size: u64 },
    /// It could not be stored, and others may be.
    Failed {
        path: ManifestPath,
        stored: Vec<(Outcome, u64)>,
        error: TransferError,
    },
}

impl Item {
    /// A file that is what it was when its hashes were found.
    pub(super) fn into_done(self) -> Done {
        let Self {
            path,
            scanned,
            known,
            stored,
            ..
        } = self;
        Done::File {
            path,
            file: node_of(&scanned, known.unwrap_or_default()),
            was_known: true,
            stored,
            relied: None,
        }
    }
}

/// What the manifest says of a file that is this and has these hashes.
pub(super) fn node_of(now: &ScannedFile, hashes: Vec<ContentHash>) -> File {
    File {
        size: now.size,
        mtime: now.mtime,
        runnable: now.runnable,
        content: content_of(hashes),
    }
}
