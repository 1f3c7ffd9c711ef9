//! Fetching objects into the disk cache before anybody reads them.

use std::ops::Range;
use std::sync::Arc;

use attachfs_manifest::{ContentHash, Piece};

use crate::disk::UNIT;
use crate::{DiskCache, FetchError, Fetcher, LargeFile, Verifier};

/// How much of a large object is asked for at once.
const PART_UNITS: u64 = 64;
/// How often a large object is gone through: units of another version are fetched again.
const MOST_PASSES: u32 = 3;
/// How often bytes are offered to a cache that is busy, of which all that waits was written in between.
const MOST_TRIES: u32 = 64;

/// What became of an object that was to be in the disk cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warmed {
    /// It was there.
    Present,
    /// It is there, or will be when the cache has been flushed. So many bytes were fetched.
    Fetched(u64),
    /// There is no disk cache, or it cannot keep it.
    NotKept,
}

impl Fetcher {
    /// Has an object in the disk cache: fetches what is missing of it, and verifies it. Takes as long as the store does.
    /// Needs a tokio runtime with time enabled.
    pub async fn warm(&self, hash: ContentHash, len: u64) -> Result<Warmed, FetchError> {
        let piece = Piece {
            hash,
            object_len: len,
            range: 0..len,
        };
        let Some(disk) = self.disk() else {
            return Ok(Warmed::NotKept);
        };
        if len == 0 {
            return Ok(Warmed::Present);
        }
        if !self.verifies(&piece) {
            return match disk.ask(move |disk| disk.large(hash, len)).await {
                Some(Some(large)) => self.warm_large(&disk, &large, hash, len).await,
                Some(None) | None => Ok(Warmed::NotKept),
            };
        }
        match self.may_be_on_disk(hash, len).await {
            Some(false) => {}
            Some(true) => return Ok(Warmed::Present),
            None => return Ok(Warmed::NotKept),
        }
        let room = self.room(len).await;
        let part = self.fetch(&piece, &room).await?;
        Verifier::new(hash, len).add(&part.bytes, part.version.as_ref())?;
        for _ in 0..MOST_TRIES {
            if disk.insert(hash, part.bytes.clone()) {
                return Ok(Warmed::Fetched(len));
            }
            if !flush(&disk).await {
                break;
            }
        }
        Ok(Warmed::NotKept)
    }

    /// Whether a file of the disk cache has the name and the length of an object; nobody has looked at its bytes. `None`
    /// if the disk does not answer.
    pub async fn may_be_on_disk(&self, hash: ContentHash, len: u64) -> Option<bool> {
        let Some(disk) = self.disk() else {
            return Some(false);
        };
        disk.ask(move |disk| disk.may_have(hash, len)).await
    }

    /// Waits until the disk cache has written and verified what it was given, as long as the disk answers.
    pub async fn flush_disk(&self) {
        if let Some(disk) = self.disk() {
            flush(&disk).await;
        }
    }

    async fn warm_large(
        &self,
        disk: &Arc<DiskCache>,
        large: &Arc<LargeFile>,
        hash: ContentHash,
        len: u64,
    ) -> Result<Warmed, FetchError> {
        let mut fetched = 0;
        for _ in 0..MOST_PASSES {
            if large.is_verified() {
                break;
            }
            let of_disk = Arc::clone(large);
            let units = 0..large.units();
            let Some(missing) = disk.ask(move |_| missing(&of_disk, units)).await else {
                break;
            };
            for units in missing {
                let range = units.start * UNIT..(units.end * UNIT).min(len);
                let bytes = range.end - range.start;
                let room = self.room(bytes).await;
                let piece = Piece {
                    hash,
                    object_len: len,
                    range,
                };
                let part = self.fetch(&piece, &room).await?;
                fetched += bytes;
                for _ in 0..MOST_TRIES {
                    if large.write(units.start, part.bytes.clone(), part.version.clone())
                        || !flush(disk).await
                    {
                        break;
                    }
                }
                if !disk.answers() {
                    return Ok(Warmed::NotKept);
                }
            }
            flush(disk).await;
            if let Some(found) = large.wrong() {
                return Err(FetchError::Damaged { hash, found });
            }
        }
        Ok(match (large.is_verified(), fetched) {
            (true, 0) => Warmed::Present,
            (true, fetched) => Warmed::Fetched(fetched),
            (false, _) => Warmed::NotKept,
        })
    }
}

