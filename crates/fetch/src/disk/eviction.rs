//! Which objects make room for others.
//!
//! There is no list of all objects in the order of their use. A file's modification time says when it was used last,
//! and the shelves are fair samples of the cache: so shelves are listed, in turn, until some thousands of objects are
//! seen, and the oldest eighth of those is removed, until there is room. Of a small cache that is everything, and
//! exactly the oldest objects go; of a million objects it costs eight looks at a file to remove one, whatever the
//! size of the cache, and removes what is older than seven of eight objects.

use attachfs_durable::{DurableError, HashBytes, Removal, SHELVES, Stock, Stored, Sum, Sums};

/// How many objects a sample has.
const SAMPLE: usize = 4096;
/// The part of a sample that is removed.
const PART: usize = 8;

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Evicted {
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
}

/// Removes objects until `need` bytes are free: those that were used longest ago, none that is pinned or open. Notes
/// what is on the shelves that it lists, beginning with `first`. Ends early when it is told to stop. Blocks.
pub(crate) fn make_room(
    stock: &Stock,
    need: u64,
    first: u8,
    sums: &mut Sums,
    stop: &dyn Fn() -> bool,
) -> Result<Evicted, DurableError> {
    make_room_by(SAMPLE, stock, need, first, sums, stop)
}

fn make_room_by(
    sample: usize,
    stock: &Stock,
    need: u64,
    first: u8,
    sums: &mut Sums,
    stop: &dyn Fn() -> bool,
) -> Result<Evicted, DurableError> {
    let mut eviction = Eviction {
        sample,
        stock,
        need,
        pinned: stock.pinned()?,
        stop,
        sums,
        evicted: Evicted::default(),
    };
    loop {
        let before = eviction.evicted;
        eviction.go_round(first)?;
        if eviction.is_over() || eviction.evicted == before {
            return Ok(eviction.evicted);
        }
    }
}

struct Eviction<'a, P> {
    /// Objects that are looked at before any is removed.
    sample: usize,
    stock: &'a Stock,
    need: u64,
    pinned: P,
    stop: &'a dyn Fn() -> bool,
    sums: &'a mut Sums,
    evicted: Evicted,
}

impl<P: Fn(HashBytes, &HashBytes) -> bool> Eviction<'_, P> {
    fn is_over(&self) -> bool {
        self.evicted.bytes >= self.need || (self.stop)()
    }

    /// Takes a part of each sample, until there is room.
    fn go_round(&mut self, first: u8) -> Result<(), DurableError> {
        let mut shelves = (0..SHELVES).map(|turn| first.wrapping_add(turn as u8));
        while !self.is_over() {
            let (pool, is_everything) = self.look(&mut shelves)?;
            if pool.is_empty() {
                break;
            }
            let most = if is_everything {
                pool.len()
            } else {
                (pool.len() / PART).max(1)
            };
            self.remove(in_order_of_use(pool).into_iter().take(most))?;
        }
        Ok(())
    }

    /// Lists shelves until there are enough objects, and says whether it listed all there are.
    fn look(
        &mut self,
        shelves: &mut impl Iterator<Item = u8>,
    ) -> Result<(Vec<Stored>, bool), DurableError> {
        let mut pool = Vec::new();
        let mut listed = 0;
        while pool.len() < self.sample
            && let Some(shelf) = shelves.next()
        {
            pool.extend(list(self.stock, shelf, self.sums)?);
            listed += 1;
        }
        Ok((pool, listed == SHELVES))
    }

    fn remove(&mut self, oldest: impl Iterator<Item = Stored>) -> Result<(), DurableError> {
        for stored in oldest {
            if self.is_over() {
                break;
            }
            if stored.is_pinned(&self.pinned) || self.stock.remove(&stored)? == Removal::InUse {
                continue;
            }
            self.evicted.objects += 1;
            self.evicted.bytes += stored.bytes;
            let shelf = stored.object[0];
            if let Some(sum) = self.sums.of(shelf) {
                let left = Sum {
                    bytes: sum.bytes.saturating_sub(stored.bytes),
                    objects: sum.objects.saturating_sub(1),
                };
                self.sums.set(shelf, left);
            }
        }
        Ok(())
    }
}

