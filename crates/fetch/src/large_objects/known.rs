//! What is known about each large object: which version its units are of, and whether all of that version has the object's
//! hash.
//!
//! ```text
//!     Passing    units are given out as they come, and hashed on their way as soon as all before them were
//!        |          all hashed: Verified, or Wrong
//!        |          the store has another version: its units are given out only once all of it was hashed
//!     Verified   what the store gives with the same version is right
//!     Wrong      nothing is given out; the store is asked from time to time whether it has another version now
//! ```
//!
//! Each change of the version, and the verdict that it is wrong, begins a new *generation*: units of earlier ones are not
//! found any more.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use attachfs_manifest::{ContentHash, Hasher, Piece};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::unit_set::UnitSet;
use crate::disk::VersionId;
use crate::landed::Landed;

/// How long a wrong object is not asked for again.
const WRONG_FOR: Duration = Duration::from_secs(30);

/// All large objects that were read. Grows with their number; held for single look-ups, with no other lock.
#[derive(Debug)]
pub(crate) struct KnownObjects {
    all: Mutex<HashMap<(ContentHash, u64), Arc<KnownObject>>>,
    unit_len: u64,
    /// Whether nothing of an object is given out before all of it was verified.
    verifies_first: bool,
    /// Whether any object was found wrong so far.
    has_wrong: AtomicBool,
}

/// What is known about one large object.
#[derive(Debug)]
pub(crate) struct KnownObject {
    hash: ContentHash,
    len: u64,
    units: u64,
    /// Held for single changes, with no other lock.
    state: Mutex<State>,
    /// A thread has stopped hashing units.
    pub(super) settled: Notify,
    /// Held by the task that reads all of the object to verify it.
    pub(super) verifying: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    /// The version that was seen last, in the store or on the disk.
    version: Option<VersionId>,
    generation: u32,
    trust: Trust,
    verifies_first: bool,
    /// Bytes of this generation were given out before they were verified.
    was_given: bool,
}

#[derive(Debug)]
enum Trust {
    Passing(Passing),
    Verified,
    Wrong {
        found: ContentHash,
        /// When the store was asked last.
        asked: Instant,
    },
}

/// The hashing of an object whose units land in any order.
#[derive(Debug)]
struct Passing {
    /// `None` while a thread hashes.
    hasher: Option<Box<Hasher>>,
    /// The unit that is hashed next.
    next: u64,
    landed: UnitSet,
    /// Units that have not landed yet.
    left: u64,
    /// Units that a reader in order has passed, and that are still to be hashed.
    passed: BTreeSet<u64>,
    /// All units have landed, but some were forgotten before they could be hashed: they are being read again.
    is_read_again: bool,
}

/// Whether bytes of an object may be given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Serving {
    Now,
    /// All of it has landed and is being hashed.
    InAMoment,
    /// Once all of it was verified.
    AfterVerifying,
    /// It is wrong: the store has bytes with this hash.
    Never(ContentHash),
}

/// How far an object is verified, and so what the next step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// This generation's unit is to be hashed next.
    Next(u32, u64),
    /// A thread hashes.
    Hashing,
    Verified,
    Wrong(ContentHash),
}

/// What came of hashing some units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hashed {
    /// There are more.
    Some,
    /// All units have landed, but those that are next are not in memory any more. Told once in a generation.
    Forgotten,
    /// All were hashed, and are right.
    Verified,
    /// All were hashed, and have this hash.
    Wrong(ContentHash),
}

/// An object of which another version was found just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FoundReplaced {
    /// Whether bytes of it were given out that were not verified.
    pub(super) was_given: bool,
}

/// An object that was found wrong just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FoundWrong {
    /// Whether bytes of it were given out before that.
    pub(crate) was_given: bool,
}

impl KnownObjects {
    pub(crate) fn new(unit_len: u64, verifies_first: bool) -> Self {
        Self {
            all: Mutex::default(),
            unit_len,
            verifies_first,
            has_wrong: AtomicBool::new(false),
        }
    }

