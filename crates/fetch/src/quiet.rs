//! What is kept, forgotten when nobody reads.
//!
//! A mount that is used all day is quiet most of it. Some seconds after the last read of a file what was fetched ahead
//! of it is given up, so that other readers can have its share; some time after the last read of all, what is kept
//! falls to a small amount. A task looks after that, and ends when there is nothing left to give back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::ahead::Ahead;
use crate::fetcher::Engine;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(5);
/// A file that nobody has read from for so long is not read ahead any more.
const PAUSED: Duration = Duration::from_secs(5);
/// After so long without a read, memory is given back.
const QUIET: Duration = Duration::from_secs(30);
/// What stays kept then, in bytes, if the budget is not very small.
const STAYS: u64 = 8 << 20;

/// When there was a read last, and who reads.
#[derive(Debug)]
pub(crate) struct Quiet {
    begun: Instant,
    /// Milliseconds after the beginning.
    last: AtomicU64,
    is_looked_after: AtomicBool,
    readers: Mutex<Vec<Weak<Mutex<Ahead>>>>,
}

impl Quiet {
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            last: AtomicU64::new(0),
            is_looked_after: AtomicBool::new(false),
            readers: Mutex::default(),
        }
    }

    /// Somebody reads.
    pub(crate) fn end(&self) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// How long nobody has read.
    fn lasts(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(last)
    }

    /// Somebody will read ahead.
    pub(crate) fn add_reader(&self, reader: &Arc<Mutex<Ahead>>) {
        let mut readers = self.readers.lock();
        readers.retain(|reader| reader.strong_count() > 0);
        readers.push(Arc::downgrade(reader));
    }

    fn pause_readers(&self) {
        let readers = self.readers.lock().clone();
        for reader in readers.iter().filter_map(Weak::upgrade) {
            let mut reader = reader.lock();
            if reader.rests() >= PAUSED {
                reader.pause();
            }
        }
    }
}

/// Looks after the memory, from the first read that waits for the store on.
pub(crate) fn look_after(engine: &Arc<Engine>, runtime: &Handle) {
    if engine.quiet.is_looked_after.swap(true, Ordering::AcqRel) {
        return;
    }
    let keeper = Keeper(Arc::downgrade(engine));
    runtime.spawn(keeper.look());
}

/// Who looks after it. Also with the runtime this ends.
struct Keeper(Weak<Engine>);

impl Keeper {
    async fn look(self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(engine) = self.0.upgrade() else {
                return;
            };
            engine.quiet.pause_readers();
            if let Some(disk) = &engine.disk {
                disk.close_unused(PAUSED);
            }
            if engine.quiet.lasts() >= QUIET {
                let stays = STAYS.min(engine.options.memory_bytes / 8);
                engine.scheduler.forget_to(stays);
                engine.landed.free();
                engine.landed_together.free();
                engine.answers.free();
                attachfs_durable::give_back_memory();
                return;
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(engine) = self.0.upgrade() {
            engine.quiet.is_looked_after.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use attachfs_manifest::{ChunkLayout, ChunkSize, ContentHash, Piece};
    use attachfs_store::record::RecordStore;
    use attachfs_store::{CallKind, MemoryStore};

    use super::*;
    use crate::{FetchOptions, Fetcher, FileRead};

    #[tokio::test(start_paused = true)]
    async fn memory_is_given_back_after_a_quiet_time() {
        let memory = MemoryStore::new();
        let hash = memory.insert(vec![1; 64 << 20]);
        let fetcher = Fetcher::new(Arc::new(memory), None, FetchOptions::default());
        let piece = Piece {
            hash,
            object_len: 64 << 20,
            range: 0..64 << 20,
        };
        fetcher.read(&piece).await.unwrap();
        let kept = || fetcher.engine().scheduler.kept_bytes();
        assert_eq!(kept(), 64 << 20);
        tokio::time::sleep(QUIET / 2).await;
        assert_eq!(kept(), 64 << 20);
        tokio::time::sleep(QUIET).await;
        assert_eq!(kept(), STAYS);
        // And again.
        fetcher.read(&piece).await.unwrap();
        tokio::time::sleep(2 * QUIET).await;
        assert_eq!(kept(), STAYS);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_fetched_ahead_of_a_reader_that_rests_is_given_up() {
        let memory = MemoryStore::new();
        let hash = ContentHash::from_bytes([7; 16]);
        memory.insert_as(hash, vec![0; 64 << 20]);
        let store = Arc::new(RecordStore::new(Arc::new(memory)));
        let fetcher = Fetcher::new(Arc::clone(&store) as _, None, FetchOptions::default());
        let hashes = [hash];
        let layout = ChunkLayout::from_hashes(64 << 20, ChunkSize::WholeFile, &hashes).unwrap();
        let reader = fetcher.open(&layout);
        if let FileRead::Pending(read) = reader.read(0..1 << 20) {
            read.bytes().await.unwrap();
        }
        let _hold = store.hold(CallKind::Get);
        drop(reader.read(1 << 20..3 << 20));
        store.wait_in_flight(CallKind::Get, 1).await;
        store.wait_idle(CallKind::Get).await;
    }
}
