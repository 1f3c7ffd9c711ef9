//! From a scan to a manifest whose objects are in the store.
//!
//! ```text
//!     small file   open, read once, stamp --- hash --- HEAD --- PUT from memory
//!     large file   open, hash, stamp -------- HEAD --- PUT from the file, stamp checked by the store
//! ```
//!
//! What the manifest says of a file (size, mtime, execute bit) is what the file was when its bytes were
//! read, not when it was scanned. A file whose stamp changed in between is read again.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use attachfs_fetch::ByteBudget;
use attachfs_manifest::{ChunkSize, ContentHash, File, ManifestPath, Node, Snapshot};
use attachfs_scan::{EntryKind, Scan, ScannedFile};
use attachfs_store::Payload;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};

use crate::hash::{content_of, hash_chunks};
use crate::meter::Meter;
use crate::run::{blocking, run_all};
use crate::upload::Outcome;
use crate::{
    Phase, Progress, Source, SourceFile, TransferError, UploadOptions, UploadReport, Uploader,
};

/// How often a file that changes is read before it is an error.
const MOST_TRIES: u32 = 3;

/// Hashes everything that was scanned, uploads what the store lacks if there is a store, and gives the
/// manifest. Fails on the first file that cannot be read or stored, and names it.
pub async fn snapshot(
    scan: &Scan,
    chunk_size: ChunkSize,
    store: Option<&Uploader>,
    progress: &dyn Progress,
) -> Result<(Snapshot, UploadReport), TransferError> {
    let options = store.map_or_else(UploadOptions::default, |store| store.options.clone());
    let meter = Meter::new(Phase::Hash, scan.file_count(), scan.byte_count());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let shared = Arc::new(Shared {
        chunk_size,
        small_file: options.small_file,
        memory: store.map_or_else(
            || ByteBudget::new(options.memory_bytes),
            |store| store.memory.clone(),
        ),
        // More than there are cores, since some of them wait for the disk.
        readers: Semaphore::new(2 * threads),
        store: store.cloned(),
        stored: Stored::default(),
        meter: Arc::clone(&meter),
    });

    let mut nodes = Vec::with_capacity(scan.entries.len());
    let mut files = Vec::new();
    for entry in &scan.entries {
        let node = match &entry.kind {
            EntryKind::Dir => Node::Dir,
            EntryKind::Symlink(target) => Node::Symlink(target.clone()),
            EntryKind::File(file) => {
                files.push((&entry.path, file));
                continue;
            }
        };
        nodes.push((entry.path.clone(), node));
    }
    let jobs = files.into_iter().map(|(path, file)| {
        let (shared, path, file) = (Arc::clone(&shared), path.clone(), file.clone());
        async move { shared.file(path, file).await }
    });
    let mut report = UploadReport::default();
    let done = |(path, file, stored): (ManifestPath, File, Vec<(Outcome, u64)>)| {
        nodes.push((path, Node::File(file)));
        for (outcome, len) in stored {
            report.add(outcome, len);
        }
    };
    // Twice the requests, so that reading goes on while all of them wait for the store.
    run_all(jobs, 2 * options.max_in_flight, &meter, progress, done).await?;
    Ok((Snapshot::new(chunk_size, None, nodes)?, report))
}

/// What all files of one snapshot share.
struct Shared {
    chunk_size: ChunkSize,
    small_file: u64,
    memory: ByteBudget,
    readers: Semaphore,
    store: Option<Uploader>,
    stored: Stored,
    meter: Arc<Meter>,
}

/// The objects that are in the store by now or on their way. Who wants to store one waits for who
/// came first, and takes over if that one fails: its file may have changed.
#[derive(Default)]
struct Stored(Mutex<HashMap<ContentHash, Arc<OnceCell<()>>>>);

impl Stored {
    fn cell(&self, hash: ContentHash) -> Arc<OnceCell<()>> {
        Arc::clone(self.0.lock().entry(hash).or_default())
    }
}

impl Shared {
    async fn file(
        self: Arc<Self>,
        path: ManifestPath,
        scanned: ScannedFile,
    ) -> Result<(ManifestPath, File, Vec<(Outcome, u64)>), TransferError> {
        let mut stored = Vec::new();
        let mut tries = 1;
        let file = loop {
            match self.file_once(&scanned, &mut stored).await {
                Err(TransferError::Changed { .. }) if tries < MOST_TRIES => {
                    tracing::info!(%path, "the file changed while it was being read; reading it again");
                    tries += 1;
                }
                other => break other?,
            }
        };
        self.meter.finished(path.to_string());
        Ok((path, file, stored))
    }

