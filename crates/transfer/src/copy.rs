//! Objects from one store to another, only what is missing there.
//!
//! An object gets its name in the second store once its bytes were hashed and found to be what the name
//! says, so damage does not spread. Small objects pass through memory, larger ones through a temporary file,
//! a step at a time: memory is bounded by the numbers below, whatever the objects are. What was copied stays
//! copied, so the same call goes on after an end of any kind.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use attachfs_durable::{FileStamp, write_all_at};
use attachfs_manifest::{ContentHash, Hasher};
use attachfs_scan::{Phase, Progress};
use attachfs_store::{ChunkStore, ObjectPart, Payload, SourceStamp, StoreError};
use tokio::sync::Semaphore;

use crate::error::TransferError;
use crate::meter::Meter;
use crate::refusals::{Refusals, Request};
use crate::run::run_all;
use crate::summary::{Failed, Summary, error_chain};

/// The longest object that is held in memory.
const SMALL: u64 = 1 << 20;
/// Objects on their way at once.
const AT_ONCE: usize = 32;
/// Of these, objects that are not small.
const LARGE_AT_ONCE: usize = 4;
/// How much of a large object is in memory.
const STEP: u64 = 8 << 20;

/// What became of the objects.
#[derive(Debug, Default)]
pub struct CopyReport {
    /// The account; its errors are named by hashes.
    pub summary: Summary,
    /// The objects that the second store does not have now, as far as is known.
    pub failed: Vec<ContentHash>,
}

/// Why an object was not copied.
#[derive(Debug, thiserror::Error)]
enum CopyError {
    /// One of the stores.
    #[error("cannot {} it", doing(*request))]
    Store {
        request: Request,
        #[source]
        source: StoreError,
    },
    /// Another length than was expected.
    #[error("it has {found} bytes and should have {expected}")]
    Length { found: u64, expected: u64 },
    /// Other bytes than its name says.
    #[error("its bytes have the hash {0}")]
    Damaged(ContentHash),
    /// The temporary file.
    #[error("it cannot be kept in {} on its way", dir.display())]
    Scratch {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The second store is asked and takes, the first gives.
const fn doing(request: Request) -> &'static str {
    match request {
        Request::Ask => "ask for",
        Request::Read => "read",
        Request::Send => "store",
    }
}

fn gone(request: Request, hash: ContentHash, source: StoreError) -> TransferError {
    TransferError::Copy {
        doing: doing(request),
        hash,
        source,
    }
}

enum Outcome {
    Copied,
    Present,
    Failed(CopyError),
}

/// Copies each of these objects that `to` does not have in its right length. Temporary files are in
/// `scratch` and have no names. What went wrong with an object is in the report, and the others are copied.
/// Fails if it is cancelled, or if a store fails for one object after the other or for all of them.
pub async fn copy_objects(
    from: Arc<dyn ChunkStore>,
    to: Arc<dyn ChunkStore>,
    objects: Vec<(ContentHash, u64)>,
    scratch: &Path,
    progress: &dyn Progress,
) -> Result<CopyReport, TransferError> {
    let began = Instant::now();
    let mut report = CopyReport::default();
    for &(_, len) in &objects {
        report.summary.total.add(len);
    }
    let total = report.summary.total;
    let meter = Meter::new(Phase::Upload, total.count, total.bytes);
    let way = Arc::new(Way {
        from,
        to,
        scratch: scratch.to_owned(),
        large: Semaphore::new(LARGE_AT_ONCE),
        refusals: Refusals::default(),
        meter: Arc::clone(&meter),
    });
    let jobs = objects.into_iter().map(|(hash, len)| {
        let way = Arc::clone(&way);
        async move {
            let outcome = match way.copy(hash, len).await {
                Ok(outcome) => outcome,
                Err(CopyError::Store { request, source })
                    if !way.refusals.others_may_pass(request, &source) =>
                {
                    return Err(gone(request, hash, source));
                }
                // Nor is there room for the next one.
                Err(CopyError::Scratch { dir, source })
                    if source.kind() == io::ErrorKind::StorageFull =>
                {
                    return Err(TransferError::Scratch { dir, source });
                }
                Err(error) => Outcome::Failed(error),
            };
            match outcome {
                Outcome::Present => way.meter.known(len, 0),
                Outcome::Copied | Outcome::Failed(_) => way.meter.finished(|| hash.to_string()),
            }
            Ok((hash, len, outcome))
        }
    });
    let mut failed = Vec::new();
    run_all(
        jobs,
        AT_ONCE,
        &meter,
        progress,
        |(hash, len, outcome)| match outcome {
            Outcome::Copied => report.summary.processed.add(len),
            Outcome::Present => report.summary.skipped.add(len),
            Outcome::Failed(error) => failed.push((hash, error)),
        },
    )
    .await?;
    failed.sort_by_key(|&(hash, _)| hash);
    let passed = report.summary.processed.count + report.summary.skipped.count;
    for (hash, error) in failed {
        report.failed.push(hash);
        report.summary.errors.push(Failed {
            path: hash.to_string(),
            error: error_chain(&error),
        });
        match error {
            CopyError::Store { request, source }
                if passed == 0 && way.refusals.never_passed(request) =>
            {
                return Err(gone(request, hash, source));
            }
            _ => {}
        }
    }
    report.summary.elapsed = began.elapsed();
    Ok(report)
}

struct Way {
    from: Arc<dyn ChunkStore>,
    to: Arc<dyn ChunkStore>,
    scratch: PathBuf,
    large: Semaphore,
    refusals: Refusals,
    meter: Arc<Meter>,
}

impl Way {
    async fn copy(&self, hash: ContentHash, len: u64) -> Result<Outcome, CopyError> {
        let found = self.to.head(hash).await;
        match self.answer(Request::Ask, hash, found) {
            Ok(meta) if meta.len == len => return Ok(Outcome::Present),
            // One of another length is damaged, and replaced.
            Ok(_)
            | Err(CopyError::Store {
                source: StoreError::NotFound { .. },
                ..
            }) => {}
            Err(error) => return Err(error),
        }
        let payload = if len <= SMALL {
            let part = self.get(hash, 0, len, len).await?;
            let found = ContentHash::of(&part.bytes);
            if found != hash {
                return Err(CopyError::Damaged(found));
            }
            Payload::Bytes(part.bytes)
        } else {
            // Held to the end of the upload: the number of temporary files is bounded too. Nobody
            // closes the semaphore.
            let permit = self.large.acquire().await;
            let payload = self.spool(hash, len).await?;
            self.put(hash, payload).await?;
            drop(permit);
            return Ok(Outcome::Copied);
        };
        self.put(hash, payload).await?;
        Ok(Outcome::Copied)
    }

