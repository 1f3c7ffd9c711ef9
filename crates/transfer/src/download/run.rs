//! What all files of a download share.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use attachfs_durable::{Facts, FileStamp, HeldDir};
use attachfs_fetch::{FetchError, FetchOptions, Fetcher, HeldBytes};
use attachfs_manifest::{ChunkSize, ContentHash, ManifestPath, PathRef, Piece};
use attachfs_scan::Ground;
use attachfs_scan::cache::SETTLED;
use attachfs_store::ObjectPart;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::acts::AllWaiting;
use super::error::Attempt;
use super::file::cut_of;
use super::leading::RootNames;
use super::leftovers::Leftovers;
use super::names::copy_name;
use super::part::Part;
use super::plan::{FileStep, Place};
use super::survey::{joined, parent_bytes};
use super::{DownloadError, DownloadOptions, DownloadReport, Nearby, Opened, Sources};
use crate::TransferError;
use crate::meter::Meter;
use crate::refusals::{Refusals, Request};
use crate::run::blocking;

/// More steps that block than there ever are at once.
const MOST_ACTS: u32 = 1 << 20;

/// The longest name of a path, in bytes (`formats.md`).
const LONGEST_NAME: u64 = 255;

/// How many files are looked up in the hash caches at once.
const LOOK_UP: usize = 4096;

/// What all files of a download share.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) root: HeldDir,
    /// The path of the root, for messages.
    pub(super) real: PathBuf,
    pub(super) names: RootNames,
    pub(super) ground: Ground,
    pub(super) fetcher: Fetcher,
    nearby: Option<Arc<dyn Nearby>>,
    pub(super) options: DownloadOptions,
    pub(super) chunk_size: ChunkSize,
    pub(super) meter: Arc<Meter>,
    pub(super) requests: Semaphore,
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
    /// Files of which the hash caches know that they are what they should be.
    pub(super) known: OnceLock<HashMap<ManifestPath, FileStamp>>,
    pub(super) refusals: Refusals,
    pub(super) can_reflink: AtomicBool,
    /// What was done until now. The lock of `waiting` may be taken under it.
    pub(super) report: Mutex<DownloadReport>,
    /// What was fetched and waits for its place. Short and innermost.
    pub(super) waiting: Mutex<AllWaiting>,
    /// What says that something waits in a directory, by the paths of directories. Held while one is made, and
    /// innermost.
    pub(super) marks: Mutex<HashMap<Vec<u8>, Part>>,
    /// What was placed, for the hash caches. Short and innermost.
    pub(super) written: Mutex<Vec<Written>>,
}

/// A file that this run placed, as it was then.
#[derive(Debug)]
pub(super) struct Written {
    path: ManifestPath,
    stamp: FileStamp,
    runnable: bool,
    cut: ChunkSize,
    hashes: Box<[ContentHash]>,
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
        let fetching = FetchOptions {
            memory_bytes: options.memory_bytes,
            ..FetchOptions::default()
        };
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            root: place.dir,
            real: place.real,
            names: place.names,
            ground: place.ground,
            fetcher: Fetcher::new(from.store, None, fetching),
            nearby: from.nearby,
            options: options.clone(),
            chunk_size,
            meter,
            requests: Semaphore::new(options.max_in_flight.max(1)),
            large: Semaphore::new(options.max_large_in_flight.max(1)),
            writers: Semaphore::new(2 * threads),
            acting: Arc::new(Semaphore::new(MOST_ACTS as usize)),
            leftovers,
            reserved,
            longest_name: longest.min(LONGEST_NAME) as usize,
            known: OnceLock::new(),
            refusals: Refusals::default(),
            can_reflink: AtomicBool::new(true),
            report: Mutex::default(),
            waiting: Mutex::default(),
            marks: Mutex::default(),
            written: Mutex::default(),
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

