//! Putting objects into a store, each once, and only those that it lacks.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use attachfs_fetch::ByteBudget;
use attachfs_manifest::{ContentHash, EscapedBytes};
use attachfs_store::{ChunkStore, Payload, StoreError, data_key};
use tokio::sync::Semaphore;

use crate::meter::Meter;
use crate::run::{blocking, run_all};
use crate::{ChunkSource, Phase, Progress, Tally, TransferError};

/// How much an [`Uploader`] does at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadOptions {
    /// Requests at once.
    pub max_in_flight: usize,
    /// How many of them may be for objects longer than [`UploadOptions::small_file`]: few, so that an
    /// interrupted upload leaves whole objects rather than parts of many.
    pub max_large_in_flight: usize,
    /// Files of up to this many bytes are read once: hashed and sent from memory. Longer ones are
    /// hashed first and sent from the file.
    pub small_file: u64,
    /// Bytes of small files in memory.
    pub memory_bytes: u64,
}

impl Default for UploadOptions {
    fn default() -> Self {
        Self {
            max_in_flight: 32,
            max_large_in_flight: 4,
            small_file: 4 << 20,
            memory_bytes: 128 << 20,
        }
    }
}

/// What an upload did. Counts objects: one that several files share is counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UploadReport {
    /// Sent.
    pub uploaded: Tally,
    /// Not sent, because the store had them with the right length.
    pub already_there: Tally,
}

impl UploadReport {
    pub(crate) fn add(&mut self, outcome: Outcome, bytes: u64) {
        match outcome {
            Outcome::Uploaded => self.uploaded.add(bytes),
            Outcome::AlreadyThere => self.already_there.add(bytes),
        }
    }
}

/// How an object came to be in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Uploaded,
    AlreadyThere,
}

/// Puts objects into one store. Clones share its limits.
#[derive(Debug, Clone)]
pub struct Uploader {
    store: Arc<dyn ChunkStore>,
    pub(crate) options: UploadOptions,
    requests: Arc<Semaphore>,
    large: Arc<Semaphore>,
    pub(crate) memory: ByteBudget,
}

impl Uploader {
    /// An uploader for this store.
    pub fn new(store: Arc<dyn ChunkStore>, options: UploadOptions) -> Self {
        Self {
            store,
            requests: Arc::new(Semaphore::new(options.max_in_flight.max(1))),
            large: Arc::new(Semaphore::new(options.max_large_in_flight.max(1))),
            memory: ByteBudget::new(options.memory_bytes),
            options,
        }
    }

    /// Stores those of `chunks` that the store lacks. An object of the wrong length counts as missing
    /// and is replaced. When this succeeds, every one of them was confirmed by the store.
    pub async fn upload_missing(
        &self,
        chunks: Vec<ChunkSource>,
        progress: &dyn Progress,
    ) -> Result<UploadReport, TransferError> {
        let mut seen = HashSet::new();
        let chunks: Vec<_> = chunks
            .into_iter()
            .filter(|chunk| seen.insert(chunk.hash))
            .collect();
        let bytes = chunks.iter().map(ChunkSource::object_len).sum();
        let meter = Meter::new(Phase::Upload, chunks.len() as u64, bytes);
        let jobs = chunks.into_iter().map(|chunk| {
            let (uploader, meter) = (self.clone(), Arc::clone(&meter));
            async move {
                let len = chunk.object_len();
                let path = &chunk.source.path;
                let (source, range) = (chunk.source.clone(), chunk.range.clone());
                let payload = blocking(&meter, move || source.payload(range));
                let outcome = uploader.ensure(chunk.hash, len, payload, path).await?;
                match outcome {
                    Outcome::AlreadyThere => meter.known(len, 0),
                    Outcome::Uploaded => {
                        meter.add_bytes(len);
                        meter.finished(|| {
                            EscapedBytes(path.as_os_str().as_encoded_bytes()).to_string()
                        });
                    }
                }
                Ok((outcome, len))
            }
        });
        let mut report = UploadReport::default();
        let count = |(outcome, len)| report.add(outcome, len);
        run_all(jobs, self.options.max_in_flight, &meter, progress, count).await?;
        Ok(report)
    }

