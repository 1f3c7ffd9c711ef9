//! Long objects: fetched in aligned blocks, as they are read.
//!
//! A block cannot be verified by itself: the hash is over the whole object. Checked here are the
//! object's length, with every answer, and that the store has not replaced it in between: its version
//! token is remembered from the first answer on. When another one comes, the blocks of the older
//! version are forgotten (they carry a generation in their key, which nobody asks for any more) and
//! the read that noticed starts over. Hashing an object once all its blocks have passed through
//! [`Fetcher::fetch_block`] is the place for verification.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;

use attachfs_manifest::{ContentHash, Piece};
use attachfs_store::{StoreError, data_key};
use bytes::{Bytes, BytesMut};
use futures::future::try_join_all;
use parking_lot::Mutex;

use crate::memory::PartKey;
use crate::{FetchError, Fetcher};

/// How often a read starts over because the object was replaced.
const MOST_TRIES: u32 = 3;

/// Which version of each long object was seen last. Grows with the number of long objects that were
/// read; held for single look-ups, with no other lock.
#[derive(Debug, Default)]
pub(crate) struct Versions(Mutex<HashMap<ContentHash, Seen>>);

#[derive(Debug)]
struct Seen {
    version: Arc<str>,
    generation: u32,
}

impl Versions {
    fn generation(&self, hash: ContentHash) -> u32 {
        self.0.lock().get(&hash).map_or(0, |seen| seen.generation)
    }

    /// Takes note of a version, and says whether it replaces another one.
    fn saw(&self, hash: ContentHash, version: Arc<str>) -> bool {
        match self.0.lock().entry(hash) {
            Entry::Vacant(entry) => {
                entry.insert(Seen {
                    version,
                    generation: 0,
                });
                false
            }
            Entry::Occupied(mut entry) => {
                let seen = entry.get_mut();
                let changed = seen.version != version;
                if changed {
                    seen.version = version;
                    seen.generation += 1;
                }
                changed
            }
        }
    }
}

impl Fetcher {
    pub(crate) fn range_cached(&self, piece: &Piece) -> Option<Bytes> {
        let generation = self.versions.generation(piece.hash);
        let blocks = self.blocks(piece);
        let count = blocks.end - blocks.start;
        let parts: Option<Vec<Bytes>> = blocks
            .map(|index| self.memory.get(&PartKey::block(piece, generation, index)))
            .collect();
        let parts = parts?;
        self.counts.memory_hits.add(count);
        Some(self.assemble(piece, &parts))
    }

    pub(crate) async fn range(&self, piece: &Piece) -> Result<Bytes, FetchError> {
        let hash = piece.hash;
        for _ in 0..MOST_TRIES {
            let generation = self.versions.generation(hash);
            let blocks = self.blocks(piece);
            let parts = try_join_all(blocks.map(|index| self.block(piece, generation, index)));
            let parts = parts.await?;
            if self.versions.generation(hash) == generation {
                return Ok(self.assemble(piece, &parts));
            }
        }
        let error = StoreError::Other {
            what: format!("reading {}", data_key(hash)),
            source: "the object is being replaced again and again".into(),
        };
        Err(self.store_failed(hash, error))
    }

    async fn block(&self, piece: &Piece, generation: u32, index: u64) -> Result<Bytes, FetchError> {
        let key = PartKey::block(piece, generation, index);
        if let Some(block) = self.memory.get(&key) {
            self.counts.memory_hits.add(1);
            return Ok(block);
        }
        self.memory
            .get_or_fetch(key, self.fetch_block(piece.hash, piece.object_len, index))
            .await
    }

    async fn fetch_block(
        &self,
        hash: ContentHash,
        object_len: u64,
        index: u64,
    ) -> Result<Bytes, FetchError> {
        let start = index * self.block_len();
        let range = start..(start + self.block_len()).min(object_len);
        let len = range.end - range.start;
        let _held = self.in_flight.take(len).await;
        let part = self
            .store
            .get(hash, range)
            .await
            .map_err(|error| self.store_failed(hash, error))?;
        self.outage.over();
        if part.object_len != object_len {
            return Err(self.wrong_length(hash, object_len, part.object_len));
        }
        if part.bytes.len() as u64 != len {
            return Err(self.wrong_length(hash, object_len, start + part.bytes.len() as u64));
        }
        if part
            .version
            .is_some_and(|version| self.versions.saw(hash, version))
        {
            self.counts.versions_changed.add(1);
            tracing::warn!(key = %data_key(hash), "an object was replaced while it was being read");
        }
        self.counts.blocks_from_store.add(1);
        self.counts.bytes_from_store.add(len);
        Ok(part.bytes)
    }

    fn block_len(&self) -> u64 {
        self.options.block_len.max(4096)
    }

    /// The numbers of the blocks that `piece` lies in.
    fn blocks(&self, piece: &Piece) -> Range<u64> {
        piece.range.start / self.block_len()..piece.range.end.div_ceil(self.block_len())
    }