    /// The object that a piece is of.
    pub(crate) fn of(&self, piece: &Piece) -> Arc<KnownObject> {
        self.get(piece.hash, piece.object_len)
    }

    pub(crate) fn get(&self, hash: ContentHash, len: u64) -> Arc<KnownObject> {
        let mut all = self.all.lock();
        let known = all.entry((hash, len)).or_insert_with(|| {
            let units = len.div_ceil(self.unit_len);
            Arc::new(KnownObject::new(hash, len, units, self.verifies_first))
        });
        Arc::clone(known)
    }

    /// Notes that an object is wrong. `None` if that is known.
    pub(crate) fn found_wrong(
        &self,
        hash: ContentHash,
        len: u64,
        found: ContentHash,
    ) -> Option<FoundWrong> {
        self.has_wrong.store(true, Ordering::Relaxed);
        self.get(hash, len).found_wrong(found)
    }

    /// Whether any object was found wrong so far.
    pub(crate) fn has_wrong(&self) -> bool {
        self.has_wrong.load(Ordering::Relaxed)
    }

    /// Whether bytes of the piece's object were given out that nobody has verified so far.
    pub(crate) fn gave_unverified(&self, piece: &Piece) -> bool {
        let known = self
            .all
            .lock()
            .get(&(piece.hash, piece.object_len))
            .cloned();
        known.is_some_and(|known| known.gave_unverified())
    }

    /// The hash of what the store has in a wrong object's place, if it is not time yet to ask again.
    pub(crate) fn refused(&self, piece: &Piece) -> Option<ContentHash> {
        let all = self.all.lock();
        let known = all.get(&(piece.hash, piece.object_len))?.clone();
        drop(all);
        known.refused()
    }
}