/// What is on a shelf, which is noted.
pub(crate) fn list(stock: &Stock, shelf: u8, sums: &mut Sums) -> Result<Vec<Stored>, DurableError> {
    let (all, _) = stock.shelf(shelf)?;
    let sum = Sum {
        bytes: all.iter().map(|stored| stored.bytes).sum(),
        objects: all.len() as u64,
    };
    sums.set(shelf, sum);
    Ok(all)
}

/// What was used longest ago comes first.
pub(crate) fn in_order_of_use(mut pool: Vec<Stored>) -> Vec<Stored> {
    pool.sort_unstable_by_key(|stored| (stored.used, stored.nanos, stored.object));
    pool
}

#[cfg(test)]
mod tests {
    use attachfs_durable::{CacheDir, ObjectFiles, Pin, set_modified};

    use super::*;

    /// Objects of one block each, the first one used last.
    fn filled(count: u64) -> (tempfile::TempDir, ObjectFiles) {
        let temp = tempfile::tempdir().unwrap();
        let cache = CacheDir::new(temp.path().join("cache"));
        let objects = cache.objects([1; 16]).unwrap();
        let mut writer = objects.writer();
        for number in 0..count {
            writer.write(name(number), &[1; 4096]).unwrap();
            let (file, _) = objects.open(name(number)).unwrap();
            set_modified(&file, 1_000_000 - number as i64, 0).unwrap();
        }
        (temp, objects)
    }

    /// As random as a hash.
    fn name(number: u64) -> HashBytes {
        *attachfs_manifest::ContentHash::of(&number.to_le_bytes()).as_bytes()
    }

    fn left(objects: &ObjectFiles, count: u64) -> Vec<u64> {
        (0..count)
            .filter(|&number| objects.find(name(number), 4096).is_some())
            .collect()
    }

    fn make(objects: &ObjectFiles, need: u64) -> (Evicted, Sums) {
        let stock = objects.cache().stock().unwrap().unwrap();
        let mut sums = Sums::unknown();
        let evicted = make_room(&stock, need, 77, &mut sums, &|| false).unwrap();
        (evicted, sums)
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let (_temp, objects) = filled(40);
        let (evicted, sums) = make(&objects, 10 * 4096);
        assert_eq!((evicted.objects, evicted.bytes), (10, 10 * 4096));
        assert_eq!(left(&objects, 40), (0..30).collect::<Vec<_>>());
        assert_eq!(sums.missing().count(), 0);
        assert_eq!(sums.total().objects, 30);
    }

    #[test]
    fn what_is_pinned_or_open_stays_and_the_next_goes() {
        let (_temp, objects) = filled(10);
        let stock = objects.cache().stock().unwrap().unwrap();
        let pin = Pin {
            name: [1; 16],
            about: String::new(),
            partition: [1; 16],
            objects: vec![name(9)],
        };
        stock.pins().pin(&pin).unwrap();
        let (open, _) = objects.open(name(8)).unwrap();
        open.try_lock_shared().unwrap();
        let (evicted, _) = make(&objects, 2 * 4096);
        assert_eq!(evicted.objects, 2);
        assert_eq!(left(&objects, 10), [0, 1, 2, 3, 4, 5, 8, 9]);
        // It ends although there is nothing more to remove.
        make(&objects, 1 << 30);
        assert_eq!(left(&objects, 10), [8, 9]);
    }

    #[test]
    fn of_many_objects_a_sample_is_looked_at_and_old_ones_go() {
        let count = 1200;
        let (_temp, objects) = filled(count);
        let stock = objects.cache().stock().unwrap().unwrap();
        let mut sums = Sums::unknown();
        let evicted = make_room_by(400, &stock, 30 * 4096, 77, &mut sums, &|| false);
        assert_eq!(evicted.unwrap().objects, 30);
        let unlisted = sums.missing().count();
        assert!(unlisted > SHELVES / 2, "most of it is not listed");
        let old = count - count / 5;
        let young = left(&objects, old).len() as u64;
        assert_eq!(young, old, "what is younger than four of five stays");
    }
}
