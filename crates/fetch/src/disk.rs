//! The disk cache: objects as files, whole ones and parts of large ones.
//!
//! Where the files are, and who is trusted with them, is [`ObjectFiles`]. A small object is hashed whenever it is
//! read, a large one has checksums of its units ([`LargeFile`]): what is torn, damaged or not what it says is removed,
//! counted and fetched again. Deleting the cache, or filling the disk under it, costs time and nothing else.
//!
//! ```text
//!     a reader ---- get, LargeFile::read ---------------------------------------------> files
//!              ---- insert, LargeFile::write ---> queue ---> writer (a thread) --------> files
//!                                                              | how much, what is complete
//!                                                            keeper (a thread): makes room, hashes large objects,
//!                                                                               joins the chunks of a file
//! ```
//!
//! What does not fit into the queue, into the bounds ([`CacheLimits`](attachfs_durable::CacheLimits)) or onto the disk is not written.

mod backlog;
mod eviction;
mod health;
mod joined;
mod joiner;
mod joining;
mod keeper;
mod large;
mod open_cache;
mod right;
mod units;
mod upkeep;
mod worker;
mod writer;

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use attachfs_durable::{DurableError, FileStamp, ObjectFiles, read_range};
use attachfs_manifest::ContentHash;
use attachfs_store::Count;
use bytes::Bytes;
use parking_lot::Mutex;

use open_cache::{Duty, OpenCache, Order};
use right::RightFiles;
use worker::Worker;

pub use large::LargeFile;
pub use units::UNIT;
pub(crate) use units::VersionId;
pub use upkeep::{Collected, Goal, Survey, Upkeep, Verdict};

/// How long a dropped cache waits for its threads.
const DRAIN: Duration = Duration::from_secs(10);
/// The longest object that is hashed whenever it is asked for, if nothing says that it was.
const HASHED_AT_ONCE: u64 = 8 << 20;

/// How long a disk may take for one step, before it counts as one that does not answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);
/// In the place of a number of steps: the disk answers.
const ANSWERS: u64 = u64::MAX;
/// So many large objects stay open for the next read at most.
const MOST_RECENT: usize = 16;
/// How many threads that serve requests may be in the disk at once. An adapter has four at least: so one of them goes on
/// if the disk does not answer.
const MOST_SERVING: u32 = 3;
/// How long a disk that failed is left alone at first.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// An object of which all bytes were read, and which is not what its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongObject {
    /// The object.
    pub hash: ContentHash,
    /// The hash of what the store has.
    pub found: ContentHash,
    /// Its length in bytes.
    pub len: u64,
}

/// A cache of objects on the local disk. Dropping it waits (for seconds at most) until what was inserted is
/// written.
#[derive(Debug)]
pub struct DiskCache {
    cache: Arc<OpenCache>,
    /// Large objects that are open. Held for single look-ups, and while one is opened, so that it is opened once.
    large: Mutex<LargeObjects>,
    writer: Option<Worker>,
    keeper: Option<Worker>,
    /// The number of steps of the cache's threads when the disk did not answer; [`ANSWERS`] as long as it does.
    hangs_since: AtomicU64,
    /// Threads that serve requests and are in the disk now.
    serving: AtomicU32,
    /// Files of small objects that this process has hashed.
    right: RightFiles,
}

/// Large objects that somebody has open, and those that were used last, which stay open for the next run of units: to open
/// one means to read the checksums of all its units. What is open is not evicted.
#[derive(Debug, Default)]
struct LargeObjects {
    open: HashMap<(ContentHash, u64), Weak<LargeFile>>,
    /// With the times of their last use; the last one was used last.
    recent: VecDeque<(Instant, Arc<LargeFile>)>,
}

/// The answer about an object to a thread that serves requests.
pub(crate) enum AtOnce {
    Here(Bytes),
    Absent,
    /// It was not looked for: as many of these threads are in the disk as may wait for it.
    Busy,
}

