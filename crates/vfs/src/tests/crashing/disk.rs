//! The possible states of a disk after a power loss.
//!
//! Only synced data is certain: the bytes of a file at its last fsync or fdatasync, names at the last fsync of their
//! directory. Of all later changes any part may be on the disk: each block of a file old or new, each length, each
//! name that was added or removed. But:
//!
//! - a rename is whole: the name has its old file or its new one;
//! - a file that only grows, the journal, has the beginning of what was appended, cut off at any byte, or with zeros
//!   from the beginning of a block to its end;
//! - unsynced records are there only together with all names that were made before them, as in every file system that
//!   journals names and lengths. The thread that syncs after 5 seconds bounds what this leaves open.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::ThreadId;

use attachfs_durable::steps::{Act, Taken, When};
use tempfile::TempDir;

use crate::tests::world::tempdir;

/// The block size of scratch files: smaller than that of a disk, because these tests write little.
const BLOCK: usize = 16;
/// The block size of the journal, the one that recovery knows.
const JOURNAL_BLOCK: usize = 512;
/// The bytes of a record around its payload.
const AROUND: usize = 28 + 1;

type Number = u64;
/// The files in a directory.
type Names = BTreeMap<String, Number>;

/// The durable content of a directory, and its present content.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    dirs: BTreeMap<PathBuf, Names>,
    synced: HashMap<Number, Vec<u8>>,
    /// Files that are kept open, so that no inode number is used twice and deleted files can be
    /// read.
    files: HashMap<Number, File>,
    /// What the running syncs will make durable.
    pending: HashMap<ThreadId, Pending>,
}

#[derive(Debug)]
enum Pending {
    File(Number, Vec<u8>),
    Dir(PathBuf, Names),
}

/// A moment.
#[derive(Debug)]
pub(super) struct Image {
    durable: BTreeMap<PathBuf, Names>,
    now: BTreeMap<PathBuf, Names>,
    synced: HashMap<Number, Vec<u8>>,
    bytes: HashMap<Number, Vec<u8>>,
}

/// Random choices from a seed.
#[derive(Debug, Clone)]
pub(super) struct Chance(pub(super) u64);

impl Chance {
    /// A number below `end`, which is not 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }

    /// True once in this many times.
    pub(super) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

impl Disk {
    /// A directory whose content is all durable.
    pub(super) fn new(root: &Path) -> Self {
        let mut disk = Self {
            root: root.to_owned(),
            dirs: BTreeMap::new(),
            synced: HashMap::new(),
            files: HashMap::new(),
            pending: HashMap::new(),
        };
        disk.dirs = disk.look();
        for (&number, file) in &disk.files {
            disk.synced.insert(number, content(file));
        }
        disk
    }

    fn look(&mut self) -> BTreeMap<PathBuf, Names> {
        let mut found = BTreeMap::new();
        let mut open = vec![self.root.clone()];
        while let Some(dir) = open.pop() {
            let names = self.names(&dir);
            for entry in fs::read_dir(&dir).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    open.push(entry.path());
                }
            }
            found.insert(dir, names);
        }
        found
    }

    fn names(&mut self, dir: &Path) -> Names {
        let mut names = Names::new();
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                let number = self.number(&entry.path());
                names.insert(entry.file_name().into_string().unwrap(), number);
            }
        }
        names
    }

    fn number(&mut self, path: &Path) -> Number {
        let file = File::open(path).unwrap();
        let number = file.metadata().unwrap().ino();
        self.files.entry(number).or_insert(file);
        number
    }

    /// Takes note of a step.
    pub(super) fn step(&mut self, when: When, taken: &Taken) {
        let thread = std::thread::current().id();
        match (when, taken.step.act()) {
            (When::Before, Act::SyncFile) => {
                let number = self.number(&taken.path);
                let bytes = content(&self.files[&number]);
                self.pending.insert(thread, Pending::File(number, bytes));
            }
            (When::Before, Act::SyncDir) => {
                let names = self.names(&taken.path);
                let pending = Pending::Dir(taken.path.clone(), names);
                self.pending.insert(thread, pending);
            }
            (When::After, Act::SyncFile | Act::SyncDir) => match self.pending.remove(&thread) {
                Some(Pending::File(number, bytes)) => {
                    self.synced.insert(number, bytes);
                }
                Some(Pending::Dir(dir, names)) => {
                    self.dirs.insert(dir, names);
                }
                None => panic!("{taken:?} ended and did not begin"),
            },
            _ => {}
        }
    }

    /// The disk at this moment.
    pub(super) fn image(&mut self) -> Image {
        let now = self.look();
        let files = self.files.iter();
        Image {
            durable: self.dirs.clone(),
            now,
            synced: self.synced.clone(),
            bytes: files
                .map(|(&number, file)| (number, content(file)))
                .collect(),
        }
    }
}

