//! The objects of files, each stored once whoever needs it first.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use attachfs_manifest::ContentHash;
use attachfs_scan::ScannedFile;
use attachfs_store::Payload;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::file::Shared;
use super::{Done, Item, node_of};
use crate::TransferError;
use crate::upload::{Outcome, Sending};

/// The objects that are in the store by now or on their way. Who wants to store one waits for who
/// came first, and takes over if that one fails: its file may have changed.
#[derive(Default)]
pub(super) struct Stored(Mutex<HashMap<ContentHash, Arc<OnceCell<()>>>>);

impl Stored {
    fn cell(&self, hash: ContentHash) -> Arc<OnceCell<()>> {
        Arc::clone(self.0.lock().entry(hash).or_default())
    }
}

impl Shared {
    /// Finds out which of these objects were seen in the store at an earlier time. Blocks.
    pub(super) fn look_up_seen(&self, hashes: &[ContentHash]) {
        let store = self.store.as_ref();
        if let Some(seen) = store.and_then(|store| store.seen.as_ref()) {
            seen.look_up(hashes);
        }
    }

    /// Whether an object is in the store, or is relied on to be.
    pub(super) async fn has(
        &self,
        hash: ContentHash,
        len: u64,
        kept: &mut Kept,
    ) -> Result<bool, TransferError> {
        let Some(store) = &self.store else {
            return Ok(true);
        };
        let cell = self.stored.cell(hash);
        if cell.initialized() {
            return Ok(true);
        }
        if store.relies_on(hash, len) {
            kept.relies = true;
            return Ok(true);
        }
        if !store.has(hash, len).await? {
            return Ok(false);
        }
        // Whoever came first counts it.
        if cell.set(()).is_ok() {
            kept.stored.push((Outcome::AlreadyThere, len));
        }
        Ok(true)
    }

    /// Sees to it that an object is in the store, if there is one.
    pub(super) async fn store(
        &self,
        hash: ContentHash,
        len: u64,
        sending: impl Future<Output = Result<Sending, TransferError>> + Send,
        file: &ScannedFile,
        kept: &mut Kept,
    ) -> Result<(), TransferError> {
        let Some(store) = &self.store else {
            return Ok(());
        };
        let cell = self.stored.cell(hash);
        if !cell.initialized() && store.relies_on(hash, len) {
            kept.relies = true;
            return Ok(());
        }
        let mut mine = None;
        let ensure = || async {
            mine = Some(store.ensure(hash, len, sending, &file.source()).await?);
            Ok::<_, TransferError>(())
        };
        cell.get_or_try_init(ensure).await?;
        // Whoever came first counts it.
        kept.stored.extend(mine.map(|outcome| (outcome, len)));
        Ok(())
    }
}

/// What became of a file's objects so far.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) stored: Vec<(Outcome, u64)>,
    /// One of them was seen in the store at an earlier time only.
    pub(super) relies: bool,
}

impl Kept {
    /// The bytes that were sent.
    pub(super) fn sent(&self) -> u64 {
        let sent = self.stored.iter();
        sent.filter(|(outcome, _)| *outcome == Outcome::Uploaded)
            .map(|(_, len)| len)
            .sum()
    }

    /// A file that was this and has these hashes.
    pub(super) fn done(
        self,
        item: Item,
        now: ScannedFile,
        hashes: Vec<ContentHash>,
        was_known: bool,
    ) -> Done {
        let file = node_of(&now, hashes.clone());
        let relied = self.relies.then(|| {
            Box::new(Item {
                path: item.path.clone(),
                scanned: now,
                known: Some(hashes),
                chunk_size: item.chunk_size,
                stored: self.stored.clone(),
            })
        });
        Done::File {
            path: item.path,
            file,
            was_known,
            stored: self.stored,
            relied,
        }
    }
}

/// What is sent in a turn that its sender has.
pub(super) fn whole(payload: Payload) -> Sending {
    Sending {
        payload,
        turn: None,
    }
}
