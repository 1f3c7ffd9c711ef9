//! Hashing without a store: how the work is divided among threads.
//!
//! Many small files are one job, so that a job costs nothing against its files. A large file is as many jobs
//! as it has chunks, so that all threads work on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;

use attachfs_manifest::{ChunkSize, ContentHash};
use attachfs_scan::ScannedFile;
use parking_lot::Mutex;

use super::file::{done, hash};
use super::item::{Done, Item, node_of};
use super::reading::open;
use super::shared::Shared;
use crate::error::TransferError;
use crate::hash::hash_range;
use crate::source::FileToStore;

/// Files in a job.
const MOST_FILES: usize = 256;

/// Bytes in a job of several files.
const MOST_BYTES: u64 = 16 << 20;

/// A part of the work.
pub(super) enum Job {
    Files(Vec<Item>),
    Chunk(Arc<Large>, usize),
}

/// A file whose chunks are hashed side by side.
pub(super) struct Large {
    /// Taken by whoever finishes.
    item: Mutex<Option<Item>>,
    scanned: ScannedFile,
    opened: Mutex<Option<Opened>>,
    hashes: Mutex<Vec<Option<ContentHash>>>,
    left: AtomicUsize,
    /// The file is not as it was scanned or cannot be read: what its chunks say is of no use.
    is_spoilt: AtomicBool,
}

#[derive(Clone)]
struct Opened {
    source: FileToStore,
    now: ScannedFile,
    seen: SystemTime,
}

/// Divides files into jobs, in their order.
pub(super) fn jobs(files: Vec<Item>, chunk_size: ChunkSize) -> impl Iterator<Item = Job> + Send {
    let mut files = files.into_iter().peekable();
    let mut chunks: Vec<Job> = Vec::new();
    std::iter::from_fn(move || {
        if let Some(chunk) = chunks.pop() {
            return Some(chunk);
        }
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(next) = files.peek() {
            let size = next.scanned.size;
            let is_large = chunk_size.count(size) > 1 && size > MOST_BYTES;
            let is_full = batch.len() == MOST_FILES || bytes + size > MOST_BYTES;
            if !batch.is_empty() && (is_large || is_full) {
                break;
            }
            let next = files.next()?;
            if is_large {
                chunks = Large::jobs(next, chunk_size);
                return chunks.pop();
            }
            bytes += size;
            batch.push(next);
        }
        (!batch.is_empty()).then_some(Job::Files(batch))
    })
}

impl Job {
    /// Does it. Gives the files that are done by it. Blocks.
    pub(super) fn run(self, shared: &Shared) -> Result<Vec<Done>, TransferError> {
        match self {
            Self::Files(files) => files.into_iter().map(|file| hash(shared, file)).collect(),
            Self::Chunk(large, at) => {
                let done = large.chunk(at, shared)?;
                Ok(done.into_iter().collect())
            }
        }
    }
}

impl Large {
    /// The last chunk first.
    fn jobs(item: Item, chunk_size: ChunkSize) -> Vec<Job> {
        let count = chunk_size.ranges(item.scanned.size).len();
        let large = Arc::new(Self {
            scanned: item.scanned.clone(),
            item: Mutex::new(Some(item)),
            opened: Mutex::new(None),
            hashes: Mutex::new(vec![None; count]),
            left: AtomicUsize::new(count),
            is_spoilt: AtomicBool::new(false),
        });
        let jobs = (0..count).rev();
        jobs.map(|at| Job::Chunk(Arc::clone(&large), at)).collect()
    }

    /// Hashes a chunk. Whoever does the last one finishes the file.
    fn chunk(&self, at: usize, shared: &Shared) -> Result<Option<Done>, TransferError> {
        if !self.is_spoilt.load(Ordering::Relaxed) {
            match self.hash(at, shared) {
                Ok(hash) => self.hashes.lock()[at] = Some(hash),
                Err(TransferError::Cancelled(cancelled)) => return Err(cancelled.into()),
                // Found again below, or gone by then.
                Err(_) => self.is_spoilt.store(true, Ordering::Relaxed),
            }
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Ok(None);
        }
        let Some(item) = self.item.lock().take() else {
            return Ok(None);
        };
        match self.finish() {
            Some((opened, hashes)) => {
                shared.reading.remember(&opened.now, &hashes, opened.seen);
                let file = node_of(&opened.now, hashes);
                Ok(Some(done(shared, item, file)))
            }
            None => hash(shared, item).map(Some),
        }
    }

    fn hash(&self, at: usize, shared: &Shared) -> Result<ContentHash, TransferError> {
        let Opened { source, .. } = self.open()?;
        let mut ranges = shared.reading.options.chunk_size.ranges(source.size);
        let changed = || TransferError::changed(&source.path);
        if ranges.len() != self.hashes.lock().len() {
            return Err(changed());
        }
        let range = ranges.nth(at).ok_or_else(changed)?;
        let file = source.open()?;
        hash_range(&source, &file, range, &shared.reading.meter)
    }

    /// The file, opened by whoever comes first.
    fn open(&self) -> Result<Opened, TransferError> {
        let mut opened = self.opened.lock();
        if let Some(opened) = &*opened {
            return Ok(opened.clone());
        }
        let seen = SystemTime::now();
        let (source, now) = open(&self.scanned)?;
        Ok(opened.insert(Opened { source, now, seen }).clone())
    }

    /// What was found, if the file is still what it was when it was opened.
    fn finish(&self) -> Option<(Opened, Vec<ContentHash>)> {
        let opened = self.opened.lock().take()?;
        let file = opened.source.open().ok()?;
        opened.source.check_unchanged(&file).ok()?;
        let hashes: Option<Vec<_>> = self.hashes.lock().iter().copied().collect();
        Some((opened, hashes?))
    }
}
