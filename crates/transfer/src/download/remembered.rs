//! What the hash caches know of the files of a download, and what they are told.
//!
//! ```text
//!     look_up        before the files: which of those that may be right are known to be
//!     keep           what was read on the way, if its hashes are certain
//!     placed         notes a file that has its name now
//!     write          after the files: tells the caches of those that nobody has changed since
//! ```

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use attachfs_durable::{Facts, FileStamp, HeldDir};
use attachfs_manifest::{ChunkSize, ContentHash, ManifestPath, PathRef};
use attachfs_scan::Ground;
use attachfs_scan::cache::{HashCaches, SETTLED};
use parking_lot::Mutex;

use super::paths::parent_bytes;
use super::step::{FileStep, Place};
use crate::error::TransferError;
use crate::meter::Meter;

/// How many files are looked up in the hash caches at once.
const LOOK_UP: usize = 4096;

/// What is known, and what is to be told.
#[derive(Debug)]
pub(super) struct Remembered {
    caches: Option<Arc<HashCaches>>,
    ground: Ground,
    chunk_size: ChunkSize,
    /// Files of which the caches know that they are what they should be.
    known: OnceLock<HashMap<ManifestPath, FileStamp>>,
    /// What was placed. Short and innermost.
    written: Mutex<Vec<Written>>,
}

/// A file that this run placed, as it was then.
#[derive(Debug)]
struct Written {
    path: ManifestPath,
    stamp: FileStamp,
    runnable: bool,
    cut: ChunkSize,
    hashes: Box<[ContentHash]>,
}

impl Remembered {
    pub(super) fn new(
        caches: Option<Arc<HashCaches>>,
        ground: Ground,
        chunk_size: ChunkSize,
    ) -> Self {
        Self {
            caches,
            ground,
            chunk_size,
            known: OnceLock::new(),
            written: Mutex::default(),
        }
    }

    /// Looks up which of the files that may be right are known to be. Blocks.
    pub(super) fn look_up(&self, files: &[FileStep], meter: &Meter) -> Result<(), TransferError> {
        let (ground, chunk_size) = (&self.ground, self.chunk_size);
        let mut known = HashMap::new();
        let Some(caches) = &self.caches else {
            return Ok(());
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
                .filter(|(step, _)| step.cut(chunk_size) == cut)
                .collect();
            for slice in of_cut.chunks(LOOK_UP) {
                meter.go_on()?;
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
        // It is set here only.
        let _ = self.known.set(known);
        Ok(())
    }

    /// Whether the caches know that the file at `path`, which has this stamp, is what a step wants.
    pub(super) fn is_known(&self, path: PathRef<'_>, stamp: FileStamp, step: &FileStep) -> bool {
        let known = self.known.get().and_then(|known| known.get(&step.path));
        path == step.path && known == Some(&stamp)
    }

    /// Tells the caches of a file that is what a step wants, as it was at `seen`, before it was read.
    pub(super) fn keep(&self, path: PathRef<'_>, facts: &Facts, step: &FileStep, seen: SystemTime) {
        if let Some(caches) = &self.caches {
            let cut = step.cut(self.chunk_size);
            let scanned = self.ground.file(path, facts.stamp, facts.mode & 0o111 != 0);
            caches.remember(&scanned, cut, step.file.content.hashes(), seen);
        }
    }

    /// Notes that a file with the right bytes has its name. `time` is the one that was set, in nanoseconds
    /// since 1970 and as the file system holds it.
    pub(super) fn placed(&self, file: &File, path: ManifestPath, step: &FileStep, time: i128) {
        if self.caches.is_none() {
            return;
        }
        let is_right = |stamp: &FileStamp| stamp.size == step.file.size && stamp.mtime_ns == time;
        match Facts::of(file) {
            Ok(facts) if is_right(&facts.stamp) => self.written.lock().push(Written {
                path,
                stamp: facts.stamp,
                runnable: facts.mode & 0o111 != 0,
                cut: step.cut(self.chunk_size),
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
    pub(super) fn write(&self, root: &HeldDir) {
        let Some(caches) = &self.caches else {
            return;
        };
        let now = SystemTime::now();
        let since = now.duration_since(SystemTime::UNIX_EPOCH);
        let since = since.map_or(0, |since| since.as_nanos() as i128);
        let latest = since - SETTLED.as_nanos() as i128;
        let placed = std::mem::take(&mut *self.written.lock());
        for file in placed.iter().filter(|file| file.stamp.ctime_ns <= latest) {
            let path = file.path.borrowed();
            let dir = root.dir(parent_bytes(path));
            let looked = dir.and_then(|dir| dir.look(path.name()));
            if looked.is_ok_and(|found| found.is_some_and(|facts| facts.stamp == file.stamp)) {
                let scanned = self.ground.file(path, file.stamp, file.runnable);
                caches.remember(&scanned, file.cut, &file.hashes, now);
            }
        }
        caches.flush();
    }
}

#[cfg(test)]
impl Remembered {
    /// How many files are noted that were placed.
    pub(super) fn placed_count(&self) -> usize {
        self.written.lock().len()
    }
}
