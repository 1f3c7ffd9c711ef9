//! Files that are fetched before anybody reads them.

use attachfs_manifest::{ChunkLayout, ContentHash, Piece};

use crate::scheduler::Interest;
use crate::{FetchError, Fetcher, Prefetch, Priority};

/// A file on its way that nobody has asked for. It is kept in memory for a while when it has come; dropping this
/// cancels the rest, unless a reader is waiting for it.
#[derive(Debug)]
pub struct Prefetched(#[expect(dead_code, reason = "held for its Drop")] Vec<Interest>);

impl Fetcher {
    /// How many bytes of files may be on their way or in memory that nobody has asked for; none if that is off.
    pub fn most_prefetched(&self) -> u64 {
        let options = &self.engine().options;
        match options.prefetch {
            Prefetch::Off => 0,
            Prefetch::Auto | Prefetch::All => options.memory_bytes / 4,
        }
    }

    /// Begins to fetch all of a file, behind everything that somebody waits for. What is in memory or in the disk
    /// cache is left there, and so is an object that is too long to be fetched whole. Nothing is fetched before
    /// the first read that waited for the store.
    pub fn prefetch(&self, layout: &ChunkLayout<'_>) -> Prefetched {
        let engine = self.engine();
        let pieces = layout.pieces(0..layout.size());
        let whole = pieces.filter(|piece| engine.verifies(piece));
        let fetch = |piece: Piece| engine.fetch_ahead(&piece, Priority::Prefetch);
        Prefetched(whole.flat_map(fetch).collect())
    }

    /// Has an object in the disk cache, and verifies it: what is missing is fetched behind everything that somebody waits
    /// for. Needs a tokio runtime with time enabled.
    pub async fn fetch_behind(&self, hash: ContentHash, len: u64) -> Result<(), FetchError> {
        let engine = self.engine();
        let piece = Piece {
            hash,
            object_len: len,
            range: 0..len,
        };
        if len == 0 {
            return Ok(());
        }
        if !engine.verifies(&piece) {
            let known = engine.known.of(&piece);
            return engine.verify(&known, Priority::Prefetch).await;
        }
        if !engine.may_be_on_disk(hash, len).await {
            let read = engine.begin_in_memory(piece, Priority::Prefetch);
            read.bytes().await?;
        }
        Ok(())
    }
}
