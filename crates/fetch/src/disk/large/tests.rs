use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use attachfs_durable::{ObjectFiles, read_range, write_all_at};
use tempfile::TempDir;

use super::*;
use crate::DiskCache;

struct Setup {
    temp: TempDir,
    bytes: Bytes,
    hash: ContentHash,
}

/// Units of the object, the last of them short.
const UNITS: u64 = 10;

impl Setup {
    fn new() -> Self {
        let len = (UNITS - 1) * UNIT + 1000;
        let words = (0..=len / 8).flat_map(|word| (word * 0x9e37_79b9).to_le_bytes());
        let bytes: Bytes = words.take(len as usize).collect();
        Self {
            temp: TempDir::new().unwrap(),
            hash: ContentHash::of(&bytes),
            bytes,
        }
    }

    fn objects(&self) -> ObjectFiles {
        let dir = crate::testing::unbounded(self.temp.path().join("cache"));
        dir.objects([1; 16]).unwrap()
    }

    fn disk(&self) -> DiskCache {
        DiskCache::start(self.objects()).unwrap()
    }

    fn large(&self, disk: &DiskCache) -> Arc<LargeFile> {
        disk.large(self.hash, self.bytes.len() as u64).unwrap()
    }

    fn part(&self, units: &Range<u64>) -> Bytes {
        let end = (units.end * UNIT).min(self.bytes.len() as u64);
        self.bytes
            .slice((units.start * UNIT) as usize..end as usize)
    }

    /// Writes units and waits until they are written, and verified if they are all.
    fn write(&self, disk: &DiskCache, units: Range<u64>) {
        assert!(
            self.large(disk)
                .write(units.start, self.part(&units), Some(version("1")))
        );
        disk.flush();
    }

    fn path(&self, ending: &str) -> PathBuf {
        let path = self.objects().path(*self.hash.as_bytes());
        let mut name = path.file_name().unwrap().to_owned();
        name.push(ending);
        path.with_file_name(name)
    }
}

fn version(text: &str) -> Arc<str> {
    text.into()
}

#[test]
fn an_object_stays_open_for_the_next_run_of_units_and_not_for_long() {
    let setup = Setup::new();
    let disk = setup.disk();
    setup.write(&disk, 0..2);
    let large = Arc::downgrade(&setup.large(&disk));
    disk.close_unused(std::time::Duration::from_mins(1));
    assert!(large.upgrade().is_some());
    disk.close_unused(std::time::Duration::ZERO);
    assert!(large.upgrade().is_none());
}

#[test]
fn units_are_there_once_they_are_written_and_after_a_restart() {
    let setup = Setup::new();
    let disk = setup.disk();
    let large = setup.large(&disk);
    assert!(large.read(0..1).is_none());
    assert!(
        !setup.path(".part").exists(),
        "who only looks makes nothing"
    );
    setup.write(&disk, 2..5);
    setup.write(&disk, 9..10);
    assert_eq!(large.read(2..5).unwrap(), setup.part(&(2..5)));
    assert_eq!(large.read(9..10).unwrap(), setup.part(&(9..10)));
    assert!(
        large.read(4..6).is_none() && large.read(9..11).is_none() && large.read(0..0).is_none()
    );
    assert_eq!(large.there(3..7), [true, true, false, false]);
    drop(large);
    drop(disk);
    let disk = setup.disk();
    let large = setup.large(&disk);
    assert_eq!(large.read(3..5).unwrap(), setup.part(&(3..5)));
    assert!(!large.is_verified());
    assert!(disk.complete(setup.hash, large.size()).is_none());
}

