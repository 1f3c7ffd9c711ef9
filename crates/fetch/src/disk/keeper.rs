//! The thread that keeps the bounds, and verifies large objects of which all units are there.

use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use attachfs_durable::{Bounds, CacheDirError, DurableError, Space, Stock, Sum, Sums};

use super::joiner::Joiner;
use super::open_cache::{Duty, OpenCache};
use super::{DiskCache, eviction};

/// How often it looks at a cache to which nothing is written: others may fill the disk.
const IDLE: Duration = Duration::from_mins(1);
/// How often one shelf is listed to correct what is written down of it.
const PATROL: Duration = Duration::from_secs(10);
/// How long it does not look again for what could be removed if there was not enough: all that is there is pinned or open.
const EXHAUSTED: Duration = Duration::from_secs(10);

/// What the thread does, until nobody sends duties any more.
pub(super) fn run(cache: &Arc<OpenCache>, duties: &Receiver<Duty>) {
    let mut keeper = Keeper {
        cache,
        next_shelf: std::process::id() as u8,
        patrolled: Instant::now(),
        is_full: false,
        exhausted: None,
        changed: Vec::new(),
    };
    let mut joiner = Joiner::new();
    keeper.keep();
    let mut kept = Instant::now();
    loop {
        match duties.recv_timeout(joiner.waits(cache).unwrap_or(IDLE)) {
            Err(RecvTimeoutError::Timeout) if joiner.has_work() => {
                keeper.changed.extend(joiner.step(cache));
                if !keeper.changed.is_empty() || kept.elapsed() >= IDLE {
                    keeper.keep();
                    kept = Instant::now();
                }
            }
            Ok(Duty::Look | Duty::Flush(_)) | Err(RecvTimeoutError::Timeout) => {
                keeper.changed.extend(joiner.drop_leftovers(cache));
                keeper.keep();
                kept = Instant::now();
            }
            Ok(Duty::Join(wanted)) => joiner.add(cache, wanted),
            Ok(Duty::Verify(large)) => large.verify(&mut || {
                cache.step();
                if cache.was_asked() {
                    keeper.keep();
                }
                !cache.is_ending()
            }),
            Err(RecvTimeoutError::Disconnected) => break,
        }
        cache.step();
    }
    keeper.note();
}

/// Sets how much may be written, from what is written down: the keeper looks closer.
pub(super) fn look(cache: &OpenCache) {
    let used = used(cache);
    let room = space(cache).map_or(0, |(space, bounds)| bounds.room(used, &space));
    cache.set_room(room);
}

impl DiskCache {
    /// How many bytes the whole cache takes when it is full. `None` if the disk does not tell. Blocks.
    pub(crate) fn capacity(&self) -> Option<u64> {
        let (space, bounds) = space(&self.cache)?;
        let used = used(&self.cache);
        Some(used.saturating_add_signed(bounds.room(used, &space)))
    }
}

/// How many bytes are there by what is written down, or will be when a file is joined.
fn used(cache: &OpenCache) -> u64 {
    let sums = match cache.objects.cache().stock() {
        Ok(Some(stock)) => stock.sums().unwrap_or_else(|_| Sums::unknown()),
        // The write that comes next tells what is wrong.
        Ok(None) | Err(_) => Sums::unknown(),
    };
    sums.total().bytes.saturating_add(cache.reserved())
}

/// The room on the disk. A partition that is gone is made again by the write, on the same disk mostly.
fn space(cache: &OpenCache) -> Option<(Space, Bounds)> {
    let mut dir = cache.objects.dir();
    let mut space = loop {
        match attachfs_durable::space(dir) {
            Ok(space) => break space,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => dir = dir.parent()?,
            Err(error) => {
                cache.health.failed(&error);
                return None;
            }
        }
    };
    space.available = space.available.saturating_sub(cache.to_come());
    Some((space, cache.objects.cache().limits().on(&space)))
}

/// Counts what came to each shelf.
fn add(sums: &mut Sums, fresh: &[Sum]) {
    for (shelf, &more) in (0..=u8::MAX).zip(fresh) {
        sums.add(shelf, more);
    }
}

struct Keeper<'a> {
    cache: &'a OpenCache,
    /// The shelf that is listed next.
    next_shelf: u8,
    patrolled: Instant,
    /// Whether it was said that nothing can be written.
    is_full: bool,
    /// When nothing more could be removed although room was needed.
    exhausted: Option<Instant>,
    /// Shelves on which something changed that is not counted as it comes.
    changed: Vec<u8>,
}

