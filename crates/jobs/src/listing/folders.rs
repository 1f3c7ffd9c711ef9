//! The folders in a folder, without what is in them.
//!
//! A listing gives keys, not folders. Where a page ends within a folder, the next one begins behind it: so what is in a
//! folder with many keys is not listed, and one request finds the next folder.

use attachfs_store::{Folder, KeyPrefix, ListStore, StoreError};

/// The names of the folders in a folder of manifests, in the order of their bytes.
#[derive(Debug)]
pub struct Folders<'a> {
    store: &'a dyn ListStore,
    folder: Folder,
    after: Option<String>,
    is_over: bool,
}

impl<'a> Folders<'a> {
    /// The folders below `prefix`, for example the queues of a farm or the steps of a job. None, if it is not there.
    pub fn of(store: &'a dyn ListStore, prefix: KeyPrefix) -> Self {
        Self {
            store,
            folder: Folder::Manifests(prefix),
            after: None,
            is_over: false,
        }
    }

    /// The names that come next, at least one, each once; `None` at the end. May be cancelled, and called again after a
    /// failure.
    pub async fn next(&mut self) -> Result<Option<Vec<String>>, StoreError> {
        let start = self.folder.key_start();
        let mut names: Vec<String> = Vec::new();
        while names.is_empty() && !self.is_over {
            let page = self.store.list(&self.folder, self.after.as_deref()).await?;
            for entry in &page.entries {
                let below = entry.key.strip_prefix(&start).unwrap_or_default();
                // What has no slash is a manifest in the folder itself.
                if let Some((name, _)) = below.split_once('/')
                    && names.last().is_none_or(|last| last != name)
                {
                    names.push(name.to_owned());
                }
            }
            let last = page.entries.last().map(|last| &last.key);
            let is_inside = names.last().filter(|name| {
                last.is_some_and(|last| last.starts_with(&format!("{start}{name}/")))
            });
            self.is_over = page.next.is_none();
            self.after = match is_inside {
                Some(name) if !self.is_over => Some(format!("{start}{name}0")),
                _ => page.next,
            };
        }
        Ok((!names.is_empty()).then_some(names))
    }
}
