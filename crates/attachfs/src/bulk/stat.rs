//! How much is in a store, by listing it.

use attachfs_store::ListedName;
use attachfs_transfer::Progress;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::listing::Listing;
use crate::cancel::Cancellable;
use crate::error::Error;
use crate::store::OpenStore;

/// How many unusual names are listed: some are enough to find the others.
const SHOWN: usize = 10;

/// The content of a store, in numbers.
#[derive(Debug, Clone, Default, Serialize)]
pub struct StoreStat {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The bytes of the largest.
    pub largest: u64,
    /// Those that have names without the extension, as old clients gave them.
    pub old_names: u64,
    /// Manifests.
    pub manifests: u64,
    /// Their bytes.
    pub manifest_bytes: u64,
    /// Files among objects and manifests that are neither.
    pub foreign: u64,
    /// Its bytes.
    pub foreign_bytes: u64,
    /// Some of it.
    pub first_foreign: Vec<String>,
}

/// Counts the content of a store.
pub async fn stat_store(
    store: &OpenStore,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<StoreStat, Error> {
    let progress = Cancellable::new(progress, cancel);
    progress.run(stat(store, &progress)).await
}

async fn stat(store: &OpenStore, progress: &dyn Progress) -> Result<StoreStat, Error> {
    let mut stat = StoreStat::default();
    for mut listing in [
        Listing::of_objects(store, progress),
        Listing::of_manifests(store, progress),
    ] {
        while let Some(page) = listing.next().await? {
            for entry in page {
                match entry.name {
                    ListedName::Object { old, .. } => {
                        stat.objects += 1;
                        stat.bytes += entry.len;
                        stat.largest = stat.largest.max(entry.len);
                        stat.old_names += u64::from(old);
                    }
                    ListedName::Manifest(_) => {
                        stat.manifests += 1;
                        stat.manifest_bytes += entry.len;
                    }
                    ListedName::Foreign => {
                        stat.foreign += 1;
                        stat.foreign_bytes += entry.len;
                        if stat.first_foreign.len() < SHOWN {
                            stat.first_foreign.push(entry.key);
                        }
                    }
                }
            }
        }
    }
    Ok(stat)
}
