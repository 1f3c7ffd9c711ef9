//! Units of large objects in the disk cache: a run looks here before it asks the store, and units that the store gave are
//! kept here.

use std::ops::Range;
use std::sync::Arc;

use attachfs_manifest::ContentHash;
use bytes::Bytes;

use crate::HeldBytes;
use crate::disk::{LargeFile, UNIT};
use crate::fetcher::Engine;
use crate::landed::Landed;
use crate::large_objects::KnownObject;
use crate::scheduler::{Fetched, Lead, TOGETHER};

/// The first units of a run.
pub(super) enum Front {
    /// They were on the disk, and have landed.
    Landed,
    /// So many are not on the disk.
    Missing(u64),
}

impl Engine {
    /// The file of the disk cache for the units of an object. `None` if there is no cache, if its units have another
    /// length than those that are read, or if its disk does not answer.
    pub(super) async fn large_file(&self, hash: ContentHash, len: u64) -> Option<Arc<LargeFile>> {
        let disk = self.disk.as_ref().filter(|_| self.unit_len() == UNIT)?;
        disk.ask(move |disk| disk.large(hash, len)).await?
    }

    /// Lands the first units of a run from the disk, if they are there; else says how many are to be fetched before the
    /// next one that is. `wanted` are the units that the run has left; their bytes take of `held`. Units of another
    /// version than the store gave last do not count.
    pub(super) async fn land_from_disk(
        self: &Arc<Self>,
        large: &Arc<LargeFile>,
        known: &Arc<KnownObject>,
        generation: u32,
        lead: &mut Lead,
        held: &mut HeldBytes,
        wanted: Range<u64>,
    ) -> Front {
        let (first, left) = (wanted.start, wanted.end - wanted.start);
        let Some(disk) = &self.disk else {
            return Front::Missing(left);
        };
        let Some(version) = large.version() else {
            return Front::Missing(left);
        };
        // What is verified is right whatever the store has, and is not hashed again.
        let is_right = large.is_verified();
        if is_right {
            known.is_right_on_disk(version);
        } else if !known.is_now(version) {
            return Front::Missing(left);
        }
        let (of_disk, engine) = (Arc::clone(large), Arc::clone(self));
        let found = disk.ask(move |_| engine.front(&of_disk, first, left));
        match found.await {
            Some((units, Some(bytes))) => {
                self.counts.disk_hits.add(units);
                self.hash_before_landing(known, generation, first, &bytes);
                self.counts.bytes_from_disk.add(bytes.len() as u64);
                for from in (0..bytes.len()).step_by(UNIT as usize) {
                    let to = bytes.len().min(from + UNIT as usize);
                    let held = held.split((to - from) as u64);
                    let bytes = Landed::part(&bytes, from..to);
                    lead.land(Fetched { bytes, held });
                }
                self.hash_landed(known, generation, first..first + units);
                Front::Landed
            }
            Some((units, None)) => Front::Missing(units),
            None => Front::Missing(left),
        }
    }

    /// How many units, from `first` on, are there with these bytes; or are not there.
    fn front(&self, large: &LargeFile, first: u64, left: u64) -> (u64, Option<Bytes>) {
        // Units that turn out to be damaged are not there the second time.
        for _ in 0..2 {
            let there = large.there(first..first + left);
            let is_there = there.first().copied().unwrap_or(false);
            let alike = there.iter().take_while(|&&one| one == is_there).count() as u64;
            if !is_there {
                return (alike.max(1), None);
            }
            // What is forgotten together comes from one buffer.
            let together = (first + 1).next_multiple_of(TOGETHER) - first;
            let units = alike.min(together);
            // Only a buffer that is filled: the rest of it would be used as well.
            let buffer = match units {
                1 => Some(self.landed.take()),
                TOGETHER => Some(self.landed_together.take()),
                _ => None,
            };
            if let Some(bytes) = large.read_into(buffer, first..first + units) {
                return (units, Some(bytes));
            }
        }
        (1, None)
    }
}

