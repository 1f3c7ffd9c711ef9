//! Snapshots of real folders, into stores that misbehave.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use attachfs_manifest::{ChunkSize, Content, ContentHash, File, ManifestPath};
use attachfs_scan::{ProgressEvent, ScanError, ScanOptions, ScannedFile, scan};
use attachfs_store::fault::{Failure, Fault, FaultStore, Rule};
use attachfs_store::record::RecordStore;
use attachfs_store::{
    CallKind, ChunkStore, DirectoryStore, MemoryStore, ObjectMeta, ObjectPart, Payload, StoreError,
};
use parking_lot::Mutex;
use tempfile::TempDir;

use super::*;
use crate::{Silent, Summary, UploadOptions, UploadReport};

mod known;
mod parallel;
mod sending;

fn chunks_of(bytes: u64) -> ChunkSize {
    ChunkSize::Bytes(bytes.try_into().unwrap())
}

fn whole() -> HashOptions {
    HashOptions::new(ChunkSize::WholeFile)
}

fn path(text: &str) -> ManifestPath {
    ManifestPath::new(text.as_bytes()).unwrap()
}

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let temp = TempDir::new().unwrap();
    for (name, bytes) in files {
        fs::write(temp.path().join(name), bytes).unwrap();
    }
    temp
}

fn scanned(folder: &TempDir) -> Scan {
    scan(folder.path(), &ScanOptions::default(), &Silent).unwrap()
}

fn file(snapshot: &Snapshot, name: &str) -> File {
    match snapshot.get(&path(name)) {
        Some(Node::File(file)) => file,
        other => panic!("{other:?}"),
    }
}

/// Everything is small, or everything is large.
fn uploader(store: Arc<dyn ChunkStore>, small_file: u64) -> Uploader {
    Uploader::new(
        store,
        UploadOptions {
            small_file,
            ..UploadOptions::default()
        },
    )
}

#[tokio::test]
async fn every_object_that_the_manifest_names_is_in_the_store() {
    let folder = folder(&[("a", b"0123456789"), ("b", b"01234"), ("empty", b"")]);
    for small_file in [0, 1 << 20] {
        let home = TempDir::new().unwrap();
        let store = Arc::new(DirectoryStore::create(home.path()).unwrap());
        let uploader = uploader(Arc::clone(&store) as _, small_file);
        let (snapshot, report) = snapshot(
            &scanned(&folder),
            &HashOptions::new(chunks_of(5)),
            Some(&uploader),
            &Silent,
        )
        .await
        .unwrap();
        let hash = ContentHash::of;
        assert_eq!(file(&snapshot, "b").content, Content::Whole(hash(b"01234")));
        assert_eq!(
            file(&snapshot, "a").content,
            Content::Chunks([hash(b"01234"), hash(b"56789")].into())
        );
        for object in [&b"01234"[..], b"56789", b""] {
            let part = store.get(hash(object), 0..9).await.unwrap();
            assert_eq!(part.bytes, object);
        }
        // The object that both share is sent once.
        assert_eq!(
            report.upload.uploaded,
            Tally {
                count: 3,
                bytes: 10
            }
        );
        assert_eq!(report.upload.already_there, Tally::default());
    }
}

#[tokio::test]
async fn a_second_snapshot_sends_nothing() {
    let folder = folder(&[("a", b"one"), ("b", b"two")]);
    let store = Arc::new(RecordStore::new(Arc::new(MemoryStore::new())));
    let uploader = uploader(Arc::clone(&store) as _, 100);
    let scan = scanned(&folder);
    let options = HashOptions::new(ChunkSize::DEFAULT);
    let taken = async || snapshot(&scan, &options, Some(&uploader), &Silent).await;
    let (first, _) = taken().await.unwrap();
    store.clear();
    let (second, report) = taken().await.unwrap();
    assert_eq!(first, second);
    assert_eq!(store.count(CallKind::Put), 0);
    assert_eq!(report.upload.already_there, Tally { count: 2, bytes: 6 });
}

#[tokio::test]
async fn without_a_store_everything_is_hashed_all_the_same() {
    let folder = folder(&[("a", b"one")]);
    let (snapshot, report) = snapshot(&scanned(&folder), &whole(), None, &Silent)
        .await
        .unwrap();
    assert_eq!(
        file(&snapshot, "a").content,
        Content::Whole(ContentHash::of(b"one"))
    );
    assert_eq!(report.upload, UploadReport::default());
}

#[tokio::test]
async fn a_file_that_changed_since_the_scan_is_taken_as_it_is_now() {
    let folder = folder(&[("a", b"old")]);
    let scan = scanned(&folder);
    fs::write(folder.path().join("a"), "newer").unwrap();
    let (snapshot, _) = snapshot(&scan, &whole(), None, &Silent).await.unwrap();
    assert_eq!(file(&snapshot, "a").size, 5);
    assert_eq!(
        file(&snapshot, "a").content,
        Content::Whole(ContentHash::of(b"newer"))
    );
}

/// A store whose file is written to whenever it is asked for an object, a number of times.
#[derive(Debug)]
struct Restless {
    inner: MemoryStore,
    file: PathBuf,
    times: AtomicU32,
}

impl Restless {
    fn over(folder: &TempDir, times: u32) -> Arc<Self> {
        let file = folder.path().join("a");
        Arc::new(Self {
            inner: MemoryStore::new(),
            file,
            times: AtomicU32::new(times),
        })
    }
}

