//! Many files into one store: what fails of one, what fails of all, and what was seen at an earlier time.

use std::time::{Duration, Instant};

use attachfs_scan::Below;
use attachfs_scan::cache::{S3CheckCache, SETTLED};
use attachfs_store::data_key;

use super::*;
use crate::{NamedFile, SeenObjects, upload_named};

/// Files that are all different.
fn numbered(count: u16) -> TempDir {
    let temp = TempDir::new().unwrap();
    for number in 0..count {
        fs::write(
            temp.path().join(format!("{number:04}")),
            number.to_le_bytes(),
        )
        .unwrap();
    }
    temp
}

fn number(number: u16) -> ContentHash {
    ContentHash::of(&number.to_le_bytes())
}

/// A store that writes down what it is asked, over one that keeps things in memory.
fn recorded() -> (Arc<RecordStore>, Arc<MemoryStore>) {
    let memory = Arc::new(MemoryStore::new());
    let store = Arc::new(RecordStore::new(Arc::clone(&memory) as _));
    (store, memory)
}

fn seen(home: &TempDir) -> SeenObjects {
    let cache = S3CheckCache::open(home.path(), Duration::from_secs(1)).unwrap();
    SeenObjects::new(cache, "bucket".parse().unwrap(), "p".parse().unwrap(), 7)
}

/// An upload that believes what an earlier one saw. Gives its account.
async fn believing(
    folder: &TempDir,
    store: &Arc<RecordStore>,
    seen: SeenObjects,
) -> (HashReport, usize, usize) {
    store.clear();
    let uploader = uploader(Arc::clone(store) as _, 100).believing(seen);
    let taken = snapshot(&scanned(folder), &whole(), Some(&uploader), &Silent).await;
    let (heads, puts) = (store.count(CallKind::Head), store.count(CallKind::Put));
    (taken.unwrap().1, heads, puts)
}

fn files(summary: &Summary) -> (u64, u64, usize) {
    let Summary {
        processed, skipped, ..
    } = summary;
    (processed.count, skipped.count, summary.errors.len())
}

#[tokio::test]
async fn what_was_seen_is_believed_after_a_sample_of_thirty() {
    let (folder, home, (store, memory)) = (numbered(100), TempDir::new().unwrap(), recorded());
    let (first, _, puts) = believing(&folder, &store, seen(&home)).await;
    assert_eq!((files(&first.summary), puts), ((100, 0, 0), 100));
    let (second, heads, puts) = believing(&folder, &store, seen(&home)).await;
    assert_eq!((heads, puts), (30, 0));
    assert_eq!(files(&second.summary), (0, 100, 0));
    assert_eq!(second.upload.already_there, first.upload.uploaded);
    assert_eq!(memory.objects().len(), 100);
}

#[tokio::test]
async fn a_hole_that_the_sample_finds_is_filled_and_everything_is_asked_for() {
    for wrong_length in [false, true] {
        let (folder, home, (store, memory)) = (numbered(100), TempDir::new().unwrap(), recorded());
        believing(&folder, &store, seen(&home)).await;
        for gone in (0..100).step_by(2) {
            if wrong_length {
                memory.insert_as(number(gone), "wrong");
            } else {
                memory.remove(number(gone));
            }
        }
        let (report, heads, puts) = believing(&folder, &store, seen(&home)).await;
        assert_eq!(files(&report.summary), (50, 50, 0));
        assert_eq!((heads, puts), (30 + 100, 50));
        for there in 0..100 {
            assert_eq!(
                memory.get(number(there), 0..9).await.unwrap().bytes,
                there.to_le_bytes()[..]
            );
        }
        // What was asked for is known again.
        let (_, heads, puts) = believing(&folder, &store, seen(&home)).await;
        assert_eq!((heads, puts), (30, 0));
    }
}

#[tokio::test]
async fn a_forced_check_asks_for_everything_and_remembers_it() {
    let (folder, home, (store, memory)) = (numbered(40), TempDir::new().unwrap(), recorded());
    believing(&folder, &store, seen(&home)).await;
    memory.remove(number(3));
    let (report, heads, puts) = believing(&folder, &store, seen(&home).doubted()).await;
    assert_eq!((heads, puts, files(&report.summary)), (40, 1, (1, 39, 0)));
    let (_, heads, _) = believing(&folder, &store, seen(&home)).await;
    assert_eq!(heads, 30);
}

