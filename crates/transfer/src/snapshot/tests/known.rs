//! Files whose hashes are known from an earlier time: which changes are seen, and what is read all the same.

use std::fs::FileTimes;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use attachfs_scan::cache::{Day, HashCache, HashCacheOptions, HashCaches};

use super::*;

/// A cache of its own, and the options that use it.
struct Cached {
    _home: TempDir,
    caches: Arc<HashCaches>,
    options: HashOptions,
}

fn cached(chunk_size: ChunkSize) -> Cached {
    let home = TempDir::new().unwrap();
    let place = home.path().join("hashes.db");
    let own = HashCacheOptions::new(place, "machine".to_owned(), Day(20_000));
    let caches = Arc::new(HashCaches {
        own: Some(HashCache::open(&own).unwrap()),
        deadline: None,
    });
    let options = HashOptions {
        caches: Some(Arc::clone(&caches)),
        ..HashOptions::new(chunk_size)
    };
    Cached {
        _home: home,
        caches,
        options,
    }
}

impl Cached {
    /// Keeps hashes of the one file of a scan as if it had been read when it had settled.
    fn learn(&self, scan: &Scan, hashes: &[ContentHash]) {
        let later = SystemTime::now() + Duration::from_secs(10);
        let chunk_size = self.options.chunk_size;
        self.caches
            .remember(only_file(scan), chunk_size, hashes, later);
        self.caches.flush();
    }

    async fn snapshot(&self, folder: &TempDir, store: Option<&Uploader>) -> (Snapshot, HashReport) {
        snapshot(&scanned(folder), &self.options, store, &Silent)
            .await
            .unwrap()
    }
}

fn only_file(scan: &Scan) -> &ScannedFile {
    let mut files = scan.entries.iter().filter_map(|entry| match &entry.kind {
        EntryKind::File(file) => Some(file),
        _ => None,
    });
    files.next().unwrap()
}

fn lie() -> ContentHash {
    ContentHash::of(b"a hash that no reading would give")
}

#[tokio::test]
async fn what_one_snapshot_read_the_next_one_does_not() {
    let cached = cached(ChunkSize::DEFAULT);
    // The sources of this crate: files that nobody changes just now.
    let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let scan = scan(&sources, &ScanOptions::default(), &Silent).unwrap();
    let all = Tally {
        count: scan.file_count(),
        bytes: scan.byte_count(),
    };
    let take = || snapshot(&scan, &cached.options, None, &Silent);
    let (first, report) = take().await.unwrap();
    assert_eq!((report.hashed, report.known), (all, Tally::default()));
    cached.caches.flush();
    let (second, report) = take().await.unwrap();
    assert_eq!((report.hashed, report.known), (Tally::default(), all));
    assert_eq!(first, second);
}

#[tokio::test]
async fn files_that_were_written_just_now_are_read_each_time() {
    let cached = cached(ChunkSize::DEFAULT);
    let folder = folder(&[("a", b"one")]);
    for _ in 0..2 {
        let (_, report) = cached.snapshot(&folder, None).await;
        assert_eq!(report.hashed.count, 1);
        cached.caches.flush();
    }
}

#[tokio::test]
async fn a_known_file_is_not_read_unless_it_must_be() {
    let cached = cached(ChunkSize::DEFAULT);
    let folder = folder(&[("a", b"one")]);
    cached.learn(&scanned(&folder), &[lie()]);
    let (snapshot, report) = cached.snapshot(&folder, None).await;
    assert_eq!(file(&snapshot, "a").content, Content::Whole(lie()));
    assert_eq!((report.known.count, report.hashed.count), (1, 0));
    let force = HashOptions {
        force_rehash: true,
        ..cached.options.clone()
    };
    let (snapshot, report) = super::snapshot(&scanned(&folder), &force, None, &Silent)
        .await
        .unwrap();
    let right = Content::Whole(ContentHash::of(b"one"));
    assert_eq!(file(&snapshot, "a").content, right);
    assert_eq!((report.known.count, report.hashed.count), (0, 1));
}

/// Each of these leaves length and modification time as they were.
#[tokio::test]
async fn other_bytes_under_the_old_length_and_time_are_seen() {
    fn set_time(path: &std::path::Path, like: &fs::Metadata) {
        let times = FileTimes::new().set_modified(like.modified().unwrap());
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.set_times(times).unwrap();
    }
    let in_place = |path: &std::path::Path, old: &fs::Metadata| {
        fs::write(path, "two").unwrap();
        set_time(path, old);
    };
    let replaced = |path: &std::path::Path, old: &fs::Metadata| {
        let other = path.with_extension("new");
        fs::write(&other, "two").unwrap();
        set_time(&other, old);
        fs::rename(&other, path).unwrap();
    };
    for is_replaced in [false, true] {
        let cached = cached(ChunkSize::DEFAULT);
        let folder = folder(&[("a", b"one")]);
        cached.learn(&scanned(&folder), &[ContentHash::of(b"one")]);
        let path = folder.path().join("a");
        let old = fs::metadata(&path).unwrap();
        if is_replaced {
            replaced(&path, &old);
        } else {
            in_place(&path, &old);
        }
        let new = fs::metadata(&path).unwrap();
        assert_eq!((old.len(), old.mtime_nsec()), (new.len(), new.mtime_nsec()));
        let (snapshot, report) = cached.snapshot(&folder, None).await;
        let right = Content::Whole(ContentHash::of(b"two"));
        assert_eq!(file(&snapshot, "a").content, right);
        assert_eq!(report.hashed.count, 1);
    }
}