    async fn put(&self, hash: ContentHash, payload: Payload) -> Result<(), CopyError> {
        let sent = self.to.put(hash, payload).await;
        self.answer(Request::Send, hash, sent)
    }

    /// Notes how a store does, and says what was being done if it failed.
    fn answer<T>(
        &self,
        request: Request,
        hash: ContentHash,
        answer: Result<T, StoreError>,
    ) -> Result<T, CopyError> {
        match &answer {
            Ok(_) => self.refusals.answered(request),
            // A store that lacks an object is there.
            Err(StoreError::NotFound { .. }) if request != Request::Send => {
                self.refusals.answered(request);
            }
            Err(error) => self.refusals.refused(request, hash, error),
        }
        answer.map_err(|source| CopyError::Store { request, source })
    }

    /// Exactly a part of an object that should be so long.
    async fn get(
        &self,
        hash: ContentHash,
        start: u64,
        end: u64,
        len: u64,
    ) -> Result<ObjectPart, CopyError> {
        let part = self.from.get(hash, start..end).await;
        let part = self.answer(Request::Read, hash, part)?;
        let found = if part.object_len == len {
            start + part.bytes.len() as u64
        } else {
            part.object_len
        };
        if part.object_len != len || found != end {
            return Err(CopyError::Length {
                found,
                expected: len,
            });
        }
        self.meter.add_bytes(end - start);
        Ok(part)
    }

    /// Brings an object into a file without a name, and checks it.
    async fn spool(&self, hash: ContentHash, len: u64) -> Result<Payload, CopyError> {
        let failed = |source| CopyError::Scratch {
            dir: self.scratch.clone(),
            source,
        };
        let file = Arc::new(tempfile::tempfile_in(&self.scratch).map_err(failed)?);
        let mut hasher = Hasher::new();
        let mut at = 0;
        while at < len {
            let end = len.min(at + STEP);
            let part = self.get(hash, at, end, len).await?;
            hasher.update(&part.bytes);
            let file = Arc::clone(&file);
            let written = tokio::task::spawn_blocking(move || write_all_at(&file, &part.bytes, at));
            written
                .await
                .map_err(io::Error::other)
                .and_then(|written| written)
                .map_err(failed)?;
            at = end;
        }
        let found = hasher.finish();
        if found != hash {
            return Err(CopyError::Damaged(found));
        }
        payload(file, len, &self.scratch).map_err(failed)
    }
}

fn payload(file: Arc<File>, len: u64, dir: &Path) -> io::Result<Payload> {
    let stamp = FileStamp::of(&file)?;
    Ok(Payload::File {
        file,
        range: 0..len,
        stamp: SourceStamp {
            path: dir.join("(temporary file)"),
            stamp,
        },
    })
}

#[cfg(test)]
mod tests {
    use attachfs_store::fault::{Failure, Fault, FaultStore, Rule};
    use attachfs_store::record::RecordStore;
    use attachfs_store::{CallKind, MemoryStore};

    use super::*;
    use crate::{Silent, Tally};