    /// Asks the store for each of these objects, and fails unless all are there with these lengths.
    pub async fn confirm(
        &self,
        chunks: &[(ContentHash, u64)],
        progress: &dyn Progress,
    ) -> Result<(), TransferError> {
        let chunks: HashMap<ContentHash, u64> = chunks.iter().copied().collect();
        let meter = Meter::new(Phase::Check, chunks.len() as u64, 0);
        let jobs = chunks.into_iter().map(|(hash, expected)| {
            let (uploader, meter) = (self.clone(), Arc::clone(&meter));
            async move {
                let _slot = uploader.slot(&uploader.requests).await;
                let found = uploader.found_len(hash).await?;
                meter.finished(|| hash.to_string());
                Ok((found != Some(expected)).then_some((hash, expected, found)))
            }
        });
        let mut wrong = Vec::new();
        let collect = |answer| wrong.extend(answer);
        run_all(jobs, self.options.max_in_flight, &meter, progress, collect).await?;
        match wrong.iter().min() {
            None => Ok(()),
            Some(&(first, expected, found)) => Err(TransferError::Unconfirmed {
                count: wrong.len() as u64,
                first,
                expected,
                found,
            }),
        }
    }

    /// Sees to it that one object is in the store. `payload` is asked for only if the store lacks it;
    /// `path` is the file that it is a part of.
    pub(crate) async fn ensure(
        &self,
        hash: ContentHash,
        len: u64,
        payload: impl Future<Output = Result<Payload, TransferError>> + Send,
        path: &Path,
    ) -> Result<Outcome, TransferError> {
        let _large = if len > self.options.small_file {
            Some(self.slot(&self.large).await)
        } else {
            None
        };
        let _slot = self.slot(&self.requests).await;
        match self.found_len(hash).await? {
            Some(found) if found == len => return Ok(Outcome::AlreadyThere),
            Some(found) => {
                tracing::warn!(key = %data_key(hash), expected = len, found,
                    "an object in the store has the wrong length and is replaced");
            }
            None => {}
        }
        match self.store.put(hash, payload.await?).await {
            Ok(()) => Ok(Outcome::Uploaded),
            Err(StoreError::SourceChanged { .. }) => Err(TransferError::changed(path)),
            Err(source) => Err(TransferError::Store {
                path: path.to_owned(),
                source,
            }),
        }
    }

    async fn found_len(&self, hash: ContentHash) -> Result<Option<u64>, TransferError> {
        match self.store.head(hash).await {
            Ok(meta) => Ok(Some(meta.len)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(source) => Err(TransferError::Ask { hash, source }),
        }
    }

    async fn slot<'a>(&self, of: &'a Semaphore) -> tokio::sync::SemaphorePermit<'a> {
        of.acquire().await.expect("the semaphores are never closed")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use attachfs_durable::FileStamp;
    use attachfs_manifest::{ChunkSize, Content};
    use attachfs_store::fault::{Failure, Fault, FaultStore, Rule};
    use attachfs_store::record::RecordStore;
    use attachfs_store::{CallKind, MemoryStore};
    use tempfile::TempDir;

    use super::*;
    use crate::{Silent, Source, SourceFile, hash_file};

    fn source(dir: &TempDir, name: &str, bytes: &[u8]) -> Source {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let file = Arc::new(fs::File::open(&path).unwrap());
        let stamp = FileStamp::of(&file).unwrap();
        Source {
            path,
            file: SourceFile::Open(file),
            stamp,
            size: bytes.len() as u64,
        }
    }

    fn closed(source: Source) -> Source {
        Source {
            file: SourceFile::AtPath,
            ..source
        }
    }

    fn chunk(source: &Source) -> ChunkSource {
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
}
