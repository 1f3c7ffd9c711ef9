//! [`LargeFile`]: what the disk cache has of one large object.

mod open;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use attachfs_durable::{CacheDirError, FileStamp, LargeForm, ObjectWriter, PooledBuffer, boot_id};
use attachfs_manifest::ContentHash;
use bytes::Bytes;
use parking_lot::RwLock;

use super::WrongObject;
use super::open_cache::{Duty, OpenCache, Order};
use super::units::{self, About, Stamp, UNIT, VersionId};
pub(super) use open::is_stamped;
use open::{Damage, Open};

/// A large object in the disk cache, in units of [`UNIT`](super::UNIT) bytes. Shared by all readers of this process;
/// other processes may read and write the same files.
///
/// What it gives was checked against the checksum that each unit got when it was written. Whether all units together
/// are what the hash says is found out once, when all are there ([`is_verified`](Self::is_verified)).
#[derive(Debug)]
pub struct LargeFile {
    cache: Arc<OpenCache>,
    hash: ContentHash,
    len: u64,
    /// Held to clone or replace it; a write by the one thread that writes, or by the keeper.
    state: RwLock<State>,
    is_verified: AtomicBool,
}

#[derive(Debug, Clone)]
enum State {
    /// There is no file yet, or none any more.
    Absent,
    Open(Arc<Open>),
    /// The store has other bytes than the hash says.
    Wrong(ContentHash),
}

impl LargeFile {
    /// Opens what there is of it. Blocks.
    pub(super) fn open(cache: Arc<OpenCache>, hash: ContentHash, len: u64) -> Arc<Self> {
        let state = match cache.wrong(hash) {
            Some(found) => State::Wrong(found),
            None => match Open::find(&cache, hash, len) {
                Ok(Some(open)) => State::Open(Arc::new(open)),
                Ok(None) => State::Absent,
                Err(error) => {
                    cache.read_failed(hash, &error);
                    State::Absent
                }
            },
        };
        let mut is_verified = false;
        let mut is_all = false;
        if let State::Open(open) = &state {
            open.use_now(&cache);
            is_verified = open.form == LargeForm::Whole && open.is_stamped();
            is_all = open.missing.load(Ordering::Relaxed) == 0;
        }
        let large = Arc::new(Self {
            cache,
            hash,
            len,
            state: RwLock::new(state),
            is_verified: AtomicBool::new(is_verified),
        });
        if is_all && !is_verified {
            large.cache.duty(Duty::Verify(Arc::clone(&large)));
        }
        large
    }

    /// The object's hash.
    pub fn hash(&self) -> ContentHash {
        self.hash
    }

    /// The object's length.
    pub fn size(&self) -> u64 {
        self.len
    }

    /// How many units it has.
    pub fn units(&self) -> u64 {
        self.len.div_ceil(UNIT)
    }

    /// Whether all of it is there and has the object's hash.
    pub fn is_verified(&self) -> bool {
        self.is_verified.load(Ordering::Acquire)
    }

    /// The hash of what the store has, if all of it was read and it is not the object's. Nothing is read or written
    /// then.
    pub fn wrong(&self) -> Option<ContentHash> {
        match *self.state.read() {
            State::Wrong(found) => Some(found),
            State::Absent | State::Open(_) => None,
        }
    }

    /// Begins anew with an object that was wrong.
    pub(super) fn forgive(&self) {
        let mut state = self.state.write();
        if let State::Wrong(_) = *state {
            *state = State::Absent;
        }
    }

    /// Removes the files of the object, and remembers that it is wrong: the bytes in the store have the hash `found`. Blocks.
    pub(crate) fn give_up(&self, found: ContentHash) {
        let open = self.now();
        *self.state.write() = State::Wrong(found);
        if let Some(open) = open {
            self.drop_files(&open);
        }
        self.cache.quarantine(WrongObject {
            hash: self.hash,
            found,
            len: self.len,
        });
    }

    fn now(&self) -> Option<Arc<Open>> {
        match &*self.state.read() {
            State::Open(open) => Some(Arc::clone(open)),
            State::Absent | State::Wrong(_) => None,
        }
    }

    /// The bytes of these units, if all of them are there and are what was written. A unit that is not costs a request:
    /// it is missing from then on. Can be called on any thread; blocks for a local file at most.
    pub fn read(&self, units: Range<u64>) -> Option<Bytes> {
        self.read_into(None, units)
    }

    /// As [`read`](Self::read), into a buffer if the units fit into it.
    pub(crate) fn read_into(
        &self,
        buffer: Option<PooledBuffer>,
        units: Range<u64>,
    ) -> Option<Bytes> {
        self.cache.somebody_reads();
        self.read_units(buffer, units)
    }

    /// As [`read`](Self::read), for nobody who waits.
    pub(super) fn read_aside(&self, units: Range<u64>) -> Option<Bytes> {
        self.read_units(None, units)
    }

