//! What no manifest in a store needs. It is a list to read: nothing here deletes.
//!
//! ```text
//!     read all manifests -> the hashes they refer to
//!     list the objects   -> those that none refers to and that are old
//!     read the manifests that came meanwhile, and take out what they refer to
//! ```
//!
//! It is safe before it is complete. A manifest that cannot be read may need anything, so with one of them nothing
//! is listed. An object is left alone for 31 days, so that what an upload has sent and not yet published is not on the
//! list; so is one of which the store does not tell how old it is. Age is no protection by itself: clients remember
//! for 30 days since they last saw an object that a store has it, however old it is, and publish manifests that
//! refer to it without sending it again. Nor are manifests known that someone keeps outside of the store.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use attachfs_manifest::wire::{Manifest, decode};
use attachfs_manifest::{Change, ContentHash, Node};
use attachfs_store::{Listed, ListedName, ManifestKey, StoreError};
use attachfs_transfer::{Progress, error_chain};
use futures::{StreamExt as _, stream};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::listing::Listing;
use crate::cancel::Cancellable;
use crate::error::Error;
use crate::store::OpenStore;

/// The youngest garbage, in days.
pub const LEAST_DAYS: u32 = 31;

/// Manifests that are read at once: each is in memory with what it says.
const AT_ONCE: usize = 8;

const DAY: Duration = Duration::from_hours(24);

/// What counts as garbage.
#[derive(Debug, Clone, Copy)]
pub struct GcOptions {
    /// Older than so many days; at least [`LEAST_DAYS`].
    pub older_than_days: u32,
    /// What time it is.
    pub now: SystemTime,
}

/// What could be deleted.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GcPlan {
    /// Whether all manifests were read. If not, no object is listed.
    pub complete: bool,
    /// Manifests that could not be read.
    pub unread: Vec<UnreadManifest>,
    /// Manifests that were read.
    pub manifests: u64,
    /// Objects that they refer to.
    pub referenced: u64,
    /// Objects in the store.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that nothing refers to and that are old, in the order of keys.
    pub garbage: Vec<Garbage>,
    /// Their bytes.
    pub garbage_bytes: u64,
    /// Objects that nothing refers to and that are too young, or of unknown age.
    pub young: u64,
    /// Their bytes.
    pub young_bytes: u64,
    /// Files among the objects that are no objects. They are left alone.
    pub foreign: u64,
}

/// An object that nothing refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Garbage {
    /// Its key, below the store's prefix.
    pub key: String,
    /// Its length.
    pub bytes: u64,
    /// How old it is, in whole days.
    pub days: u64,
    #[serde(skip)]
    hash: ContentHash,
}

/// A manifest that could not be read.
#[derive(Debug, Clone, Serialize)]
pub struct UnreadManifest {
    /// Its key, below the store's prefix.
    pub key: String,
    /// Why.
    pub error: String,
    /// Whether its bytes are there and make no sense.
    pub damaged: bool,
}

/// The hashes that manifests refer to: 16 bytes each, sorted when they are asked for.
#[derive(Debug, Default)]
struct References {
    hashes: Vec<ContentHash>,
    /// How many were there when it was last sorted.
    sorted: usize,
}

impl References {
    fn add(&mut self, hashes: Vec<ContentHash>) {
        self.hashes.extend(hashes);
        // Manifests of one job refer to the same objects again and again.
        if self.hashes.len() > 2 * self.sorted.max(1 << 16) {
            self.sort();
        }
    }

    fn sort(&mut self) {
        self.hashes.sort_unstable();
        self.hashes.dedup();
        self.sorted = self.hashes.len();
    }

    /// To be asked after [`References::sort`].
    fn has(&self, hash: ContentHash) -> bool {
        self.hashes.binary_search(&hash).is_ok()
    }
}

