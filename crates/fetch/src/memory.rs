//! Objects and blocks in memory: bounded by bytes, each fetched once however many want it.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};

use attachfs_manifest::{ContentHash, Piece};
use bytes::Bytes;
use futures::FutureExt;
use moka::future::Cache;
use moka::policy::EvictionPolicy;

use crate::FetchError;

/// What an entry costs beside its bytes, roughly.
const ENTRY_OVERHEAD: u64 = 256;

/// Names something in memory. The object's length is part of the name: two manifests that disagree
/// about it never share bytes, and the store has to say which of them is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PartKey {
    hash: ContentHash,
    object_len: u64,
    part: Part,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Whole,
    /// Blocks of different generations come from different versions of the object.
    Block {
        generation: u32,
        index: u64,
    },
}

impl PartKey {
    pub(crate) fn whole(piece: &Piece) -> Self {
        Self {
            hash: piece.hash,
            object_len: piece.object_len,
            part: Part::Whole,
        }
    }

    pub(crate) fn block(piece: &Piece, generation: u32, index: u64) -> Self {
        let part = Part::Block { generation, index };
        Self {
            hash: piece.hash,
            object_len: piece.object_len,
            part,
        }
    }
}

/// The bounded memory of a fetcher.
pub(crate) struct Memory {
    parts: Cache<PartKey, Bytes>,
    /// Bytes added since the cache last enforced its bound.
    unaccounted: AtomicU64,
    /// How many may be.
    slack: u64,
}

impl Memory {
    pub(crate) fn new(bytes: u64) -> Self {
        let weight = |_: &PartKey, bytes: &Bytes| {
            u32::try_from(bytes.len() as u64 + ENTRY_OVERHEAD).unwrap_or(u32::MAX)
        };
        // The default policy refuses newcomers that are asked for less often than what is there. A
        // reader that passes through a large file once would then fetch the same block again for
        // each of its reads.
        let parts = Cache::builder()
            .max_capacity(bytes)
            .weigher(weight)
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self {
            parts,
            unaccounted: AtomicU64::new(0),
            slack: bytes / 16,
        }
    }

    /// What is there now. Needs no runtime and does not wait.
    pub(crate) fn get(&self, key: &PartKey) -> Option<Bytes> {
        // Looking up never has to wait, the method is async for its housekeeping only. If it had to,
        // the answer would be "not in memory", which is slow and not wrong.
        self.parts.get(key).now_or_never().flatten()
    }

    /// Keeps bytes. Needs no runtime and does not wait.
    pub(crate) fn insert(&self, key: PartKey, bytes: Bytes) {
        let len = bytes.len() as u64;
        // As above; not keeping them is no harm.
        let _ = self.parts.insert(key, bytes).now_or_never();
        let _ = self.settle(len).now_or_never();
    }

    /// What is there, or what `fetch` gives. Of all that ask for one key at once, one runs its future;
    /// if that one is dropped before the end, another goes on with its own. A failure goes to all who
    /// waited and is not kept.
    pub(crate) async fn get_or_fetch(
        &self,
        key: PartKey,
        fetch: impl Future<Output = Result<Bytes, FetchError>>,
    ) -> Result<Bytes, FetchError> {
        let mut added = 0;
        let fetch = async {
            let bytes = fetch.await?;
            added = bytes.len() as u64;
            Ok(bytes)
        };
        let shared = self.parts.try_get_with(key, fetch).await;
        let bytes = shared.map_err(|error| FetchError::clone(&error))?;
        self.settle(added).await;
        Ok(bytes)
    }

    /// The cache enforces its bound in batches of many entries, however large they are. This makes it
    /// do so after a number of bytes, so that the bound can be exceeded by that number only.
    async fn settle(&self, added: u64) {
        if self.unaccounted.fetch_add(added, Ordering::Relaxed) + added > self.slack {
            self.unaccounted.store(0, Ordering::Relaxed);
            self.parts.run_pending_tasks().await;
        }
    }

    #[cfg(test)]
    pub(crate) async fn bytes(&self) -> u64 {
        self.parts.run_pending_tasks().await;
        self.parts.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("bytes", &self.parts.weighted_size())
            .finish_non_exhaustive()
    }
}
