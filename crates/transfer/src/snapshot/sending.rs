//! Storing many files, to the end: what fails of one does not stop the others, and what was believed is
//! tested before it counts.
//!
//! ```text
//!     files --> stored, or failed ---------------------------------------> account
//!           '-> relied on --- sample is there ----------------------------^
//!                        '--- sample is missing --> gone through again ---^
//! ```

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use attachfs_manifest::ManifestPath;
use attachfs_scan::Progress;

use super::file::file;
use super::item::{Done, Item};
use super::shared::Shared;
use crate::error::TransferError;
use crate::flush::Flushing;
use crate::meter::Meter;
use crate::run::{blocking, run_all};
use crate::summary::{Failed, Summary, Tally, error_chain};
use crate::upload::{Outcome, UploadReport};

/// Stores the files that `found` gives, unless their fate is known, hands over each with what it is, and gives the account of
/// objects and files. Fails if the account is not complete.
pub(super) async fn store_all(
    shared: &Arc<Shared>,
    total: Tally,
    found: impl Future<Output = Result<Vec<Result<Item, Done>>, TransferError>>,
    progress: &dyn Progress,
    keep: impl FnMut(Done),
) -> Result<(UploadReport, Summary), TransferError> {
    let mut account = Account::new(total, keep);
    let caches = shared.reading.options.caches.clone();
    let seen = shared
        .objects
        .store
        .as_ref()
        .and_then(|store| store.seen.clone());
    let flushing = Flushing::of(caches.clone(), seen.clone());
    let stored = store_found(shared, found, progress, &mut account).await;
    drop(flushing);
    let ended = stored.and_then(|()| account.finish(shared));
    let is_complete = ended.is_ok();
    // However it ended: what was found out is worth keeping.
    let meter = shared.reading.meter.anew();
    let flush = move || {
        if let Some(caches) = caches {
            caches.flush();
        }
        match seen {
            Some(seen) if is_complete => seen.complete(),
            Some(seen) => seen.flush(),
            None => {}
        }
        Ok(())
    };
    blocking(&meter, flush).await?;
    ended
}

async fn store_found<K: FnMut(Done)>(
    shared: &Arc<Shared>,
    found: impl Future<Output = Result<Vec<Result<Item, Done>>, TransferError>>,
    progress: &dyn Progress,
    account: &mut Account<K>,
) -> Result<(), TransferError> {
    let Some(store) = &shared.objects.store else {
        return Ok(());
    };
    // Twice the requests, so that reading goes on while all of them wait for the store.
    let at_once = 2 * store.most_in_flight();
    let jobs = found.await?.into_iter().map(|found| {
        let shared = Arc::clone(shared);
        async move {
            match found {
                Ok(item) => file(shared, item).await,
                Err(done) => Ok(done),
            }
        }
    });
    let mut relying = Vec::new();
    let sort = |done: Done| match done {
        Done::File {
            relied: Some(_), ..
        } => relying.push(done),
        done => account.count(done),
    };
    run_all(jobs, at_once, &shared.reading.meter, progress, sort).await?;
    if relying.is_empty() {
        return Ok(());
    }
    if let Some(there) = store.tested_reliance(progress).await? {
        account.objects.already_there += there;
        for done in relying {
            account.count(done);
        }
        return Ok(());
    }
    let mut items = Vec::new();
    for done in relying {
        match done {
            Done::File {
                relied: Some(item), ..
            } => items.push(*item),
            done => account.count(done),
        }
    }
    let bytes = items.iter().map(|item| item.scanned.size).sum();
    let meter = Meter::new(shared.reading.meter.phase(), items.len() as u64, bytes);
    let again = Arc::new(shared.again(meter));
    let jobs = items.into_iter().map(|item| file(Arc::clone(&again), item));
    let count = |done| account.count(done);
    run_all(jobs, at_once, &again.reading.meter, progress, count).await
}

/// Counts files as they are done.
struct Account<K> {
    began: Instant,
    objects: UploadReport,
    files: Summary,
    failed: Vec<(ManifestPath, TransferError)>,
    keep: K,
}

impl<K: FnMut(Done)> Account<K> {
    fn new(total: Tally, keep: K) -> Self {
        Self {
            began: Instant::now(),
            objects: UploadReport::default(),
            files: Summary {
                total,
                ..Summary::default()
            },
            failed: Vec::new(),
            keep,
        }
    }

    fn count(&mut self, done: Done) {
        match done {
            Done::File {
                ref file,
                ref stored,
                ..
            } => {
                let was_sent = |(outcome, _): &&(Outcome, u64)| *outcome == Outcome::Uploaded;
                let sent = stored.iter().filter(was_sent);
                let (objects, bytes) = sent.fold((0, 0), |(n, sum), (_, len)| (n + 1, sum + len));
                // More than it has if it changed meanwhile.
                let bytes: u64 = u64::min(bytes, file.size);
                if objects > 0 {
                    self.files.processed.add(bytes);
                } else {
                    self.files.skipped.count += 1;
                }
                self.files.skipped.bytes += file.size - bytes;
                for &(outcome, len) in stored {
                    self.objects.add(outcome, len);
                }
            }
            // Its fate is told elsewhere; here is what is in the manifest.
            Done::Unreadable { size, .. } => {
                self.files.total.count -= 1;
                self.files.total.bytes -= size;
            }
            Done::Failed {
                path,
                stored,
                error,
                ..
            } => {
                for &(outcome, len) in &stored {
                    self.objects.add(outcome, len);
                }
                self.failed.push((path, error));
                return;
            }
        }
        (self.keep)(done);
    }

    /// The account, if every file was stored.
    fn finish(mut self, shared: &Shared) -> Result<(UploadReport, Summary), TransferError> {
        let store = shared.objects.store.as_ref();
        let passed = self.files.processed.count + self.files.skipped.count;
        let is_of_all = |(_, error): &(_, TransferError)| {
            passed == 0 && store.is_some_and(|store| store.never_passed(error))
        };
        if let Some(at) = self.failed.iter().position(is_of_all) {
            return Err(self.failed.swap_remove(at).1);
        }
        self.failed.sort_by(|a, b| a.0.cmp(&b.0));
        let mut summary = self.files;
        summary.elapsed = self.began.elapsed();
        let failed = self.failed.iter().map(|(path, error)| Failed {
            path: path.to_string(),
            error: error_chain(error),
        });
        summary.errors = failed.collect();
        if summary.is_complete() {
            Ok((self.objects, summary))
        } else {
            Err(TransferError::Unfinished(Box::new(summary)))
        }
    }
}
