use std::fs;

use attachfs_durable::FileStamp;
use attachfs_manifest::{ChunkSize, Content};
use attachfs_store::fault::{Failure, Fault, FaultStore, Rule};
use attachfs_store::record::RecordStore;
use attachfs_store::{CallKind, MemoryStore};
use tempfile::TempDir;

use super::*;
use crate::{FileToStore, Silent, SourceFile, hash_file};

fn source(dir: &TempDir, name: &str, bytes: &[u8]) -> FileToStore {
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    let file = Arc::new(fs::File::open(&path).unwrap());
    let stamp = FileStamp::of(&file).unwrap();
    FileToStore {
        path,
        file: SourceFile::Open(file),
        stamp,
        size: bytes.len() as u64,
    }
}

fn closed(source: FileToStore) -> FileToStore {
    FileToStore {
        file: SourceFile::AtPath,
        ..source
    }
}

fn chunk(source: &FileToStore) -> ChunkSource {
    let Content::Whole(hash) = hash_file(source, ChunkSize::WholeFile).unwrap() else {
        panic!("a whole file")
    };
    ChunkSource {
        hash,
        source: source.clone(),
        range: 0..source.size,
    }
}

fn recorded() -> (Arc<RecordStore>, Arc<MemoryStore>, Uploader) {
    let memory = Arc::new(MemoryStore::new());
    let store = Arc::new(RecordStore::new(Arc::clone(&memory) as _));
    let uploader = Uploader::new(Arc::clone(&store) as _, UploadOptions::default());
    (store, memory, uploader)
}

#[tokio::test]
async fn equal_objects_are_sent_once() {
    let (dir, (store, memory, uploader)) = (TempDir::new().unwrap(), recorded());
    let chunks = vec![
        chunk(&source(&dir, "a", b"same")),
        chunk(&source(&dir, "b", b"same")),
        chunk(&source(&dir, "c", b"other")),
    ];
    let report = uploader.upload_missing(chunks, &Silent).await.unwrap();
    assert_eq!(report.uploaded, Tally { count: 2, bytes: 9 });
    assert_eq!(store.count(CallKind::Put), 2);
    assert_eq!(memory.objects().len(), 2);
}

#[tokio::test]
async fn ranges_of_a_file_are_objects() {
    let (dir, (_, memory, uploader)) = (TempDir::new().unwrap(), recorded());
    let source = source(&dir, "a", b"0123456789");
    let hash = ContentHash::of(b"345");
    let chunk = ChunkSource {
        hash,
        source,
        range: 3..6,
    };
    uploader.upload_missing(vec![chunk], &Silent).await.unwrap();
    assert_eq!(memory.get(hash, 0..9).await.unwrap().bytes, "345");
}

#[tokio::test]
async fn an_object_of_the_wrong_length_is_replaced() {
    let (dir, (_, memory, uploader)) = (TempDir::new().unwrap(), recorded());
    let (right, there) = (source(&dir, "a", b"right"), source(&dir, "b", b"there"));
    memory.insert_as(ContentHash::of(b"right"), "wro");
    memory.insert("there");
    let chunks = vec![chunk(&right), chunk(&there)];
    let report = uploader.upload_missing(chunks, &Silent).await.unwrap();
    assert_eq!(report.uploaded, Tally { count: 1, bytes: 5 });
    assert_eq!(report.already_there, Tally { count: 1, bytes: 5 });
    assert_eq!(
        memory
            .get(ContentHash::of(b"right"), 0..9)
            .await
            .unwrap()
            .bytes,
        "right"
    );
}

#[tokio::test]
async fn what_is_expected_is_asked_for_however_much_else_is_missing() {
    let (dir, (store, memory, uploader)) = (TempDir::new().unwrap(), recorded());
    let uploader = uploader.expecting([ContentHash::of(b"there"), ContentHash::of(b"gone")].into());
    memory.insert("there");
    // By the end of these nothing is asked for any more.
    let missing = |number: u32| {
        let name = number.to_string();
        chunk(&source(&dir, &name, name.as_bytes()))
    };
    let missing = (0..1000).map(missing).collect();
    uploader.upload_missing(missing, &Silent).await.unwrap();
    assert!(store.count(CallKind::Head) < 500);
    let chunks = vec![
        chunk(&source(&dir, "there", b"there")),
        chunk(&source(&dir, "gone", b"gone")),
    ];
    let before = store.count(CallKind::Put);
    let report = uploader.upload_missing(chunks, &Silent).await.unwrap();
    assert_eq!(report.uploaded, Tally { count: 1, bytes: 4 });
    assert_eq!(report.already_there, Tally { count: 1, bytes: 5 });
    assert_eq!(report.expected, report.already_there);
    assert_eq!(store.count(CallKind::Put), before + 1);
}

#[tokio::test]
async fn a_file_that_changed_after_it_was_hashed_is_not_stored() {
    let (dir, (_, memory, uploader)) = (TempDir::new().unwrap(), recorded());
    let source = source(&dir, "a", b"before");
    let chunk = chunk(&source);
    fs::write(&source.path, "after!!").unwrap();
    let error = uploader
        .upload_missing(vec![chunk], &Silent)
        .await
        .unwrap_err();
    assert!(matches!(&error, TransferError::Changed { path } if *path == source.path));
    assert!(memory.objects().is_empty());
}

