use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use futures::TryStreamExt as _;

use super::*;
use crate::SourceStamp;

fn payload_of(path: &Path) -> Payload {
    let file = File::open(path).unwrap();
    let stamp = FileStamp::of(&file).unwrap();
    Payload::File {
        file: Arc::new(file),
        range: 0..stamp.size,
        stamp: SourceStamp {
            path: path.to_owned(),
            stamp,
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_store_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirectoryStore::create(&dir.path().join("store")).unwrap();
    crate::conformance::run(Arc::new(store)).await;
    let staging = dir.path().join("store/Data/.staging");
    assert_eq!(fs::read_dir(staging).unwrap().count(), 0);
}

#[test]
fn opening_a_directory_that_is_not_there_fails_as_the_system_says_and_creates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("typo");
    let error = DirectoryStore::open(&root).unwrap_err();
    let StoreError::Other { source, .. } = error else {
        panic!("{error:?}");
    };
    let source = source.downcast_ref::<io::Error>().unwrap();
    assert_eq!(source.kind(), io::ErrorKind::NotFound);
    assert!(!root.exists());
}

#[test]
fn a_file_is_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, "").unwrap();
    DirectoryStore::open(&path).unwrap_err();
}

#[tokio::test]
async fn an_object_is_a_file_of_its_own_named_as_in_s3() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::write(&source, "content").unwrap();
    let store = DirectoryStore::create(&dir.path().join("store")).unwrap();
    let hash = ContentHash::of(b"content");
    store.put(hash, payload_of(&source)).await.unwrap();
    let object = store.root().join(format!("Data/{hash}.xxh128"));
    assert_eq!(fs::read(&object).unwrap(), b"content");
    let (object, source) = (fs::metadata(object).unwrap(), fs::metadata(source).unwrap());
    assert_ne!(object.ino(), source.ino());
    assert_eq!(object.nlink(), 1);
    assert_eq!(object.permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn who_may_use_the_root_may_read_the_objects() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o750)).unwrap();
    let store = DirectoryStore::open(dir.path()).unwrap();
    let hash = ContentHash::of(b"x");
    let payload = Payload::Bytes(Bytes::from_static(b"x"));
    store.put(hash, payload).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path().join("Data")), 0o750);
    assert_eq!(mode(&dir.path().join(data_key(hash))), 0o640);
}

#[tokio::test]
async fn an_object_without_the_extension_is_found_by_reading() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirectoryStore::create(dir.path()).unwrap();
    let hash = ContentHash::of(b"old");
    fs::create_dir(dir.path().join("Data")).unwrap();
    fs::write(dir.path().join(old_data_key(hash)), "old").unwrap();
    assert_eq!(store.get(hash, 0..3).await.unwrap().bytes, "old");
    let head = store.head(hash).await.unwrap_err();
    assert!(matches!(head, StoreError::NotFound { .. }), "{head:?}");
}

#[tokio::test]
async fn a_store_whose_directory_went_away_is_unreachable_and_not_empty() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let store = DirectoryStore::create(&root).unwrap();
    fs::remove_dir(&root).unwrap();
    let hash = ContentHash::of(b"x");
    let error = store.get(hash, 0..1).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    let payload = Payload::Bytes(Bytes::from_static(b"x"));
    let error = store.put(hash, payload).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn what_a_killed_process_left_is_swept_at_the_first_put() {
    let dir = tempfile::tempdir().unwrap();
    let staging = dir.path().join("Data/.staging");
    fs::create_dir_all(&staging).unwrap();
    fs::write(staging.join(".staged-0123456789ab"), "half").unwrap();
    let store = DirectoryStore::open(dir.path()).unwrap();
    let payload = Payload::Bytes(Bytes::new());
    store.put(ContentHash::of(b""), payload).await.unwrap();
    assert_eq!(fs::read_dir(staging).unwrap().count(), 0);
}

#[tokio::test]
async fn a_stream_comes_in_blocks_that_end_at_multiples_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirectoryStore::create(dir.path()).unwrap();
    let len = 3 * STREAM_BLOCK + 500;
    let object: Vec<u8> = (0..len).map(|i| (i / 3) as u8).collect();
    let hash = ContentHash::of(&object);
    let object = Bytes::from(object);
    store
        .put(hash, Payload::Bytes(object.clone()))
        .await
        .unwrap();
    let stream = store.stream(hash, 100..len).await.unwrap();
    let pieces: Vec<Bytes> = stream.pieces.try_collect().await.unwrap();
    let lens: Vec<_> = pieces.iter().map(|piece| piece.len() as u64).collect();
    assert_eq!(lens, [STREAM_BLOCK - 100, STREAM_BLOCK, STREAM_BLOCK, 500]);
    assert_eq!(pieces.concat(), object.slice(100..));
}

#[test]
fn errors_are_told_apart_by_what_can_be_done() {
    let of = |kind: io::ErrorKind| failed("x".to_owned(), io::Error::from(kind));
    assert!(matches!(
        of(io::ErrorKind::StorageFull),
        StoreError::Full { .. }
    ));
    assert!(matches!(
        of(io::ErrorKind::QuotaExceeded),
        StoreError::Full { .. }
    ));
    assert!(matches!(
        of(io::ErrorKind::PermissionDenied),
        StoreError::Denied { .. }
    ));
    assert!(matches!(
        of(io::ErrorKind::ReadOnlyFilesystem),
        StoreError::Denied { .. }
    ));
    assert!(of(io::ErrorKind::StaleNetworkFileHandle).is_transient());
    assert!(matches!(
        of(io::ErrorKind::InvalidData),
        StoreError::Other { .. }
    ));
}

#[tokio::test]
async fn a_pipe_in_an_objects_place_is_refused_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirectoryStore::create(dir.path()).unwrap();
    store.staging().unwrap();
    let hash = ContentHash::of(b"object");
    let made = std::process::Command::new("mkfifo")
        .arg(dir.path().join(data_key(hash)))
        .status();
    assert!(made.unwrap().success());
    let read = tokio::time::timeout(Duration::from_secs(20), store.get(hash, 0..6)).await;
    let error = read.expect("it does not wait").unwrap_err();
    assert!(matches!(error, StoreError::Other { .. }), "{error}");
    assert!(store.head(hash).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_object_that_is_put_slowly_takes_its_time_and_is_given_up_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirectoryStore::create(&dir.path().join("store")).unwrap();
    let file = dir.path().join("file");
    fs::write(&file, vec![b'x'; 500_000]).unwrap();
    let (from, to) = (File::open(&file).unwrap(), tempfile::tempfile().unwrap());
    if reflink(&from, 0..500_000, &to, 0) {
        // Then no bytes move.
        return;
    }
    let hash = ContentHash::of(&vec![b'x'; 500_000]);
    let rate = |bytes: u64| store.slowed(NonZeroU64::new(bytes).unwrap()).unwrap();
    let since = std::time::Instant::now();
    rate(1_000_000).put(hash, payload_of(&file)).await.unwrap();
    let took = since.elapsed();
    assert!(took >= Duration::from_millis(450), "{took:?}");
    assert_eq!(store.head(hash).await.unwrap().len, 500_000);
    // At this rate it would take most of a day.
    let crawling = rate(10);
    let put = crawling.put(hash, payload_of(&file));
    let broken_off = tokio::time::timeout(Duration::from_millis(100), put).await;
    broken_off.unwrap_err();
    let staging = dir.path().join("store/Data/.staging");
    let since = std::time::Instant::now();
    while fs::read_dir(&staging).unwrap().count() > 0 {
        assert!(since.elapsed() < Duration::from_secs(10), "it goes on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
