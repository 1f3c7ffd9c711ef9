//! The objects of files, each stored once whoever needs it first.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use attachfs_manifest::ContentHash;
use attachfs_scan::ScannedFile;
use attachfs_store::{Payload, StoreError};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::item::{Done, Item, node_of};
use crate::error::TransferError;
use crate::refusals::is_of_the_file;
use crate::upload::{Outcome, Sending, Uploader};

/// The objects that are in the store by now, on their way, or refused. Who wants to store one waits for who
/// came first, shares its fate if the store refused the object, and takes over if its file was at fault:
/// that may have changed.
#[derive(Default)]
struct Stored(Mutex<HashMap<ContentHash, Fate>>);

/// What became of an object, once that is known.
type Fate = Arc<OnceCell<Result<(), Refused>>>;

/// What the store said when it was asked for an object, or to take it.
enum Refused {
    Ask(Arc<StoreError>),
    Send(Arc<StoreError>),
}

impl Refused {
    /// The refusal in an error, unless the file is at fault.
    fn of(error: &TransferError) -> Option<Self> {
        match error {
            TransferError::Ask { source, .. } => Some(Self::Ask(Arc::clone(source))),
            TransferError::Store { source, .. } if !is_of_the_file(source) => {
                Some(Self::Send(Arc::clone(source)))
            }
            _ => None,
        }
    }

    /// What it means to a file that has the object.
    fn to(&self, hash: ContentHash, file: &ScannedFile) -> TransferError {
        match self {
            Self::Ask(source) => TransferError::Ask {
                hash,
                source: Arc::clone(source),
            },
            Self::Send(source) => TransferError::Store {
                path: file.source(),
                source: Arc::clone(source),
            },
        }
    }
}

/// The store, and what is known of the objects in it.
pub(super) struct Objects {
    /// Nothing is stored if there is none.
    pub(super) store: Option<Uploader>,
    stored: Arc<Stored>,
}

impl Objects {
    pub(super) fn new(store: Option<Uploader>) -> Self {
        Self {
            store,
            stored: Arc::default(),
        }
    }

    /// The same, for files that are gone through once more.
    pub(super) fn again(&self) -> Self {
        Self {
            store: self.store.clone(),
            stored: Arc::clone(&self.stored),
        }
    }

    fn fate_of(&self, hash: ContentHash) -> Fate {
        Arc::clone(self.stored.0.lock().entry(hash).or_default())
    }

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
        file: &ScannedFile,
        kept: &mut Kept,
    ) -> Result<bool, TransferError> {
        let Some(store) = &self.store else {
            return Ok(true);
        };
        let cell = self.fate_of(hash);
        if let Some(fate) = cell.get() {
            return match fate {
                Ok(()) => Ok(true),
                Err(refused) => Err(refused.to(hash, file)),
            };
        }
        if store.relies_on(hash, len) {
            kept.relies = true;
            return Ok(true);
        }
        match store.has(hash, len).await {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) => {
                if let Some(refused) = Refused::of(&error) {
                    // Or somebody else found out meanwhile.
                    let _ = cell.set(Err(refused));
                }
                return Err(error);
            }
        }
        // Whoever came first counts it.
        if cell.set(Ok(())).is_ok() {
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
        let cell = self.fate_of(hash);
        if !cell.initialized() && store.relies_on(hash, len) {
            kept.relies = true;
            return Ok(());
        }
        let mut mine = None;
        let ensure = || async {
            match store.ensure(hash, len, sending, &file.source()).await {
                Ok(outcome) => mine = Some(outcome),
                Err(error) => return Refused::of(&error).map(Err).ok_or(error),
            }
            Ok(Ok(()))
        };
        if let Err(refused) = cell.get_or_try_init(ensure).await? {
            return Err(refused.to(hash, file));
        }
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