    fn read_units(&self, buffer: Option<PooledBuffer>, units: Range<u64>) -> Option<Bytes> {
        if units.is_empty() || units.end > self.units() {
            return None;
        }
        let open = self.now()?;
        match open.read_into(buffer, &units) {
            Ok(Some(bytes)) => Some(bytes),
            Ok(None) => None,
            Err(Damage::Units) => {
                self.cache.counts.damaged.add(1);
                self.forget_bad_units(&open, units);
                None
            }
            Err(Damage::Disk(error)) => {
                self.cache.read_failed(self.hash, &error);
                None
            }
        }
    }

    /// Which of these units are there, in order, as far as their checksums' places tell. Nobody has looked at their
    /// bytes. Blocks.
    pub fn there(&self, units: Range<u64>) -> Vec<bool> {
        let units = units.start..units.end.min(self.units());
        let none = vec![false; units.end.saturating_sub(units.start) as usize];
        let open = self.now();
        let sums = open.and_then(|open| units::read_sums(&open.files.units, &units).ok());
        sums.map_or(none, |sums| sums.iter().map(|&sum| sum != 0).collect())
    }

    /// Has units written some time later: whole ones, but for the last of the object. `version` is the token with which
    /// the store gave them; units of another version are forgotten. `false` if nothing is written: too much waits
    /// already, or the range makes no sense. Never blocks.
    pub fn write(
        self: &Arc<Self>,
        first_unit: u64,
        bytes: Bytes,
        version: Option<Arc<str>>,
    ) -> bool {
        let Some(start) = first_unit.checked_mul(UNIT) else {
            return false;
        };
        let len = bytes.len() as u64;
        let ends_well = start
            .checked_add(len)
            .is_some_and(|end| end == self.len || (end < self.len && len.is_multiple_of(UNIT)));
        if len == 0 || !ends_well || self.wrong().is_some() {
            return false;
        }
        let order = Order::Units {
            of: Arc::clone(self),
            first: first_unit,
            bytes,
            version,
        };
        self.cache.write(order, len)
    }

    /// Whether so many bytes more would be too many to wait to be written.
    pub(crate) fn is_behind(&self, more: u64) -> bool {
        self.cache.is_behind(more)
    }

    /// Of which version in the store the units are that are there; `None` if there are none.
    pub(crate) fn version(&self) -> Option<VersionId> {
        self.now().map(|open| open.about.version)
    }

    /// Writes units. On the thread that writes.
    pub(super) fn store(
        self: &Arc<Self>,
        writer: &mut ObjectWriter,
        first: u64,
        bytes: &[u8],
        version: Option<&str>,
    ) -> Result<(), CacheDirError> {
        let about = About::new(self.hash, self.len, version);
        let Some(open) = self.to_fill(writer, about)? else {
            return Ok(());
        };
        let written = open.write(first, bytes);
        let new = match written {
            Ok(new) => new,
            Err(source) => {
                let error = attachfs_durable::DurableError {
                    doing: "write units of",
                    path: self.path(),
                    source,
                };
                return Err(error.into());
            }
        };
        self.cache.came(self.hash, new * UNIT, 0);
        self.cache.counts.units_written.add(new);
        if new > 0 && open.missing.load(Ordering::Relaxed) == 0 {
            self.cache.duty(Duty::Verify(Arc::clone(self)));
        }
        Ok(())
    }

    /// The files to write units of this version to; `None` if there is nothing to be written.
    fn to_fill(
        &self,
        writer: &mut ObjectWriter,
        about: About,
    ) -> Result<Option<Arc<Open>>, CacheDirError> {
        if self.is_verified() || self.wrong().is_some() {
            return Ok(None);
        }
        let object = *self.hash.as_bytes();
        let to_fill = |open: Arc<Open>| (open.form == LargeForm::Part).then_some(open);
        if let Some(open) = self.now()
            && open.about == about
            && self
                .cache
                .objects
                .is_in_place(object, &open.files, open.form)
        {
            return Ok(to_fill(open));
        }
        // Another process may have begun with this version, too, or have all of it.
        if let Ok(Some(found)) = Open::find(&self.cache, self.hash, self.len)
            && found.about == about
        {
            return Ok(to_fill(self.set(found)));
        }
        let files = writer.create_large(object, self.len, &about.encode(), about.file_len())?;
        self.cache.came(self.hash, 0, 1);
        let missing = AtomicU64::new(about.units());
        Ok(Some(self.set(Open {
            files,
            form: LargeForm::Part,
            about,
            missing,
        })))
    }

    fn set(&self, open: Open) -> Arc<Open> {
        let open = Arc::new(open);
        *self.state.write() = State::Open(Arc::clone(&open));
        open
    }

