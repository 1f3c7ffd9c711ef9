//! What was used of the base since the mount: which files were opened and read, which of their bytes, and when first.
//!
//! ```text
//!     open, read   the handle notes its own use: no lock that another handle takes      HandleUse
//!     answer       the bytes that were given out count as read; those of a read that failed do not
//!     close        what the handle noted is added to the file's                         Inputs
//!     report       so is what open handles noted so far; then the base is walked        account/inputs.rs
//! ```
//!
//! What the kernel answers by itself, from its page cache or a local file, does not come here: so this tells of first reads, and a
//! file that was opened counts as used whether or not a read of it came here.
//!
//! Memory is bounded: details of a number of files, a bit for each further one.

mod ranges;

use std::collections::btree_map::{BTreeMap, Entry};
use std::mem::take;
use std::ops::{Bound, Range};
use std::sync::Arc;
use std::time::{Duration, Instant};

use attachfs_fetch::FileReader;
use attachfs_tree::Ino;
use parking_lot::Mutex;

use self::ranges::Ranges;

/// Files of which more is kept than that they were used.
const MOST_DETAILED: usize = 100_000;
/// Files whose bits lie together.
const PAGE: u64 = 4096;
/// Entries that are copied for a report at once, while nobody can close a file.
const SLICE: usize = 1000;

/// Bytes of a file of the base that a read asks for.
#[derive(Debug, Clone)]
pub(crate) struct OfBase {
    ino: Ino,
    range: Range<u64>,
}

impl OfBase {
    /// The part of a range that the file has.
    pub(crate) fn new(ino: Ino, reader: &FileReader, range: &Range<u64>) -> Self {
        let end = range.end.min(reader.size()).max(range.start);
        Self {
            ino,
            range: range.start..end,
        }
    }

    /// How many bytes.
    pub(crate) fn len(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// What one handle used of a file of the base.
#[derive(Debug, Default)]
pub(crate) struct HandleUse(Mutex<Option<Used>>);

/// What was used of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Used {
    /// The file of the base.
    pub(crate) ino: Ino,
    /// When first, since the mount.
    pub(crate) first: Duration,
    pub(crate) opens: u64,
    /// Bytes that reads asked for, those asked for again included.
    pub(crate) asked: u64,
    pub(crate) ranges: Ranges,
}

impl Used {
    fn new(ino: Ino, first: Duration) -> Self {
        Self {
            ino,
            first,
            opens: 0,
            asked: 0,
            ranges: Ranges::default(),
        }
    }
}

impl HandleUse {
    fn note(&self, ino: Ino, since: Instant, note: impl FnOnce(&mut Used)) {
        let mut used = self.0.lock();
        note(used.get_or_insert_with(|| Used::new(ino, since.elapsed())));
    }

    /// What was noted since the last call.
    fn take(&self) -> Option<Used> {
        self.0.lock().as_mut().map(|used| Used {
            opens: take(&mut used.opens),
            asked: take(&mut used.asked),
            ranges: take(&mut used.ranges),
            ..*used
        })
    }
}

/// What was used of the base.
#[derive(Debug)]
pub(crate) struct Inputs {
    since: Instant,
    files: Mutex<UsedFiles>,
}

impl Default for Inputs {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            files: Mutex::default(),
        }
    }
}

/// A bit for each of some files.
type Bits = [u64; (PAGE / 64) as usize];

/// What was used of each file.
#[derive(Debug, Default)]
pub(crate) struct UsedFiles {
    /// By number, so that they can be copied slice by slice. A copy shares what does not change meanwhile.
    pub(crate) detailed: BTreeMap<Ino, Arc<Used>>,
    /// Those that there was no room for above: a bit for each.
    others: BTreeMap<u64, Arc<Bits>>,
    pub(crate) other_count: u64,
    /// Bytes that reads of the others asked for.
    pub(crate) other_asked: u64,
}

impl UsedFiles {
    fn add(&mut self, used: Used, most: usize) {
        let has_room = self.detailed.len() < most;
        match self.detailed.entry(used.ino) {
            Entry::Occupied(mut known) => {
                let known = Arc::make_mut(known.get_mut());
                known.first = known.first.min(used.first);
                known.opens += used.opens;
                known.asked += used.asked;
                known.ranges.add_all(used.ranges);
            }
            Entry::Vacant(new) if has_room => {
                new.insert(Arc::new(used));
            }
            Entry::Vacant(_) => {
                self.other_asked += used.asked;
                let (page, word, bit) = bit_of(used.ino);
                let page = self.others.entry(page);
                let page = page.or_insert_with(|| Arc::new([0; _]));
                let word = &mut Arc::make_mut(page)[word];
                self.other_count += u64::from(*word & bit == 0);
                *word |= bit;
            }
        }
    }

    /// Whether a file was used.
    pub(crate) fn has(&self, ino: Ino) -> bool {
        let (page, word, bit) = bit_of(ino);
        let is_other = || {
            self.others
                .get(&page)
                .is_some_and(|page| page[word] & bit != 0)
        };
        self.detailed.contains_key(&ino) || is_other()
    }
}

