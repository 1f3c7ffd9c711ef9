//! All objects of a cache directory, of all its partitions, for whoever makes room.
//!
//! A *shelf* is what lies in the 256th part of the cache that a first byte of hashes names, in every partition. Hashes
//! are as good as random, so a shelf is a fair sample of the whole cache.
//!
//! A joined file is one entry, and its chunks are none: so they go together.
//!
//! Only what attachfs made is listed and removed: regular files of this user, under names that are its own, in
//! directories that are this user's alone. Links are not followed. What else is there is counted.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::joined::{self, Place};
use super::objects::names;
use super::{CacheDir, CacheDirError, HashBytes, Pins, hex, incoming, large, parse_hex, trust};
use crate::error::At as _;
use crate::{DurableError, Facts, FileLock, Kind, OwnDir, Space, is_mine};

/// The lock of who makes room.
const LOCK: &str = "keeper";

/// The directory of all objects, held open.
#[derive(Debug)]
pub struct Stock {
    dir: OwnDir,
}

/// An entry of the cache: an object, whole or in part, or a joined file. A chunk that lies only in a joined file is no entry of its
/// own, and the file about its units (0.01 % of its bytes) is not counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The partition.
    pub partition: HashBytes,
    /// The object's hash; of a joined file its name.
    pub object: HashBytes,
    /// The chunks of a joined file; none of an object.
    pub chunks: Vec<HashBytes>,
    /// Bytes on the disk, of all its files.
    pub bytes: u64,
    /// When it was used last, or written if it was not used; seconds since 1970. To the minute.
    pub used: i64,
    /// Nanoseconds of that second, which tell in what order objects were written.
    pub nanos: u32,
    /// Whether all of it is in the cache.
    pub completeness: Completeness,
}

/// How much of an object is in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Completeness {
    /// All of it, so many bytes.
    Whole(u64),
    /// Some units of it.
    Part,
    /// It is a joined file.
    Joined,
}

/// What became of an object that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is gone.
    Removed,
    /// Somebody has it open.
    InUse,
}

impl CacheDir {
    /// Fails if others than this user could change what is in it; what is missing is fine.
    pub fn check(&self) -> Result<(), CacheDirError> {
        if self.path.try_exists().at("look at", &self.path)? {
            trust::check(&self.path)?;
        }
        Ok(())
    }

    /// All objects. `None` if there are none yet. Refuses a directory that is not this user's alone.
    pub fn stock(&self) -> Result<Option<Stock>, DurableError> {
        match OwnDir::open(&self.path.join(super::OBJECTS)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            dir => Ok(Some(Stock { dir: dir? })),
        }
    }
}

