//! One file: how often it is tried, and what becomes of it if it fails.

use std::sync::Arc;

use attachfs_fetch::ByteBudget;
use attachfs_manifest::{File, ManifestPath};
use attachfs_scan::ScanError;
use tokio::sync::Semaphore;

use super::storing::{Kept, Stored};
use super::{Done, HashOptions, Item, Unreadable, node_of};
use crate::meter::Meter;
use crate::{TransferError, Uploader};

/// How often a file that changes is read before it is an error.
const MOST_TRIES: u32 = 3;

/// What all files of one snapshot share.
pub(super) struct Shared {
    pub(super) options: HashOptions,
    /// Files of up to this many bytes are kept in memory from reading to sending.
    pub(super) small_file: u64,
    pub(super) memory: ByteBudget,
    pub(super) readers: Semaphore,
    pub(super) reader_count: usize,
    pub(super) store: Option<Uploader>,
    pub(super) stored: Arc<Stored>,
    pub(super) meter: Arc<Meter>,
    /// What the hashes of files should be is said by somebody else: a file that has others is an error.
    is_named: bool,
}

/// Counts how often a file was found changed.
#[derive(Debug, Default)]
struct Tries(u32);

impl Tries {
    /// Whether to try again after this.
    fn again(&mut self, error: &TransferError, item: &Item) -> bool {
        self.0 += 1;
        let again = matches!(error, TransferError::Changed { .. }) && self.0 < MOST_TRIES;
        if again {
            tracing::info!(path = %item.path,
                "the file changed while it was being read; reading it again");
        }
        again
    }
}

impl Shared {
    pub(super) fn new(
        options: HashOptions,
        store: Option<&Uploader>,
        meter: Arc<Meter>,
        is_named: bool,
    ) -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        // More than there are cores, since some of them wait for the disk.
        let reader_count = 2 * threads;
        Self {
            options,
            // Only what is sent is worth keeping in memory.
            small_file: store.map_or(0, |store| store.options.small_file),
            memory: store.map_or_else(|| ByteBudget::new(0), |store| store.memory.clone()),
            readers: Semaphore::new(reader_count),
            reader_count,
            store: store.cloned(),
            stored: Arc::default(),
            meter,
            is_named,
        }
    }

    /// The same, for files that are gone through once more.
    pub(super) fn again(&self, meter: Arc<Meter>) -> Self {
        Self {
            stored: Arc::clone(&self.stored),
            ..Self::new(
                self.options.clone(),
                self.store.as_ref(),
                meter,
                self.is_named,
            )
        }
    }

    /// Stores what the store lacks of a file, hashing it unless its hashes are known.
    pub(super) async fn file(self: Arc<Self>, mut item: Item) -> Result<Done, TransferError> {
        let mut kept = Kept {
            stored: std::mem::take(&mut item.stored),
            relies: false,
        };
        if let Some(known) = &item.known {
            match self.known_once(&item, known, &mut kept).await {
                Ok(read) => {
                    self.meter.known(item.scanned.size, read);
                    let now = item.scanned.clone();
                    let known = known.clone();
                    return Ok(kept.done(item, now, known, read == 0));
                }
                Err(TransferError::Changed { path }) if self.is_named => {
                    return self.failed(item, kept, TransferError::Differs { path });
                }
                Err(TransferError::Changed { .. }) => {}
                Err(error) => return self.failed(item, kept, error),
            }
        }
        let mut tries = Tries::default();
        loop {
            kept.relies = false;
            match self.file_once(&item.scanned, &mut kept).await {
                Ok((now, hashes)) => {
                    self.meter.finished(|| item.path.to_string());
                    return Ok(kept.done(item, now, hashes, false));
                }
                Err(error) if tries.again(&error, &item) => {}
                Err(error) => return self.failed(item, kept, error),
            }
        }
    }

    /// Hashes a file, without a store. Blocks.
    pub(super) fn hash(&self, item: Item) -> Result<Done, TransferError> {
        let mut tries = Tries::default();
        loop {
            match self.read(&item.scanned) {
                Ok(read) => {
                    let file = node_of(&read.now, read.hashes);
                    return Ok(self.done(item, file));
                }
                Err(error) if tries.again(&error, &item) => {}
                Err(error) => return self.failed(item, Kept::default(), error),
            }
        }
    }

    /// A file that was hashed and nothing else.
    pub(super) fn done(&self, item: Item, file: File) -> Done {
        self.meter.finished(|| item.path.to_string());
        Done::File {
            path: item.path,
            file,
            was_known: false,
            stored: Vec::new(),
            relied: None,
        }
    }

    /// The end of everything, a file that is left out, or one that failed while others may not.
    fn failed(&self, item: Item, kept: Kept, error: TransferError) -> Result<Done, TransferError> {
        let is_unreadable = matches!(
            error,
            TransferError::Scan(ScanError::Io { .. } | ScanError::Replaced(_))
                | TransferError::Read { .. }
        );
        if is_unreadable && self.options.skip_unreadable {
            tracing::warn!(path = %item.path, error = &error as &dyn std::error::Error,
                "the file cannot be read and is left out");
            self.meter.known(item.scanned.size, 0);
            return Ok(Done::Unreadable {
                size: item.scanned.size,
                file: Unreadable {
                    path: item.path,
                    error,
                },
            });
        }
        match &self.store {
            Some(store) if store.others_may_pass(&error) => {
                tracing::warn!(path = %item.path, error = &error as &dyn std::error::Error,
                    "the file is not stored");
                self.meter.known(item.scanned.size, 0);
                Ok(Done::Failed {
                    path: item.path,
                    stored: kept.stored,
                    error,
                })
            }
            _ => Err(error),
        }
    }

    /// A file that failed before anything was done with it.
    pub(super) fn failed_before(
        &self,
        path: ManifestPath,
        error: TransferError,
    ) -> Result<Done, TransferError> {
        if !error.is_of_one_file() {
            return Err(error);
        }
        self.meter.known(0, 0);
        Ok(Done::Failed {
            path,
            stored: Vec::new(),
            error,
        })
    }
}