    /// `piece` out of the blocks that it lies in.
    fn assemble(&self, piece: &Piece, parts: &[Bytes]) -> Bytes {
        let skip = (piece.range.start % self.block_len()) as usize;
        let len = (piece.range.end - piece.range.start) as usize;
        if let [only] = parts {
            return only.slice(skip..skip + len);
        }
        let mut all = BytesMut::with_capacity(len);
        for (i, part) in parts.iter().enumerate() {
            let part = if i == 0 { &part[skip..] } else { &part[..] };
            all.extend_from_slice(&part[..part.len().min(len - all.len())]);
        }
        all.freeze()
    }
}

#[cfg(test)]
mod tests {
    use attachfs_store::record::RecordStore;
    use attachfs_store::{Call, CallKind, MemoryStore};

    use super::*;
    use crate::FetchOptions;

    const BLOCK: u64 = 4096;
    const LEN: u64 = 3 * BLOCK + 100;

    fn bytes() -> Vec<u8> {
        (0..LEN).map(|i| (i / 7) as u8).collect()
    }

    struct Long {
        memory: Arc<MemoryStore>,
        store: Arc<RecordStore>,
        fetcher: Arc<Fetcher>,
        hash: ContentHash,
    }

    impl Long {
        fn new() -> Self {
            let memory = Arc::new(MemoryStore::new());
            let hash = memory.insert(bytes());
            let store = Arc::new(RecordStore::new(Arc::clone(&memory) as _));
            let options = FetchOptions {
                whole_object_limit: 1000,
                block_len: BLOCK,
                ..FetchOptions::default()
            };
            let fetcher = Arc::new(Fetcher::new(Arc::clone(&store) as _, None, options));
            Self {
                memory,
                store,
                fetcher,
                hash,
            }
        }

        fn piece(&self, range: Range<u64>) -> Piece {
            Piece {
                hash: self.hash,
                object_len: LEN,
                range,
            }
        }

        async fn read(&self, range: Range<u64>) -> Bytes {
            self.fetcher.read(&self.piece(range)).await.unwrap()
        }
    }

    #[tokio::test]
    async fn any_range_is_what_the_object_has_there() {
        let (long, all) = (Long::new(), bytes());
        let edges = [
            0,
            1,
            BLOCK - 1,
            BLOCK,
            BLOCK + 1,
            2 * BLOCK,
            3 * BLOCK,
            LEN - 1,
            LEN,
        ];
        for start in edges {
            for end in edges.into_iter().filter(|end| *end >= start) {
                let expected = &all[start as usize..end as usize];
                assert_eq!(long.read(start..end).await, expected, "{start}..{end}");
                let cached = long.fetcher.read_cached(&long.piece(start..end)).unwrap();
                assert_eq!(cached, expected, "{start}..{end} from memory");
            }
        }
        assert_eq!(long.store.count(CallKind::Get), 4);
        assert_eq!(long.store.bytes_read(), LEN);
    }

    #[tokio::test]
    async fn a_small_read_fetches_one_aligned_block() {
        let long = Long::new();
        long.read(BLOCK + 10..BLOCK + 20).await;
        assert_eq!(
            long.store.calls(),
            [Call::Get {
                chunk: long.hash,
                range: BLOCK..2 * BLOCK
            }]
        );
        assert!(
            long.fetcher
                .read_cached(&long.piece(BLOCK..BLOCK + 1))
                .is_some()
        );
        assert!(
            long.fetcher
                .read_cached(&long.piece(BLOCK - 1..BLOCK + 1))
                .is_none()
        );
    }

    #[tokio::test]
    async fn many_readers_of_a_block_share_one_request() {
        let long = Long::new();
        let hold = long.store.hold(CallKind::Get);
        let readers: Vec<_> = (0..8)
            .map(|i| {
                let (fetcher, piece) =
                    (Arc::clone(&long.fetcher), long.piece(i * 100..i * 100 + 1));
                tokio::spawn(async move { fetcher.read(&piece).await })
            })
            .collect();
        long.store.wait_in_flight(CallKind::Get, 1).await;
        drop(hold);
        for reader in readers {
            reader.await.unwrap().unwrap();
        }
        assert_eq!(long.store.count(CallKind::Get), 1);
    }

    #[tokio::test]
    async fn an_object_of_another_length_is_refused() {
        for wrong in [LEN - 1, LEN + 1] {
            let long = Long::new();
            let mut object = bytes();
            object.resize(wrong as usize, 0);
            long.memory.insert_as(long.hash, object);
            let error = long.fetcher.read(&long.piece(0..1)).await.unwrap_err();
            assert!(
                matches!(error, FetchError::WrongLength { expected: LEN, found, .. } if found == wrong),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn blocks_of_a_replaced_object_are_forgotten() {
        let long = Long::new();
        long.read(0..1).await;
        long.memory.insert_as(long.hash, vec![9; LEN as usize]);
        // This read sees the first block from memory and the second one from the new version.
        assert_eq!(long.read(BLOCK - 1..BLOCK + 1).await, [9, 9].as_slice());
        assert_eq!(long.read(0..1).await, [9].as_slice());
        assert_eq!(long.fetcher.counters().versions_changed, 1);
    }
}
