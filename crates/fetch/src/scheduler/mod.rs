//! The scheduler: parts of objects that are in memory, fetches under way, and the one budget of bytes for both.
//!
//! ```text
//!     look_up --> Here      the bytes
//!             --> Coming    another read fetches them: wait
//!             --> a Lead    no read does: the caller has to find or fetch them, and all others wait for it
//! ```
//!
//! One look-up says which, so a part is fetched once however many want it, and it is looked for in memory once.
//! Consecutive parts that nobody has get one [`Lead`], which brings them with one request, and each lands as soon as
//! its own bytes are here. A lead that is dropped without an answer wakes the reads that wait for it; they look again, and
//! one of them leads. A fetch is a task that goes on as long as a read is interested in it and ends with the last read that
//! is; what has landed until then is kept.
//!
//! Bytes are taken from the budget before a request and stay taken as long as they are kept in memory. A fetch that
//! waits for room has kept parts forgotten: those first that a reader in order has passed, then the least recently
//! used, but not the last quarter: parts that came just now would be gone before their readers had them all.

mod flight;
mod kept;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use attachfs_manifest::{ContentHash, Piece};
use parking_lot::Mutex;

use crate::budget::SharedPriority;
use crate::landed::Landed;
use crate::{ByteBudget, FetchError, HeldBytes, Priority};

use flight::{Flight, Flights};
pub(crate) use flight::{Interest, Lead, Waiting};
use kept::KeptParts;

/// How many locks the parts share.
const SHARDS: usize = 16;

/// Consecutive units that share a lock: a read takes one or two.
const NEIGHBOURS: u64 = 64;

/// So many consecutive units may land in one buffer, and are forgotten together.
pub(crate) const TOGETHER: u64 = 8;

/// Names a part of an object: a whole small one, or a unit of a large one. The object's length is part of the name: two
/// manifests that disagree about it never share bytes, and the store has to say which of them is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PartKey {
    pub(crate) hash: ContentHash,
    pub(crate) object_len: u64,
    pub(crate) part: Part,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Whole,
    /// Units of different generations come from different versions of the object.
    Unit {
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

    pub(crate) fn unit(piece: &Piece, generation: u32, index: u64) -> Self {
        Self {
            hash: piece.hash,
            object_len: piece.object_len,
            part: Part::Unit { generation, index },
        }
    }

    /// The name of the parts that are forgotten together with this one: of the first unit that it may have landed with.
    fn together(&self) -> Self {
        let part = match self.part {
            Part::Whole => Part::Whole,
            Part::Unit { generation, index } => Part::Unit {
                generation,
                index: index / TOGETHER * TOGETHER,
            },
        };
        Self { part, ..*self }
    }

    fn shard(&self) -> usize {
        let unit = match self.part {
            Part::Whole => 0,
            Part::Unit { index, .. } => (index / NEIGHBOURS) as usize,
        };
        (usize::from(self.hash.as_bytes()[0]) + unit) % SHARDS
    }
}

/// The result of a look-up of some parts.
#[derive(Debug, Default)]
pub(crate) struct Lookup {
    /// Each part that was looked up, in that order.
    pub(crate) parts: Vec<FoundPart>,
    /// The parts among them that the caller has to fetch: one lead for each run of consecutive ones.
    pub(crate) leads: Vec<Lead>,
}

#[derive(Debug)]
pub(crate) enum FoundPart {
    Here(Landed),
    Coming(Waiting),
}

/// The bytes of a part, and the part of the budget that they take. Bytes without are given to the reads that wait, and not kept.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) bytes: Landed,
    pub(crate) held: Option<HeldBytes>,
}

#[derive(Debug, Default)]
struct Shard {
    kept: KeptParts,
    flights: Flights,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Scheduler {
    /// Each is locked for single look-ups and changes. The budget's lock may be taken under it.
    shards: [Mutex<Shard>; SHARDS],
    /// Counts uses of what is kept.
    uses: AtomicU64,
    /// Bytes that are kept.
    kept: AtomicU64,
    /// How many of these stay although a fetch waits for room.
    always_kept: u64,
    budget: ByteBudget,
}

impl Scheduler {
    pub(crate) fn new(bytes: u64) -> Arc<Self> {
        let budget = ByteBudget::new(bytes);
        Arc::new(Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            uses: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            always_kept: budget.total() / 4,
            budget,
        })
    }

    /// Looks for parts in memory and among the fetches under way. The caller becomes the lead of those that are nowhere.
    pub(crate) fn look_up(
        self: &Arc<Self>,
        keys: impl IntoIterator<Item = PartKey>,
        priority: Priority,
    ) -> Lookup {
        let mut found = Lookup::default();
        let mut lead = None;
        for key in keys {
            let used = self.uses.fetch_add(1, Ordering::Relaxed) + 1;
            let mut shard = self.shards[key.shard()].lock();
            let Shard { kept, flights } = &mut *shard;
            let there = match kept.get(&key, used) {
                Some(bytes) => Some(FoundPart::Here(bytes)),
                None => flights.join(&key, priority).map(FoundPart::Coming),
            };
            found.parts.push(match there {
                Some(there) => {
                    found.leads.extend(lead.take());
                    there
                }
                None => {
                    let lead = lead.get_or_insert_with(|| Lead::new(self, priority));
                    FoundPart::Coming(flights.begin(key, lead))
                }
            });
        }
        found.leads.extend(lead);
        found
    }