impl KnownObject {
    fn new(hash: ContentHash, len: u64, units: u64, verifies_first: bool) -> Self {
        Self {
            hash,
            len,
            units,
            state: Mutex::new(State {
                version: None,
                generation: 0,
                trust: Trust::passing(units),
                verifies_first,
                was_given: false,
            }),
            settled: Notify::new(),
            verifying: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn hash(&self) -> ContentHash {
        self.hash
    }

    /// The object's length.
    pub(crate) fn size(&self) -> u64 {
        self.len
    }

    /// Of the object's units that are right now.
    pub(super) fn generation(&self) -> u32 {
        self.state.lock().generation
    }

    /// Notes that a reader in order has passed units. Gives the generation and those of them that are hashed; the others are
    /// given by [`take_passed`](Self::take_passed) when they are.
    pub(super) fn passed(&self, units: Range<u64>) -> (u32, Range<u64>) {
        let mut state = self.state.lock();
        let mut hashed = units.clone();
        if let Trust::Passing(passing) = &mut state.trust {
            hashed.end = units.end.min(passing.next);
            passing
                .passed
                .extend(units.start.max(passing.next)..units.end);
        }
        (state.generation, hashed)
    }

    /// The units that were passed before they were hashed, and are hashed now; of this generation.
    pub(super) fn take_passed(&self, generation: u32) -> BTreeSet<u64> {
        let mut state = self.state.lock();
        let is_now = state.generation == generation;
        match &mut state.trust {
            Trust::Passing(passing) if is_now => {
                let to_hash = passing.passed.split_off(&passing.next);
                std::mem::replace(&mut passing.passed, to_hash)
            }
            Trust::Passing(_) | Trust::Verified | Trust::Wrong { .. } => BTreeSet::new(),
        }
    }

    /// Whether units may be given out, and of which generation.
    pub(super) fn serving(&self) -> (u32, Serving) {
        let state = self.state.lock();
        (state.generation, state.serving())
    }

    /// Whether a part of it is of use before all of it was verified.
    pub(crate) fn serves_parts(&self) -> bool {
        self.serving().1 == Serving::Now
    }

    /// Notes that units are given to programs, if they may be and are not verified.
    pub(crate) fn note_given(&self) {
        let mut state = self.state.lock();
        state.was_given |=
            state.serving() == Serving::Now && !matches!(state.trust, Trust::Verified);
    }

    fn gave_unverified(&self) -> bool {
        let state = self.state.lock();
        state.was_given && !matches!(state.trust, Trust::Verified)
    }

    /// Waits for the thread that hashes the last units.
    pub(super) async fn decided(&self) {
        loop {
            let settled = self.settled.notified();
            if self.state.lock().serving() != Serving::InAMoment {
                return;
            }
            settled.await;
        }
    }

    /// Takes note of the version that the store gives. If it replaces another one, a new generation begins, of which
    /// nothing is given out before it was verified; then this says whether unverified bytes were given out before.
    pub(super) fn saw(&self, version: VersionId) -> Option<FoundReplaced> {
        let mut state = self.state.lock();
        let before = state.version.replace(version);
        before.filter(|&before| before != version)?;
        let was_given = state.was_given;
        if !matches!(state.trust, Trust::Wrong { .. }) {
            state.begin_anew(self.units);
        }
        Some(FoundReplaced { was_given })
    }

    /// Takes note of a version that is on the disk, unless another one was seen. Says whether this is the one.
    pub(super) fn is_now(&self, version: VersionId) -> bool {
        *self.state.lock().version.get_or_insert(version) == version
    }

    /// Takes note that all of this version is on the disk and right; `false` if another version was seen.
    pub(super) fn is_right_on_disk(&self, version: VersionId) -> bool {
        let mut state = self.state.lock();
        let is_now = *state.version.get_or_insert(version) == version;
        if is_now && let Trust::Passing(_) = state.trust {
            state.trust = Trust::Verified;
            drop(state);
            self.settled.notify_waiters();
        }
        is_now
    }

    /// Notes that what the store has is wrong. `None` if that is known.
    fn found_wrong(&self, found: ContentHash) -> Option<FoundWrong> {
        let told = self.state.lock().found_wrong(found);
        self.settled.notify_waiters();
        told
    }

    fn refused(&self) -> Option<ContentHash> {
        match self.state.lock().trust {
            Trust::Wrong { found, asked } if asked.elapsed() < WRONG_FOR => Some(found),
            Trust::Wrong { .. } | Trust::Passing(_) | Trust::Verified => None,
        }
    }

    /// Whether it is time to ask the store for another version than the wrong one. Notes that it is asked.
    pub(super) fn is_to_be_asked_for(&self) -> bool {
        match &mut self.state.lock().trust {
            Trust::Wrong { asked, .. } if asked.elapsed() >= WRONG_FOR => {
                *asked = Instant::now();
                true
            }
            Trust::Wrong { .. } | Trust::Passing(_) | Trust::Verified => false,
        }
    }

    /// Begins anew if the store has another version than the wrong one, or does not tell versions apart.
    pub(super) fn may_be_mended(&self, version: Option<VersionId>) -> bool {
        let mut state = self.state.lock();
        let is_wrong = matches!(state.trust, Trust::Wrong { .. });
        let is_other = version.is_none() || version != state.version;
        if is_wrong && is_other {
            state.version = version;
            state.begin_anew(self.units);
        }
        is_wrong && is_other
    }

    /// How far it is verified.
    pub(super) fn stage(&self) -> Stage {
        let state = self.state.lock();
        match &state.trust {
            Trust::Passing(passing) if passing.hasher.is_none() => Stage::Hashing,
            Trust::Passing(passing) => Stage::Next(state.generation, passing.next),
            Trust::Verified => Stage::Verified,
            Trust::Wrong { found, .. } => Stage::Wrong(*found),
        }
    }

    /// Notes that units have landed. The caller hashes what it can afterwards.
    pub(super) fn landed(&self, generation: u32, units: Range<u64>) {
        let mut state = self.state.lock();
        if state.generation == generation
            && let Trust::Passing(passing) = &mut state.trust
        {
            let new = units.filter(|&unit| passing.landed.insert(unit)).count();
            passing.left -= new as u64;
        }
    }

    /// Hashes units from the next one on, as long as `find` has them, unless another thread does so.
    pub(super) fn hash_units(
        &self,
        generation: u32,
        mut find: impl FnMut(u64) -> Option<Landed>,
    ) -> Hashed {
        let Some((mut hasher, mut at, mut had_landed)) = self.state.lock().take_hasher(generation)
        else {
            return Hashed::Some;
        };
        loop {
            let before = at;
            while at < self.units
                && let Some(unit) = find(at)
            {
                hasher.update(unit.as_ref());
                at += 1;
            }
            let found = (at == self.units).then(|| hasher.finish());
            let mut state = self.state.lock();
            let is_now = state.generation == generation;
            let passing = match &mut state.trust {
                Trust::Passing(passing) if is_now => passing,
                // It was decided or replaced meanwhile; who waits for this thread looks again.
                Trust::Passing(_) | Trust::Verified | Trust::Wrong { .. } => {
                    drop(state);
                    self.settled.notify_waiters();
                    return Hashed::Some;
                }
            };
            passing.next = at;
            // What has landed since it was looked for is left to this thread.
            let may_be_found = at > before || !had_landed;
            if found.is_none() && may_be_found && passing.landed.has(at) {
                had_landed = true;
                continue;
            }
            let hashed = match found {
                None => {
                    passing.hasher = Some(hasher);
                    let is_forgotten = passing.left == 0 && !passing.is_read_again;
                    passing.is_read_again |= is_forgotten;
                    if is_forgotten {
                        Hashed::Forgotten
                    } else {
                        Hashed::Some
                    }
                }
                Some(found) if found == self.hash => {
                    state.trust = Trust::Verified;
                    Hashed::Verified
                }
                Some(found) => Hashed::Wrong(found),
            };
            drop(state);
            self.settled.notify_waiters();
            return hashed;
        }
    }
}

impl Trust {
    fn passing(units: u64) -> Self {
        Self::Passing(Passing {
            hasher: Some(Box::default()),
            next: 0,
            landed: UnitSet::new(units),
            left: units,
            passed: BTreeSet::new(),
            is_read_again: false,
        })
    }
}

impl State {
    fn serving(&self) -> Serving {
        match &self.trust {
            Trust::Wrong { found, .. } => Serving::Never(*found),
            Trust::Passing(_) if self.verifies_first => Serving::AfterVerifying,
            Trust::Passing(passing) if passing.left == 0 && passing.hasher.is_none() => {
                Serving::InAMoment
            }
            Trust::Verified | Trust::Passing(_) => Serving::Now,
        }
    }

    fn begin_anew(&mut self, units: u64) {
        self.generation += 1;
        self.trust = Trust::passing(units);
        self.verifies_first = true;
    }

    /// The hasher, the unit that comes next, and whether that has landed.
    fn take_hasher(&mut self, generation: u32) -> Option<(Box<Hasher>, u64, bool)> {
        match &mut self.trust {
            Trust::Passing(passing) if self.generation == generation => {
                let (hasher, next) = (passing.hasher.take()?, passing.next);
                Some((hasher, next, passing.landed.has(next)))
            }
            Trust::Passing(_) | Trust::Verified | Trust::Wrong { .. } => None,
        }
    }

    fn found_wrong(&mut self, found: ContentHash) -> Option<FoundWrong> {
        if let Trust::Wrong { .. } = self.trust {
            return None;
        }
        let asked = Instant::now();
        self.trust = Trust::Wrong { found, asked };
        self.generation += 1;
        let was_given = std::mem::take(&mut self.was_given);
        Some(FoundWrong { was_given })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use bytes::Bytes;

    use super::*;

    /// Another thread leaves it to the one that hashes.
    #[test]
    fn a_unit_that_lands_while_it_is_looked_for_is_looked_for_again() {
        let object = [0, 1, 2];
        let known = KnownObject::new(ContentHash::of(&object), 3, 3, false);
        let mut has_landed = false;
        let hashed = known.hash_units(0, |unit| {
            if !has_landed {
                known.landed(0, 0..3);
                has_landed = true;
                return None;
            }
            Some(Landed::from(Bytes::from(vec![unit as u8])))
        });
        assert!(matches!(hashed, Hashed::Verified), "{hashed:?}");
    }

    /// Whatever order units land in on several threads, all are hashed, once, and in order.
    #[test]
    fn units_that_land_on_several_threads_are_hashed_in_order() {
        const UNITS: u64 = 64;
        for round in 0..200_u64 {
            let object: Vec<u8> = (0..UNITS).map(|unit| unit as u8).collect();
            let hash = ContentHash::of(&object);
            let known = KnownObject::new(hash, UNITS, UNITS, false);
            let memory: Mutex<HashMap<u64, Landed>> = Mutex::default();
            let verified = AtomicU32::new(0);
            let count = |hashed: Hashed| match hashed {
                Hashed::Verified => {
                    verified.fetch_add(1, Ordering::Relaxed);
                }
                Hashed::Some => {}
                other => panic!("{other:?}"),
            };
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let (known, memory, count) = (&known, &memory, &count);
                    scope.spawn(move || {
                        for turn in 0..UNITS / 4 {
                            let unit = ((turn * (2 * round + 1)) % (UNITS / 4)) * 4 + thread;
                            let bytes = Landed::from(Bytes::from(vec![unit as u8]));
                            let own = |wanted| (wanted == unit).then(|| bytes.clone());
                            count(known.hash_units(0, own));
                            memory.lock().insert(unit, bytes);
                            known.landed(0, unit..unit + 1);
                            count(
                                known.hash_units(0, |wanted| memory.lock().get(&wanted).cloned()),
                            );
                        }
                    });
                }
            });
            assert_eq!(verified.load(Ordering::Relaxed), 1, "round {round}");
            assert_eq!(known.stage(), Stage::Verified);
        }
    }