impl Stock {
    /// The directory, for messages.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn dir(&self) -> &OwnDir {
        &self.dir
    }

    /// What stays although room is needed.
    pub fn pins(&self) -> Pins<'_> {
        Pins::of(&self.dir)
    }

    /// The lock of who makes room, so that one process does. `None` if another one has it.
    pub fn lock(&self) -> Result<Option<FileLock>, DurableError> {
        self.dir.lock(LOCK)
    }

    /// The room on the disk.
    pub fn space(&self) -> Result<Space, DurableError> {
        self.dir.space()
    }

    /// The partitions.
    pub fn partitions(&self) -> Result<Vec<HashBytes>, DurableError> {
        let names = self.dir.names()?;
        let parsed = names.iter().filter_map(|name| parse_hex(name.to_str()?));
        Ok(parsed.collect())
    }

    /// What is on a shelf, in no order, and how many things are there that attachfs did not make. Blocks.
    pub fn shelf(&self, shelf: u8) -> Result<(Vec<Stored>, u64), DurableError> {
        let mut all = Vec::new();
        let mut foreign = 0;
        for partition in self.partitions()? {
            let Some(held) = usable(self.dir.dir(&hex(partition)))? else {
                continue;
            };
            if let Some(dir) = usable(held.dir(&hex_byte(shelf)))? {
                let (stored, others) = list(&held, &dir, partition, shelf)?;
                all.extend(stored);
                foreign += others;
            }
        }
        Ok((all, foreign))
    }

    fn shelf_of(&self, partition: HashBytes, shelf: &str) -> Result<OwnDir, DurableError> {
        self.dir.dir(&hex(partition))?.dir(shelf)
    }

    /// Removes an object, unless somebody has it open. That it is gone already is fine. If its bytes lie in a joined file, too,
    /// that stays, and what leads there. Blocks.
    pub fn remove(&self, stored: &Stored) -> Result<Removal, DurableError> {
        let Some((dir, mut files)) = self.files(stored)? else {
            return Ok(Removal::Removed);
        };
        let held = self.dir.dir(&hex(stored.partition))?;
        let leads_elsewhere =
            |(name, file): &(String, File)| name.ends_with(large::UNITS) && leads(&held, file);
        if files.iter().any(leads_elsewhere) {
            files.retain(|(name, _)| !name.ends_with(large::UNITS));
            if files.is_empty() {
                return Ok(Removal::InUse);
            }
        }
        // A file system without locks cannot tell.
        let is_used = |file: &File| matches!(file.try_lock(), Err(TryLockError::WouldBlock));
        if files.iter().any(|(_, file)| is_used(file)) {
            return Ok(Removal::InUse);
        }
        unlink(&dir, &files)?;
        joined::forget_chunks(&held, stored.object, &stored.chunks)?;
        Ok(Removal::Removed)
    }

    /// Removes an object that is damaged, whoever has it open. Blocks.
    pub fn discard(&self, stored: &Stored) -> Result<(), DurableError> {
        match self.files(stored)? {
            Some((dir, files)) => {
                unlink(&dir, &files)?;
                let held = self.dir.dir(&hex(stored.partition))?;
                joined::forget_chunks(&held, stored.object, &stored.chunks)
            }
            None => Ok(()),
        }
    }

    /// The files of an object that are there and were made here, open, in their directory. What is a link, or of
    /// another kind or user, is left out.
    fn files(&self, stored: &Stored) -> Result<Option<Files>, DurableError> {
        let (shelf, name) = names(stored.object);
        let Some(dir) = usable(self.shelf_of(stored.partition, &shelf))? else {
            return Ok(None);
        };
        let mut files = Vec::with_capacity(1);
        let endings: &[&str] = match stored.completeness {
            Completeness::Joined => &[joined::JOINED, joined::CHUNKS],
            Completeness::Whole(_) | Completeness::Part => &["", large::PART, large::UNITS],
        };
        for ending in endings {
            let name = format!("{name}{ending}");
            let Ok(file) = dir.held().open_file(name.as_bytes()) else {
                continue;
            };
            if is_mine(&file).at("look at", dir.path())? {
                files.push((name, file));
            }
        }
        Ok(Some((dir, files)))
    }

    /// Bytes of files that are being written, or that writers left which have ended.
    pub fn incoming_bytes(&self) -> Result<u64, DurableError> {
        let mut bytes = 0;
        for partition in self.partitions()? {
            let dir = self.shelf_of(partition, incoming::NAME);
            let Some(dir) = usable(dir)? else { continue };
            let listed = dir.held().names().at("read the directory", dir.path())?;
            let facts = listed
                .iter()
                .filter_map(|name| dir.held().facts_at(name).ok());
            bytes += facts.map(|facts| facts.allocated).sum::<u64>();
        }
        Ok(bytes)
    }
}

type Files = (OwnDir, Vec<(String, File)>);

fn unlink(dir: &OwnDir, files: &[(String, File)]) -> Result<(), DurableError> {
    files.iter().try_for_each(|(name, _)| dir.remove_file(name))
}

/// Whether the file about the units of a chunk leads to a joined file that is there.
fn leads(partition: &OwnDir, units: &File) -> bool {
    let place = Place::read(units).ok().flatten();
    place.is_some_and(|place| place.is_there(partition))
}