#[tokio::test]
async fn a_file_that_changed_before_it_was_hashed_is_not_hashed() {
    let dir = TempDir::new().unwrap();
    let source = source(&dir, "a", b"before");
    for now in ["after!!", "less"] {
        fs::write(&source.path, now).unwrap();
        let error = hash_file(&source, ChunkSize::WholeFile).unwrap_err();
        assert!(matches!(error, TransferError::Changed { .. }), "{error}");
    }
}

#[tokio::test]
async fn files_of_a_plan_are_open_only_while_they_are_sent() {
    let dir = TempDir::new().unwrap();
    let store = Arc::new(RecordStore::new(Arc::new(MemoryStore::new())));
    let options = UploadOptions {
        max_in_flight: 4,
        max_in_flight_far: 4,
        ..UploadOptions::default()
    };
    let uploader = Uploader::new(Arc::clone(&store) as _, options);
    let chunks: Vec<_> = (0..300_u16)
        .map(|i| chunk(&closed(source(&dir, &i.to_string(), &i.to_le_bytes()))))
        .collect();
    let open = {
        let dir = dir.path().to_owned();
        move || {
            let files = fs::read_dir("/proc/self/fd").unwrap();
            files
                .filter_map(|file| fs::read_link(file.ok()?.path()).ok())
                .filter(|to| to.starts_with(&dir))
                .count()
        }
    };
    assert_eq!(open(), 0);
    let hold = store.hold(CallKind::Put);
    let upload = tokio::spawn(async move { uploader.upload_missing(chunks, &Silent).await });
    store.wait_in_flight(CallKind::Put, 4).await;
    assert_eq!(open(), 4);
    drop(hold);
    assert_eq!(upload.await.unwrap().unwrap().uploaded.count, 300);
}

#[tokio::test]
async fn a_file_that_was_swapped_or_removed_before_it_was_opened_is_not_stored() {
    let (dir, (_, memory, uploader)) = (TempDir::new().unwrap(), recorded());
    let source = closed(source(&dir, "a", b"before"));
    let chunk = chunk(&source);
    let other = dir.path().join("b");
    fs::write(&other, b"before").unwrap();
    fs::remove_file(&source.path).unwrap();
    for swapped in [false, true] {
        if swapped {
            std::os::unix::fs::symlink(&other, &source.path).unwrap();
        }
        let sent = uploader.upload_missing(vec![chunk.clone()], &Silent).await;
        assert!(
            matches!(&sent, Err(TransferError::Changed { path }) if *path == source.path),
            "{sent:?}"
        );
    }
    assert!(memory.objects().is_empty());
}

#[tokio::test]
async fn no_more_requests_run_than_were_allowed() {
    let dir = TempDir::new().unwrap();
    let store = Arc::new(RecordStore::new(Arc::new(MemoryStore::new())));
    let options = UploadOptions {
        max_in_flight: 3,
        max_in_flight_far: 3,
        ..UploadOptions::default()
    };
    let uploader = Uploader::new(Arc::clone(&store) as _, options);
    let chunks = (0..10_u8)
        .map(|i| chunk(&source(&dir, &i.to_string(), &[i])))
        .collect();
    let hold = store.hold(CallKind::Head);
    let upload = tokio::spawn(async move { uploader.upload_missing(chunks, &Silent).await });
    store.wait_in_flight(CallKind::Head, 3).await;
    tokio::task::yield_now().await;
    assert_eq!(store.in_flight(CallKind::Head), 3);
    drop(hold);
    assert_eq!(upload.await.unwrap().unwrap().uploaded.count, 10);
}

#[tokio::test]
async fn confirming_says_what_is_missing_or_has_the_wrong_length() {
    let (_, memory, uploader) = recorded();
    let there = memory.insert("there");
    let missing = ContentHash::of(b"missing");
    uploader
        .confirm(&[(there, 5), (there, 5)], &Silent)
        .await
        .unwrap();
    let error = uploader
        .confirm(&[(there, 5), (missing, 7)], &Silent)
        .await
        .unwrap_err();
    assert!(
        matches!(error, TransferError::Unconfirmed { count: 1, first, expected: 7, found: None }
            if first == missing)
    );
    let error = uploader.confirm(&[(there, 6)], &Silent).await.unwrap_err();
    assert!(matches!(
        error,
        TransferError::Unconfirmed { found: Some(5), .. }
    ));
}

#[tokio::test]
async fn a_store_that_cannot_be_asked_has_not_confirmed() {
    let memory = MemoryStore::new();
    let there = memory.insert("there");
    let store = FaultStore::new(Arc::new(memory));
    store.add(Rule::on(
        CallKind::Head,
        Fault::Before(Failure::Unreachable),
    ));
    let uploader = Uploader::new(Arc::new(store), UploadOptions::default());
    let error = uploader.confirm(&[(there, 5)], &Silent).await.unwrap_err();
    assert!(matches!(error, TransferError::Ask { hash, .. } if hash == there));
}