    /// A part that is in memory. This is no use of it.
    pub(crate) fn kept(&self, key: &PartKey) -> Option<Landed> {
        self.shards[key.shard()].lock().kept.peek(key)
    }

    /// Marks parts as those to forget first when room is needed: a reader in order has passed them.
    pub(crate) fn forget_first(&self, keys: impl IntoIterator<Item = PartKey>) {
        for key in keys {
            self.shards[key.shard()].lock().kept.forget_first(&key);
        }
    }

    /// Waits for room for bytes that are about to be fetched; has kept parts forgotten to make it.
    pub(crate) async fn room(&self, bytes: u64, priority: &SharedPriority) -> HeldBytes {
        let queued = self
            .budget
            .queue(bytes.min(self.budget.total() - self.always_kept), priority);
        self.relieve();
        queued.granted().await
    }

    /// Room for bytes, if there is some that is free or can be made by forgetting kept parts.
    pub(crate) fn room_now(&self, bytes: u64) -> Option<HeldBytes> {
        loop {
            match self.budget.try_take(bytes) {
                Some(held) => return Some(held),
                None if self.budget.is_short() || !self.forget_one() => return None,
                None => {}
            }
        }
    }

    /// How many fetches wait for room.
    pub(crate) fn waiting_for_room(&self) -> u64 {
        self.budget.now().1
    }

    /// Forgets kept parts as long as a fetch waits for room.
    fn relieve(&self) {
        while self.budget.is_short()
            && self.kept.load(Ordering::Relaxed) > self.always_kept
            && self.forget_one()
        {}
    }

    /// Forgets the least recently used part, and what landed with it. `false` if nothing is kept.
    fn forget_one(&self) -> bool {
        let age = |at: &usize| self.shards[*at].lock().kept.oldest_use();
        let ages = (0..SHARDS).filter_map(|at| Some((age(&at)?, at)));
        let Some((_, oldest)) = ages.min() else {
            return false;
        };
        let forgotten = self.shards[oldest].lock().kept.forget_oldest();
        if let Some(forgotten) = &forgotten {
            self.kept.fetch_sub(forgotten.held(), Ordering::Relaxed);
        }
        // Not under the lock: giving the bytes back wakes fetches that wait for room.
        drop(forgotten);
        true
    }

    /// Forgets kept parts until so many bytes of them are left.
    pub(crate) fn forget_to(&self, bytes: u64) {
        while self.kept.load(Ordering::Relaxed) > bytes && self.forget_one() {}
    }

    /// Ends the fetch of a part, keeps its bytes, and gives them to all reads that wait for it.
    fn land(&self, key: &PartKey, flight: &Flight, outcome: Option<Result<Fetched, FetchError>>) {
        let mut kept = false;
        let told = {
            let used = self.uses.fetch_add(1, Ordering::Relaxed) + 1;
            let mut shard = self.shards[key.shard()].lock();
            shard.flights.end(key);
            outcome.map(|fetched| {
                let Fetched { bytes, held } = fetched?;
                if let Some(held) = held {
                    self.kept.fetch_add(held.bytes(), Ordering::Relaxed);
                    shard.kept.insert(*key, bytes.clone(), held, used);
                    kept = true;
                }
                Ok(bytes)
            })
        };
        flight.tell(told);
        if kept {
            self.relieve();
        }
    }

