//! From a scan to a manifest whose objects are in the store.
//!
//! ```text
//!     known file   nothing ------------------- HEAD --- only if it is missing: read, compare, PUT
//!     small file   open, read once, stamp, hash ------- HEAD --- PUT from memory
//!     large file   open, stamp --- hash a chunk --- HEAD --- PUT it from the file, stamp checked by the store
//!                              '-- hash the next chunk meanwhile ...
//! ```
//!
//! The name of an object is the hash of its bytes, so all of them have been read before the first is
//! sent. Those of a small file are kept in memory in between. Those of a large one are read a second
//! time, from the page cache if it still has them: which is why a file is hashed and sent chunk by
//! chunk, never more than one ahead, and few large files are worked on at once. The object of a file that
//! is not cut may be longer than the page cache; then the disk is read twice.
//!
//! What goes wrong with one file is noted, and the others go on ([`sending`]); then there is no manifest.
//! Without a store there is no second half: files are hashed in batches, the chunks of large ones side by
//! side, and the first that cannot be read ends it.
//!
//! What the manifest says of a file (size, mtime, execute bit) is what the file was when its bytes were
//! read, not when it was scanned. A file whose stamp changed in between is read again. Of a file whose
//! hashes are known from an earlier time, it is what the scan found and the hashes were kept for.

mod batch;
mod file;
mod item;
mod named;
mod once;
mod reading;
mod report;
mod sending;
mod shared;
mod slices;
mod storing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::SystemTime;

use attachfs_manifest::{Node, Snapshot};
use attachfs_scan::{EntryKind, Phase, Progress, Scan};

use crate::error::TransferError;
use crate::meter::Meter;
use crate::run::{blocking, run_all};
use crate::summary::Tally;
use crate::upload::Uploader;

use item::{Done, Item};
use shared::Shared;
use slices::in_slices;

pub use named::{NamedFile, upload_named};
pub use report::{HashOptions, HashReport, Unreadable};

/// Hashes everything that was scanned, uploads what the store lacks if there is a store, and gives the
/// manifest. With a store, files that cannot be read or stored are
/// [`TransferError::Unfinished`] when all others are; without one the first of them ends it. Those that
/// cannot be read are left out and reported if the options say so.
pub async fn snapshot(
    scan: &Scan,
    options: &HashOptions,
    store: Option<&Uploader>,
    progress: &dyn Progress,
) -> Result<(Snapshot, HashReport), TransferError> {
    let total = Tally {
        count: scan.file_count(),
        bytes: scan.byte_count(),
    };
    let phase = match store {
        Some(_) => Phase::Upload,
        None => Phase::Hash,
    };
    let meter = Meter::new(phase, total.count, total.bytes);
    let shared = Arc::new(Shared::new(options.clone(), store, meter, false));

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
                    chunk_size: options.chunk_size,
                    stored: Vec::new(),
                });
                continue;
            }
        };
        nodes.push((entry.path.clone(), node));
    }
    let readers = shared.reading.reader_count;
    let mut report = HashReport::default();
    let mut keep = |done: Done| match done {
        Done::File {
            path,
            file,
            was_known,
            ..
        } => {
            if was_known {
                report.known.add(file.size);
            } else {
                report.hashed.add(file.size);
            }
            nodes.push((path, Node::File(file)));
        }
        Done::Unreadable { file, .. } => report.unreadable.push(file),
        Done::Failed { .. } => {}
    };
    if store.is_some() {
        let look_up = async {
            let files = look_up(files, &shared, progress).await?;
            Ok(files.into_iter().map(Ok).collect())
        };
        (report.upload, report.summary) =
            sending::store_all(&shared, total, look_up, progress, keep).await?;
    } else {
        let files = look_up(files, &shared, progress).await?;
        let (known, unknown): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|item| item.known.is_some());
        for item in known {
            shared.reading.meter.known(item.scanned.size, 0);
            keep(item.into_done());
        }
        let jobs = batch::jobs(unknown, options.chunk_size).map(|job| {
            let shared = Arc::clone(&shared);
            async move {
                let meter = Arc::clone(&shared.reading.meter);
                blocking(&meter, move || job.run(&shared)).await
            }
        });
        let keep = |done: Vec<Done>| done.into_iter().for_each(&mut keep);
        run_all(jobs, readers, &shared.reading.meter, progress, keep).await?;
    }
    report.unreadable.sort_by(|a, b| a.path.cmp(&b.path));
    let snapshot = Snapshot::new(options.chunk_size, None, nodes)?;
    Ok((snapshot, report))
}

/// Finds out what is known of the files from an earlier time.
async fn look_up(
    files: Vec<Item>,
    shared: &Arc<Shared>,
    progress: &dyn Progress,
) -> Result<Vec<Item>, TransferError> {
    let options = &shared.reading.options;
    let Some(caches) = options.caches.as_ref().filter(|_| !options.force_rehash) else {
        return Ok(files);
    };
    let (caches, chunk_size) = (Arc::clone(caches), options.chunk_size);
    let now = SystemTime::now();
    in_slices(files, shared, progress, move |shared, mut slice| {
        let wanted: Vec<_> = slice.iter().map(|item| &item.scanned).collect();
        let known = caches.look_up(&wanted, chunk_size, now);
        for (item, known) in slice.iter_mut().zip(known) {
            item.known = known;
        }
        let known = slice.iter().filter_map(|item| item.known.as_ref());
        let hashes: Vec<_> = known.flatten().copied().collect();
        shared.objects.look_up_seen(&hashes);
        Ok(slice)
    })
    .await
}