impl Keeper<'_> {
    /// Looks how full the cache is, and makes room if it has to.
    fn keep(&mut self) {
        self.cache.was_asked();
        if let Err(error) = self.try_keep() {
            tracing::debug!(dir = %self.cache.objects.dir().display(), error = &error as &dyn Error,
                "cannot look how full the disk cache is");
            look(self.cache);
        }
    }

    fn try_keep(&mut self) -> Result<(), DurableError> {
        let cache = self.cache;
        let Some(stock) = cache.objects.cache().stock()? else {
            look(cache);
            return Ok(());
        };
        // A disk that is quite full has no room for a lock: then there is none.
        let lock = stock.lock();
        if let Ok(None) = lock {
            // Another process makes room.
            look(cache);
            return Ok(());
        }
        let fresh = cache.take_fresh();
        let kept = self.keep_within_bounds(&stock, &fresh);
        if kept.is_err() {
            cache.put_fresh_back(&fresh);
        }
        kept
    }

    /// Evicts objects if the cache is over its bounds, and stores the sums of the shelves with `fresh` added.
    fn keep_within_bounds(&mut self, stock: &Stock, fresh: &[Sum]) -> Result<(), DurableError> {
        let cache = self.cache;
        let mut sums = self.known(stock, fresh)?;
        let Some((space, bounds)) = space(cache) else {
            return stock.set_sums(&sums);
        };
        let used = sums.total().bytes.saturating_add(cache.reserved());
        let room = bounds.room(used, &space);
        // What is there already may be used meanwhile.
        cache.set_room(room);
        let need = bounds.to_free(room);
        let mut evicted = eviction::Evicted::default();
        let is_exhausted = self.exhausted.is_some_and(|at| at.elapsed() < EXHAUSTED);
        if need > 0 && !is_exhausted {
            let stop = || {
                cache.step();
                cache.is_ending()
            };
            evicted = eviction::make_room(stock, need, self.next_shelf, &mut sums, &stop)?;
            self.exhausted = (evicted.bytes < need).then(Instant::now);
            self.next_shelf = self.next_shelf.wrapping_add(61);
            cache.counts.evicted.add(evicted.objects);
        }
        let room = room.saturating_add_unsigned(evicted.bytes);
        cache.set_room(room);
        // Somebody who allows it nothing knows that nothing is written.
        if bounds.max_bytes > 0 {
            self.tell(room);
        }
        stock.set_sums(&sums)
    }

    /// What is on the shelves: what is written down, what came since, and what it finds where that is not known.
    fn known(&mut self, stock: &Stock, fresh: &[Sum]) -> Result<Sums, DurableError> {
        let mut sums = stock.sums()?;
        add(&mut sums, fresh);
        let mut to_list: Vec<u8> = sums.missing().chain(self.changed.drain(..)).collect();
        to_list.sort_unstable();
        to_list.dedup();
        for shelf in to_list {
            if self.cache.is_ending() {
                break;
            }
            eviction::list(stock, shelf, &mut sums)?;
            self.cache.step();
        }
        if self.patrolled.elapsed() >= PATROL {
            self.patrolled = Instant::now();
            eviction::list(stock, self.next_shelf, &mut sums)?;
            self.next_shelf = self.next_shelf.wrapping_add(1);
        }
        Ok(sums)
    }

    /// Writes down what came.
    fn note(&self) {
        let noted = || -> Result<(), CacheDirError> {
            if let Some(stock) = self.cache.objects.cache().stock()?
                && let Some(_lock) = stock.lock()?
            {
                let mut sums = stock.sums()?;
                add(&mut sums, &self.cache.take_fresh());
                stock.set_sums(&sums)?;
            }
            Ok(())
        };
        if let Err(error) = noted() {
            tracing::debug!(
                error = &error as &dyn Error,
                "how full the disk cache is, is not written down"
            );
        }
    }

    fn tell(&mut self, room: i64) {
        let is_full = room <= 0;
        if is_full && !self.is_full {
            tracing::warn!(dir = %self.cache.objects.dir().display(),
                "the disk cache is full, or its disk is, and nothing in it can be removed; nothing more is written to it for now");
        }
        self.is_full = is_full;
    }
}