/// Where a file's bit is: the page, the word in it, and the bit.
fn bit_of(ino: Ino) -> (u64, usize, u64) {
    let at = ino.raw() % PAGE;
    (ino.raw() / PAGE, (at / 64) as usize, 1 << (at % 64))
}

impl Inputs {
    /// A handle was opened for reading.
    pub(crate) fn opened(&self, handle: &HandleUse, ino: Ino) {
        handle.note(ino, self.since, |used| used.opens += 1);
    }

    /// A read through a handle asks for bytes of the base. Whether it gets them is not known yet.
    pub(crate) fn asked(&self, handle: &HandleUse, of_base: &OfBase) {
        if of_base.len() > 0 {
            handle.note(of_base.ino, self.since, |used| used.asked += of_base.len());
        }
    }

    /// A read through a handle was given bytes of the base.
    pub(crate) fn answered(&self, handle: &HandleUse, of_base: &[OfBase]) {
        for OfBase { ino, range } in of_base {
            if !range.is_empty() {
                handle.note(*ino, self.since, |used| used.ranges.add(range.clone()));
            }
        }
    }

    /// Keeps what a handle noted.
    pub(crate) fn keep(&self, handle: &HandleUse) {
        if let Some(used) = handle.take() {
            self.files.lock().add(used, MOST_DETAILED);
        }
    }

    /// What closed handles used so far. Files may be closed meanwhile: what is noted then is in it or is not.
    pub(crate) fn so_far(&self) -> UsedFiles {
        let mut copy = UsedFiles {
            detailed: copied(|after| slice(&self.files.lock().detailed, after)),
            ..UsedFiles::default()
        };
        copy.others = copied(|after| {
            let files = self.files.lock();
            copy.other_asked = files.other_asked;
            slice(&files.others, after)
        });
        let words = copy.others.values().flat_map(|page| page.iter());
        copy.other_count = words.map(|word| u64::from(word.count_ones())).sum();
        copy
    }

    /// How long the mount has been there.
    pub(crate) fn age(&self) -> Duration {
        self.since.elapsed()
    }
}

/// All entries of a map that is given slice by slice, each from behind the last key of the one before.
fn copied<K: Copy + Ord, V>(mut slice: impl FnMut(Option<K>) -> Vec<(K, V)>) -> BTreeMap<K, V> {
    let mut all = BTreeMap::new();
    loop {
        let last = all.last_key_value().map(|(&last, _)| last);
        let slice = slice(last);
        let is_last = slice.len() < SLICE;
        all.extend(slice);
        if is_last {
            return all;
        }
    }
}

/// A bounded number of entries, from behind a key.
fn slice<K: Copy + Ord, V>(all: &BTreeMap<K, Arc<V>>, after: Option<K>) -> Vec<(K, Arc<V>)> {
    let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
    let entries = all.range((begin, Bound::Unbounded)).take(SLICE);
    entries
        .map(|(&key, value)| (key, Arc::clone(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(number: u64) -> Used {
        Used {
            asked: 10,
            ..Used::new(Ino::from_raw(number), Duration::ZERO)
        }
    }

    #[test]
    fn what_was_used_is_copied_in_slices_and_does_not_change_with_what_is_used_later() {
        let inputs = Inputs::default();
        let use_all = || {
            let mut files = inputs.files.lock();
            for number in 0..3 * SLICE as u64 {
                files.add(used(number), 2 * SLICE);
                files.add(used(number * PAGE), 2 * SLICE);
            }
        };
        use_all();
        let copy = inputs.so_far();
        {
            let files = inputs.files.lock();
            assert_eq!(slice(&files.detailed, None).len(), SLICE);
            assert_eq!(slice(&files.others, None).len(), SLICE);
            assert!(copy.detailed == files.detailed && copy.others == files.others);
            assert_eq!(copy.other_count, files.other_count);
            assert_eq!(copy.other_asked, files.other_asked);
            let mut pairs = copy.detailed.values().zip(files.detailed.values());
            assert!(pairs.all(|(copy, file)| Arc::ptr_eq(copy, file)), "shared");
        }
        let asked = |files: &UsedFiles| files.detailed.values().map(|used| used.asked).sum::<u64>();
        let before = asked(&copy);
        use_all();
        assert_eq!(asked(&copy), before);
        assert!(asked(&inputs.so_far()) > before);
    }

    #[test]
    fn files_that_there_is_no_room_for_are_known_to_be_used_and_are_counted_once() {
        let mut files = UsedFiles::default();
        for _ in 0..2 {
            for number in 0..10_000 {
                files.add(used(number), 100);
            }
        }
        assert_eq!((files.detailed.len(), files.other_count), (100, 9900));
        assert_eq!(files.other_asked, 2 * 9900 * 10);
        assert_eq!(files.others.len(), 3, "pages of 512 bytes");
        for number in 0..20_000 {
            assert_eq!(
                files.has(Ino::from_raw(number)),
                number < 10_000,
                "{number}"
            );
        }
    }
}
