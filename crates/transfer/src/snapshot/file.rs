//! One file: how often it is tried, and what becomes of it if it fails.

use std::sync::Arc;

use attachfs_manifest::{File, ManifestPath};
use attachfs_scan::ScanError;

use super::item::{Done, Item, node_of};
use super::once::{file_once, known_once};
use super::report::Unreadable;
use super::shared::Shared;
use super::storing::Kept;
use crate::error::TransferError;

/// How often a file that changes is read before it is an error.
const MOST_TRIES: u32 = 3;

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

/// Stores what the store lacks of a file, hashing it unless its hashes are known.
pub(super) async fn file(shared: Arc<Shared>, mut item: Item) -> Result<Done, TransferError> {
    let mut kept = Kept {
        stored: std::mem::take(&mut item.stored),
        relies: false,
    };
    if let Some(known) = &item.known {
        match known_once(&shared, &item, known, &mut kept).await {
            Ok(read) => {
                shared.reading.meter.known(item.scanned.size, read);
                let now = item.scanned.clone();
                let known = known.clone();
                return Ok(kept.done(item, now, known, read == 0));
            }
            Err(TransferError::Changed { path }) if shared.is_named => {
                return failed(&shared, item, kept, TransferError::Differs { path });
            }
            Err(TransferError::Changed { .. }) => {}
            Err(error) => return failed(&shared, item, kept, error),
        }
    }
    let mut tries = Tries::default();
    loop {
        kept.relies = false;
        match file_once(&shared, &item.scanned, &mut kept).await {
            Ok((now, hashes)) => {
                shared.reading.meter.finished(|| item.path.to_string());
                return Ok(kept.done(item, now, hashes, false));
            }
            Err(error) if tries.again(&error, &item) => {}
            Err(error) => return failed(&shared, item, kept, error),
        }
    }
}

/// Hashes a file, without a store. Blocks.
pub(super) fn hash(shared: &Shared, item: Item) -> Result<Done, TransferError> {
    let mut tries = Tries::default();
    loop {
        match shared.reading.read(&item.scanned, &shared.objects) {
            Ok(read) => {
                let file = node_of(&read.now, read.hashes);
                return Ok(done(shared, item, file));
            }
            Err(error) if tries.again(&error, &item) => {}
            Err(error) => return failed(shared, item, Kept::default(), error),
        }
    }
}

/// A file that was hashed and nothing else.
pub(super) fn done(shared: &Shared, item: Item, file: File) -> Done {
    shared.reading.meter.finished(|| item.path.to_string());
    Done::File {
        path: item.path,
        file,
        was_known: false,
        stored: Vec::new(),
        relied: None,
    }
}

/// The end of everything, a file that is left out, or one that failed while others may not.
fn failed(
    shared: &Shared,
    item: Item,
    kept: Kept,
    error: TransferError,
) -> Result<Done, TransferError> {
    let is_unreadable = matches!(
        error,
        TransferError::Scan(ScanError::Io { .. } | ScanError::Replaced(_))
            | TransferError::Read { .. }
    );
    if is_unreadable && shared.reading.options.skip_unreadable {
        tracing::warn!(path = %item.path, error = &error as &dyn std::error::Error,
            "the file cannot be read and is left out");
        shared.reading.meter.known(item.scanned.size, 0);
        return Ok(Done::Unreadable {
            size: item.scanned.size,
            file: Unreadable {
                path: item.path,
                error,
            },
        });
    }
    match &shared.objects.store {
        Some(store) if store.others_may_pass(&error) => {
            tracing::warn!(path = %item.path, error = &error as &dyn std::error::Error,
                "the file is not stored");
            shared.reading.meter.known(item.scanned.size, 0);
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
    shared: &Shared,
    path: ManifestPath,
    error: TransferError,
) -> Result<Done, TransferError> {
    if !error.is_of_one_file() {
        return Err(error);
    }
    shared.reading.meter.known(0, 0);
    Ok(Done::Failed {
        path,
        stored: Vec::new(),
        error,
    })
}