/// A thread that serves requests is in the disk.
struct Serving<'a>(&'a AtomicU32);

impl<'a> Serving<'a> {
    fn begin(count: &'a AtomicU32) -> Option<Self> {
        let serving = Self(count);
        (count.fetch_add(1, Ordering::Relaxed) < MOST_SERVING).then_some(serving)
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a disk cache has done.
#[derive(Debug, Default)]
pub(crate) struct DiskCounts {
    pub(crate) written: Count,
    pub(crate) units_written: Count,
    pub(crate) dropped: Count,
    /// Their bytes.
    pub(crate) dropped_bytes: Count,
    pub(crate) damaged: Count,
    pub(crate) failed: Count,
    pub(crate) evicted: Count,
    pub(crate) verified: Count,
    pub(crate) wrong: Count,
    /// Files.
    pub(crate) joined: Count,
    /// Bytes of their chunks that were copied.
    pub(crate) joined_copied: Count,
    /// Bytes of their chunks whose blocks are shared.
    pub(crate) joined_cloned: Count,
}

impl DiskCache {
    /// Begins to read and write these objects; starts the threads that write and that keep the bounds.
    pub fn start(objects: ObjectFiles) -> Result<Self, DurableError> {
        Self::start_retrying(objects, RETRY_AFTER)
    }

    /// As [`start`](Self::start), leaving a disk that failed alone for so long at first.
    fn start_retrying(objects: ObjectFiles, retry_after: Duration) -> Result<Self, DurableError> {
        let dir = objects.dir().to_owned();
        let failed = |source| DurableError {
            doing: "start a thread of",
            path: dir.clone(),
            source,
        };
        let (orders, to_write) = mpsc::channel();
        let (duties, to_keep) = mpsc::channel();
        let cache = Arc::new(OpenCache::new(objects, retry_after, orders, duties));
        let of_writer = Arc::clone(&cache);
        let writer = Worker::start("attachfs-cache", move || writer::run(&of_writer, &to_write));
        let of_keeper = Arc::clone(&cache);
        let keeper = Worker::start("attachfs-keeper", move || keeper::run(&of_keeper, &to_keep));
        Ok(Self {
            cache,
            large: Mutex::default(),
            writer: Some(writer.map_err(failed)?),
            keeper: Some(keeper.map_err(failed)?),
            hangs_since: AtomicU64::new(ANSWERS),
            serving: AtomicU32::new(0),
            right: RightFiles::default(),
        })
    }

    /// Has what waits to be written take a part of so many bytes of memory only. Returns how large a part.
    pub(crate) fn queue_within(&self, memory: u64) -> u64 {
        self.cache.queue_within(memory)
    }

    /// Has a function called when a large object of which all bytes were read turns out to be wrong: on the cache's own
    /// thread, once for each such object. The first function counts.
    pub fn on_wrong(&self, tell: impl Fn(&WrongObject) + Send + Sync + 'static) {
        // A second one is not called, as said.
        let _ = self.cache.on_wrong.set(Box::new(tell));
    }

    /// Waits until everything inserted so far is written or dropped, and all that is complete verified, as long as that
    /// goes on. `false` if the disk does not answer.
    pub fn flush(&self) -> bool {
        let (done, written) = mpsc::channel();
        self.cache.order(Order::Flush(done));
        if !self.is_dropped(&written) {
            return false;
        }
        let (done, kept) = mpsc::channel();
        self.cache.duty(Duty::Flush(done));
        self.is_dropped(&kept)
    }

    /// Waits until the sender is dropped, as long as the threads do anything.
    fn is_dropped(&self, wait: &Receiver<()>) -> bool {
        let mut steps = self.cache.steps();
        while let Err(RecvTimeoutError::Timeout) = wait.recv_timeout(ANSWERS_WITHIN) {
            let now = self.cache.steps();
            if now == steps {
                self.does_not_answer();
                return false;
            }
            steps = now;
        }
        true
    }

    /// Does something that blocks, off the runtime's own threads. `None` if the disk does not answer; then it is not asked
    /// again until it does.
    pub(crate) async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Option<T> {
        if !self.answers() {
            return None;
        }
        let asked = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || {
            let done = work(&asked);
            asked.answered();
            done
        });
        match tokio::time::timeout(ANSWERS_WITHIN, work).await {
            Ok(Ok(done)) => Some(done),
            // The mount ends.
            Ok(Err(error)) if error.is_cancelled() => None,
            Ok(Err(error)) => {
                tracing::error!(%error, "reading the disk cache ended early");
                None
            }
            Err(_elapsed) => {
                self.does_not_answer();
                None
            }
        }
    }

    /// Whether the disk answered when it was asked last, or has done anything since then.
    pub fn answers(&self) -> bool {
        let since = self.hangs_since.load(Ordering::Relaxed);
        if since != ANSWERS && self.cache.steps() != since {
            self.answered();
            return true;
        }
        since == ANSWERS
    }

    fn answered(&self) {
        self.hangs_since.store(ANSWERS, Ordering::Relaxed);
    }

    /// Notes that the disk does not answer. It is said once.
    fn does_not_answer(&self) {
        let steps = self.cache.steps();
        if self.hangs_since.swap(steps, Ordering::Relaxed) == ANSWERS {
            let dir = self.cache.objects.dir();
            tracing::warn!(dir = %dir.display(), "the disk of the cache does not answer");
        }
    }

    /// Whether a file has the name and the length of an object. Nobody has looked at its bytes. Blocks.
    pub fn may_have(&self, hash: ContentHash, len: u64) -> bool {
        self.cache.objects.find(*hash.as_bytes(), len).is_some()
    }

    /// An object, if it is there and sound. A file that is not the object is removed. Blocks.
    pub(crate) fn get(&self, hash: ContentHash, len: u64) -> Option<Bytes> {
        match self.read(hash, len) {
            Ok(Read::Object(bytes)) => Some(bytes),
            Ok(Read::Other) => None,
            Ok(Read::Damaged(found)) => {
                let path = self.cache.objects.path(*hash.as_bytes());
                tracing::warn!(path = %path.display(), expected = %hash, %found,
                    "a file of the disk cache is damaged; it is deleted and fetched again");
                self.discard(hash);
                None
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                self.cache.read_failed(hash, &error);
                None
            }
        }
    }

    /// As [`get`](Self::get), on a thread that serves requests.
    pub(crate) fn get_at_once(&self, hash: ContentHash, len: u64) -> AtOnce {
        if !self.answers() {
            return AtOnce::Absent;
        }
        let Some(_serving) = Serving::begin(&self.serving) else {
            return AtOnce::Busy;
        };
        self.get(hash, len).map_or(AtOnce::Absent, AtOnce::Here)
    }

    fn read(&self, hash: ContentHash, len: u64) -> io::Result<Read> {
        let objects = &self.cache.objects;
        self.cache.somebody_reads();
        let (file, facts) = match objects.open_known(*hash.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.read_of_joined(hash, len);
            }
            opened => opened?,
        };
        let size = facts.stamp.size;
        if size > len.max(HASHED_AT_ONCE) {
            // Whatever it is, it is not read into memory.
            return Ok(Read::Other);
        }
        let bytes = read_range(&file, 0..size)?;
        let found = ContentHash::of(&bytes);
        Ok(if found != hash {
            Read::Damaged(found)
        } else if bytes.len() as u64 != len {
            // The store may hold an object of another length than this reader expects. The file is sound then:
            // the reader has to hear of it from the store.
            Read::Other
        } else {
            if let Err(error) = objects.use_file(&file, &facts) {
                tracing::debug!(%hash, %error, "a file of the disk cache will count as unused");
            }
            Read::Object(bytes)
        })
    }