    async fn file_once(
        self: &Arc<Self>,
        scanned: &ScannedFile,
        stored: &mut Vec<(Outcome, u64)>,
    ) -> Result<File, TransferError> {
        let in_memory = if scanned.size <= self.small_file {
            scanned.size
        } else {
            0
        };
        let _held = self.memory.take(in_memory).await;
        let reader = self
            .readers
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let (shared, file) = (Arc::clone(self), scanned.clone());
        let (now, bytes, hashes) = blocking(move || shared.read(&file)).await?;
        drop(reader);
        for (&hash, range) in hashes.iter().zip(self.chunk_size.ranges(now.size)) {
            let len = range.end - range.start;
            stored.extend(self.store(hash, len, bytes.payload(range)?, &now).await?);
        }
        let content = content_of(hashes);
        Ok(File {
            size: now.size,
            mtime: now.mtime,
            runnable: now.runnable,
            content,
        })
    }

    /// Reads and hashes a file: what it is now, where its bytes are to be had, their hashes.
    fn read(
        &self,
        scanned: &ScannedFile,
    ) -> Result<(ScannedFile, FileBytes, Vec<ContentHash>), TransferError> {
        self.meter.go_on()?;
        let (file, now) = scanned.open()?;
        let file = Arc::new(file);
        let source = Source {
            path: now.source(),
            file: SourceFile::Open(Arc::clone(&file)),
            stamp: now.stamp,
            size: now.size,
        };
        if now.size > self.small_file {
            let hashes = hash_chunks(&source, self.chunk_size, &self.meter)?;
            return Ok((now, FileBytes::OnDisk(source), hashes));
        }
        let bytes = attachfs_durable::read_range(&file, 0..now.size)
            .map_err(|error| TransferError::read(&source.path, error))?;
        source.check_unchanged(&file)?;
        if bytes.len() as u64 != now.size {
            return Err(TransferError::changed(&source.path));
        }
        let hash =
            |range: Range<u64>| ContentHash::of(&bytes[range.start as usize..range.end as usize]);
        let hashes = self.chunk_size.ranges(now.size).map(hash).collect();
        self.meter.add_bytes(now.size);
        Ok((now, FileBytes::InMemory(bytes.into()), hashes))
    }

    /// Sees to it that an object is in the store, if there is one. `None` if somebody else did.
    async fn store(
        &self,
        hash: ContentHash,
        len: u64,
        payload: Payload,
        file: &ScannedFile,
    ) -> Result<Option<(Outcome, u64)>, TransferError> {
        let Some(store) = &self.store else {
            return Ok(None);
        };
        let mut mine = None;
        let cell = self.stored.cell(hash);
        let ensure = || async {
            let payload = std::future::ready(Ok(payload));
            mine = Some((store.ensure(hash, len, payload, &file.source()).await?, len));
            Ok::<_, TransferError>(())
        };
        cell.get_or_try_init(ensure).await?;
        Ok(mine)
    }
}

/// The bytes of a file that was read.
enum FileBytes {
    InMemory(Bytes),
    OnDisk(Source),
}