/// Whether all of an object is in the disk cache and was verified there. Notes that it is right.
pub(super) async fn is_verified(engine: &Arc<Engine>, known: &KnownObject) -> bool {
    let large = engine.large_file(known.hash(), known.size()).await;
    let version = large.and_then(|large| large.is_verified().then(|| large.version())?);
    version.is_some_and(|version| known.is_right_on_disk(version))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use attachfs_manifest::Piece;
    use attachfs_store::fault::{Fault, FaultStore, Rule};
    use attachfs_store::record::RecordStore;
    use attachfs_store::{Call, CallKind, ChunkStore, MemoryStore};
    use tempfile::TempDir;

    use super::*;
    use crate::{DiskCache, FetchError, FetchOptions, Fetcher, Prefetch};

    const LEN: u64 = 20 * UNIT + 100;

    struct Kept {
        temp: TempDir,
        memory: Arc<MemoryStore>,
        store: Arc<RecordStore>,
        hash: ContentHash,
    }

    fn bytes() -> Vec<u8> {
        (0..LEN).map(|at| (at / 77) as u8).collect()
    }

    impl Kept {
        fn new() -> Self {
            let memory = Arc::new(MemoryStore::new());
            let hash = memory.insert(bytes());
            let store = Arc::new(RecordStore::new(Arc::clone(&memory) as _));
            let temp = TempDir::new().unwrap();
            Self {
                temp,
                memory,
                store,
                hash,
            }
        }

        /// As a process that begins now.
        fn fetcher(&self) -> Fetcher {
            self.fetcher_of(Arc::clone(&self.store) as _)
        }

        fn fetcher_of(&self, store: Arc<dyn ChunkStore>) -> Fetcher {
            self.fetcher_with(store, false)
        }

        /// A fetcher that verifies an object before it gives a byte of it.
        fn strict(&self) -> Fetcher {
            self.fetcher_with(Arc::clone(&self.store) as _, true)
        }

        fn fetcher_with(&self, store: Arc<dyn ChunkStore>, verifies_first: bool) -> Fetcher {
            let cache = crate::testing::unbounded(self.temp.path().join("cache"));
            let disk = DiskCache::start(cache.objects([1; 16]).unwrap()).unwrap();
            let options = FetchOptions {
                whole_object_limit: 1000,
                prefetch: Prefetch::Off,
                verifies_first,
                ..FetchOptions::default()
            };
            Fetcher::new(store, Some(disk), options)
        }

        fn piece(&self, range: std::ops::Range<u64>) -> Piece {
            Piece {
                hash: self.hash,
                object_len: LEN,
                range,
            }
        }

        fn asked(&self) -> Vec<std::ops::Range<u64>> {
            let calls = self.store.calls().into_iter();
            let asked = calls.filter_map(|call| match call {
                Call::Get { range, .. } => Some(range),
                _ => None,
            });
            asked.collect()
        }

        /// Alters a byte of a unit in the cache.
        fn alter_unit(&self, unit: u64) {
            let mut options = std::fs::File::options();
            let part = options.write(true).open(self.file("part")).unwrap();
            attachfs_durable::write_all_at(&part, b"?", unit * UNIT + 5).unwrap();
        }

        /// The object's file in the cache.
        fn file(&self, ending: &str) -> std::path::PathBuf {
            let cache = crate::testing::unbounded(self.temp.path().join("cache"));
            let path = cache.objects([1; 16]).unwrap().path(*self.hash.as_bytes());
            path.with_extension(ending)
        }
    }

    #[tokio::test]
    async fn what_one_process_read_of_a_large_object_the_next_one_does_not_fetch() {
        let kept = Kept::new();
        let first = kept.fetcher();
        first
            .read(&kept.piece(5 * UNIT + 1..9 * UNIT))
            .await
            .unwrap();
        first.read(&kept.piece(LEN - 1..LEN)).await.unwrap();
        drop(first);
        let second = kept.fetcher();
        assert_eq!(second.read(&kept.piece(0..LEN)).await.unwrap(), bytes());
        let expected = [
            5 * UNIT..9 * UNIT,
            20 * UNIT..LEN,
            0..5 * UNIT,
            9 * UNIT..20 * UNIT,
        ];
        assert_eq!(kept.asked(), expected);
        drop(second);
        let third = kept.fetcher();
        assert_eq!(third.read(&kept.piece(0..LEN)).await.unwrap(), bytes());
        assert_eq!(
            kept.store.count(CallKind::Get),
            4,
            "all of it is on the disk"
        );
        assert_eq!(third.counters().disk_hits, 21);
    }

    #[tokio::test]
    async fn an_altered_unit_on_the_disk_is_fetched_again_and_its_neighbours_are_not() {
        let kept = Kept::new();
        let first = kept.fetcher();
        first.read(&kept.piece(0..8 * UNIT)).await.unwrap();
        drop(first);
        kept.alter_unit(3);
        let second = kept.fetcher();
        let read = second.read(&kept.piece(0..8 * UNIT)).await.unwrap();
        assert_eq!(read, bytes()[..8 * UNIT as usize]);
        assert_eq!(kept.asked(), [0..8 * UNIT, 3 * UNIT..4 * UNIT]);
        assert_eq!(second.counters().disk_damaged, 1);
    }

    #[tokio::test]
    async fn units_on_the_disk_of_a_version_that_was_replaced_are_not_put_together_with_new_ones() {
        let kept = Kept::new();
        let first = kept.fetcher();
        first.read(&kept.piece(0..8 * UNIT)).await.unwrap();
        drop(first);
        // Another version with the same bytes.
        kept.memory.insert_as(kept.hash, bytes());
        let second = kept.fetcher();
        // Of the old version, which nobody can tell yet.
        second.read(&kept.piece(0..UNIT)).await.unwrap();
        let read = second.read(&kept.piece(0..12 * UNIT)).await.unwrap();
        assert_eq!(read, bytes()[..12 * UNIT as usize]);
        assert_eq!(kept.asked(), [0..8 * UNIT, 8 * UNIT..12 * UNIT, 0..LEN]);
    }

    #[tokio::test(start_paused = true)]
    async fn units_that_came_before_an_object_was_replaced_are_not_kept_as_those_of_the_new_one() {
        let kept = Kept::new();
        let faults = Arc::new(FaultStore::new(Arc::clone(&kept.memory) as _));
        let came = 3 * UNIT as usize + 50;
        faults.add(Rule::on(CallKind::Get, Fault::Break(came)).times(1));
        let fetcher = kept.fetcher_of(Arc::clone(&faults) as _);
        // So that several units land together.
        let link = &fetcher.engine().link;
        link.came(1 << 30);
        tokio::time::advance(Duration::from_millis(100)).await;
        link.came(1 << 30);
        let replace = async {
            while faults.struck() == 0 {
                tokio::task::yield_now().await;
            }
            // Another version with the same bytes.
            kept.memory.insert_as(kept.hash, bytes());
        };
        let (most, expected) = (kept.piece(0..8 * UNIT), &bytes()[..8 * UNIT as usize]);
        let (read, ()) = tokio::join!(fetcher.read(&most), replace);
        assert_eq!(read.unwrap(), expected);
        assert_eq!(fetcher.counters().versions_changed, 1);
        fetcher.engine().scheduler.forget_to(0);
        drop(fetcher);
        let second = kept.fetcher();
        assert_eq!(second.read(&most).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn nothing_of_a_wrong_object_stays_on_the_disk() {
        let kept = Kept::new();
        kept.memory.insert_as(kept.hash, vec![9; LEN as usize]);
        let first = kept.fetcher();
        first.read(&kept.piece(0..8 * UNIT)).await.unwrap();
        first.flush_disk().await;
        assert!(kept.file("part").exists());
        // So the cache never has all of it, and does not find out by itself.
        kept.alter_unit(3);
        let error = first.read(&kept.piece(0..LEN)).await.unwrap_err();
        assert!(matches!(error, FetchError::Damaged { .. }), "{error}");
        for _ in 0..10_000 {
            if first.counters().disk_wrong > 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        first.flush_disk().await;
        assert!(!kept.file("part").exists());
    }

    #[tokio::test]
    async fn an_object_that_is_verified_on_the_disk_is_not_read_again_to_verify_it() {
        let kept = Kept::new();
        let first = kept.fetcher();
        first.read(&kept.piece(0..LEN)).await.unwrap();
        first.flush_disk().await;
        drop(first);
        let strict = kept.strict();
        let read = strict.read(&kept.piece(5..UNIT)).await.unwrap();
        assert_eq!(read, bytes()[5..UNIT as usize]);
        assert_eq!(kept.asked().len(), 1);
        assert_eq!(strict.counters().disk_hits, 1, "nor from the disk");
        drop(strict);
        let usual = kept.fetcher();
        let piece = kept.piece(5..UNIT);
        usual.read(&piece).await.unwrap();
        let unverified = usual.engine().known.gave_unverified(&piece);
        assert!(!unverified, "what it gave counts as verified");
    }
}
