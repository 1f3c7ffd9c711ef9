use std::collections::BTreeSet;
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use attachfs_durable::steps::Recorder;
use attachfs_durable::{CacheDir, CacheLimits, ObjectFiles, Pin};
use tempfile::TempDir;

use super::*;
use crate::disk::units;
use crate::{Collected, DiskCache, Goal, Upkeep};

const PARTITION: [u8; 16] = [1; 16];
/// Chunks of a file but its last.
const CHUNK: u64 = 40 * UNIT;
const LONGEST_WAIT: Duration = Duration::from_mins(1);

struct Setup {
    temp: TempDir,
    limits: CacheLimits,
    /// Two large ones and a small one.
    chunks: Vec<Bytes>,
}

fn some(seed: u64, len: u64) -> Bytes {
    let words = (0..=len / 8).flat_map(|word| ((word + seed) * 0x9e37_79b9).to_le_bytes());
    words.take(len as usize).collect()
}

fn key(bytes: &Bytes) -> (ContentHash, u64) {
    (ContentHash::of(bytes), bytes.len() as u64)
}

fn keys(chunks: &[Bytes]) -> Vec<(ContentHash, u64)> {
    chunks.iter().map(key).collect()
}

fn content(file: &File) -> Bytes {
    read_range(file, 0..1 << 28).unwrap()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LONGEST_WAIT, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The joined file, when there is one.
fn made(disk: &DiskCache, chunks: &[Bytes]) -> File {
    let mut made = None;
    until("it is joined", || {
        made = disk.joined(&keys(chunks));
        made.is_some()
    });
    let made = made.unwrap();
    assert!(content(&made) == chunks.concat());
    made
}

/// Asks for a joined file, and waits until the keeper has decided that there will be none.
fn not_made(disk: &DiskCache, chunks: &[Bytes]) {
    assert!(disk.joined(&keys(chunks)).is_none());
    settled(disk);
}

/// Waits until nothing is being joined.
fn settled(disk: &DiskCache) {
    until("nothing is being joined", || {
        disk.flush();
        disk.cache.joins_nothing()
    });
}

impl Setup {
    fn new() -> Self {
        Self {
            temp: TempDir::new().unwrap(),
            limits: CacheLimits {
                max_bytes: Some(u64::MAX),
                min_free: Some(0),
            },
            chunks: vec![some(1, CHUNK), some(2, CHUNK), some(3, 1000)],
        }
    }

    fn cache(&self) -> CacheDir {
        CacheDir::new(self.temp.path().join("cache")).with_limits(self.limits)
    }

    fn objects(&self) -> ObjectFiles {
        self.cache().objects(PARTITION).unwrap()
    }

    /// As a process that begins now.
    fn disk(&self) -> DiskCache {
        DiskCache::start(self.objects()).unwrap()
    }

    /// A process that has read these chunks.
    fn filled(&self, chunks: &[Bytes]) -> DiskCache {
        let disk = self.disk();
        fill(&disk, chunks);
        disk
    }

    fn path(&self, name: [u8; 16], ending: &str) -> PathBuf {
        let path = self.objects().path(name);
        let mut name = path.file_name().unwrap().to_owned();
        name.push(ending);
        path.with_file_name(name)
    }

    fn of(&self, chunk: &Bytes, ending: &str) -> PathBuf {
        self.path(*ContentHash::of(chunk).as_bytes(), ending)
    }

    fn joined_file(&self, chunks: &[Bytes]) -> PathBuf {
        self.path(list(chunks).name(), ".joined")
    }

    /// The endings of all files in the cache.
    fn files(&self) -> BTreeSet<String> {
        let partition = self.objects().path([0; 16]);
        let partition = partition.ancestors().nth(2).unwrap();
        let mut found = BTreeSet::new();
        for shelf in fs::read_dir(partition).unwrap() {
            for file in fs::read_dir(shelf.unwrap().path()).unwrap() {
                found.insert(file.unwrap().file_name().into_string().unwrap());
            }
        }
        found
    }

    fn collect(&self, most_bytes: u64) -> Collected {
        let upkeep = Upkeep::open(&self.cache()).unwrap().unwrap();
        let on = &mut |_| ControlFlow::Continue(());
        let survey = upkeep.survey(on).unwrap();
        let goal = Goal {
            most_bytes,
            used_since: None,
        };
        upkeep.collect(&survey, goal, false, on).unwrap()
    }

    /// Has the next process list what is there: what is written down of files that came while they were listed counts twice.
    fn count_anew(&self) {
        fs::remove_file(self.temp.path().join("cache/v1/sums")).unwrap();
    }

    /// Bytes that the cache takes, by what is written down and by what is there.
    fn sums(&self) -> (u64, u64) {
        let stock = self.cache().stock().unwrap().unwrap();
        let written = stock.sums().unwrap().total().bytes;
        let there = (0..=u8::MAX).flat_map(|shelf| stock.shelf(shelf).unwrap().0);
        (written, there.map(|stored| stored.bytes).sum())
    }
}

fn list(chunks: &[Bytes]) -> ChunkList {
    let chunk = |bytes: &Bytes| Chunk {
        object: *ContentHash::of(bytes).as_bytes(),
        len: bytes.len() as u64,
    };
    ChunkList::new(chunks.iter().map(chunk).collect()).unwrap()
}

fn fill(disk: &DiskCache, chunks: &[Bytes]) {
    for chunk in chunks {
        let (hash, len) = key(chunk);
        if len < CHUNK {
            assert!(disk.insert(hash, chunk.clone()));
        } else {
            let large = disk.large(hash, len).unwrap();
            assert!(large.write(0, chunk.clone(), Some("1".into())));
        }
        disk.flush();
    }
}

#[test]
fn chunks_are_joined_once_all_are_there_and_leave_their_files() {
    let setup = Setup::new();
    let disk = setup.filled(&setup.chunks[..2]);
    not_made(&disk, &setup.chunks);
    assert_eq!(disk.counts().joined.get(), 0);
    fill(&disk, &setup.chunks[2..]);
    assert!(
        disk.joined(&keys(&setup.chunks)).is_none(),
        "that takes a moment"
    );
    drop(made(&disk, &setup.chunks));
    settled(&disk);
    let counts = disk.counts();
    assert_eq!(counts.joined.get(), 1);
    let bytes = counts.joined_copied.get() + counts.joined_cloned.get();
    assert_eq!(bytes, 2 * CHUNK + 1000);
    for chunk in &setup.chunks[..2] {
        // So a version that knows nothing of joined files finds nothing.
        assert!(setup.of(chunk, ".units").exists());
        assert!(!setup.of(chunk, "").exists() && !setup.of(chunk, ".part").exists());
    }
    assert!(
        setup.of(&setup.chunks[2], "").exists(),
        "small ones keep theirs"
    );
    let (written, there) = setup.sums();
    assert_eq!(written, there);
    // Who asks again, now or later, gets the same one.
    drop(made(&setup.disk(), &setup.chunks));
    assert_eq!(setup.disk().counts().joined.get(), 0);
}

#[test]
fn who_asks_for_a_chunk_finds_it_in_the_joined_file() {
    let setup = Setup::new();
    let disk = setup.filled(&setup.chunks);
    let before = disk.large(key(&setup.chunks[1]).0, CHUNK).unwrap();
    made(&disk, &setup.chunks);
    settled(&disk);
    assert!(before.is_verified(), "who had it open reads on");
    assert!(before.read(3..7).unwrap() == setup.chunks[1][3 * UNIT as usize..7 * UNIT as usize]);
    let other = setup.disk();
    for chunk in &setup.chunks {
        let (hash, len) = key(chunk);
        assert!(other.may_have(hash, len) && !other.may_have(hash, len + 1));
        assert!(other.get(hash, len).unwrap() == chunk);
        let (file, at) = setup.objects().find(*hash.as_bytes(), len).unwrap();
        assert!(read_range(&file, at..at + len).unwrap() == chunk);
    }
    for chunk in &setup.chunks[..2] {
        let (hash, len) = key(chunk);
        let large = other.large(hash, len).unwrap();
        assert!(large.is_verified() && large.there(0..40) == [true; 40]);
        assert!(large.read(0..40).unwrap() == chunk);
    }
    assert_eq!(other.counts().verified.get(), 0, "nothing is hashed again");
}

#[test]
fn nothing_is_joined_of_which_a_chunk_is_damaged() {
    let setup = Setup::new();
    let disk = setup.filled(&setup.chunks);
    let file = File::options()
        .write(true)
        .open(setup.of(&setup.chunks[1], ""));
    write_all_at(&file.unwrap(), b"altered", 33 * UNIT).unwrap();
    not_made(&disk, &setup.chunks);
    assert!(!setup.joined_file(&setup.chunks).exists());
    let (hash, len) = key(&setup.chunks[1]);
    assert!(!disk.may_have(hash, len), "it is fetched again");
    fill(&disk, &setup.chunks[1..2]);
    made(&disk, &setup.chunks);
}

#[test]
fn nothing_is_joined_of_which_the_small_chunk_is_damaged_and_that_is_found_once() {
    let setup = Setup::new();
    let disk = setup.filled(&setup.chunks);
    fs::write(setup.of(&setup.chunks[2], ""), [7; 1000]).unwrap();
    not_made(&disk, &setup.chunks);
    assert!(!setup.of(&setup.chunks[2], "").exists());
    not_made(&disk, &setup.chunks);
    assert_eq!(disk.counts().damaged.get(), 1);
    fill(&disk, &setup.chunks[2..]);
    made(&disk, &setup.chunks);
}

#[test]
fn a_chunk_with_another_hash_never_gets_into_a_joined_file() {
    let setup = Setup::new();
    let disk = setup.filled(&setup.chunks);
    // Its checksums fit the bytes: only the hash tells.
    let mut options = File::options();
    options.write(true).read(true);
    let file = options.open(setup.of(&setup.chunks[1], "")).unwrap();
    let about = options.open(setup.of(&setup.chunks[1], ".units")).unwrap();
    write_all_at(&file, b"altered", 33 * UNIT).unwrap();
    let unit = read_range(&file, 33 * UNIT..34 * UNIT).unwrap();
    units::write_sums(&about, 33, &[units::sum(&unit)]).unwrap();
    not_made(&disk, &setup.chunks);
    assert!(!setup.joined_file(&setup.chunks).exists());
    let (hash, len) = key(&setup.chunks[1]);
    assert!(disk.large(hash, len).unwrap().wrong().is_some());
    assert!(!setup.of(&setup.chunks[1], "").exists());
    assert!(disk.joined_at_once(&keys(&setup.chunks)).is_none());
}

#[test]
fn a_joined_file_that_was_changed_is_hashed_again_and_removed_if_it_is_damaged() {
    let setup = Setup::new();
    drop(made(&setup.filled(&setup.chunks), &setup.chunks));
    let path = setup.joined_file(&setup.chunks);
    let file = File::options().write(true).open(&path).unwrap();
    attachfs_durable::set_modified(&file, 1000, 0).unwrap();
    let disk = setup.disk();
    assert!(disk.joined(&keys(&setup.chunks)).is_none());
    made(&disk, &setup.chunks);
    assert_eq!(
        (disk.counts().verified.get(), disk.counts().joined.get()),
        (1, 0)
    );

    write_all_at(&file, b"altered", CHUNK + 7).unwrap();
    not_made(&disk, &setup.chunks);
    assert!(!path.exists());
    assert_eq!(disk.counts().damaged.get(), 1);
    for chunk in &setup.chunks[..2] {
        let (hash, len) = key(chunk);
        assert!(!disk.may_have(hash, len) && !setup.of(chunk, ".units").exists());
    }
    drop(disk);
    made(&setup.filled(&setup.chunks), &setup.chunks);
}

#[test]
fn a_damaged_unit_of_a_joined_file_is_not_given_and_is_fetched_again() {
    let setup = Setup::new();
    drop(made(&setup.filled(&setup.chunks), &setup.chunks));
    let path = setup.joined_file(&setup.chunks);
    let file = File::options().write(true).open(&path).unwrap();
    write_all_at(&file, b"altered", CHUNK + 7 * UNIT).unwrap();
    let disk = setup.disk();
    let (hash, len) = key(&setup.chunks[1]);
    let large = disk.large(hash, len).unwrap();
    assert!(large.read(7..8).is_none());
    // The keeper hashes it, too, since the file was changed; whoever is first removes it.
    disk.flush();
    assert!(!path.exists() && !disk.may_have(hash, len));
    fill(&disk, &setup.chunks[..2]);
    made(&disk, &setup.chunks);
}

#[test]
fn another_file_takes_a_shared_chunk_out_of_a_joined_one() {
    let setup = Setup::new();
    let disk = setup.filled(&setup.chunks);
    drop(made(&disk, &setup.chunks));
    settled(&disk);
    let shared = &setup.chunks[1];
    let other = [some(7, CHUNK), shared.clone(), some(8, CHUNK)];
    fill(&disk, &other[..1]);
    fill(&disk, &other[2..]);
    drop(made(&disk, &other));
    settled(&disk);
    assert_eq!(disk.counts().joined.get(), 2);
    drop(disk);
    // The younger one is where the chunk lies from now on.
    fs::remove_file(setup.joined_file(&setup.chunks)).unwrap();
    let disk = setup.disk();
    let (hash, len) = key(shared);
    assert!(disk.large(hash, len).unwrap().read(0..40).unwrap() == shared);
    assert!(!disk.may_have(key(&setup.chunks[0]).0, CHUNK));
}

#[test]
fn with_a_joined_file_go_its_chunks_and_all_are_fetched_and_joined_again() {
    let setup = Setup::new();
    let disk = setup.filled(&setup.chunks);
    let joined = made(&disk, &setup.chunks);
    settled(&disk);
    let kept = setup.files();
    drop(disk);
    assert_eq!(setup.collect(0).in_use, 1, "somebody reads it");
    assert!(setup.joined_file(&setup.chunks).exists());
    drop(joined);
    assert_eq!(setup.collect(0).left, 0);
    assert_eq!(setup.files(), BTreeSet::new());
    let disk = setup.disk();
    assert!(!disk.may_have(key(&setup.chunks[0]).0, CHUNK));
    fill(&disk, &setup.chunks);
    made(&disk, &setup.chunks);
    settled(&disk);
    assert_eq!(setup.files(), kept);
}

#[test]
fn a_pinned_chunk_keeps_the_joined_file_and_its_place_goes_with_no_other() {
    let setup = Setup::new();
    drop(made(&setup.filled(&setup.chunks), &setup.chunks));
    let stock = setup.cache().stock().unwrap().unwrap();
    let pin = Pin {
        name: [9; 16],
        about: String::new(),
        partition: PARTITION,
        objects: vec![*key(&setup.chunks[1]).0.as_bytes()],
    };
    stock.pins().pin(&pin).unwrap();
    assert_eq!(setup.collect(0).pinned, 1);
    let disk = setup.disk();
    for chunk in &setup.chunks[..2] {
        let (hash, len) = key(chunk);
        assert!(disk.large(hash, len).unwrap().read(0..40).unwrap() == chunk);
    }
}

#[test]
fn a_chunk_may_be_in_a_file_more_than_once() {
    let setup = Setup::new();
    let [first, second] = [0, 1].map(|index| setup.chunks[index].clone());
    let chunks = [first.clone(), second.clone(), first.clone(), second];
    drop(made(&setup.filled(&chunks[..2]), &chunks));
    let disk = setup.disk();
    let (hash, len) = key(&first);
    assert!(disk.large(hash, len).unwrap().read(0..40).unwrap() == first);
    drop(disk);
    assert_eq!(setup.collect(0).left, 0);
    assert_eq!(setup.files(), BTreeSet::new());
}

#[test]
fn a_chunk_that_is_begun_anew_while_it_is_joined_is_fetched_and_not_waited_for() {
    let setup = Setup::new();
    drop(made(&setup.filled(&setup.chunks), &setup.chunks));
    let chunk = &setup.chunks[0];
    let (hash, len) = key(chunk);
    // New files, and nobody has their units; then somebody says that they lie in the joined file.
    let about = units::About::new(hash, len, Some("1"));
    let mut writer = setup.objects().writer();
    let files = writer.create_large(*hash.as_bytes(), len, &about.encode(), about.file_len());
    drop(files.unwrap());
    let (_, place) = list(&setup.chunks).places().next().unwrap();
    setup
        .objects()
        .note_place(*hash.as_bytes(), &place)
        .unwrap();
    let disk = setup.disk();
    assert!(disk.large(hash, len).unwrap().read(0..1).is_none());
    fill(&disk, &setup.chunks[..1]);
    assert!(disk.large(hash, len).unwrap().read(0..40).unwrap() == chunk);
}

#[test]
fn what_is_said_of_a_joined_file_that_is_gone_goes_as_what_was_not_used_for_long() {
    let setup = Setup::new();
    drop(made(&setup.filled(&setup.chunks), &setup.chunks));
    fs::remove_file(setup.joined_file(&setup.chunks)).unwrap();
    let disk = setup.disk();
    let (hash, len) = key(&setup.chunks[0]);
    assert!(!disk.may_have(hash, len));
    assert!(disk.large(hash, len).unwrap().read(0..1).is_none());
    drop(disk);
    assert_eq!(setup.collect(0).left, 0);
    assert_eq!(setup.files(), BTreeSet::new());
}

#[test]
fn a_chunk_that_somebody_has_open_keeps_its_file_until_it_is_closed() {
    let setup = Setup::new();
    let disk = setup.filled(&setup.chunks);
    let other = setup.disk();
    let (hash, len) = key(&setup.chunks[0]);
    let open = other.large(hash, len).unwrap();
    made(&disk, &setup.chunks);
    settled(&disk);
    assert!(setup.of(&setup.chunks[0], "").exists() && !setup.of(&setup.chunks[1], "").exists());
    assert!(open.read(0..40).unwrap() == setup.chunks[0]);
    drop((open, other));
    until("its file is gone", || {
        disk.flush();
        !setup.of(&setup.chunks[0], "").exists()
    });
    assert!(disk.large(hash, len).unwrap().read(0..40).unwrap() == setup.chunks[0]);
    let (written, there) = setup.sums();
    assert_eq!(written, there);
}

#[test]
fn a_file_of_its_own_goes_before_the_joined_one_that_has_the_same_bytes() {
    let setup = Setup::new();
    let disk = setup.filled(&setup.chunks);
    let other = setup.disk();
    let (hash, len) = key(&setup.chunks[0]);
    let open = other.large(hash, len).unwrap();
    drop(made(&disk, &setup.chunks));
    settled(&disk);
    drop((disk, open, other));
    let stock = setup.cache().stock().unwrap().unwrap();
    let (all, _) = stock.shelf(hash.as_bytes()[0]).unwrap();
    let stored = all.iter().find(|stored| stored.object == *hash.as_bytes());
    assert_eq!(stock.remove(stored.unwrap()).unwrap(), Removal::Removed);
    assert!(!setup.of(&setup.chunks[0], "").exists());
    assert!(setup.disk().may_have(hash, len));
}

#[test]
fn nothing_is_joined_or_evicted_where_there_is_no_room_for_a_copy() {
    let mut setup = Setup::new();
    let kept = some(9, CHUNK);
    drop(setup.filled(std::slice::from_ref(&kept)));
    drop(setup.filled(&setup.chunks));
    setup.count_anew();
    setup.limits.max_bytes = Some(setup.sums().1 + CHUNK);
    let disk = setup.disk();
    disk.flush();
    not_made(&disk, &setup.chunks);
    if disk.counts().joined_cloned.get() == 0 {
        assert_eq!(disk.counts().joined.get(), 0);
    }
    assert_eq!(disk.counts().evicted.get(), 0);
    assert!(disk.may_have(key(&kept).0, CHUNK) && disk.may_have(key(&setup.chunks[0]).0, CHUNK));
    assert_eq!(disk.cache.reserved(), 0);
    drop(disk);
    setup.count_anew();
    setup.limits.max_bytes = Some(setup.sums().1 + 3 * CHUNK);
    let disk = setup.disk();
    disk.flush();
    drop(made(&disk, &setup.chunks));
    settled(&disk);
    assert_eq!(disk.cache.reserved(), 0);
    assert!(setup.sums().1 <= setup.limits.max_bytes.unwrap());
}

#[test]
fn what_a_file_takes_that_is_being_joined_is_kept_free_on_the_disk_until_it_is_written() {
    let mut setup = Setup::new();
    let free = attachfs_durable::space(setup.temp.path())
        .unwrap()
        .available;
    let part = free / 10;
    setup.limits.max_bytes = Some(u64::MAX);
    setup.limits.min_free = Some(0);
    let disk = setup.disk();
    disk.flush();
    assert!(disk.cache.reserve(8 * part));
    disk.flush();
    assert!(!disk.cache.take_room(4 * part));
    disk.cache.reserved_is_written(8 * part);
    disk.flush();
    assert!(disk.cache.take_room(4 * part));
    disk.cache.give_back(8 * part, 8 * part);
    assert_eq!((disk.cache.reserved(), disk.cache.to_come()), (0, 0));
}

#[test]
fn what_a_file_takes_that_is_being_joined_is_room_for_nothing_else() {
    let mut setup = Setup::new();
    setup.limits.max_bytes = Some(10 * CHUNK);
    let disk = setup.disk();
    disk.flush();
    assert!(disk.cache.reserve(8 * CHUNK));
    disk.flush();
    assert!(!disk.cache.take_room(3 * CHUNK) && disk.cache.take_room(CHUNK));
    disk.cache.give_back(8 * CHUNK, 0);
    disk.flush();
    assert!(disk.cache.take_room(3 * CHUNK));
}

#[test]
fn chunks_that_are_small_for_the_cache_are_not_joined() {
    let setup = Setup::new();
    let chunks = [some(4, 5000), some(5, 5000)];
    let disk = setup.filled(&chunks);
    not_made(&disk, &chunks);
    assert_eq!(disk.counts().joined.get(), 0);
}

#[test]
fn who_is_stopped_at_any_step_leaves_nothing_that_is_wrong_and_nothing_that_stays() {
    let kept = {
        let setup = Setup::new();
        let disk = setup.filled(&setup.chunks);
        drop(made(&disk, &setup.chunks));
        settled(&disk);
        setup.files()
    };
    let mut stopped = 0;
    for steps in 0.. {
        let setup = Setup::new();
        let disk = setup.filled(&setup.chunks);
        let recorder = Recorder::on(setup.temp.path());
        recorder.stop_after(steps);
        let _ = disk.joined(&keys(&setup.chunks));
        settled(&disk);
        let was_whole = recorder.taken().len() < steps;
        drop(disk);
        drop(recorder);
        let disk = setup.disk();
        for chunk in &setup.chunks[..2] {
            let (hash, len) = key(chunk);
            assert!(
                disk.large(hash, len).unwrap().read(0..40).unwrap() == chunk,
                "{steps}"
            );
        }
        drop(made(&disk, &setup.chunks));
        settled(&disk);
        drop(disk);
        let left: BTreeSet<_> = setup.files().difference(&kept).cloned().collect();
        // A chunk that has a file of its own still goes as what was not used for long.
        let own: BTreeSet<_> = setup.chunks[..2]
            .iter()
            .map(|chunk| key(chunk).0.to_string())
            .collect();
        assert!(left.is_subset(&own), "{steps}: {left:?}");
        assert_eq!(setup.collect(0).left, 0, "{steps}");
        assert_eq!(setup.files(), BTreeSet::new(), "{steps}");
        if was_whole {
            break;
        }
        stopped += 1;
    }
    assert!(stopped >= 4, "two names are given and two taken away");
}

#[test]
fn a_joined_file_is_verified_with_the_cache_and_removed_if_it_is_damaged() {
    let setup = Setup::new();
    drop(made(&setup.filled(&setup.chunks), &setup.chunks));
    let upkeep = Upkeep::open(&setup.cache()).unwrap().unwrap();
    let on = &mut |_| ControlFlow::Continue(());
    let check = |on: &mut dyn FnMut(u64) -> ControlFlow<()>| -> Vec<_> {
        let survey = upkeep.survey(on).unwrap();
        let joined = survey.objects.iter().filter(|stored| stored.is_joined());
        joined
            .map(|stored| upkeep.check(stored, on).unwrap())
            .collect()
    };
    assert_eq!(check(on), [crate::Verdict::Sound]);
    let file = File::options()
        .write(true)
        .open(setup.joined_file(&setup.chunks));
    write_all_at(&file.unwrap(), b"altered", CHUNK + 7).unwrap();
    assert_eq!(check(on), [crate::Verdict::Damaged]);
    assert_eq!(check(on), []);
    assert!(!setup.of(&setup.chunks[0], ".units").exists());
}

#[test]
fn joining_leaves_the_disk_to_those_who_read() {
    let setup = Setup::new();
    let disk = setup.disk();
    let mut joiner = super::super::joiner::Joiner::new();
    assert_eq!(joiner.waits(&disk.cache), None);
    joiner.add(
        &disk.cache,
        Wanted {
            list: list(&setup.chunks),
            open: Vec::new(),
        },
    );
    assert_eq!(joiner.waits(&disk.cache), Some(Duration::ZERO));
    std::thread::sleep(Duration::from_millis(2));
    // A read counts for a moment, which may have passed when it has ended.
    until("it waits for who reads", || {
        disk.get(key(&setup.chunks[0]).0, CHUNK);
        joiner.waits(&disk.cache).unwrap() > Duration::from_millis(100)
    });
}