impl FileBytes {
    fn payload(&self, range: Range<u64>) -> Result<Payload, TransferError> {
        match self {
            Self::InMemory(bytes) => Ok(Payload::Bytes(
                bytes.slice(range.start as usize..range.end as usize),
            )),
            Self::OnDisk(source) => source.payload(range),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::ops::ControlFlow;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    use attachfs_manifest::Content;
    use attachfs_scan::{ProgressEvent, ScanError, ScanOptions, scan};
    use attachfs_store::fault::{Failure, Fault, FaultStore, Rule};
    use attachfs_store::record::RecordStore;
    use attachfs_store::{
        CallKind, ChunkStore, DirectoryStore, MemoryStore, ObjectMeta, ObjectPart, StoreError,
    };
    use tempfile::TempDir;

    use super::*;
    use crate::{Silent, Tally};

    fn chunks_of(bytes: u64) -> ChunkSize {
        ChunkSize::Bytes(bytes.try_into().unwrap())
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

    fn file<'a>(snapshot: &'a Snapshot, name: &str) -> &'a File {
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
            let (snapshot, report) =
                snapshot(&scanned(&folder), chunks_of(5), Some(&uploader), &Silent)
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
                report.uploaded,
                Tally {
                    objects: 3,
                    bytes: 10
                }
            );
            assert_eq!(report.already_there, Tally::default());
        }
    }

    #[tokio::test]
    async fn a_second_snapshot_sends_nothing() {
        let folder = folder(&[("a", b"one"), ("b", b"two")]);
        let store = Arc::new(RecordStore::new(Arc::new(MemoryStore::new())));
        let uploader = uploader(Arc::clone(&store) as _, 100);
        let scan = scanned(&folder);
        let (first, _) = snapshot(&scan, ChunkSize::DEFAULT, Some(&uploader), &Silent)
            .await
            .unwrap();
        store.clear();
        let (second, report) = snapshot(&scan, ChunkSize::DEFAULT, Some(&uploader), &Silent)
            .await
            .unwrap();
        assert_eq!(first, second);
        assert_eq!(store.count(CallKind::Put), 0);
        assert_eq!(
            report.already_there,
            Tally {
                objects: 2,
                bytes: 6
            }
        );
    }

    #[tokio::test]
    async fn without_a_store_everything_is_hashed_all_the_same() {
        let folder = folder(&[("a", b"one")]);
        let (snapshot, report) = snapshot(&scanned(&folder), ChunkSize::WholeFile, None, &Silent)
            .await
            .unwrap();
        assert_eq!(
            file(&snapshot, "a").content,
            Content::Whole(ContentHash::of(b"one"))
        );
        assert_eq!(report, UploadReport::default());
    }

    #[tokio::test]
    async fn a_file_that_changed_since_the_scan_is_taken_as_it_is_now() {
        let folder = folder(&[("a", b"old")]);
        let scan = scanned(&folder);
        fs::write(folder.path().join("a"), "newer").unwrap();
        let (snapshot, _) = snapshot(&scan, ChunkSize::WholeFile, None, &Silent)
            .await
            .unwrap();
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
        async fn get(
            &self,
            chunk: ContentHash,
            part: Range<u64>,
        ) -> Result<ObjectPart, StoreError> {
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
        let (snapshot, report) = snapshot(
            &scanned(&folder),
            ChunkSize::WholeFile,
            Some(&uploader),
            &Silent,
        )
        .await
        .unwrap();
        let last = ContentHash::of(b"start++");
        assert_eq!(file(&snapshot, "a").content, Content::Whole(last));
        assert_eq!(store.inner.objects(), [last]);
        assert_eq!(
            report.uploaded,
            Tally {
                objects: 1,
                bytes: 7
            }
        );
    }

    #[tokio::test]
    async fn a_file_that_never_rests_is_an_error_that_names_it() {
        let folder = folder(&[("a", b"start")]);
        let store = Restless::over(&folder, u32::MAX);
        let uploader = uploader(Arc::clone(&store) as _, 0);
        let error = snapshot(
            &scanned(&folder),
            ChunkSize::WholeFile,
            Some(&uploader),
            &Silent,
        )
        .await
        .unwrap_err();
        assert!(
            matches!(&error, TransferError::Changed { path } if path.ends_with("a")),
            "{error}"
        );
        assert!(store.inner.objects().is_empty());
    }

    #[tokio::test]
    async fn a_file_that_vanished_is_an_error_that_names_it() {
        let folder = folder(&[("gone", b"")]);
        let scan = scanned(&folder);
        fs::remove_file(folder.path().join("gone")).unwrap();
        let error = snapshot(&scan, ChunkSize::WholeFile, None, &Silent)
            .await
            .unwrap_err();
        assert!(matches!(error, TransferError::Scan(ScanError::Io { .. })));
        assert!(error.to_string().contains("gone"), "{error}");
    }

    #[tokio::test]
    async fn a_store_that_refuses_is_an_error_that_names_the_file() {
        let folder = folder(&[("a", b"x")]);
        let store = FaultStore::new(Arc::new(MemoryStore::new()));
        store.add(Rule::on(CallKind::Put, Fault::Before(Failure::Denied)));
        let uploader = uploader(Arc::new(store), 100);
        let error = snapshot(
            &scanned(&folder),
            ChunkSize::WholeFile,
            Some(&uploader),
            &Silent,
        )
        .await
        .unwrap_err();
        assert!(matches!(&error, TransferError::Store { path, .. } if path.ends_with("a")));
    }

    #[tokio::test]
    async fn when_the_first_of_two_equal_files_changes_the_other_one_still_arrives() {
        let folder = folder(&[("a", b"same"), ("b", b"same")]);
        let store = Restless::over(&folder, 1);
        let uploader = uploader(Arc::clone(&store) as _, 0);
        let (snapshot, _) = snapshot(
            &scanned(&folder),
            ChunkSize::WholeFile,
            Some(&uploader),
            &Silent,
        )
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
        snapshot(&scanned(&folder), ChunkSize::WholeFile, None, &listener)
            .await
            .unwrap();
        let last = listener.0.lock().clone().unwrap();
        assert_eq!((last.items_done, last.items_total), (2, Some(2)));
        assert_eq!((last.bytes_done, last.bytes_total), (8, Some(8)));
        let cancelling = Last(Mutex::default(), true);
        let cancelled = snapshot(&scanned(&folder), ChunkSize::WholeFile, None, &cancelling).await;
        assert!(matches!(cancelled, Err(TransferError::Cancelled)));
    }
}