#[async_trait::async_trait]
impl ChunkStore for Restless {
    async fn get(&self, chunk: ContentHash, part: Range<u64>) -> Result<ObjectPart, StoreError> {
        self.inner.get(chunk, part).await
    }

    async fn head(&self, chunk: ContentHash) -> Result<ObjectMeta, StoreError> {
        let left = |times: u32| times.checked_sub(1);
        if self
            .times
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left)
            .is_ok()
        {
            OpenOptions::new()
                .append(true)
                .open(&self.file)
                .unwrap()
                .write_all(b"+")
                .unwrap();
        }
        self.inner.head(chunk).await
    }

    async fn put(&self, chunk: ContentHash, payload: Payload) -> Result<(), StoreError> {
        self.inner.put(chunk, payload).await
    }
}

#[tokio::test]
async fn a_file_that_changes_under_the_upload_is_read_again() {
    let folder = folder(&[("a", b"start")]);
    let store = Restless::over(&folder, 2);
    let uploader = uploader(Arc::clone(&store) as _, 0);
    let (snapshot, report) = snapshot(&scanned(&folder), &whole(), Some(&uploader), &Silent)
        .await
        .unwrap();
    let last = ContentHash::of(b"start++");
    assert_eq!(file(&snapshot, "a").content, Content::Whole(last));
    assert_eq!(store.inner.objects(), [last]);
    assert_eq!(report.upload.uploaded, Tally { count: 1, bytes: 7 });
}

/// Why the only file that failed did.
fn only_failure(error: TransferError) -> String {
    let TransferError::Unfinished(summary) = error else {
        panic!("{error:?}")
    };
    let [failed] = &summary.errors[..] else {
        panic!("{summary:?}")
    };
    format!("{}: {}", failed.path, failed.error)
}

#[tokio::test]
async fn a_file_that_never_rests_is_an_error_that_names_it() {
    let folder = folder(&[("a", b"start")]);
    let store = Restless::over(&folder, u32::MAX);
    let uploader = uploader(Arc::clone(&store) as _, 0);
    let error = snapshot(&scanned(&folder), &whole(), Some(&uploader), &Silent)
        .await
        .unwrap_err();
    let why = only_failure(error);
    assert!(
        why.starts_with("a: ") && why.ends_with("changed while it was being read"),
        "{why}"
    );
    assert!(store.inner.objects().is_empty());
}

#[tokio::test]
async fn a_file_that_vanished_is_an_error_that_names_it() {
    let folder = folder(&[("gone", b"")]);
    let scan = scanned(&folder);
    fs::remove_file(folder.path().join("gone")).unwrap();
    let error = snapshot(&scan, &whole(), None, &Silent).await.unwrap_err();
    assert!(matches!(error, TransferError::Scan(ScanError::Io { .. })));
    assert!(error.to_string().contains("gone"), "{error}");
}

#[tokio::test]
async fn a_store_that_refuses_is_an_error_that_names_the_file() {
    let folder = folder(&[("a", b"x")]);
    let store = FaultStore::new(Arc::new(MemoryStore::new()));
    store.add(Rule::on(CallKind::Put, Fault::Before(Failure::Denied)));
    let uploader = uploader(Arc::new(store), 100);
    let error = snapshot(&scanned(&folder), &whole(), Some(&uploader), &Silent)
        .await
        .unwrap_err();
    assert!(matches!(&error, TransferError::Store { path, .. } if path.ends_with("a")));
}

#[tokio::test]
async fn when_the_first_of_two_equal_files_changes_the_other_one_still_arrives() {
    let folder = folder(&[("a", b"same"), ("b", b"same")]);
    let store = Restless::over(&folder, 1);
    let uploader = uploader(Arc::clone(&store) as _, 0);
    let (snapshot, _) = snapshot(&scanned(&folder), &whole(), Some(&uploader), &Silent)
        .await
        .unwrap();
    assert_eq!(
        file(&snapshot, "b").content,
        Content::Whole(ContentHash::of(b"same"))
    );
    let stored = store.inner.objects();
    for name in ["a", "b"] {
        let Content::Whole(hash) = file(&snapshot, name).content else {
            panic!("whole")
        };
        assert!(stored.contains(&hash), "{name}");
    }
}

#[tokio::test]
async fn a_listener_hears_of_everything_in_the_end_and_can_cancel() {
    #[derive(Default)]
    struct Last(Mutex<Option<ProgressEvent>>, bool);
    impl Progress for Last {
        fn update(&self, event: &ProgressEvent) -> ControlFlow<()> {
            *self.0.lock() = Some(event.clone());
            if self.1 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        }
    }
    let folder = folder(&[("a", b"one"), ("b", b"three")]);
    let listener = Last::default();
    snapshot(&scanned(&folder), &whole(), None, &listener)
        .await
        .unwrap();
    let last = listener.0.lock().clone().unwrap();
    assert_eq!((last.items_done, last.items_total), (2, Some(2)));
    assert_eq!((last.bytes_done, last.bytes_total), (8, Some(8)));
    let cancelling = Last(Mutex::default(), true);
    let cancelled = snapshot(&scanned(&folder), &whole(), None, &cancelling).await;
    assert!(matches!(cancelled, Err(TransferError::Cancelled(_))));
}
