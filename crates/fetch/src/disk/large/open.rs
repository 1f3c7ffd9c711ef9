//! The two files of a large object, open: its bytes, and what is known of each unit.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use attachfs_durable::{
    Facts, FileStamp, LargeFiles, LargeForm, PooledBuffer, boot_id, fill_at, read_range,
    write_all_at,
};
use attachfs_manifest::{ContentHash, Hasher};
use bytes::Bytes;

use crate::disk::open_cache::OpenCache;
use crate::disk::units::{self, About, Stamp, UNIT};

/// Bytes that are hashed at once when all of an object is verified.
const STEP: u64 = 8 * UNIT;

#[derive(Debug)]
pub(super) struct Open {
    pub(super) files: LargeFiles,
    pub(super) form: LargeForm,
    pub(super) about: About,
    /// Units that are not there, as far as this process knows.
    pub(super) missing: AtomicU64,
}

/// Why units cannot be given although they should be there.
#[derive(Debug)]
pub(super) enum Damage {
    /// Their bytes are not what was written.
    Units,
    Disk(io::Error),
}

impl From<io::Error> for Damage {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl Open {
    /// Opens the files that there are, if they are about this object.
    pub(super) fn find(cache: &OpenCache, hash: ContentHash, len: u64) -> io::Result<Option<Self>> {
        let Some((files, form)) = cache.objects.open_large(*hash.as_bytes())? else {
            return Ok(None);
        };
        let Some(about) = About::read(&files.units, hash, len)? else {
            return Ok(None);
        };
        if files.data_len()? != len || files.units.metadata()?.len() != about.file_len() {
            return Ok(None);
        }
        let missing = units::missing(&files.units, &about)?;
        if files.joined.is_some() && missing > 0 {
            // Somebody begins anew with this chunk.
            return Ok(None);
        }
        Ok(Some(Self {
            files,
            form,
            about,
            missing: AtomicU64::new(missing),
        }))
    }

    pub(super) fn use_now(&self, cache: &OpenCache) {
        let joined = self.files.joined.as_ref().map(|joined| &joined.about);
        for about in std::iter::once(&self.files.units).chain(joined) {
            let used = Facts::of(about).and_then(|facts| cache.objects.use_file(about, &facts));
            if let Err(error) = used {
                tracing::debug!(hash = %self.about.hash, %error, "a large object will count as unused");
            }
        }
    }

    /// Whether the data file is what it was when it was found right.
    pub(super) fn is_stamped(&self) -> bool {
        is_stamped(&self.files.data, self.files.about_data())
    }

    pub(super) fn read(&self, units: &Range<u64>) -> Result<Option<Bytes>, Damage> {
        self.read_into(None, units)
    }

    /// Units, if all are there; in the buffer if they fit into it.
    pub(super) fn read_into(
        &self,
        buffer: Option<PooledBuffer>,
        units: &Range<u64>,
    ) -> Result<Option<Bytes>, Damage> {
        let sums = units::read_sums(&self.files.units, units)?;
        if sums.contains(&0) {
            return Ok(None);
        }
        let range = self.about.range(units);
        let at = self.files.at();
        let range = at + range.start..at + range.end;
        let len = (range.end - range.start) as usize;
        let bytes = match buffer {
            Some(mut buffer) if buffer.as_ref().len() >= len => {
                let read = fill_at(&self.files.data, &mut buffer.as_mut()[..len], range.start)?;
                buffer.freeze(read)
            }
            _ => read_range(&self.files.data, range)?,
        };
        if units::all_right(&bytes, &sums) {
            Ok(Some(bytes))
        } else {
            Err(Damage::Units)
        }
    }

    /// Writes units, and says how many of them were not there before.
    pub(super) fn write(&self, first: u64, bytes: &[u8]) -> io::Result<u64> {
        let sums: Vec<u64> = bytes.chunks(UNIT as usize).map(units::sum).collect();
        let range = first..first + sums.len() as u64;
        let before = units::read_sums(&self.files.units, &range)?;
        if before == sums {
            return Ok(0);
        }
        write_all_at(&self.files.data, bytes, first * UNIT)?;
        units::write_sums(&self.files.units, first, &sums)?;
        let new = before.iter().filter(|&&sum| sum == 0).count() as u64;
        let had = self.missing.load(Ordering::Relaxed);
        let mut missing = had.saturating_sub(new);
        if missing == 0 && new > 0 {
            // Another process may have taken some for damaged.
            missing = units::missing(&self.files.units, &self.about)?;
        }
        self.missing.store(missing, Ordering::Relaxed);
        Ok(new)
    }

    /// The hash of all of it; `None` if something is missing, or it was told to stop.
    pub(super) fn hash(
        &self,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<ContentHash>, Damage> {
        let mut hasher = Hasher::new();
        let mut at = 0;
        while at < self.about.units() {
            if !go_on() {
                return Ok(None);
            }
            let next = (at + STEP / UNIT).min(self.about.units());
            let Some(bytes) = self.read(&(at..next))? else {
                return Ok(None);
            };
            hasher.update(&bytes);
            at = next;
        }
        Ok(Some(hasher.finish()))
    }
}

/// Whether a data file is what it was when it was found right, in this start of the machine.
pub(in crate::disk) fn is_stamped(data: &File, units: &File) -> bool {
    let stamp = FileStamp::of(data).ok().zip(boot_id());
    stamp.is_some_and(|(file, boot)| Stamp { file, boot }.is_in(units).unwrap_or(false))
}