    /// Has an object written some time later, unless the cache is busy or the disk is full. The caller
    /// has verified it. `false` if too much waits already.
    pub(crate) fn insert(&self, hash: ContentHash, object: Bytes) -> bool {
        let len = object.len() as u64;
        self.cache.write(Order::Object(hash, object), len)
    }

    /// Forgets that an object is wrong: the store has another version now.
    pub(crate) fn forgive(&self, hash: ContentHash, len: u64) {
        self.cache.forgive(hash);
        let all = self.large.lock();
        let large = all.open.get(&(hash, len)).and_then(Weak::upgrade);
        drop(all);
        if let Some(large) = large {
            large.forgive();
        }
    }

    /// What there is of a large object, now and later. `None` if it is empty or too long to be kept. Blocks for local
    /// files at most.
    pub fn large(&self, hash: ContentHash, len: u64) -> Option<Arc<LargeFile>> {
        if len == 0 || len > units::LONGEST {
            return None;
        }
        let mut all = self.large.lock();
        let LargeObjects { open, recent } = &mut *all;
        let large = match open.get(&(hash, len)).and_then(Weak::upgrade) {
            Some(large) => large,
            None => {
                if open.len() > 64 && open.len().is_power_of_two() {
                    open.retain(|_, large| large.strong_count() > 0);
                }
                let large = LargeFile::open(Arc::clone(&self.cache), hash, len);
                open.insert((hash, len), Arc::downgrade(&large));
                large
            }
        };
        recent.retain(|(_, other)| !Arc::ptr_eq(other, &large));
        recent.push_back((Instant::now(), Arc::clone(&large)));
        let oldest = if recent.len() > MOST_RECENT {
            recent.pop_front()
        } else {
            None
        };
        drop(all);
        // Closing files may take a while.
        drop(oldest);
        Some(large)
    }

