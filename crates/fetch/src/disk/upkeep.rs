//! Looking after a cache directory as a whole: what is in it, what can go, and whether it is sound.
//!
//! Mounts may use the cache meanwhile. Here everything is looked at, which takes seconds with a million objects; a
//! mount that makes room looks at samples ([`eviction`](super::eviction)).

use std::fs::File;
use std::io;
use std::ops::{ControlFlow, Range};

use attachfs_durable::{
    CacheDir, CacheDirError, Completeness, DurableError, HashBytes, JoinedFiles, LargeFiles,
    Removal, Space, Stock, Stored, Sums, read_range,
};
use attachfs_manifest::{ContentHash, Hasher};

use super::eviction::{in_order_of_use, list};
use super::units::{self, About, UNIT};

/// Bytes that are read at once to be hashed.
const STEP: u64 = 1 << 20;

/// A cache directory to be looked after.
#[derive(Debug)]
pub struct Upkeep {
    cache: CacheDir,
    stock: Stock,
}

/// What is in a cache.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// The objects, those that were used longest ago first.
    pub objects: Vec<Stored>,
    /// Things among them that attachfs did not make.
    pub foreign: u64,
}

/// What is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Goal {
    /// What is left takes no more bytes than this.
    pub most_bytes: u64,
    /// Nothing is left that was used last before this time, in seconds since 1970.
    pub used_since: Option<i64>,
}

/// What went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Objects that were removed, or would be.
    pub removed: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Objects that are left.
    pub left: u64,
    /// Their bytes.
    pub left_bytes: u64,
    /// Objects that were to go and are pinned.
    pub pinned: u64,
    /// Objects that were to go and that somebody has open.
    pub in_use: u64,
}

/// What an object in the cache turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// What it says.
    Sound,
    /// Something else. It was removed.
    Damaged,
    /// So many of its units were something else. They count as missing from now on.
    DamagedUnits(u64),
    /// It was removed meanwhile.
    Gone,
}

impl Upkeep {
    /// Of a cache directory; `None` if nothing is in it yet. Refuses one that others could change.
    pub fn open(cache: &CacheDir) -> Result<Option<Self>, CacheDirError> {
        cache.check()?;
        let stock = cache.stock()?;
        let cache = cache.clone();
        Ok(stock.map(|stock| Self { cache, stock }))
    }

    /// The objects, pins and sums.
    pub fn stock(&self) -> &Stock {
        &self.stock
    }

    /// The room on the disk.
    pub fn space(&self) -> Result<Space, DurableError> {
        self.stock.space()
    }

