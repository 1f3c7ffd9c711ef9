//! Where the bytes of a download come from: the store, through a fetcher, or files on this machine.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use attachfs_fetch::{FetchError, FetchOptions, Fetcher, HeldBytes};
use attachfs_manifest::{ContentHash, Piece};
use attachfs_store::ObjectPart;
use tokio::sync::Semaphore;

use super::error::Attempt;
use super::part::Part;
use super::{DownloadError, DownloadOptions, Nearby, Sources};
use crate::TransferError;
use crate::refusals::{Refusals, Request};

/// Gives bytes of objects, and notes how the store does.
#[derive(Debug)]
pub(super) struct Supply {
    pub(super) fetcher: Fetcher,
    /// Requests for small files.
    pub(super) requests: Semaphore,
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
            requests: Semaphore::new(options.max_in_flight.max(1)),
            nearby: from.nearby,
            refusals: Refusals::default(),
            can_reflink: AtomicBool::new(true),
        }
    }

    /// Fetches part of an object, for which there is room.
    pub(super) async fn get(&self, piece: &Piece, room: &HeldBytes) -> Attempt<ObjectPart> {
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

    /// A file on this machine that should hold an object and nothing else.
    pub(super) fn nearby(&self, hash: ContentHash, len: u64) -> Option<File> {
        self.nearby.as_ref()?.find(hash, len)
    }

    /// Makes a part share the blocks of a file, as long as the file system does that at all.
    pub(super) fn reflink(&self, near: &File, part: &Part, len: u64) -> bool {
        if !self.can_reflink.load(Ordering::Relaxed) {
            return false;
        }
        let is_done = attachfs_durable::reflink(near, 0..len, part.file());
        if !is_done {
            self.can_reflink.store(false, Ordering::Relaxed);
        }
        is_done
    }

    /// Notes that what the store would have been asked for was had nearby.
    pub(super) fn had_nearby(&self) {
        self.refusals.answered(Request::Read);
    }
}