    /// Closes the large objects that were not used for so long, unless somebody has them open.
    pub(crate) fn close_unused(&self, for_so_long: Duration) {
        let mut all = self.large.lock();
        let used_since = all
            .recent
            .partition_point(|(used, _)| used.elapsed() >= for_so_long);
        let unused: Vec<_> = all.recent.drain(..used_since).collect();
        drop(all);
        drop(unused);
    }

    /// The file of an object, open for reading, if all of it is there and was verified: a long one once, in this start of
    /// the machine, and nothing changed it since; one of up to 8 MiB is hashed now, unless this process did that and nothing
    /// changed it since. It is not removed as long as it is open. Blocks for local files at most.
    pub fn complete(&self, hash: ContentHash, len: u64) -> Option<File> {
        let opened = self.cache.objects.open_whole(*hash.as_bytes());
        let (file, before, units) = match opened {
            Ok(found) => found?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                self.cache.read_failed(hash, &error);
                return None;
            }
        };
        if before.size != len {
            return None;
        }
        match units {
            Some(units) if large::is_stamped(&file, &units) => return Some(file),
            Some(_) => {
                // Opening it has it verified, for the next time.
                drop(self.large(hash, len));
                return None;
            }
            None => {}
        }
        if len > HASHED_AT_ONCE {
            return None;
        }
        let stamp = FileStamp::of(&file).ok()?;
        if self.right.has(hash, &before) {
            // That it is used now may have changed its times.
            self.right.note(hash, stamp);
            return Some(file);
        }
        let bytes = read_range(&file, 0..len).ok()?;
        if ContentHash::of(&bytes) != hash {
            return None;
        }
        self.right.note(hash, stamp);
        Some(file)
    }

    /// As [`complete`](Self::complete), on a thread that serves requests. `None` also if the object is known to be wrong, or
    /// the disk is asked for much already.
    pub(crate) fn complete_at_once(&self, hash: ContentHash, len: u64) -> Option<File> {
        if self.cache.wrong(hash).is_some() || !self.answers() {
            return None;
        }
        let _serving = Serving::begin(&self.serving)?;
        self.complete(hash, len)
    }

    pub(crate) fn counts(&self) -> &DiskCounts {
        &self.cache.counts
    }

    fn discard(&self, hash: ContentHash) {
        self.cache.counts.damaged.add(1);
        if let Err(error) = self.cache.objects.remove(*hash.as_bytes()) {
            // It is hashed again next time, and the fresh copy is renamed over it.
            tracing::debug!(%hash, %error, "a damaged cache file stays");
        }
    }
}