fn content(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    let read = file.read_at(&mut bytes, 0).unwrap();
    bytes.truncate(read);
    bytes
}

/// A disk after the power was lost.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) dir: TempDir,
    /// Whether there are unsynced records.
    pub(super) has_unsynced_records: bool,
}

impl Image {
    /// One of the possible disks, chosen at random.
    pub(super) fn lose_power(&self, root: &Path, chance: &mut Chance) -> Lost {
        let mut journals = HashMap::new();
        let mut has_unsynced_records = false;
        for names in [self.durable.get(root), self.now.get(root)] {
            if let Some(&number) = names.and_then(|names| names.get("journal")) {
                let (bytes, whole) = self.journal(number, chance);
                journals.insert(number, bytes);
                has_unsynced_records |= whole;
            }
        }
        let dir = tempdir();
        for (at, names) in self.names(has_unsynced_records, chance) {
            let to = dir.path().join(at.strip_prefix(root).unwrap());
            if to != dir.path() {
                let made = fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&to);
                made.unwrap();
            }
            for (name, number) in names {
                let bytes = match journals.get(&number) {
                    Some(bytes) => bytes.clone(),
                    None => self.file(number, chance),
                };
                let mut options = File::options();
                options.write(true).create_new(true).mode(0o600);
                let file = options.open(to.join(name)).unwrap();
                file.write_all_at(&bytes, 0).unwrap();
            }
        }
        Lost {
            dir,
            has_unsynced_records,
        }
    }

    fn names(&self, all: bool, chance: &mut Chance) -> BTreeMap<PathBuf, Names> {
        let mut left: BTreeMap<PathBuf, Names> = BTreeMap::new();
        let nothing = Names::new();
        let dirs = self.now.keys().chain(self.durable.keys());
        // A file that was created or renamed is there or not, with all of its names.
        let mut came = HashMap::new();
        for dir in dirs {
            let durable = self.durable.get(dir).unwrap_or(&nothing);
            let now = self.now.get(dir).unwrap_or(&nothing);
            let names = left.entry(dir.clone()).or_default();
            for (name, &number) in now {
                let stayed = durable.get(name) == Some(&number);
                let coin = || all || chance.one_in(2);
                if stayed || *came.entry(number).or_insert_with(coin) {
                    names.insert(name.clone(), number);
                }
            }
        }
        for (dir, durable) in &self.durable {
            let now = self.now.get(dir).unwrap_or(&nothing);
            let names = left.entry(dir.clone()).or_default();
            for (name, &number) in durable {
                let was_replaced = now.contains_key(name);
                let has_moved = came.get(&number) == Some(&true);
                let must_stay = was_replaced || came.get(&number) == Some(&false);
                if !names.contains_key(name)
                    && !has_moved
                    && (must_stay || (!all && chance.one_in(2)))
                {
                    names.insert(name.clone(), number);
                }
            }
        }
        left
    }

    /// The bytes of a journal, and whether it has complete unsynced records.
    fn journal(&self, number: Number, chance: &mut Chance) -> (Vec<u8>, bool) {
        let synced = self.synced.get(&number).cloned().unwrap_or_default();
        let now = &self.bytes[&number];
        assert!(now.starts_with(&synced), "a journal only grows");
        let more = now.len() - synced.len();
        if more == 0 || chance.one_in(3) {
            return (synced, false);
        }
        let mut end = synced.len() + chance.below(more + 1);
        let mut len = end;
        if chance.one_in(3) {
            end = (end - end % JOURNAL_BLOCK).max(synced.len());
            len = end + chance.below(now.len() - end + 1);
        }
        let mut bytes = now[..end].to_vec();
        let is_whole = now[synced.len()..end].get(..4).is_some_and(|length| {
            let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
            synced.is_empty() || end >= synced.len() + AROUND + length
        });
        bytes.resize(len, 0);
        (bytes, is_whole)
    }

    /// The bytes of another file.
    fn file(&self, number: Number, chance: &mut Chance) -> Vec<u8> {
        let now = &self.bytes[&number];
        let nothing = Vec::new();
        let synced = self.synced.get(&number).unwrap_or(&nothing);
        if now == synced {
            return now.clone();
        }
        let len = if chance.one_in(2) {
            now.len()
        } else {
            synced.len()
        };
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let at = bytes.len();
            let from = if chance.one_in(2) { now } else { synced };
            let end = (at + BLOCK).min(len);
            bytes.extend_from_slice(&from[at.min(from.len())..end.min(from.len())]);
            bytes.resize(end, 0);
        }
        bytes
    }
}