    /// How often something was looked for or landed.
    #[cfg(test)]
    pub(crate) fn uses(&self) -> u64 {
        self.uses.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.shards
            .iter()
            .map(|shard| shard.lock().kept.bytes())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn landed(bytes: &[u8]) -> Landed {
        bytes::Bytes::copy_from_slice(bytes).into()
    }

    fn key(number: u8) -> PartKey {
        PartKey {
            hash: ContentHash::from_bytes([number; 16]),
            object_len: 100,
            part: Part::Whole,
        }
    }

    fn lead(scheduler: &Arc<Scheduler>, number: u8) -> Lead {
        let mut found = scheduler.look_up([key(number)], Priority::Read);
        found.leads.pop().expect("it is nowhere yet")
    }

    fn is_here(scheduler: &Arc<Scheduler>, number: u8) -> bool {
        let found = scheduler.look_up([key(number)], Priority::Read);
        matches!(found.parts[..], [FoundPart::Here(_)])
    }

    /// Has a part of 100 bytes kept.
    fn keep(scheduler: &Arc<Scheduler>, number: u8) {
        let held = scheduler.room_now(100);
        lead(scheduler, number).land(Fetched {
            bytes: landed(&[number; 100]),
            held,
        });
    }

    #[test]
    fn what_was_used_last_is_kept_longest_whichever_lock_it_is_under() {
        let scheduler = Scheduler::new(3 * 1024);
        (0..3).for_each(|number| keep(&scheduler, number));
        assert!(is_here(&scheduler, 0));
        keep(&scheduler, 3);
        let kept: Vec<u8> = (0..4)
            .filter(|&number| is_here(&scheduler, number))
            .collect();
        assert_eq!(kept, [0, 2, 3]);
    }

    #[test]
    fn what_there_is_no_room_to_keep_is_given_out_all_the_same() {
        let scheduler = Scheduler::new(1024);
        let _under_way = scheduler.room_now(100);
        let mut leading = lead(&scheduler, 1);
        let joined = scheduler.look_up([key(1)], Priority::Read);
        let [FoundPart::Coming(waiting)] = &joined.parts[..] else {
            panic!("one leads");
        };
        let (bytes, held) = (landed(&[7]), scheduler.room_now(100));
        assert!(held.is_none());
        leading.land(Fetched { bytes, held });
        let told = futures::FutureExt::now_or_never(waiting.ended());
        assert_eq!(told.unwrap().unwrap().unwrap().as_ref(), [7]);
        assert!(!is_here(&scheduler, 1));
    }

    #[tokio::test]
    async fn who_waits_for_room_has_kept_parts_forgotten_but_for_a_quarter() {
        let scheduler = Scheduler::new(4 * 1024);
        (0..4).for_each(|number| keep(&scheduler, number));
        let priority = SharedPriority::new(Priority::Read);
        let under_way = scheduler.room(100_000, &priority).await;
        assert_eq!((scheduler.kept_bytes(), under_way.bytes()), (100, 3 * 1024));
        assert!(is_here(&scheduler, 3));
        // What comes now takes the place of what was kept.
        let mut next = std::pin::pin!(scheduler.room(100, &priority));
        assert!(futures::poll!(&mut next).is_pending());
        lead(&scheduler, 9).land(Fetched {
            bytes: landed(&[9; 300]),
            held: Some(under_way),
        });
        let _room = next.await;
        assert!(!is_here(&scheduler, 3) && is_here(&scheduler, 9));
    }

    fn unit(index: u64) -> PartKey {
        let part = Part::Unit {
            generation: 0,
            index,
        };
        PartKey { part, ..key(1) }
    }

    #[test]
    fn parts_that_nobody_has_get_one_lead_for_each_gap() {
        let scheduler = Scheduler::new(1 << 20);
        let middle = scheduler.look_up([unit(2)], Priority::ReadAhead);
        let found = scheduler.look_up((0..5).map(unit), Priority::Read);
        let leads: Vec<_> = found
            .leads
            .iter()
            .map(|lead| (lead.next().unwrap(), lead.left()))
            .collect();
        assert_eq!(leads, [(unit(0), 2), (unit(3), 2)]);
        drop(middle);
        drop(found);
        let again = scheduler.look_up((0..5).map(unit), Priority::Read);
        assert_eq!(again.leads[0].left(), 5, "all was given up");
    }

    #[test]
    fn units_that_landed_together_are_forgotten_together_and_not_before_all_were_passed() {
        let scheduler = Scheduler::new(2 * TOGETHER * 1024);
        let keep = |index| {
            let mut found = scheduler.look_up([unit(index)], Priority::Read);
            let lead = found.leads.pop();
            lead.expect("it is nowhere yet").land(Fetched {
                bytes: landed(&[1; 100]),
                held: scheduler.room_now(100),
            });
        };
        let is_here = |index| {
            let found = scheduler.look_up([unit(index)], Priority::Read);
            matches!(found.parts[..], [FoundPart::Here(_)])
        };
        let [first, second] = [0..TOGETHER, TOGETHER..2 * TOGETHER];
        first.clone().chain(second.clone()).for_each(keep);
        let (passed, left) = (TOGETHER..TOGETHER + 3, TOGETHER + 3..2 * TOGETHER);
        scheduler.forget_first(passed.map(unit));
        // There is room for what comes next where the oldest was.
        keep(100);
        assert!(!first.clone().any(is_here) && second.clone().all(is_here));
        (101..100 + TOGETHER).for_each(keep);
        scheduler.forget_first(left.map(unit));
        keep(200);
        assert!(!second.clone().any(is_here) && is_here(100));
    }

    #[test]
    fn what_was_passed_is_forgotten_before_what_was_not_read() {
        let scheduler = Scheduler::new(3 * 1024);
        (0..3).for_each(|number| keep(&scheduler, number));
        assert!(is_here(&scheduler, 1));
        scheduler.forget_first([key(1)]);
        keep(&scheduler, 3);
        let kept: Vec<u8> = (0..4)
            .filter(|&number| is_here(&scheduler, number))
            .collect();
        assert_eq!(kept, [0, 2, 3]);
    }
}
