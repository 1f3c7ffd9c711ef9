//! What all files of a download share.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use attachfs_durable::HeldDir;
use attachfs_manifest::{ChunkSize, ManifestPath};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::leading::RootNames;
use super::leftovers::Leftovers;
use super::names::copy_name;
use super::remembered::Remembered;
use super::supply::Supply;
use super::survey::{joined, parent_bytes};
use super::waiting::Waitlist;
use super::{DownloadOptions, DownloadReport, Opened, Sources};
use crate::TransferError;
use crate::meter::Meter;
use crate::run::blocking;

/// More steps that block than there ever are at once.
const MOST_ACTS: u32 = 1 << 20;

/// The longest name of a path, in bytes (`formats.md`).
const LONGEST_NAME: u64 = 255;

/// What all files of a download share.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) root: HeldDir,
    /// The path of the root, for messages.
    pub(super) real: PathBuf,
    pub(super) names: RootNames,
    pub(super) options: DownloadOptions,
    pub(super) chunk_size: ChunkSize,
    pub(super) meter: Arc<Meter>,
    /// Files that are longer than a block.
    pub(super) large: Semaphore,
    /// Threads that write: more of them only wait for each other.
    pub(super) writers: Semaphore,
    /// Held by every step that blocks: who is cancelled waits for those that were begun.
    pub(super) acting: Arc<Semaphore>,
    pub(super) leftovers: Leftovers,
    /// Paths of the manifest that look like those of copies: no copy gets one of them.
    pub(super) reserved: HashSet<ManifestPath>,
    /// The longest name that a copy may have, in bytes.
    pub(super) longest_name: usize,
    pub(super) supply: Supply,
    pub(super) remembered: Remembered,
    pub(super) waitlist: Waitlist,
    /// What was done until now. A lock of the waitlist may be taken under it.
    pub(super) report: Mutex<DownloadReport>,
}

impl Run {
    pub(super) fn new(
        place: Opened,
        leftovers: Leftovers,
        reserved: HashSet<ManifestPath>,
        from: Sources,
        options: &DownloadOptions,
        chunk_size: ChunkSize,
        meter: Arc<Meter>,
    ) -> Self {
        let longest = place.dir.longest_name().unwrap_or(LONGEST_NAME);
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            root: place.dir,
            real: place.real,
            names: place.names,
            options: options.clone(),
            chunk_size,
            meter,
            large: Semaphore::new(options.max_large_in_flight.max(1)),
            writers: Semaphore::new(2 * threads),
            acting: Arc::new(Semaphore::new(MOST_ACTS as usize)),
            leftovers,
            reserved,
            longest_name: longest.min(LONGEST_NAME) as usize,
            supply: Supply::new(from, options),
            remembered: Remembered::new(options.caches.clone(), place.ground, chunk_size),
            waitlist: Waitlist::default(),
            report: Mutex::default(),
        }
    }

    /// Runs a step that blocks, to its end even if nobody waits for it any more.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        step: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, TransferError> {
        let acting = Arc::clone(&self.acting).acquire_owned().await;
        blocking(&self.meter, move || {
            let done = step();
            drop(acting);
            Ok(done)
        })
        .await
    }

    /// Waits until no step that blocks is running.
    pub(super) async fn rest(&self) {
        // The semaphore is never closed.
        let _ = self.acting.acquire_many(MOST_ACTS).await;
    }

    /// The names that copies of what should be at `path` can have, one after the other, and their paths.
    pub(super) fn copies(
        &self,
        path: &ManifestPath,
    ) -> impl Iterator<Item = io::Result<(Vec<u8>, ManifestPath)>> {
        let copies = (1..).map(|number| {
            let name = copy_name(path.borrowed().name(), number, self.longest_name);
            let path = ManifestPath::new(&joined(parent_bytes(path.borrowed()), &name));
            let path = path.map_err(|error| io::Error::new(io::ErrorKind::InvalidFilename, error));
            Ok((name, path?))
        });
        copies.filter(|copy| {
            let is_reserved = |(_, path): &(_, _)| self.reserved.contains(path);
            !copy.as_ref().is_ok_and(is_reserved)
        })
    }
}