/// What the file of an object is.
enum Read {
    Object(Bytes),
    /// Sound, but not what was asked for; or too long to tell.
    Other,
    /// Its bytes have this hash.
    Damaged(ContentHash),
}

impl Drop for DiskCache {
    fn drop(&mut self) {
        let until = Instant::now() + DRAIN;
        self.cache.end_orders();
        let writer = self.writer.take().is_none_or(|writer| writer.ended(until));
        self.cache.end_duties();
        let keeper = self.keeper.take().is_none_or(|keeper| keeper.ended(until));
        if !(writer && keeper) {
            let dir = self.cache.objects.dir();
            tracing::warn!(dir = %dir.display(), "the disk cache is too slow; it is left unfinished");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use attachfs_durable::{CacheDir, CacheLimits};
    use attachfs_manifest::Piece;
    use attachfs_store::record::RecordStore;
    use attachfs_store::{CallKind, MemoryStore};
    use tempfile::TempDir;

    use super::*;
    use crate::testing::cached;
    use crate::{FetchOptions, Fetcher};

    const TEXT: &[u8] = b"worth keeping";

    struct Setup {
        temp: TempDir,
        store: Arc<RecordStore>,
        piece: Piece,
    }

    impl Setup {
        fn new() -> Self {
            let memory = MemoryStore::new();
            let hash = memory.insert(TEXT);
            let len = TEXT.len() as u64;
            Self {
                temp: TempDir::new().unwrap(),
                store: Arc::new(RecordStore::new(Arc::new(memory))),
                piece: Piece {
                    hash,
                    object_len: len,
                    range: 0..len,
                },
            }
        }

        fn objects(&self, partition: u8) -> ObjectFiles {
            let dir = crate::testing::unbounded(self.temp.path().join("cache"));
            dir.objects([partition; 16]).unwrap()
        }

        fn fetcher(&self, partition: u8) -> Fetcher {
            let disk = DiskCache::start(self.objects(partition)).unwrap();
            Fetcher::new(
                Arc::clone(&self.store) as _,
                Some(disk),
                FetchOptions::default(),
            )
        }

        /// The object's file in the cache.
        fn file(&self) -> PathBuf {
            self.objects(1).path(*self.piece.hash.as_bytes())
        }

        async fn read(&self, fetcher: &Fetcher) {
            assert_eq!(fetcher.read(&self.piece).await.unwrap(), TEXT);
        }
    }

    #[tokio::test]
    async fn what_one_fetcher_read_the_next_one_has_on_disk() {
        let setup = Setup::new();
        let first = setup.fetcher(1);
        setup.read(&first).await;
        drop(first);
        let second = setup.fetcher(1);
        assert_eq!(cached(&second, &setup.piece).unwrap(), TEXT);
        setup.read(&setup.fetcher(1)).await;
        assert_eq!(setup.store.count(CallKind::Get), 1);
        assert_eq!(second.counters().disk_hits, 1);
    }

    #[tokio::test]
    async fn partitions_do_not_see_each_other() {
        let setup = Setup::new();
        setup.read(&setup.fetcher(1)).await;
        assert!(cached(&setup.fetcher(2), &setup.piece).is_none());
    }

    #[tokio::test]
    async fn a_damaged_file_is_deleted_and_fetched_again() {
        let setup = Setup::new();
        setup.read(&setup.fetcher(1)).await;
        for damaged in [&b"worth keepinG"[..], b"worth", b"", b"worth keeping?"] {
            std::fs::write(setup.file(), damaged).unwrap();
            let fetcher = setup.fetcher(1);
            assert!(cached(&fetcher, &setup.piece).is_none());
            assert!(!setup.file().exists());
            setup.store.clear();
            setup.read(&fetcher).await;
            assert_eq!(setup.store.count(CallKind::Get), 1);
            assert_eq!(fetcher.counters().disk_damaged, 1);
            drop(fetcher);
            assert_eq!(std::fs::read(setup.file()).unwrap(), TEXT);
        }
    }

    #[tokio::test]
    async fn a_link_in_a_files_place_is_not_followed() {
        let setup = Setup::new();
        setup.read(&setup.fetcher(1)).await;
        let outside = setup.temp.path().join("outside");
        std::fs::rename(setup.file(), &outside).unwrap();
        std::os::unix::fs::symlink(&outside, setup.file()).unwrap();
        assert!(cached(&setup.fetcher(1), &setup.piece).is_none());
        assert!(outside.exists());
    }

    #[tokio::test]
    async fn a_cache_deleted_under_its_user_is_begun_anew() {
        let setup = Setup::new();
        let memory = MemoryStore::new();
        let hashes = [memory.insert("one"), memory.insert("two")];
        let disk = DiskCache::start(setup.objects(1)).unwrap();
        let fetcher = Fetcher::new(Arc::new(memory), Some(disk), FetchOptions::default());
        let read = async |hash| {
            fetcher
                .read(&Piece {
                    hash,
                    object_len: 3,
                    range: 0..3,
                })
                .await
                .unwrap();
            fetcher.engine().disk.as_ref().unwrap().flush();
        };
        read(hashes[0]).await;
        std::fs::remove_dir_all(setup.objects(1).dir()).unwrap();
        read(hashes[1]).await;
        assert_eq!(fetcher.counters().disk_written, 2);
        let objects = setup.objects(1);
        assert!(objects.path(*hashes[1].as_bytes()).exists());
    }

    /// A cache whose objects may take so many bytes, with a small object for each of these numbers, of one block.
    fn bounded(setup: &Setup, max: u64, numbers: std::ops::Range<u64>) -> DiskCache {
        let limits = CacheLimits {
            max_bytes: Some(max),
            min_free: Some(0),
        };
        let dir = CacheDir::new(setup.temp.path().join("cache")).with_limits(limits);
        let disk = DiskCache::start(dir.objects([1; 16]).unwrap()).unwrap();
        for number in numbers {
            let bytes = block(number);
            disk.insert(ContentHash::of(&bytes), bytes);
            disk.flush();
        }
        disk
    }

    fn block(number: u64) -> Bytes {
        Bytes::from([&number.to_le_bytes()[..], &[7; 4088]].concat())
    }

    fn there(disk: &DiskCache, numbers: std::ops::Range<u64>) -> usize {
        numbers
            .filter(|&number| disk.get(ContentHash::of(&block(number)), 4096).is_some())
            .count()
    }

    #[test]
    fn a_cache_stays_within_its_bound_over_restarts() {
        let setup = Setup::new();
        let disk = bounded(&setup, 40 * 4096, 0..30);
        assert_eq!(there(&disk, 0..30), 30);
        drop(disk);
        let disk = bounded(&setup, 40 * 4096, 30..100);
        assert!(there(&disk, 0..100) <= 40);
        assert!(there(&disk, 0..100) > 30);
        assert_eq!(there(&disk, 99..100), 1, "there is room for what comes");
        assert!(disk.counts().evicted.get() >= 60);
        drop(disk);
        // The sums may be lost.
        std::fs::remove_file(setup.temp.path().join("cache/v1/sums")).unwrap();
        let disk = bounded(&setup, 10 * 4096, 100..101);
        assert!(there(&disk, 0..101) <= 10);
    }

    #[test]
    fn processes_that_share_a_cache_share_its_bound() {
        let setup = Setup::new();
        let one = bounded(&setup, 40 * 4096, 0..30);
        let other = bounded(&setup, 40 * 4096, 30..60);
        one.flush();
        assert!(there(&other, 0..60) <= 40);
        assert_eq!(there(&one, 59..60), 1);
    }

    #[test]
    fn a_bound_of_nothing_keeps_nothing() {
        let setup = Setup::new();
        let disk = bounded(&setup, 0, 0..3);
        assert_eq!(there(&disk, 0..3), 0);
        assert_eq!(disk.counts().dropped.get(), 3);
    }

    #[test]
    fn a_cache_in_which_all_is_pinned_is_not_searched_with_each_write() {
        let setup = Setup::new();
        let disk = bounded(&setup, 10 * 4096, 0..0);
        let stock = setup.objects(1).cache().stock().unwrap().unwrap();
        let hashes = (0..10).map(|number| ContentHash::of(&block(number)));
        let mut objects: Vec<_> = hashes.map(|hash| *hash.as_bytes()).collect();
        objects.sort_unstable();
        let pin = attachfs_durable::Pin {
            name: [1; 16],
            about: String::new(),
            partition: [1; 16],
            objects,
        };
        stock.pins().pin(&pin).unwrap();
        let steps_of = |numbers: std::ops::Range<u64>| {
            let before = disk.cache.steps();
            for number in numbers {
                disk.insert(ContentHash::of(&block(number)), block(number));
                disk.flush();
            }
            disk.cache.steps() - before
        };
        steps_of(0..10);
        // A search looks at each of the ten objects.
        let steps = steps_of(10..20);
        assert!(steps < 10 * 10, "{steps} steps for ten more");
    }

    #[test]
    fn what_came_is_counted_later_if_it_cannot_be_written_down_now() {
        let setup = Setup::new();
        let disk = bounded(&setup, 40 * 4096, 0..5);
        let counted = || {
            let stock = setup.objects(1).cache().stock().unwrap().unwrap();
            stock.sums().unwrap().total().objects
        };
        let before = counted();
        let sums = setup.temp.path().join("cache/v1/sums");
        let saved = sums.with_file_name("saved");
        std::fs::rename(&sums, &saved).unwrap();
        std::fs::create_dir(&sums).unwrap();
        for number in 5..10 {
            disk.insert(ContentHash::of(&block(number)), block(number));
            disk.flush();
        }
        std::fs::remove_dir(&sums).unwrap();
        std::fs::rename(&saved, &sums).unwrap();
        disk.flush();
        assert_eq!(counted(), before + 5);
    }

    #[test]
    fn what_waits_to_be_written_has_its_part_of_the_memory_and_no_more() {
        let setup = Setup::new();
        let ((orders, _waiting), (duties, _idle)) = (mpsc::channel(), mpsc::channel());
        let cache = OpenCache::new(setup.objects(1), RETRY_AFTER, orders, duties);
        assert_eq!(cache.queue_within(4000), 1000);
        let write = |len: usize| {
            let order = Order::Object(setup.piece.hash, Bytes::from(vec![0; len]));
            cache.write(order, len as u64)
        };
        assert!(!cache.is_behind(2000), "nothing waits");
        assert!(write(600) && !cache.is_behind(400) && cache.is_behind(500));
        assert!(!write(500) && write(400) && !write(1));
        cache.done(1000);
        assert!(write(5000), "what is longer goes alone");
    }

    #[test]
    fn a_disk_that_goes_on_is_asked_again() {
        let setup = Setup::new();
        let disk = bounded(&setup, 40 * 4096, 0..1);
        disk.does_not_answer();
        assert!(!disk.answers() && there(&disk, 0..1) == 1);
        // A thread of the cache got something done.
        disk.cache.step();
        assert!(disk.answers());
    }

    #[test]
    fn a_disk_that_cannot_be_written_to_costs_requests_and_is_tried_again() {
        let setup = Setup::new();
        // Nothing can be made where a file is in the way.
        let objects = setup.objects(1);
        let partition = setup.file().ancestors().nth(2).unwrap().to_owned();
        std::fs::remove_dir_all(&partition).unwrap();
        std::fs::write(&partition, "in the way").unwrap();
        let disk = DiskCache::start_retrying(objects, Duration::ZERO).unwrap();
        let hash = setup.piece.hash;
        let insert = || {
            disk.insert(hash, Bytes::from_static(TEXT));
            disk.flush();
        };
        insert();
        assert!(disk.get(hash, TEXT.len() as u64).is_none());
        assert!(disk.counts().failed.get() >= 1);
        assert_eq!(disk.counts().written.get(), 0);
        std::fs::remove_file(&partition).unwrap();
        insert();
        assert_eq!(disk.get(hash, TEXT.len() as u64).unwrap(), TEXT);
    }

    #[test]
    fn what_is_used_counts_as_used_now() {
        let setup = Setup::new();
        let objects = setup.objects(1);
        objects
            .writer()
            .write(*setup.piece.hash.as_bytes(), TEXT)
            .unwrap();
        let used = || {
            let stock = objects.cache().stock().unwrap().unwrap();
            let (all, _) = stock.shelf(setup.piece.hash.as_bytes()[0]).unwrap();
            all[0].used
        };
        let (file, _) = objects.open(*setup.piece.hash.as_bytes()).unwrap();
        attachfs_durable::set_modified(&file, 1000, 0).unwrap();
        assert_eq!(used(), 1000);
        let disk = DiskCache::start(objects.clone()).unwrap();
        disk.get(setup.piece.hash, TEXT.len() as u64).unwrap();
        assert!(used() > 1_000_000_000);
    }

    #[test]
    fn a_file_that_was_found_right_is_not_hashed_again_because_it_is_used() {
        let setup = Setup::new();
        let objects = setup.objects(1);
        let (hash, len) = (setup.piece.hash, TEXT.len() as u64);
        // Bytes with another hash: hashing them again would find that.
        objects
            .writer()
            .write(*hash.as_bytes(), b"worth keepinG")
            .unwrap();
        let (file, _) = objects.open(*hash.as_bytes()).unwrap();
        let age = || attachfs_durable::set_modified(&file, 1000, 0).unwrap();
        age();
        let disk = DiskCache::start(objects).unwrap();
        assert!(disk.complete(hash, len).is_none());
        age();
        let stamp = FileStamp::of(&file).unwrap();
        disk.right.note(hash, stamp);
        for _ in 0..2 {
            assert!(disk.complete(hash, len).is_some());
            let used = FileStamp::of(&file).unwrap();
            assert!(used.mtime_ns > stamp.mtime_ns, "it counts as used");
        }
        age();
        assert!(disk.complete(hash, len).is_none(), "somebody changed it");
    }

    #[test]
    fn a_pipe_in_a_files_place_is_neither_waited_for_nor_removed() {
        let setup = Setup::new();
        let objects = setup.objects(1);
        objects
            .writer()
            .write(*setup.piece.hash.as_bytes(), TEXT)
            .unwrap();
        std::fs::remove_file(setup.file()).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(setup.file())
            .status();
        assert!(made.unwrap().success());
        let disk = DiskCache::start(objects).unwrap();
        let len = TEXT.len() as u64;
        assert!(disk.get(setup.piece.hash, len).is_none());
        assert!(disk.complete(setup.piece.hash, len).is_none());
        disk.insert(setup.piece.hash, Bytes::from_static(TEXT));
        disk.flush();
        assert!(disk.get(setup.piece.hash, len).is_none());
        assert!(setup.file().exists());
    }

    #[tokio::test]
    async fn an_object_of_another_length_than_expected_stays_in_the_cache() {
        let setup = Setup::new();
        setup.read(&setup.fetcher(1)).await;
        let fetcher = setup.fetcher(1);
        let longer = Piece {
            object_len: setup.piece.object_len + 1,
            ..setup.piece.clone()
        };
        fetcher.read(&longer).await.unwrap_err();
        assert!(setup.file().exists());
    }
}
