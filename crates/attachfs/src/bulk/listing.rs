//! A listing that is read page by page, with progress.

use attachfs_store::{Folder, Listed};
use attachfs_transfer::{Cancelled, Phase, Progress, ProgressEvent};

use crate::error::{Doing as _, Error};
use crate::store::OpenStore;

/// A listing, and how far it has come.
pub(super) struct Listing<'a> {
    store: &'a OpenStore,
    folder: Folder,
    /// From where on; `None` at the beginning.
    from: Option<String>,
    is_over: bool,
    progress: &'a dyn Progress,
    done: u64,
}

impl<'a> Listing<'a> {
    pub(super) fn of(store: &'a OpenStore, folder: Folder, progress: &'a dyn Progress) -> Self {
        Self {
            store,
            folder,
            from: None,
            is_over: false,
            progress,
            done: 0,
        }
    }

    /// All objects.
    pub(super) fn of_objects(store: &'a OpenStore, progress: &'a dyn Progress) -> Self {
        Self::of(store, Folder::Data, progress)
    }

    /// All manifests.
    pub(super) fn of_manifests(store: &'a OpenStore, progress: &'a dyn Progress) -> Self {
        let all = attachfs_store::KeyPrefix::default();
        Self::of(store, Folder::Manifests(all), progress)
    }

    /// The next page; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Listed>>, Error> {
        if self.is_over {
            return Ok(None);
        }
        let from = self.from.as_deref();
        let listed = self.store.store.list(&self.folder, from).await;
        let page =
            listed.doing(|| format!("cannot list the store {}", self.store.store.address()))?;
        self.done += page.entries.len() as u64;
        self.is_over = page.next.is_none();
        self.from = page.next;
        self.go_on()?;
        Ok(Some(page.entries))
    }

    /// Whether there is no next page.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Says how far it is, and fails if it is cancelled.
    pub(super) fn go_on(&self) -> Result<(), Error> {
        let event = ProgressEvent {
            items_done: self.done,
            ..ProgressEvent::of(Phase::Scan)
        };
        if self.progress.update(&event).is_break() {
            return Err(attachfs_transfer::TransferError::from(Cancelled::after(event)).into());
        }
        Ok(())
    }
}