    /// Looks at all objects. Asks `go_on` after each shelf with how many there are so far; what is not looked at is
    /// missing. Blocks.
    pub fn survey(
        &self,
        go_on: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Survey, DurableError> {
        let mut survey = Survey::default();
        for shelf in 0..=u8::MAX {
            let (objects, foreign) = self.stock.shelf(shelf)?;
            survey.objects.extend(objects);
            survey.foreign += foreign;
            if go_on(survey.objects.len() as u64).is_break() {
                break;
            }
        }
        survey.objects = in_order_of_use(survey.objects);
        Ok(survey)
    }

    /// Removes what is to go, or with `only_look` says what that is. What is pinned or open stays. Asks `go_on` now and
    /// then with how many were removed. Blocks.
    pub fn collect(
        &self,
        survey: &Survey,
        goal: Goal,
        only_look: bool,
        go_on: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Collected, DurableError> {
        let pinned = self.stock.pinned()?;
        let objects = &survey.objects;
        let mut done = Collected {
            left: objects.len() as u64,
            left_bytes: objects.iter().map(|stored| stored.bytes).sum(),
            ..Collected::default()
        };
        for stored in objects {
            if !goal.wants_gone(stored, done.left_bytes) {
                continue;
            }
            if stored.is_pinned(&pinned) {
                done.pinned += 1;
                continue;
            }
            if !only_look && self.stock.remove(stored)? == Removal::InUse {
                done.in_use += 1;
                continue;
            }
            done.removed += 1;
            done.removed_bytes += stored.bytes;
            done.left -= 1;
            done.left_bytes -= stored.bytes;
            if go_on(done.removed).is_break() {
                break;
            }
        }
        if !only_look {
            self.write_down(&mut || {
                let _ = go_on(done.removed);
            })?;
        }
        Ok(done)
    }

    /// Writes down how much is on each shelf, unless somebody else does that now. Says `alive` after each one.
    fn write_down(&self, alive: &mut dyn FnMut()) -> Result<(), DurableError> {
        let Some(_lock) = self.stock.lock()? else {
            return Ok(());
        };
        let mut sums = Sums::unknown();
        for shelf in 0..=u8::MAX {
            list(&self.stock, shelf, &mut sums)?;
            alive();
        }
        self.stock.set_sums(&sums)
    }

    /// Reads all of an object, and removes what is damaged. Asks `go_on` now and then with the bytes that were read
    /// since it was asked last; what was not read is sound. Blocks.
    pub fn check(
        &self,
        stored: &Stored,
        go_on: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> io::Result<Verdict> {
        let objects = match self.cache.objects_there(stored.partition) {
            Ok(Some(objects)) => objects,
            Ok(None) => return Ok(Verdict::Gone),
            Err(error) => return Err(io::Error::other(error)),
        };
        let found = match stored.completeness {
            Completeness::Whole(_) => match objects.open(stored.object) {
                Ok((file, len)) => {
                    let hash = ContentHash::from_bytes(stored.object);
                    check_whole(&file, 0..len, hash, go_on)
                }
                Err(error) => Err(error),
            },
            Completeness::Joined => match objects.open_joined(stored.object) {
                Ok(Some(joined)) => check_joined(&joined, go_on),
                // It is gone, or one of its files is missing or makes no sense.
                Ok(None) => Err(io::ErrorKind::NotFound.into()),
                Err(error) => Err(error),
            },
            Completeness::Part => match objects.open_large(stored.object) {
                // It was completed and joined since: it is checked as a part of that file.
                Ok(Some((files, _))) if files.joined.is_some() => Ok(Verdict::Gone),
                Ok(Some((files, _))) => check_part(&files, stored.object, go_on),
                Ok(None) => Err(io::ErrorKind::NotFound.into()),
                Err(error) => Err(error),
            },
        };
        match found {
            Ok(Verdict::Damaged) => {
                self.stock.discard(stored)?;
                Ok(Verdict::Damaged)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.check_rest(stored),
            found => found,
        }
    }

    /// Of an object whose files were removed, or of which one alone was left, which is of no use.
    fn check_rest(&self, stored: &Stored) -> io::Result<Verdict> {
        let (shelf, _) = self.stock.shelf(stored.object[0])?;
        let is_left = shelf
            .iter()
            .any(|now| (now.partition, now.object) == (stored.partition, stored.object));
        if is_left && self.stock.remove(stored)? == Removal::Removed {
            return Ok(Verdict::Damaged);
        }
        Ok(Verdict::Gone)
    }
}

impl Goal {
    fn wants_gone(&self, stored: &Stored, left_bytes: u64) -> bool {
        left_bytes > self.most_bytes || self.used_since.is_some_and(|since| stored.used < since)
    }
}

fn check_joined(
    joined: &JoinedFiles,
    go_on: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> io::Result<Verdict> {
    for (chunk, place) in joined.list.places() {
        let hash = ContentHash::from_bytes(chunk.object);
        let range = place.at..place.at + chunk.len;
        let mut was_stopped = false;
        let mut go_on = |bytes| {
            let asked = go_on(bytes);
            was_stopped = asked.is_break();
            asked
        };
        let found = check_whole(&joined.data, range, hash, &mut go_on)?;
        if found != Verdict::Sound || was_stopped {
            return Ok(found);
        }
    }
    Ok(Verdict::Sound)
}

fn check_whole(
    file: &File,
    range: Range<u64>,
    hash: ContentHash,
    go_on: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> io::Result<Verdict> {
    let mut hasher = Hasher::new();
    let mut at = range.start;
    while at < range.end {
        let bytes = read_range(file, at..range.end.min(at + STEP))?;
        if bytes.is_empty() {
            return Ok(Verdict::Damaged);
        }
        hasher.update(&bytes);
        at += bytes.len() as u64;
        if go_on(bytes.len() as u64).is_break() {
            return Ok(Verdict::Sound);
        }
    }
    Ok(if hasher.finish() == hash {
        Verdict::Sound
    } else {
        Verdict::Damaged
    })
}

fn check_part(
    files: &LargeFiles,
    object: HashBytes,
    go_on: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> io::Result<Verdict> {
    let len = files.data.metadata()?.len();
    let hash = ContentHash::from_bytes(object);
    let about = About::read(&files.units, hash, len)?;
    let Some(about) = about.filter(|about| {
        let found = files.units.metadata();
        found.is_ok_and(|found| found.len() == about.file_len())
    }) else {
        return Ok(Verdict::Damaged);
    };
    let mut damaged = 0;
    for unit in 0..about.units() {
        let units = unit..unit + 1;
        let sums = units::read_sums(&files.units, &units)?;
        if sums == [0] {
            continue;
        }
        let bytes = read_range(&files.data, about.range(&units))?;
        if !units::all_right(&bytes, &sums) {
            units::write_sums(&files.units, unit, &[0])?;
            damaged += 1;
        }
        if go_on(UNIT).is_break() {
            break;
        }
    }
    Ok(match damaged {
        0 => Verdict::Sound,
        damaged => Verdict::DamagedUnits(damaged),
    })
}

#[cfg(test)]
mod tests {
    use attachfs_durable::{ObjectFiles, Pin, set_modified};
    use tempfile::TempDir;

    use super::*;

    const PARTITION: HashBytes = [1; 16];

    /// Small objects of one block, each used a day after the one before.
    fn filled(count: u8) -> (TempDir, ObjectFiles, Upkeep) {
        let temp = TempDir::new().unwrap();
        let cache = CacheDir::new(temp.path().join("cache"));
        assert!(Upkeep::open(&cache).unwrap().is_none());
        let objects = cache.objects(PARTITION).unwrap();
        let mut writer = objects.writer();
        for number in 0..count {
            writer.write(name(number), &[number; 4096]).unwrap();
            let (file, _) = objects.open(name(number)).unwrap();
            set_modified(&file, i64::from(number) * 86_400, 0).unwrap();
        }
        let upkeep = Upkeep::open(&cache).unwrap().unwrap();
        (temp, objects, upkeep)
    }

    fn name(number: u8) -> HashBytes {
        *ContentHash::of(&[number; 4096]).as_bytes()
    }

    fn on(_: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn left(objects: &ObjectFiles) -> Vec<u8> {
        (0..20)
            .filter(|&number| objects.find(name(number), 4096).is_some())
            .collect()
    }

    const EVERYTHING: Goal = Goal {
        most_bytes: u64::MAX,
        used_since: None,
    };

    #[test]
    fn what_is_to_go_goes_and_what_is_pinned_stays() {
        let (_temp, objects, upkeep) = filled(10);
        let pin = Pin {
            name: [9; 16],
            about: String::new(),
            partition: PARTITION,
            objects: vec![name(0)],
        };
        upkeep.stock().pins().pin(&pin).unwrap();
        let survey = upkeep.survey(&mut on).unwrap();
        let collect = |goal, only_look| upkeep.collect(&survey, goal, only_look, &mut on).unwrap();
        assert_eq!(collect(EVERYTHING, false).removed, 0);
        let goal = Goal {
            most_bytes: 5 * 4096,
            ..EVERYTHING
        };
        let looked = collect(goal, true);
        assert_eq!((looked.removed, looked.pinned, looked.left), (5, 1, 5));
        assert_eq!(left(&objects).len(), 10, "it only looked");
        assert_eq!(collect(goal, false), looked);
        assert_eq!(left(&objects), [0, 6, 7, 8, 9]);
        assert_eq!(upkeep.stock().sums().unwrap().total().objects, 5);
        let goal = Goal {
            used_since: Some(8 * 86_400),
            ..EVERYTHING
        };
        let survey = upkeep.survey(&mut on).unwrap();
        upkeep.collect(&survey, goal, false, &mut on).unwrap();
        assert_eq!(left(&objects), [0, 8, 9]);
    }

    #[test]
    fn what_is_damaged_is_found_and_removed() {
        let (_temp, objects, upkeep) = filled(3);
        std::fs::write(objects.path(name(1)), [0; 4096]).unwrap();
        let survey = upkeep.survey(&mut on).unwrap();
        let found: Vec<_> = survey
            .objects
            .iter()
            .map(|stored| (stored.object, upkeep.check(stored, &mut on).unwrap()))
            .collect();
        for (object, found) in found {
            let expected = if object == name(1) {
                Verdict::Damaged
            } else {
                Verdict::Sound
            };
            assert_eq!(found, expected);
        }
        assert_eq!(left(&objects), [0, 2]);
        let gone = upkeep.check(&survey.objects[0], &mut on);
        assert!(matches!(gone, Ok(Verdict::Gone | Verdict::Sound)));
    }

    #[test]
    fn damaged_units_of_a_large_object_are_found_and_forgotten() {
        let (_temp, objects, upkeep) = filled(0);
        let object = [7; 16];
        let about = About::new(ContentHash::from_bytes(object), 3 * UNIT, None);
        let files =
            objects
                .writer()
                .create_large(object, about.len, &about.encode(), about.file_len());
        let files = files.unwrap();
        let good = units::sum(&vec![0; UNIT as usize]);
        units::write_sums(&files.units, 0, &[good, 12345]).unwrap();
        let survey = upkeep.survey(&mut on).unwrap();
        let check = || upkeep.check(&survey.objects[0], &mut on).unwrap();
        assert_eq!(check(), Verdict::DamagedUnits(1));
        assert_eq!(check(), Verdict::Sound);
        assert_eq!(
            units::read_sums(&files.units, &(0..3)).unwrap(),
            [good, 0, 0]
        );
        attachfs_durable::write_all_at(&files.units, b"?", 20).unwrap();
        assert_eq!(check(), Verdict::Damaged);
        assert!(upkeep.survey(&mut on).unwrap().objects.is_empty());
    }
}
