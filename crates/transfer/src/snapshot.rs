//! From a scan to a manifest whose objects are in the store.
//!
//! ```text
//!     known file   nothing ------------------ HEAD --- only if it is missing: read, compare, PUT
//!     small file   open, read once, stamp --- hash --- HEAD --- PUT from memory
//!     large file   open, hash, stamp -------- HEAD --- PUT from the file, stamp checked by the store
//! ```
//!
//! Without a store there is no second half: files are hashed in batches, the chunks of large ones side by
//! side.
//!
//! What the manifest says of a file (size, mtime, execute bit) is what the file was when its bytes were
//! read, not when it was scanned. A file whose stamp changed in between is read again. Of a file whose
//! hashes are known from an earlier time, it is what the scan found and the hashes were kept for.

mod batch;
mod file;
mod report;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::SystemTime;

use attachfs_fetch::ByteBudget;
use attachfs_manifest::{ContentHash, File, ManifestPath, Node, Snapshot};
use attachfs_scan::{EntryKind, Scan, ScannedFile};
use tokio::sync::Semaphore;

use crate::hash::content_of;
use crate::meter::Meter;
use crate::run::{blocking, run_all};
use crate::upload::Outcome;
use crate::{Phase, Progress, TransferError, UploadOptions, Uploader};

use file::{Shared, Stored};

pub use report::{HashOptions, HashReport, Unreadable};

/// How many files are looked up in the caches at once.
const LOOK_UP: usize = 4096;

/// A file of the scan.
#[derive(Debug)]
struct Item {
    path: ManifestPath,
    scanned: ScannedFile,
    /// Its hashes, if they are known from an earlier time.
    known: Option<Vec<ContentHash>>,
}

/// What became of it.
#[derive(Debug)]
enum Done {
    File {
        path: ManifestPath,
        file: File,
        was_known: bool,
        stored: Vec<(Outcome, u64)>,
    },
    Unreadable(Unreadable),
}

/// Hashes everything that was scanned, uploads what the store lacks if there is a store, and gives the
/// manifest. Fails on the first file that cannot be read or stored, and names it; those that cannot be
/// read are left out and reported if the options say so.
pub async fn snapshot(
    scan: &Scan,
    options: &HashOptions,
    store: Option<&Uploader>,
    progress: &dyn Progress,
) -> Result<(Snapshot, HashReport), TransferError> {
    let upload = store.map_or_else(UploadOptions::default, |store| store.options.clone());
    let meter = Meter::new(Phase::Hash, scan.file_count(), scan.byte_count());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    // More than there are cores, since some of them wait for the disk.
    let readers = 2 * threads;
    let shared = Arc::new(Shared {
        options: options.clone(),
        // Only what is sent is worth keeping in memory.
        small_file: store.map_or(0, |_| upload.small_file),
        memory: store.map_or_else(
            || ByteBudget::new(upload.memory_bytes),
            |store| store.memory.clone(),
        ),
        readers: Semaphore::new(readers),
        store: store.cloned(),
        stored: Stored::default(),
        meter: Arc::clone(&meter),
    });

    let mut nodes = Vec::with_capacity(scan.entries.len());
    let mut files = Vec::new();
    for entry in &scan.entries {
        let node = match &entry.kind {
            EntryKind::Dir => Node::Dir,
            EntryKind::Symlink(target) => Node::Symlink(target.clone()),
            EntryKind::File(file) => {
                files.push(Item {
                    path: entry.path.clone(),
                    scanned: file.clone(),
                    known: None,
                });
                continue;
            }
        };
        nodes.push((entry.path.clone(), node));
    }
    let files = look_up(files, &shared, readers, progress).await?;
    let mut report = HashReport::default();
    let mut keep = |done: Done| match done {
        Done::File {
            path,
            file,
            was_known,
            stored,
        } => {
            if was_known {
                report.known.add(file.size);
            } else {
                report.hashed.add(file.size);
            }
            nodes.push((path, Node::File(file)));
            for (outcome, len) in stored {
                report.upload.add(outcome, len);
            }
        }
        Done::Unreadable(file) => report.unreadable.push(file),
    };
    if store.is_some() {
        let jobs = files.into_iter().map(|item| Arc::clone(&shared).file(item));
        // Twice the requests, so that reading goes on while all of them wait for the store.
        run_all(jobs, 2 * upload.max_in_flight, &meter, progress, keep).await?;
    } else {
        let (known, unknown): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|item| item.known.is_some());
        for item in known {
            meter.known(item.scanned.size, 0);
            keep(item.into_done());
        }
        let jobs = batch::jobs(unknown, options.chunk_size).map(|job| {
            let shared = Arc::clone(&shared);
            async move {
                let meter = Arc::clone(&shared.meter);
                blocking(&meter, move || job.run(&shared)).await
            }
        });
        let keep = |done: Vec<Done>| done.into_iter().for_each(&mut keep);
        run_all(jobs, readers, &meter, progress, keep).await?;
    }
    report.unreadable.sort_by(|a, b| a.path.cmp(&b.path));
    let snapshot = Snapshot::new(options.chunk_size, None, nodes)?;
    Ok((snapshot, report))
}

/// Finds out what is known of the files from an earlier time.
async fn look_up(
    files: Vec<Item>,
    shared: &Arc<Shared>,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<Item>, TransferError> {
    let options = &shared.options;
    let Some(caches) = options.caches.as_ref().filter(|_| !options.force_rehash) else {
        return Ok(files);
    };
    let now = SystemTime::now();
    let mut found: Vec<Vec<Item>> = Vec::new();
    found.resize_with(files.len().div_ceil(LOOK_UP), Vec::new);
    let mut files = files.into_iter();
    let slices = std::iter::from_fn(move || {
        let slice: Vec<Item> = files.by_ref().take(LOOK_UP).collect();
        (!slice.is_empty()).then_some(slice)
    });
    let jobs = slices.enumerate().map(|(at, mut slice)| {
        let (caches, shared) = (Arc::clone(caches), Arc::clone(shared));
        async move {
            let meter = Arc::clone(&shared.meter);
            blocking(&meter, move || {
                let wanted: Vec<_> = slice.iter().map(|item| &item.scanned).collect();
                let known = caches.look_up(&wanted, shared.options.chunk_size, now);
                for (item, known) in slice.iter_mut().zip(known) {
                    item.known = known;
                }
                Ok((at, slice))
            })
            .await
        }
    });
    let meter = Meter::new(
        Phase::Hash,
        shared.meter.items_total(),
        shared.meter.bytes_total(),
    );
    let keep = |(at, slice)| found[at] = slice;
    run_all(jobs, threads, &meter, progress, keep).await?;
    Ok(found.into_iter().flatten().collect())
}

impl Item {
    /// A file that is what it was when its hashes were found.
    fn into_done(self) -> Done {
        let Self {
            path,
            scanned,
            known,
        } = self;
        Done::File {
            path,
            file: node_of(&scanned, known.unwrap_or_default()),
            was_known: true,
            stored: Vec::new(),
        }
    }
}

/// What the manifest says of a file that is this and has these hashes.
fn node_of(now: &ScannedFile, hashes: Vec<ContentHash>) -> File {
    File {
        size: now.size,
        mtime: now.mtime,
        runnable: now.runnable,
        content: content_of(hashes),
    }
}