    pub(super) fn is_known(&self, path: PathRef<'_>, stamp: FileStamp, step: &FileStep) -> bool {
        let known = self.known.get().and_then(|known| known.get(&step.path));
        path == step.path && known == Some(&stamp)
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

    /// Notes that a file with the right bytes has its name. `time` is the one that was set, in nanoseconds
    /// since 1970 and as the file system holds it.
    pub(super) fn placed(&self, file: &File, path: ManifestPath, step: &FileStep, time: i128) {
        if self.options.caches.is_none() {
            return;
        }
        let is_right = |stamp: &FileStamp| stamp.size == step.file.size && stamp.mtime_ns == time;
        match Facts::of(file) {
            Ok(facts) if is_right(&facts.stamp) => self.written.lock().push(Written {
                path,
                stamp: facts.stamp,
                runnable: facts.mode & 0o111 != 0,
                cut: cut_of(step, self.chunk_size),
                hashes: step.file.content.hashes().into(),
            }),
            // Somebody has written to it since it got its name.
            Ok(_) => tracing::debug!(%path, "a new file was changed at once"),
            // It is hashed again next time.
            Err(error) => tracing::debug!(%path, %error, "a new file is not remembered"),
        }
    }

    /// Tells the hash caches what was placed. Of a file that was placed just now nobody could tell
    /// whether it was changed since; it is hashed the next time it is met. Blocks.
    pub(super) fn remember_placed(&self) {
        let Some(caches) = &self.options.caches else {
            return;
        };
        let now = SystemTime::now();
        let since = now.duration_since(SystemTime::UNIX_EPOCH);
        let since = since.map_or(0, |since| since.as_nanos() as i128);
        let latest = since - SETTLED.as_nanos() as i128;
        let placed = std::mem::take(&mut *self.written.lock());
        for file in placed.iter().filter(|file| file.stamp.ctime_ns <= latest) {
            let path = file.path.borrowed();
            let dir = self.root.dir(parent_bytes(path));
            let looked = dir.and_then(|dir| dir.look(path.name()));
            if looked.is_ok_and(|found| found.is_some_and(|facts| facts.stamp == file.stamp)) {
                let scanned = self.ground.file(path, file.stamp, file.runnable);
                caches.remember(&scanned, file.cut, &file.hashes, now);
            }
        }
        caches.flush();
    }
}

/// Which of the files that may be right are known to be. Blocks.
pub(super) fn look_up(
    run: &Run,
    files: &[FileStep],
) -> Result<HashMap<ManifestPath, FileStamp>, TransferError> {
    let (ground, chunk_size) = (&run.ground, run.chunk_size);
    let mut known = HashMap::new();
    let caches = run.options.caches.as_ref();
    let Some(caches) = caches.filter(|_| !run.options.force_rehash) else {
        return Ok(known);
    };
    let now = SystemTime::now();
    let alike: Vec<(&FileStep, FileStamp)> = files
        .iter()
        .filter_map(|step| match step.place {
            Place::Alike(stamp) => Some((step, stamp)),
            Place::Free | Place::Taken(_) => None,
        })
        .collect();
    for cut in [chunk_size, ChunkSize::WholeFile] {
        let of_cut: Vec<_> = alike
            .iter()
            .filter(|(step, _)| cut_of(step, chunk_size) == cut)
            .collect();
        for slice in of_cut.chunks(LOOK_UP) {
            run.meter.go_on()?;
            let scanned: Vec<_> = slice
                .iter()
                .map(|(step, stamp)| {
                    let runnable = step.file.runnable;
                    ground.file(step.path.borrowed(), *stamp, runnable)
                })
                .collect();
            let wanted: Vec<_> = scanned.iter().collect();
            let found = caches.look_up(&wanted, cut, now);
            for ((step, stamp), hashes) in slice.iter().zip(found) {
                if hashes.is_some_and(|hashes| hashes == step.file.content.hashes()) {
                    known.insert(step.path.clone(), *stamp);
                }
            }
        }
        if chunk_size == ChunkSize::WholeFile {
            break;
        }
    }
    Ok(known)
}