    fn filled() -> (Arc<MemoryStore>, Vec<(ContentHash, u64)>) {
        let store = MemoryStore::new();
        let lens = [
            0,
            1,
            1000,
            SMALL as usize,
            SMALL as usize + 1,
            STEP as usize * 2 + 5,
        ];
        let objects = lens.map(|len| {
            let bytes: Vec<u8> = (0..len).map(|i| (i / 7 + i / 4099) as u8).collect();
            (store.insert(bytes), len as u64)
        });
        (Arc::new(store), objects.to_vec())
    }

    async fn copied(
        from: Arc<dyn ChunkStore>,
        to: Arc<dyn ChunkStore>,
        objects: &[(ContentHash, u64)],
    ) -> CopyReport {
        let scratch = tempfile::tempdir().unwrap();
        let report = copy_objects(from, to, objects.to_vec(), scratch.path(), &Silent).await;
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
        report.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_missing_is_copied_and_what_is_there_is_not_read() {
        let (from, objects) = filled();
        let to = Arc::new(MemoryStore::new());
        let report = copied(from.clone(), to.clone(), &objects).await;
        assert_eq!(report.summary.processed, report.summary.total);
        assert_eq!(to.objects(), from.objects());
        for &(hash, len) in &objects {
            let part = to.get(hash, 0..len.max(1)).await.unwrap();
            assert_eq!(ContentHash::of(&part.bytes), hash);
        }
        let from = Arc::new(RecordStore::new(from));
        let again = copied(from.clone(), to, &objects).await;
        assert_eq!(again.summary.skipped, again.summary.total);
        assert_eq!(from.calls(), []);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_object_of_the_wrong_length_is_replaced() {
        let (from, objects) = filled();
        let to = Arc::new(MemoryStore::new());
        let (hash, len) = objects[2];
        to.insert_as(hash, &b"short"[..]);
        copied(from, to.clone(), &objects).await;
        assert_eq!(to.head(hash).await.unwrap().len, len);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn damage_does_not_spread_and_the_rest_is_copied() {
        let (from, objects) = filled();
        let faults = Arc::new(FaultStore::new(from));
        let damaged: Vec<_> = [objects[2], objects[4]].map(|(hash, _)| hash).into();
        for &hash in &damaged {
            faults.add(Rule::on(CallKind::Get, Fault::Corrupt).of(hash));
        }
        let lost = objects[1].0;
        faults.add(Rule::on(CallKind::Get, Fault::Before(Failure::NotFound)).of(lost));
        let to = Arc::new(MemoryStore::new());
        let report = copied(faults, to.clone(), &objects).await;
        let mut expected = damaged;
        expected.push(lost);
        expected.sort_unstable();
        assert_eq!(report.failed, expected);
        assert_eq!(report.summary.errors.len(), 3);
        assert_eq!(report.summary.processed.count, 3);
        assert_eq!(report.summary.skipped, Tally::default());
        assert!(expected.iter().all(|hash| !to.objects().contains(hash)));
    }

    /// Many small objects, and a store that gives each of them.
    fn many() -> (Arc<MemoryStore>, Vec<(ContentHash, u64)>) {
        let store = MemoryStore::new();
        let objects = (0..300_u64).map(|number| (store.insert(number.to_le_bytes().to_vec()), 8));
        let objects = objects.collect();
        (Arc::new(store), objects)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_store_that_fails_for_one_object_after_the_other_ends_the_copy_with_its_error() {
        for (kind, failure, said) in [
            (CallKind::Head, Failure::Unreachable, "cannot ask for"),
            (CallKind::Get, Failure::Unreachable, "cannot read"),
            (CallKind::Get, Failure::Denied, "cannot read"),
            (CallKind::Put, Failure::Denied, "cannot store"),
            (CallKind::Put, Failure::Full, "cannot store"),
        ] {
            let (from, objects) = many();
            let [from, to] = [from, Arc::new(MemoryStore::new())].map(|store| {
                let faults = FaultStore::new(store);
                faults.add(Rule::on(kind, Fault::Before(failure)));
                Arc::new(RecordStore::new(Arc::new(faults)))
            });
            let scratch = tempfile::tempdir().unwrap();
            let (of, into) = (Arc::clone(&from) as _, Arc::clone(&to) as _);
            let error = copy_objects(of, into, objects, scratch.path(), &Silent).await;
            let error = error.unwrap_err();
            assert!(matches!(error, TransferError::Copy { .. }), "{error:?}");
            assert!(error.to_string().starts_with(said), "{error}");
            assert!(from.count(kind) + to.count(kind) < 100);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn objects_that_are_missing_say_nothing_of_the_store() {
        let (from, mut objects) = many();
        for number in 0..100_u8 {
            objects.insert(0, (ContentHash::of(&[number]), 1));
        }
        let to = Arc::new(MemoryStore::new());
        let report = copied(from, to, &objects).await;
        assert_eq!(
            (report.failed.len(), report.summary.processed.count),
            (100, 300)
        );
    }
}