    /// The thread that hashes goes on with a unit that landed while it looked for it in vain.
    #[test]
    fn a_unit_that_lands_while_another_thread_hashes_is_not_overlooked() {
        let known = KnownObject::new(ContentHash::of(b"ab"), 2, 2, false);
        let unit = |text: &'static str| Some(Landed::from(Bytes::from(text)));
        known.landed(0, 0..1);
        let mut second = None;
        let hashed = known.hash_units(0, |wanted| match wanted {
            0 => unit("a"),
            _ if second.is_none() => {
                known.landed(0, 1..2);
                assert_eq!(known.hash_units(0, |_| unit("b")), Hashed::Some);
                second = unit("b");
                None
            }
            _ => second.clone(),
        });
        assert_eq!(hashed, Hashed::Verified);
    }

    #[test]
    fn units_of_an_earlier_generation_are_not_hashed() {
        let hash = ContentHash::of(b"ab");
        let known = KnownObject::new(hash, 2, 2, false);
        assert!(known.saw(VersionId::of("1")).is_none());
        let unit = |text: &'static str| move |_| Some(Landed::from(Bytes::from(text)));
        let only = |wanted: u64| (wanted == 0).then(|| Landed::from(Bytes::from("x")));
        known.hash_units(0, only);
        assert_eq!(known.stage(), Stage::Next(0, 1));
        assert!(known.saw(VersionId::of("2")).is_some());
        assert_eq!(known.hash_units(0, unit("y")), Hashed::Some);
        assert_eq!(known.stage(), Stage::Next(1, 0));
        assert_eq!(known.serving(), (1, Serving::AfterVerifying));
    }
}