#[tokio::test]
async fn nothing_is_believed_of_a_store_that_cannot_be_asked() {
    let (folder, home, (store, _)) = (numbered(3), TempDir::new().unwrap(), recorded());
    believing(&folder, &store, seen(&home)).await;
    let faulty = Arc::new(FaultStore::new(Arc::clone(&store) as _));
    faulty.add(Rule::on(
        CallKind::Head,
        Fault::Before(Failure::Unreachable),
    ));
    let uploader = uploader(faulty, 100).believing(seen(&home));
    let error = snapshot(&scanned(&folder), &whole(), Some(&uploader), &Silent).await;
    assert!(matches!(error, Err(TransferError::Ask { .. })), "{error:?}");
}

#[tokio::test]
async fn what_the_store_confirmed_is_written_down_while_the_upload_goes_on() {
    let (folder, home) = (numbered(3), TempDir::new().unwrap());
    let store = FaultStore::new(Arc::new(MemoryStore::new()));
    store.add(Rule::on(CallKind::Put, Fault::Hang).of(number(1)));
    let uploader = uploader(Arc::new(store), 100).believing(seen(&home));
    let scan = scanned(&folder);
    let upload = tokio::spawn(async move {
        let taken = snapshot(&scan, &whole(), Some(&uploader), &Silent).await;
        taken.map(drop)
    });
    let another = S3CheckCache::open(home.path(), Duration::from_secs(1)).unwrap();
    let key = [format!("bucket/p/{}", data_key(number(2)))];
    let began = Instant::now();
    while another.look_up(&key, SystemTime::now()) == [false] {
        assert!(began.elapsed() < Duration::from_mins(1), "waited in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!upload.is_finished());
    upload.abort();
}

#[tokio::test]
async fn where_everything_is_missing_few_objects_are_asked_for() {
    let (folder, (store, _)) = (numbered(1000), recorded());
    let uploader = uploader(Arc::clone(&store) as _, 100);
    let taken = snapshot(&scanned(&folder), &whole(), Some(&uploader), &Silent).await;
    assert_eq!(files(&taken.unwrap().1.summary), (1000, 0, 0));
    assert_eq!(store.count(CallKind::Put), 1000);
    let heads = store.count(CallKind::Head);
    assert!(heads < 400, "{heads}");
}

#[tokio::test]
async fn an_object_that_the_store_refuses_is_reported_and_the_others_are_stored() {
    let (folder, memory) = (numbered(50), Arc::new(MemoryStore::new()));
    let store = Arc::new(FaultStore::new(Arc::clone(&memory) as _));
    store.add(Rule::on(CallKind::Put, Fault::Before(Failure::Denied)).of(number(7)));
    let uploader = uploader(Arc::clone(&store) as _, 100);
    let error = snapshot(&scanned(&folder), &whole(), Some(&uploader), &Silent)
        .await
        .unwrap_err();
    let TransferError::Unfinished(summary) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(files(summary), (49, 0, 1));
    assert_eq!(summary.total.count, 50);
    assert_eq!(summary.errors[0].path, "0007");
    assert_eq!(memory.objects().len(), 49);
}

#[tokio::test]
async fn an_object_that_the_store_refuses_is_tried_once_and_fails_each_of_its_files() {
    for (kind, small_file) in [
        (CallKind::Put, 100),
        (CallKind::Put, 0),
        (CallKind::Head, 100),
        (CallKind::Head, 0),
    ] {
        for named_first in [false, true] {
            let (folder, memory) = (numbered(50), Arc::new(MemoryStore::new()));
            for number in 0..20 {
                fs::write(folder.path().join(format!("same{number:02}")), "same").unwrap();
            }
            let same = ContentHash::of(b"same");
            let store = FaultStore::new(Arc::clone(&memory) as _);
            store.add(Rule::on(kind, Fault::Before(Failure::Denied)).of(same));
            let store = Arc::new(RecordStore::new(Arc::new(store)));
            let options = UploadOptions {
                small_file,
                unasked: 0,
                ..UploadOptions::default()
            };
            let uploader = Uploader::new(Arc::clone(&store) as _, options);
            let scan = scanned(&folder);
            let error = if named_first {
                let taken = snapshot(&scan, &whole(), None, &Silent).await.unwrap();
                let root = Below::open(folder.path()).unwrap();
                let named = named(&taken.0);
                let uploaded = upload_named(&root, named, &uploader, &Silent).await;
                uploaded.map(drop).unwrap_err()
            } else {
                let taken = snapshot(&scan, &whole(), Some(&uploader), &Silent).await;
                taken.map(drop).unwrap_err()
            };
            let TransferError::Unfinished(summary) = &error else {
                panic!("{error:?}")
            };
            assert_eq!(files(summary), (50, 0, 20));
            assert_eq!(memory.objects().len(), 50);
            let of_same = store
                .calls()
                .into_iter()
                .filter(|call| call.kind() == CallKind::Put && call.chunk() == Some(same));
            assert_eq!(of_same.count(), usize::from(kind == CallKind::Put));
        }
    }
}

#[tokio::test]
async fn a_store_that_refuses_everything_ends_the_upload_with_its_own_error() {
    for failure in [Failure::Denied, Failure::Unreachable, Failure::Full] {
        let (folder, store) = (numbered(300), FaultStore::new(Arc::new(MemoryStore::new())));
        store.add(Rule::on(CallKind::Put, Fault::Before(failure)));
        let store = Arc::new(RecordStore::new(Arc::new(store)));
        let uploader = uploader(Arc::clone(&store) as _, 100);
        let error = snapshot(&scanned(&folder), &whole(), Some(&uploader), &Silent).await;
        assert!(
            matches!(error, Err(TransferError::Store { .. })),
            "{error:?}"
        );
        assert!(store.count(CallKind::Put) < 300);
    }
}

#[tokio::test]
async fn the_only_object_that_is_not_there_yet_may_be_refused_and_the_others_count() {
    let (folder, memory) = (numbered(20), Arc::new(MemoryStore::new()));
    let uploader = |store: Arc<dyn ChunkStore>| uploader(store, 100);
    let first = uploader(Arc::clone(&memory) as _);
    snapshot(&scanned(&folder), &whole(), Some(&first), &Silent)
        .await
        .unwrap();
    fs::write(folder.path().join("0007"), "new").unwrap();
    let store = FaultStore::new(memory);
    store.add(Rule::on(CallKind::Put, Fault::Before(Failure::Denied)));
    let again = uploader(Arc::new(store));
    let error = snapshot(&scanned(&folder), &whole(), Some(&again), &Silent).await;
    let TransferError::Unfinished(summary) = error.unwrap_err() else {
        panic!("it is one file's failure")
    };
    assert_eq!(files(&summary), (0, 19, 1));
    assert_eq!(summary.errors[0].path, "0007");
}

/// A file that is written to again within the same tick of the file system's clock keeps its stamp.
#[tokio::test(start_paused = true)]
async fn a_large_file_that_was_just_written_is_not_sent_before_it_has_settled() {
    let folder = folder(&[("fresh", b"0123456789")]);
    let store = Arc::new(MemoryStore::new());
    let large = uploader(Arc::clone(&store) as _, 0);
    let began = tokio::time::Instant::now();
    snapshot(&scanned(&folder), &whole(), Some(&large), &Silent)
        .await
        .unwrap();
    assert!(began.elapsed() >= SETTLED);
    // What is read into memory is sent as it was read.
    let small = uploader(store, 100);
    let began = tokio::time::Instant::now();
    snapshot(&scanned(&folder), &whole(), Some(&small), &Silent)
        .await
        .unwrap();
    assert!(began.elapsed() < SETTLED);
}

#[tokio::test]
async fn a_file_that_vanished_is_reported_and_the_others_are_stored() {
    let (folder, memory) = (numbered(3), Arc::new(MemoryStore::new()));
    let scan = scanned(&folder);
    fs::remove_file(folder.path().join("0001")).unwrap();
    let uploader = uploader(Arc::clone(&memory) as _, 100);
    let error = snapshot(&scan, &whole(), Some(&uploader), &Silent).await;
    let why = only_failure(error.unwrap_err());
    assert!(
        why.starts_with("0001: ") && why.contains("No such file"),
        "{why}"
    );
    assert_eq!(memory.objects().len(), 2);
}

#[tokio::test]
async fn a_file_that_is_left_out_is_not_in_the_total() {
    let (folder, memory) = (numbered(3), Arc::new(MemoryStore::new()));
    let scan = scanned(&folder);
    fs::remove_file(folder.path().join("0001")).unwrap();
    let uploader = uploader(Arc::clone(&memory) as _, 100);
    let options = HashOptions {
        skip_unreadable: true,
        ..whole()
    };
    let taken = snapshot(&scan, &options, Some(&uploader), &Silent).await;
    let report = taken.unwrap().1;
    assert_eq!(report.unreadable.len(), 1);
    assert_eq!(report.summary.total, Tally { count: 2, bytes: 4 });
    assert_eq!(report.summary.processed, report.summary.total);
}

fn named(snapshot: &Snapshot) -> Vec<NamedFile> {
    let chunk_size = snapshot.chunk_size();
    let files = snapshot.entries().filter_map(|(path, node)| match node {
        Node::File(file) => Some(NamedFile {
            path: path.to_owned(),
            size: file.size,
            mtime: file.mtime,
            hashes: file.content.hashes().to_vec(),
            chunk_size,
        }),
        _ => None,
    });
    files.collect()
}

#[tokio::test]
async fn the_files_of_a_manifest_are_stored_under_the_hashes_that_it_says() {
    let folder = folder(&[("a", b"0123456789"), ("b", b"01234"), ("empty", b"")]);
    let options = HashOptions::new(chunks_of(5));
    let taken = snapshot(&scanned(&folder), &options, None, &Silent).await;
    let named = named(&taken.unwrap().0);
    for small_file in [0, 100] {
        let (store, memory) = recorded();
        let uploader = uploader(Arc::clone(&store) as _, small_file);
        let root = Below::open(folder.path()).unwrap();
        let upload = || upload_named(&root, named.clone(), &uploader, &Silent);
        let (objects, summary) = upload().await.unwrap();
        assert_eq!((objects.uploaded.count, objects.uploaded.bytes), (3, 10));
        assert_eq!(files(&summary), (2, 1, 0));
        let mut expected: Vec<_> = [&b"01234"[..], b"56789", b""].map(ContentHash::of).into();
        expected.sort_unstable();
        assert_eq!(memory.objects(), expected);
        let (_, summary) = upload().await.unwrap();
        assert_eq!(files(&summary), (0, 3, 0));
    }
}

/// Each of these makes a file another than the manifest's.
#[tokio::test]
async fn a_file_that_is_not_the_manifests_is_reported_and_not_stored() {
    let folder = folder(&[("good", b"good"), ("bad", b"bad")]);
    let taken = snapshot(&scanned(&folder), &whole(), None, &Silent).await;
    let right = named(&taken.unwrap().0);
    let wrong: [fn(&mut NamedFile); 3] = [
        |file| file.size += 1,
        |file| file.mtime.0 += 2,
        |file| file.hashes[0] = ContentHash::of(b"other"),
    ];
    for (case, wrong) in wrong.iter().enumerate() {
        let mut files = right.clone();
        wrong(&mut files[0]);
        let memory = Arc::new(MemoryStore::new());
        let uploader = uploader(Arc::clone(&memory) as _, 100);
        let root = Below::open(folder.path()).unwrap();
        let error = upload_named(&root, files, &uploader, &Silent).await;
        let why = only_failure(error.unwrap_err());
        assert!(
            why.ends_with("changed since the manifest was made"),
            "{case}: {why}"
        );
        assert_eq!(memory.objects(), [ContentHash::of(b"good")]);
    }
}
