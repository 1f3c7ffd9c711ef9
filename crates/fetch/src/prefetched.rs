//! Small files that are fetched before anybody reads them.

use attachfs_manifest::{ChunkLayout, Piece};

use crate::scheduler::Interest;
use crate::{Fetcher, Prefetch, Priority};

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
            Prefetch::Auto => options.memory_bytes / 4,
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
}