#[tokio::test]
async fn a_known_file_that_the_store_has_is_confirmed_and_not_read() {
    let cached = cached(ChunkSize::DEFAULT);
    let folder = folder(&[("a", b"one")]);
    cached.learn(&scanned(&folder), &[lie()]);
    let memory = Arc::new(MemoryStore::new());
    memory.insert_as(lie(), "any");
    let store = Arc::new(RecordStore::new(Arc::clone(&memory) as _));
    let uploader = uploader(Arc::clone(&store) as _, 100);
    let (_, report) = cached.snapshot(&folder, Some(&uploader)).await;
    assert_eq!((report.known.count, report.hashed.count), (1, 0));
    assert_eq!(report.upload.already_there.count, 1);
    assert_eq!(store.count(CallKind::Head), 1);
    assert_eq!(store.count(CallKind::Put), 0);
}

#[tokio::test]
async fn a_known_file_that_the_store_lacks_is_read_compared_and_sent() {
    for small_file in [0, 100] {
        let cached = cached(ChunkSize::DEFAULT);
        let folder = folder(&[("a", b"one")]);
        cached.learn(&scanned(&folder), &[ContentHash::of(b"one")]);
        let memory = Arc::new(MemoryStore::new());
        let uploader = uploader(Arc::clone(&memory) as _, small_file);
        let (_, report) = cached.snapshot(&folder, Some(&uploader)).await;
        assert_eq!(report.upload.uploaded.count, 1);
        assert_eq!(memory.objects(), [ContentHash::of(b"one")]);
    }
}

#[tokio::test]
async fn a_wrong_hash_never_reaches_the_store() {
    for small_file in [0, 100] {
        let cached = cached(ChunkSize::DEFAULT);
        let folder = folder(&[("a", b"one")]);
        cached.learn(&scanned(&folder), &[lie()]);
        let memory = Arc::new(MemoryStore::new());
        let uploader = uploader(Arc::clone(&memory) as _, small_file);
        let (snapshot, report) = cached.snapshot(&folder, Some(&uploader)).await;
        let right = ContentHash::of(b"one");
        assert_eq!(file(&snapshot, "a").content, Content::Whole(right));
        assert_eq!(memory.objects(), [right]);
        assert_eq!(report.hashed.count, 1);
    }
}

#[tokio::test]
async fn of_a_known_file_only_the_chunk_that_the_store_lacks_is_sent() {
    let cached = cached(chunks_of(5));
    let folder = folder(&[("a", b"0123456789")]);
    let hashes = [ContentHash::of(b"01234"), ContentHash::of(b"56789")];
    cached.learn(&scanned(&folder), &hashes);
    let memory = Arc::new(MemoryStore::new());
    memory.insert("01234");
    let uploader = uploader(Arc::clone(&memory) as _, 0);
    let (snapshot, report) = cached.snapshot(&folder, Some(&uploader)).await;
    assert_eq!(file(&snapshot, "a").content, Content::Chunks(hashes.into()));
    let one = Tally { count: 1, bytes: 5 };
    assert_eq!(report.upload.uploaded, one);
    assert_eq!(report.upload.already_there, one);
}

#[tokio::test]
async fn a_known_file_that_changed_since_the_scan_is_sent_as_it_is_now() {
    let cached = cached(ChunkSize::DEFAULT);
    let folder = folder(&[("a", b"one")]);
    let scan = scanned(&folder);
    cached.learn(&scan, &[ContentHash::of(b"one")]);
    fs::write(folder.path().join("a"), "newer").unwrap();
    let memory = Arc::new(MemoryStore::new());
    let uploader = uploader(Arc::clone(&memory) as _, 0);
    let (snapshot, _) = super::snapshot(&scan, &cached.options, Some(&uploader), &Silent)
        .await
        .unwrap();
    let right = ContentHash::of(b"newer");
    assert_eq!(file(&snapshot, "a").content, Content::Whole(right));
    assert_eq!(memory.objects(), [right]);
}

#[tokio::test]
async fn a_listener_hears_what_there_was_nothing_to_do_for() {
    #[derive(Default)]
    struct Last(Mutex<Option<ProgressEvent>>);
    impl Progress for Last {
        fn update(&self, event: &ProgressEvent) -> ControlFlow<()> {
            *self.0.lock() = Some(event.clone());
            ControlFlow::Continue(())
        }
    }
    let cached = cached(ChunkSize::DEFAULT);
    let folder = folder(&[("a", b"one")]);
    cached.learn(&scanned(&folder), &[ContentHash::of(b"one")]);
    fs::write(folder.path().join("b"), "three").unwrap();
    let heard = Last::default();
    super::snapshot(&scanned(&folder), &cached.options, None, &heard)
        .await
        .unwrap();
    let last = heard.0.lock().clone().unwrap();
    assert_eq!((last.items_done, last.items_skipped), (2, 1));
    assert_eq!((last.bytes_done, last.bytes_skipped), (8, 3));
}