/// Waits until the cache has written what waits, off the runtime's own threads. `false` if the disk does not answer.
async fn flush(disk: &Arc<DiskCache>) -> bool {
    let waiting = Arc::clone(disk);
    let flushed = tokio::task::spawn_blocking(move || waiting.flush()).await;
    flushed.unwrap_or_else(|error| {
        tracing::error!(%error, "waiting for the disk cache ended early");
        false
    })
}

/// Runs of those of these units that are not there, none longer than is asked for at once.
pub(crate) fn missing(large: &LargeFile, units: Range<u64>) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    let there = large.there(units.clone());
    for (unit, _) in (units.start..).zip(there).filter(|(_, there)| !there) {
        match runs.last_mut() {
            Some(run) if run.end == unit && unit - run.start < PART_UNITS => run.end += 1,
            _ => runs.push(unit..unit + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use attachfs_store::record::RecordStore;
    use attachfs_store::{CallKind, MemoryStore};

    use super::*;
    use crate::FetchOptions;

    #[tokio::test]
    async fn what_was_warmed_is_in_the_cache_and_is_not_fetched_again() {
        let temp = tempfile::tempdir().unwrap();
        let memory = MemoryStore::new();
        let options = FetchOptions {
            whole_object_limit: 1000,
            ..FetchOptions::default()
        };
        let (small, large) = (vec![1; 1000], vec![2; 20 * UNIT as usize + 7]);
        let objects =
            [&small, &large].map(|bytes| (memory.insert(bytes.clone()), bytes.len() as u64));
        let store = Arc::new(RecordStore::new(Arc::new(memory)));
        let fetcher = || {
            let cache = crate::testing::unbounded(temp.path().join("cache"));
            let disk = DiskCache::start(cache.objects([1; 16]).unwrap()).unwrap();
            Fetcher::new(Arc::clone(&store) as _, Some(disk), options.clone())
        };
        let first = fetcher();
        for (hash, len) in objects {
            assert_eq!(first.warm(hash, len).await.unwrap(), Warmed::Fetched(len));
        }
        let requests = store.count(CallKind::Get);
        drop(first);
        let second = fetcher();
        for (hash, len) in objects {
            assert_eq!(second.warm(hash, len).await.unwrap(), Warmed::Present);
            let disk = second.disk().unwrap();
            assert!(disk.complete(hash, len).is_some());
        }
        assert_eq!(store.count(CallKind::Get), requests);
    }

    #[tokio::test]
    async fn an_object_that_the_store_has_wrong_is_an_error() {
        let temp = tempfile::tempdir().unwrap();
        let cache = crate::testing::unbounded(temp.path().join("cache"));
        let options = FetchOptions {
            whole_object_limit: 1000,
            ..FetchOptions::default()
        };
        for len in [1000, 3 * UNIT] {
            let memory = MemoryStore::new();
            let hash = memory.insert(vec![1; len as usize]);
            let store = attachfs_store::fault::FaultStore::new(Arc::new(memory));
            store.add(attachfs_store::fault::Rule::on(
                CallKind::Get,
                attachfs_store::fault::Fault::Corrupt,
            ));
            let disk = DiskCache::start(cache.objects([1; 16]).unwrap()).unwrap();
            let fetcher = Fetcher::new(Arc::new(store), Some(disk), options.clone());
            let error = fetcher.warm(hash, len).await.unwrap_err();
            assert!(matches!(error, FetchError::Damaged { .. }), "{error}");
        }
    }
}
