//! Long objects: fetched in aligned blocks, as they are read.
//!
//! A block cannot be verified by itself: the hash is over the whole object. Checked here are the
//! object's length, with every answer, and that the store has not replaced it in between: its version
//! token is remembered from the first answer on. When another one comes, the blocks of the older
//! version are forgotten (they carry a generation in their key, which nobody asks for any more) and
//! the read that noticed starts over. Hashing an object once all its blocks have passed through
//! [`Core::fetch_block`] is the place for verification.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;

use attachfs_manifest::{ContentHash, Piece};
use attachfs_store::{StoreError, data_key};
use bytes::{Bytes, BytesMut};
use futures::future::try_join_all;
use parking_lot::Mutex;

use crate::budget::SharedPriority;
use crate::fetcher::Core;
use crate::pending::{PendingPart, PendingPiece, Reading};
use crate::scheduler::{Fetched, Lookup, PartKey};
use crate::{FetchError, Priority};

/// How often a read starts over because the object was replaced.
const MOST_ATTEMPTS: u32 = 3;

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

impl Core {
    /// Looks for the blocks of a piece in memory.
    pub(crate) fn begin_large(self: &Arc<Self>, piece: Piece, priority: Priority) -> Reading {
        let generation = self.versions.generation(piece.hash);
        let blocks = self.blocks(&piece);
        let look_up = |index| {
            let key = PartKey::block(&piece, generation, index);
            self.scheduler.look_up(&key, priority)
        };
        if blocks.end - blocks.start == 1 {
            return match look_up(blocks.start) {
                Lookup::Here(block) => {
                    self.counts.memory_hits.add(1);
                    Reading::Ready(self.assemble(&piece, &[block]))
                }
                found => self.pending_blocks(piece, priority, vec![found.into()], generation),
            };
        }
        let count = blocks.end - blocks.start;
        let parts: Vec<PendingPart> = blocks.map(|index| look_up(index).into()).collect();
        match here(&parts) {
            Some(blocks) => {
                self.counts.memory_hits.add(count);
                Reading::Ready(self.assemble(&piece, &blocks))
            }
            None => self.pending_blocks(piece, priority, parts, generation),
        }
    }

    fn pending_blocks(
        self: &Arc<Self>,
        piece: Piece,
        priority: Priority,
        parts: Vec<PendingPart>,
        generation: u32,
    ) -> Reading {
        Reading::Pending(Box::new(PendingPiece {
            shared: Arc::clone(self),
            piece,
            priority,
            parts,
            generation,
        }))
    }

    async fn fetch_block(
        self: Arc<Self>,
        hash: ContentHash,
        object_len: u64,
        index: u64,
        priority: SharedPriority,
    ) -> Result<Fetched, FetchError> {
        let start = index * self.block_len();
        let range = start..(start + self.block_len()).min(object_len);
        let len = range.end - range.start;
        let held = self.scheduler.room(len, &priority).await;
        let part = self.request(hash, range, object_len).await?;
        if part
            .version
            .is_some_and(|version| self.versions.saw(hash, version))
        {
            self.counts.versions_changed.add(1);
            tracing::warn!(key = %data_key(hash), "an object was replaced while it was being read");
        }
        self.counts.blocks_from_store.add(1);
        self.counts.bytes_from_store.add(len);
        Ok(Fetched {
            bytes: part.bytes,
            held: Some(held),
        })
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

impl PendingPiece {
    /// Waits for the blocks, and fetches those that nobody else does, all at once. Starts over if the object was
    /// replaced meanwhile.
    pub(crate) async fn blocks(mut self: Box<Self>) -> Result<Bytes, FetchError> {
        let (shared, hash) = (Arc::clone(&self.shared), self.piece.hash);
        for _ in 0..MOST_ATTEMPTS {
            let generation = self.generation;
            let parts = std::mem::take(&mut self.parts);
            let indexes = shared.blocks(&self.piece);
            let blocks = indexes
                .zip(parts)
                .map(|(index, part)| self.block(generation, index, part));
            let blocks = try_join_all(blocks).await?;
            self.generation = shared.versions.generation(hash);
            if self.generation == generation {
                return Ok(shared.assemble(&self.piece, &blocks));
            }
            let key = |index| PartKey::block(&self.piece, self.generation, index);
            let look_up = |index| shared.scheduler.look_up(&key(index), self.priority).into();
            self.parts = shared.blocks(&self.piece).map(look_up).collect();
        }
        let error = StoreError::Other {
            what: format!("reading {}", data_key(hash)),
            source: "the object is being replaced again and again".into(),
        };
        Err(shared.store_failed(hash, error))
    }

    async fn block(
        &self,
        generation: u32,
        index: u64,
        part: PendingPart,
    ) -> Result<Bytes, FetchError> {
        let key = PartKey::block(&self.piece, generation, index);
        let mut next = Some(part);
        loop {
            let part = next
                .take()
                .unwrap_or_else(|| self.shared.scheduler.look_up(&key, self.priority).into());
            let waiting = match part {
                PendingPart::Here(block) => {
                    self.shared.counts.memory_hits.add(1);
                    return Ok(block);
                }
                PendingPart::Join(waiting) => waiting,
                // Only small objects are in the disk cache.
                PendingPart::Fetch(lead) | PendingPart::Find(lead) => {
                    let (shared, hash) = (Arc::clone(&self.shared), self.piece.hash);
                    let len = self.piece.object_len;
                    lead.start(move |priority| shared.fetch_block(hash, len, index, priority))
                }
            };
            if let Some(outcome) = waiting.ended().await {
                return outcome;
            }
        }
    }
}

/// The blocks, if all are here.
fn here(parts: &[PendingPart]) -> Option<Vec<Bytes>> {
    let block = |part: &PendingPart| match part {
        PendingPart::Here(block) => Some(block.clone()),
        _ => None,
    };
    parts.iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use attachfs_store::record::RecordStore;
    use attachfs_store::{Call, CallKind, MemoryStore};

    use super::*;
    use crate::testing::cached;
    use crate::{FetchOptions, Fetcher};

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
                let cached = cached(&long.fetcher, &long.piece(start..end)).unwrap();
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
        assert!(cached(&long.fetcher, &long.piece(BLOCK..BLOCK + 1)).is_some());
        assert!(cached(&long.fetcher, &long.piece(BLOCK - 1..BLOCK + 1)).is_none());
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