/// Lists what no manifest in the store refers to.
pub async fn plan_gc(
    store: &OpenStore,
    options: GcOptions,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<GcPlan, Error> {
    let progress = Cancellable::new(progress, cancel);
    progress.run(plan(store, options, &progress)).await
}

async fn plan(
    store: &OpenStore,
    options: GcOptions,
    progress: &dyn Progress,
) -> Result<GcPlan, Error> {
    if options.older_than_days < LEAST_DAYS {
        return Err(Error::usage(format!(
            "an object is garbage after {LEAST_DAYS} days at the earliest: what is younger may belong to \
             an upload that is not published yet"
        )));
    }
    let mut plan = GcPlan::default();
    let mut references = References::default();
    let mut seen = HashSet::new();
    read_new(store, &mut plan, &mut references, &mut seen, progress).await?;
    references.sort();
    if plan.unread.is_empty() {
        list_objects(store, options, &mut plan, &references, progress).await?;
        read_new(store, &mut plan, &mut references, &mut seen, progress).await?;
        references.sort();
        plan.garbage.retain(|object| !references.has(object.hash));
    }
    plan.complete = plan.unread.is_empty();
    if !plan.complete {
        plan.garbage.clear();
    }
    plan.referenced = references.hashes.len() as u64;
    plan.garbage_bytes = plan.garbage.iter().map(|object| object.bytes).sum();
    Ok(plan)
}

/// A manifest as it was listed: one that was replaced since is another one.
type Seen = (ContentHash, Option<SystemTime>, u64);

fn seen_as(entry: &Listed) -> Seen {
    let key = ContentHash::of(entry.key.as_bytes());
    (key, entry.modified, entry.len)
}

/// Reads the manifests that were not there before, or not as they are now.
async fn read_new(
    store: &OpenStore,
    plan: &mut GcPlan,
    references: &mut References,
    seen: &mut HashSet<Seen>,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let mut listing = Listing::of_manifests(store, progress);
    while let Some(page) = listing.next().await? {
        let new = page
            .into_iter()
            .filter(|entry| seen.insert(seen_as(entry)))
            .collect::<Vec<_>>();
        let mut read = stream::iter(new)
            .map(|entry| read(store, entry))
            .buffer_unordered(AT_ONCE);
        while let Some(read) = read.next().await {
            listing.go_on()?;
            match read {
                Ok(Some(hashes)) => {
                    plan.manifests += 1;
                    references.add(hashes);
                }
                Ok(None) => {}
                Err(unread) => plan.unread.push(unread),
            }
        }
    }
    plan.unread.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(())
}

/// The hashes that a manifest refers to; `None` for what consoles make of folders: an empty object whose
/// name ends with a slash.
async fn read(
    store: &OpenStore,
    entry: Listed,
) -> Result<Option<Vec<ContentHash>>, UnreadManifest> {
    let unread = |error: String, damaged| UnreadManifest {
        key: entry.key.clone(),
        error,
        damaged,
    };
    let key: ManifestKey = match &entry.name {
        ListedName::Manifest(key) => key.clone(),
        ListedName::Object { .. } | ListedName::Foreign => {
            if entry.len == 0 && entry.key.ends_with('/') {
                return Ok(None);
            }
            return Err(unread(
                "it is no file with the name of a manifest".to_owned(),
                true,
            ));
        }
    };
    let found = match store.store.get_manifest(&key).await {
        Ok(found) => found,
        // Gone since it was listed: it refers to nothing any more.
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(unread(error_chain(&error), false)),
    };
    // Strictly: a manifest that is read leniently may lack a hash.
    let decoded = decode(&found.bytes);
    let (_, manifest) = decoded.map_err(|error| unread(error_chain(&error), true))?;
    Ok(Some(hashes_in(&manifest)))
}

/// Every hash in a manifest.
fn hashes_in(manifest: &Manifest) -> Vec<ContentHash> {
    let mut hashes = Vec::new();
    let mut add = |node: Node| {
        if let Node::File(file) = node {
            hashes.extend_from_slice(file.content.hashes());
        }
    };
    match manifest {
        Manifest::Snapshot(snapshot) => snapshot.entries().for_each(|(_, node)| add(node)),
        Manifest::Diff(diff) => {
            for (_, change) in diff.changes() {
                if let Change::Put(node) = change {
                    add(node);
                }
            }
        }
    }
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

async fn list_objects(
    store: &OpenStore,
    options: GcOptions,
    plan: &mut GcPlan,
    references: &References,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let least = DAY * options.older_than_days;
    let mut listing = Listing::of_objects(store, progress);
    while let Some(page) = listing.next().await? {
        for entry in page {
            let ListedName::Object { hash, .. } = entry.name else {
                plan.foreign += 1;
                continue;
            };
            plan.objects += 1;
            plan.bytes += entry.len;
            if references.has(hash) {
                continue;
            }
            let age = entry
                .modified
                .and_then(|modified| options.now.duration_since(modified).ok());
            match age.filter(|&age| age >= least) {
                Some(age) => plan.garbage.push(Garbage {
                    key: entry.key,
                    bytes: entry.len,
                    days: age.as_secs() / DAY.as_secs(),
                    hash,
                }),
                None => {
                    plan.young += 1;
                    plan.young_bytes += entry.len;
                }
            }
        }
    }
    Ok(())
}