#[test]
fn an_object_that_is_all_there_and_right_gets_its_own_name_and_keeps_it() {
    let setup = Setup::new();
    let disk = setup.disk();
    let large = setup.large(&disk);
    setup.write(&disk, 4..10);
    setup.write(&disk, 0..4);
    assert!(large.is_verified());
    assert!(setup.path("").exists() && !setup.path(".part").exists());
    assert_eq!(large.read(3..6).unwrap(), setup.part(&(3..6)));
    let complete = disk.complete(setup.hash, large.size()).unwrap();
    assert_eq!(read_range(&complete, 0..large.size()).unwrap(), setup.bytes);
    drop((large, disk));
    let disk = setup.disk();
    let large = setup.large(&disk);
    assert!(large.is_verified(), "nothing changed it");
    disk.flush();
    assert_eq!(disk.counts().verified.get(), 0, "it was not hashed again");
}

#[test]
fn a_complete_object_that_was_changed_is_hashed_again_before_it_counts() {
    let setup = Setup::new();
    setup.write(&setup.disk(), 0..10);
    let touch = || {
        let file = fs::File::open(setup.path("")).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
    };
    touch();
    let disk = setup.disk();
    assert!(
        disk.complete(setup.hash, setup.bytes.len() as u64)
            .is_none()
    );
    disk.flush();
    assert!(
        disk.complete(setup.hash, setup.bytes.len() as u64)
            .is_some()
    );
    assert_eq!(disk.counts().verified.get(), 1);
    drop(disk);
    // Its bytes were changed, too.
    let file = fs::File::options()
        .write(true)
        .open(setup.path(""))
        .unwrap();
    write_all_at(&file, b"altered", 5 * UNIT).unwrap();
    let disk = setup.disk();
    let large = setup.large(&disk);
    assert!(!large.is_verified());
    disk.flush();
    assert!(large.read(5..6).is_none());
    assert!(disk.complete(setup.hash, large.size()).is_none());
    assert!(!setup.path("").exists());
    setup.write(&disk, 0..10);
    assert!(large.is_verified(), "it is fetched again");
}

#[test]
fn a_unit_that_was_torn_or_altered_is_missing_and_its_neighbours_are_not() {
    let setup = Setup::new();
    setup.write(&setup.disk(), 0..9);
    let data = fs::File::options()
        .write(true)
        .open(setup.path(".part"))
        .unwrap();
    write_all_at(&data, &[0; 512], 3 * UNIT + 4096).unwrap();
    data.set_len(setup.bytes.len() as u64).unwrap();
    let disk = setup.disk();
    let large = setup.large(&disk);
    assert_eq!(large.read(2..3).unwrap(), setup.part(&(2..3)));
    assert!(large.read(3..4).is_none());
    assert_eq!(large.there(2..5), [true, false, true]);
    assert_eq!(disk.counts().damaged.get(), 1);
    setup.write(&disk, 3..4);
    setup.write(&disk, 9..10);
    assert!(large.is_verified());
}

#[test]
fn damage_that_nobody_read_is_found_when_all_is_hashed_and_not_taken_for_the_stores() {
    let setup = Setup::new();
    setup.write(&setup.disk(), 0..9);
    let data = fs::File::options()
        .write(true)
        .open(setup.path(".part"))
        .unwrap();
    write_all_at(&data, &[0; 512], 3 * UNIT).unwrap();
    let disk = setup.disk();
    let large = setup.large(&disk);
    setup.write(&disk, 9..10);
    assert!(!large.is_verified() && large.wrong().is_none());
    assert_eq!(large.there(0..4), [true, true, true, false]);
    assert_eq!(disk.counts().wrong.get(), 0);
    setup.write(&disk, 3..4);
    assert!(large.is_verified());
}

#[test]
fn files_that_make_no_sense_mean_that_nothing_is_there() {
    for spoil in [
        |path: &PathBuf, _: u64| fs::write(path, "").unwrap(),
        |path: &PathBuf, len: u64| fs::write(path, vec![0; len as usize]).unwrap(),
        |path: &PathBuf, len: u64| {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_len(len / 2).unwrap();
        },
    ] {
        for ending in [".units", ".part"] {
            let setup = Setup::new();
            setup.write(&setup.disk(), 0..9);
            let path = setup.path(ending);
            spoil(&path, fs::metadata(&path).unwrap().len());
            let disk = setup.disk();
            let large = setup.large(&disk);
            assert!(large.read(1..2).is_none(), "{ending}");
            setup.write(&disk, 0..10);
            assert!(large.is_verified(), "{ending}");
            assert_eq!(large.read(0..10).unwrap(), setup.bytes);
        }
    }
}