fn list(
    held: &OwnDir,
    dir: &OwnDir,
    partition: HashBytes,
    shelf: u8,
) -> Result<(Vec<Stored>, u64), DurableError> {
    let listed = dir.held().names().at("read the directory", dir.path())?;
    let mut foreign = 0;
    let mut files = Vec::with_capacity(listed.len());
    for name in &listed {
        match own_name(name, shelf) {
            Some((object, form)) => files.push((object, form, name)),
            None => foreign += 1,
        }
    }
    let is_elsewhere = |name: &[u8]| {
        let units = dir.held().open_file(name);
        units.is_ok_and(|units| leads(held, &units))
    };
    // The files of one object follow each other.
    files.sort_unstable();
    let mut all: Vec<Stored> = Vec::with_capacity(files.len());
    for (object, form, name) in files {
        // What is not there any more was removed since.
        let Ok(facts) = dir.held().facts_at(name) else {
            continue;
        };
        if facts.kind != Kind::File {
            foreign += 1;
            continue;
        }
        let seen = stored(partition, object, form, &facts);
        match all.last_mut() {
            Some(last) if last.object == object && last.is_joined() == seen.is_joined() => {
                last.add(&seen);
            }
            _ if form == Form::Units && is_elsewhere(name) => {}
            _ => all.push(seen),
        }
    }
    for joined in all.iter_mut().filter(|stored| stored.is_joined()) {
        joined.chunks = joined::chunks_of(dir, joined.object);
    }
    Ok((all, foreign))
}

impl Stored {
    /// Whether it is a joined file.
    pub fn is_joined(&self) -> bool {
        self.completeness == Completeness::Joined
    }

    /// Whether it is pinned, by what [`Stock::pinned`] says of objects; a joined file is if one of its chunks is.
    pub fn is_pinned(&self, pinned: impl Fn(HashBytes, &HashBytes) -> bool) -> bool {
        let own = std::iter::once(&self.object).filter(|_| !self.is_joined());
        own.chain(&self.chunks)
            .any(|object| pinned(self.partition, object))
    }

    /// Counts another file of the same object.
    fn add(&mut self, other: &Self) {
        self.bytes += other.bytes;
        (self.used, self.nanos) = (self.used, self.nanos).max((other.used, other.nanos));
        self.completeness = self.completeness.min(other.completeness);
    }
}

/// A directory, unless it is missing or something that attachfs did not make.
fn usable(dir: Result<OwnDir, DurableError>) -> Result<Option<OwnDir>, DurableError> {
    match dir {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::PermissionDenied
                    | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        dir => dir.map(Some),
    }
}

fn hex_byte(byte: u8) -> String {
    format!("{byte:02x}")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    Whole,
    Part,
    Units,
    Joined,
    Chunks,
}

/// The object whose file on a shelf has this name, if it is a name that attachfs gives there.
fn own_name(name: &[u8], shelf: u8) -> Option<(HashBytes, Form)> {
    let name = std::str::from_utf8(name).ok()?;
    let (hash, form) = if let Some(hash) = name.strip_suffix(large::PART) {
        (hash, Form::Part)
    } else if let Some(hash) = name.strip_suffix(large::UNITS) {
        (hash, Form::Units)
    } else if let Some(hash) = name.strip_suffix(joined::JOINED) {
        (hash, Form::Joined)
    } else if let Some(hash) = name.strip_suffix(joined::CHUNKS) {
        (hash, Form::Chunks)
    } else {
        (name, Form::Whole)
    };
    let object = parse_hex(hash).filter(|object| object[0] == shelf)?;
    Some((object, form))
}

fn stored(partition: HashBytes, object: HashBytes, form: Form, facts: &Facts) -> Stored {
    let (used, nanos) = facts.stamp.modified();
    Stored {
        partition,
        object,
        chunks: Vec::new(),
        // A file of a few bytes may take none beside its inode.
        bytes: facts.allocated,
        used,
        nanos,
        completeness: match form {
            Form::Whole => Completeness::Whole(facts.stamp.size),
            Form::Part | Form::Units => Completeness::Part,
            Form::Joined | Form::Chunks => Completeness::Joined,
        },
    }
}