    /// Does without the files from now on, and removes them.
    fn drop_files(&self, open: &Open) {
        self.is_verified.store(false, Ordering::Release);
        {
            let mut state = self.state.write();
            if let State::Open(now) = &*state
                && std::ptr::eq(Arc::as_ptr(now), open)
            {
                *state = State::Absent;
            }
        }
        let object = *self.hash.as_bytes();
        if let Err(error) = self.cache.objects.remove_large(object, &open.files) {
            // Nobody believes them: their checksums do not fit, or the object is known to be wrong.
            tracing::debug!(hash = %self.hash, %error, "files of a large object stay");
        }
    }

    /// Hashes all of it, and gives it its own name if it is right. `go_on` is asked now and then whether to. On the
    /// keeper's thread.
    pub(super) fn verify(&self, go_on: &mut dyn FnMut() -> bool) {
        let Some(open) = self.now() else {
            return;
        };
        if self.is_verified() {
            return;
        }
        match open.hash(go_on) {
            Ok(None) => {}
            Ok(Some(found)) if found == self.hash => {
                if let Err(error) = self.complete(&open) {
                    self.cache.counts.failed.add(1);
                    tracing::debug!(hash = %self.hash, %error, "a large object stays without its name in the disk cache");
                }
            }
            Ok(Some(found)) => {
                self.give_up(found);
            }
            Err(Damage::Units) => {
                self.cache.counts.damaged.add(1);
                self.forget_bad_units(&open, 0..self.units());
            }
            Err(Damage::Disk(error)) => self.cache.read_failed(self.hash, &error),
        }
    }

    /// Whether all of it is there and was found right once.
    pub(super) fn is_whole(&self) -> bool {
        self.now().is_some_and(|open| open.form == LargeForm::Whole)
    }

    /// Has its bytes cloned by a function that is given the file and where in it they lie. `false` if they are not there.
    pub(super) fn give_to(&self, clone: impl FnOnce(&File, Range<u64>) -> bool) -> bool {
        self.now().is_some_and(|open| {
            let at = open.files.at();
            clone(&open.files.data, at..at + self.len)
        })
    }

    /// Uses the files that its names lead to from now on: its bytes lie in a joined file.
    pub(super) fn look_again(&self) {
        if self.wrong().is_some() {
            return;
        }
        match Open::find(&self.cache, self.hash, self.len) {
            Ok(Some(open)) if open.files.joined.is_some() => {
                self.set(open);
            }
            // What it has open stays right.
            Ok(_) => {}
            Err(error) => self.cache.read_failed(self.hash, &error),
        }
    }

    /// Hashes all of it although it was right before. On the keeper's thread.
    pub(super) fn doubt(&self, go_on: &mut dyn FnMut() -> bool) {
        self.is_verified.store(false, Ordering::Release);
        self.verify(go_on);
    }

    fn complete(&self, open: &Arc<Open>) -> io::Result<()> {
        let object = *self.hash.as_bytes();
        let objects = &self.cache.objects;
        let file = match open.form {
            LargeForm::Whole => FileStamp::of(&open.files.data)?,
            LargeForm::Part => match objects.complete_large(object, &open.files)? {
                Some(stamp) => stamp,
                // Other files took their place.
                None => return Ok(()),
            },
        };
        if open.files.joined.is_none()
            && let Some(boot) = boot_id()
        {
            // Of a joined file this is a part.
            Stamp { file, boot }.write(&open.files.units)?;
        }
        if open.form == LargeForm::Part
            && let Some(whole) = Open::find(&self.cache, self.hash, self.len)?
        {
            self.set(whole);
        }
        self.is_verified.store(true, Ordering::Release);
        self.cache.counts.verified.add(1);
        Ok(())
    }

    /// Takes those of these units for missing whose bytes are not what was written. Each unit is looked at once, and what
    /// is missing then is counted once, however many they are.
    fn forget_bad_units(&self, open: &Open, units: Range<u64>) {
        let bad = |&unit: &u64| !matches!(open.read(&(unit..unit + 1)), Ok(Some(_)));
        let mut bad = units.filter(bad);
        let Some(first) = bad.next() else {
            return;
        };
        if open.form == LargeForm::Whole {
            tracing::warn!(path = %self.path().display(), unit = first,
                "a large object in the disk cache is damaged; it is fetched again");
            // It was right once, so it is not mended.
            return self.drop_files(open);
        }
        let mut count = 0_u64;
        let forgotten = std::iter::once(first).chain(bad).try_for_each(|unit| {
            count += 1;
            units::write_sums(&open.files.units, unit, &[0])
        });
        tracing::warn!(path = %self.path().display(), first, count,
            "units of a large object in the disk cache are damaged; they are fetched again");
        if let Err(error) = forgotten {
            self.cache.read_failed(self.hash, &error);
        }
        let missing = units::missing(&open.files.units, &open.about);
        let missing = missing.unwrap_or_else(|error| {
            self.cache.read_failed(self.hash, &error);
            open.about.units()
        });
        open.missing.store(missing, Ordering::Relaxed);
    }

    fn path(&self) -> PathBuf {
        self.cache.objects.path(*self.hash.as_bytes())
    }
}

#[cfg(test)]
mod tests;