#[test]
fn an_object_that_the_store_has_wrong_is_told_and_not_used() {
    let setup = Setup::new();
    let disk = setup.disk();
    let told = Arc::new(Mutex::new(Vec::new()));
    let hear = Arc::clone(&told);
    disk.on_wrong(move |wrong| hear.lock().unwrap().push(*wrong));
    let large = setup.large(&disk);
    let mut bytes = setup.bytes.to_vec();
    bytes[77] ^= 1;
    let bytes = Bytes::from(bytes);
    assert!(large.write(0, bytes.clone(), Some(version("1"))));
    disk.flush();
    let found = ContentHash::of(&bytes);
    assert_eq!(large.wrong(), Some(found));
    let len = large.size();
    assert_eq!(
        *told.lock().unwrap(),
        [WrongObject {
            hash: setup.hash,
            found,
            len
        }]
    );
    assert!(large.read(0..1).is_none() && !large.is_verified());
    assert!(!setup.path("").exists() && !setup.path(".part").exists());
    assert!(
        !large.write(0, bytes, Some(version("1"))),
        "it is not tried again"
    );
    drop(large);
    assert_eq!(setup.large(&disk).wrong(), Some(found));
}

#[test]
fn units_of_two_versions_are_never_put_together() {
    let setup = Setup::new();
    let disk = setup.disk();
    let large = setup.large(&disk);
    setup.write(&disk, 0..5);
    assert!(large.write(5, setup.part(&(5..10)), Some(version("2"))));
    disk.flush();
    assert_eq!(large.there(4..6), [false, true]);
    assert!(large.read(0..1).is_none());
    assert!(large.write(0, setup.part(&(0..5)), Some(version("2"))));
    disk.flush();
    assert!(large.is_verified());
    // What is verified is right whatever the store has.
    assert!(large.write(0, setup.part(&(0..1)), Some(version("3"))));
    disk.flush();
    assert_eq!(large.read(0..10).unwrap(), setup.bytes);
}

#[test]
fn two_processes_fill_one_object_together() {
    let setup = Setup::new();
    let (one, other) = (setup.disk(), setup.disk());
    let (here, there) = (setup.large(&one), setup.large(&other));
    setup.write(&one, 0..3);
    setup.write(&other, 3..6);
    assert_eq!(here.read(0..6).unwrap(), setup.part(&(0..6)));
    setup.write(&one, 6..10);
    other.flush();
    assert!(
        here.is_verified()
            || there.is_verified()
            || setup.large(&setup.disk()).read(0..10).is_some()
    );
    assert_eq!(there.read(0..10).unwrap(), setup.bytes);
}

#[test]
fn files_that_were_deleted_under_their_users_are_begun_anew() {
    let setup = Setup::new();
    let disk = setup.disk();
    let large = setup.large(&disk);
    setup.write(&disk, 0..3);
    fs::remove_dir_all(setup.temp.path().join("cache")).unwrap();
    setup.write(&disk, 3..10);
    assert!(setup.path(".part").exists());
    setup.write(&disk, 0..3);
    assert!(large.is_verified());
}

#[test]
fn what_is_no_run_of_units_is_not_written() {
    let setup = Setup::new();
    let disk = setup.disk();
    let large = setup.large(&disk);
    let short = setup.bytes.slice(..1000);
    assert!(!large.write(0, short.clone(), None));
    assert!(!large.write(0, Bytes::new(), None));
    assert!(!large.write(UNITS, short.clone(), None));
    assert!(!large.write(u64::MAX, short, None));
    assert!(disk.large(setup.hash, 0).is_none());
    assert!(disk.large(setup.hash, u64::MAX).is_none());
}
