//! Where the bytes of a download come from: the store, through a fetcher, or files on this machine.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use attachfs_fetch::{FetchError, FetchOptions, Fetcher, HeldBytes};
use attachfs_manifest::{ContentHash, Piece};
use attachfs_store::ObjectPart;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::DownloadError;
use super::failure::FileResult;
use super::options::{DownloadOptions, Nearby, Sources};
use super::threads::acquired;
use crate::error::TransferError;
use crate::refusals::{Refusals, Request};

/// Gives bytes of objects, and notes how the store does.
#[derive(Debug)]
pub(super) struct Supply {
    pub(super) fetcher: Fetcher,
    /// Files that are longer than a block are fetched in blocks of so many bytes.
    pub(super) block_bytes: u64,
    /// Requests for small files.
    requests: Semaphore,
    /// Files that are longer than a block.
    large: Semaphore,
    nearby: Option<Arc<dyn Nearby>>,
    refusals: Refusals,
    can_reflink: AtomicBool,
}

impl Supply {
    pub(super) fn new(from: Sources, options: &DownloadOptions) -> Self {
        let fetching = FetchOptions {
            memory_bytes: options.memory_bytes,
            ..FetchOptions::default()
        };
        Self {
            fetcher: Fetcher::new(from.store, None, fetching),
            block_bytes: options.block_bytes,
            requests: Semaphore::new(options.max_in_flight.max(1)),
            large: Semaphore::new(options.max_large_in_flight.max(1)),
            nearby: from.nearby,
            refusals: Refusals::default(),
            can_reflink: AtomicBool::new(true),
        }
    }

    /// Waits for the turn of a small file to make its request.
    pub(super) async fn request_turn(&self) -> SemaphorePermit<'_> {
        acquired(&self.requests).await
    }

    /// Waits for the turn of a large file, which has it until it is whole.
    pub(super) async fn large_turn(&self) -> SemaphorePermit<'_> {
        acquired(&self.large).await
    }

    /// Fetches part of an object, for which there is room.
    pub(super) async fn get(&self, piece: &Piece, room: &HeldBytes) -> FileResult<ObjectPart> {
        let fetched = self.fetcher.fetch(piece, room).await;
        match &fetched {
            Err(FetchError::Missing { hash, source } | FetchError::Store { hash, source }) => {
                self.refusals.refused(Request::Read, *hash, source);
                if !self.refusals.others_may_pass(Request::Read, source) {
                    let (hash, source) = (*hash, Arc::clone(source));
                    let stopped = DownloadError::Store { hash, source };
                    return Err(TransferError::from(stopped).into());
                }
            }
            // An answer, though not the one that should be.
            Ok(_) | Err(_) => self.refusals.answered(Request::Read),
        }
        Ok(fetched?)
    }

    pub(super) fn has_nearby(&self) -> bool {
        self.nearby.is_some()
    }

    /// A file on this machine that should hold an object, and where in it.
    pub(super) fn nearby(&self, hash: ContentHash, len: u64) -> Option<(File, u64)> {
        self.nearby.as_ref()?.find(hash, len)
    }

    /// Makes a file share a range of another as its first bytes, as long as the file system does that at all.
    pub(super) fn reflink(&self, near: &File, range: Range<u64>, to: &File) -> bool {
        if !self.can_reflink.load(Ordering::Relaxed) {
            return false;
        }
        let is_done = attachfs_durable::reflink(near, range.clone(), to, 0);
        // A part of a longer file may begin within a block, which says nothing about others.
        if !is_done && range.start == 0 {
            self.can_reflink.store(false, Ordering::Relaxed);
        }
        is_done
    }

    /// Notes that what the store would have been asked for was had nearby.
    pub(super) fn had_nearby(&self) {
        self.refusals.answered(Request::Read);
    }
}