/// Notes that a file is used now, unless it was within the last minute.
pub(super) fn touch(file: &File, facts: &Facts) -> io::Result<()> {
    const GRAIN: i64 = 60;
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() as i64);
    let used = facts.stamp.modified().0;
    if (now - GRAIN..=now).contains(&used) {
        return Ok(());
    }
    crate::set_modified(file, now, 0)
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::set_modified;

    const OBJECT: HashBytes = [7; 16];

    #[test]
    fn objects_of_all_partitions_are_on_the_shelf_of_their_hash() {
        let temp = tempfile::tempdir().unwrap();
        let cache = CacheDir::new(temp.path().join("cache"));
        assert!(cache.stock().unwrap().is_none());
        for partition in [[1; 16], [2; 16]] {
            let objects = cache.objects(partition).unwrap();
            objects.writer().write(OBJECT, &[1; 5000]).unwrap();
            set_modified(&objects.open(OBJECT).unwrap().0, 1000, 0).unwrap();
        }
        let stock = cache.stock().unwrap().unwrap();
        assert_eq!(stock.shelf(8).unwrap(), (Vec::new(), 0));
        let (all, foreign) = stock.shelf(7).unwrap();
        assert_eq!((all.len(), foreign), (2, 0));
        assert_eq!(
            (all[0].completeness, all[0].used),
            (Completeness::Whole(5000), 1000)
        );
        assert!(all[0].bytes >= 5000);
        assert_eq!(stock.remove(&all[0]).unwrap(), Removal::Removed);
        assert_eq!(stock.remove(&all[0]).unwrap(), Removal::Removed);
        assert_eq!(stock.shelf(7).unwrap().0, all[1..]);
    }

    #[test]
    fn what_attachfs_did_not_make_is_counted_and_never_removed() {
        let temp = tempfile::tempdir().unwrap();
        let cache = CacheDir::new(temp.path().join("cache"));
        let objects = cache.objects([1; 16]).unwrap();
        objects.writer().write(OBJECT, b"bytes").unwrap();
        let path = objects.path(OBJECT);
        let shelf = path.parent().unwrap();
        let victim = temp.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let name = |first: &str| first.repeat(16);
        symlink(&victim, shelf.join(name("07").replace("0707", "07aa"))).unwrap();
        fs::create_dir(shelf.join(name("07").replace("0707", "07bb"))).unwrap();
        fs::write(shelf.join(name("08")), "on another shelf").unwrap();
        fs::write(shelf.join("notes.txt"), "by hand").unwrap();
        // A whole shelf that is a link, to a directory with a file of the right name.
        let elsewhere = temp.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join(name("09")), "precious").unwrap();
        symlink(&elsewhere, shelf.parent().unwrap().join("09")).unwrap();

        let stock = cache.stock().unwrap().unwrap();
        let (all, foreign) = stock.shelf(7).unwrap();
        assert_eq!((all.len(), foreign), (1, 4));
        assert!(stock.shelf(9).unwrap().0.is_empty());
        let before = fs::read_dir(shelf).unwrap().count();
        for first in ["07aa", "07bb"] {
            let mut object = OBJECT;
            object[1] = u8::from_str_radix(&first[2..], 16).unwrap();
            stock
                .remove(&Stored {
                    object,
                    ..all[0].clone()
                })
                .unwrap();
        }
        let there = Stored {
            object: [9; 16],
            ..all[0].clone()
        };
        stock.remove(&there).unwrap();
        assert_eq!(fs::read_dir(shelf).unwrap().count(), before);
        assert!(victim.exists() && elsewhere.join(name("09")).exists());
    }

    #[test]
    fn what_somebody_has_open_is_not_removed() {
        let temp = tempfile::tempdir().unwrap();
        let cache = CacheDir::new(temp.path().join("cache"));
        let objects = cache.objects([1; 16]).unwrap();
        objects.writer().write(OBJECT, b"bytes").unwrap();
        let stock = cache.stock().unwrap().unwrap();
        let (all, _) = stock.shelf(7).unwrap();
        let (file, _) = objects.open(OBJECT).unwrap();
        file.try_lock_shared().unwrap();
        assert_eq!(stock.remove(&all[0]).unwrap(), Removal::InUse);
        drop(file);
        assert_eq!(stock.remove(&all[0]).unwrap(), Removal::Removed);
    }
}
