//! A store in a directory, laid out as in S3:
//!
//! ```text
//!     <root>/Data/<hash>.xxh128        one file an object, all in one directory
//!     <root>/Data/.staging/            objects on their way in; swept when a process died
//!     <root>/Manifests/<key>
//!     <root>/Metadata/<key>/<hash>     the metadata of a manifest
//! ```
//!
//! An object's bytes are synced before it gets its name, and its name before `put` returns; puts
//! that end at the same time share the sync of the directory. Files become objects as reflinks
//! where the file system can, and never as hard links: a later write to the user's file must not
//! reach the store. Files are readable for everybody who can use the root directory.
//!
//! All file access is on the runtime's blocking threads. It cannot be interrupted there, so a
//! cancelled `put` notices between two blocks.

mod failures;
mod list;
mod manifests;
mod pace;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::num::{NonZero, NonZeroU64};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use attachfs_durable::{
    BufferPool, DurableError, FileStamp, GroupSync, Sharing, Staged, copy_range, create_dir,
    create_private_dir, fill_at, read_range, reflink, sweep_abandoned,
};
use attachfs_manifest::ContentHash;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use parking_lot::Mutex;

use self::failures::{failed, is_missing, unwritable};
use self::pace::Pace;
use crate::{
    ChunkStore, Folder, ListStore, ManifestKey, ManifestStore, Metadata, ObjectMeta, ObjectPart,
    ObjectStream, Page, Payload, PutOutcome, RequestCounts, RequestKind, Requests, Store,
    StoreAddress, StoreError, StoredManifest, data_key, old_data_key, run_blocking,
};

/// How much is copied before a cancelled `put` notices.
const COPY_BLOCK: u64 = 32 << 20;

/// How much of a stream is read at once, and where in the object that ends: at a multiple of it.
const STREAM_BLOCK: u64 = 1 << 20;

/// Blocks that are kept unused when nobody reads, in bytes.
const IDLE_BLOCKS: u64 = 4 * STREAM_BLOCK;

/// Objects and manifests as files below one directory.
#[derive(Debug, Clone)]
pub struct DirectoryStore {
    files: Arc<Files>,
    requests: Arc<Requests>,
    /// The most bytes a second of what is put.
    rate: Option<Arc<Pace>>,
}

/// The blocking half.
#[derive(Debug)]
struct Files {
    root: PathBuf,
    data: GroupSync,
    staging: PathBuf,
    /// Whether the directories are there and swept. Held while that is done.
    ready: Mutex<Option<Sharing>>,
    blocks: BufferPool,
}

impl DirectoryStore {
    /// The store in `root`, which exists. Blocks.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let doing = || format!("opening the store {}", root.display());
        let absolute = std::path::absolute(root).map_err(|error| failed(doing(), error))?;
        match std::fs::metadata(&absolute) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => {
                let error = io::Error::from(io::ErrorKind::NotADirectory);
                return Err(failed(doing(), error));
            }
            Err(error) => return Err(failed(doing(), error)),
        }
        let data = absolute.join("Data");
        Ok(Self {
            files: Arc::new(Files {
                staging: data.join(".staging"),
                data: GroupSync::new(data),
                root: absolute,
                ready: Mutex::new(None),
                blocks: BufferPool::new(STREAM_BLOCK, IDLE_BLOCKS),
            }),
            requests: Arc::default(),
            rate: None,
        })
    }

    /// As [`DirectoryStore::open`]; creates the directory, for its owner only, if it is missing.
    pub fn create(root: &Path) -> Result<Self, StoreError> {
        create_private_dir(root)
            .map_err(|error| failed(format!("creating the store {}", root.display()), error))?;
        Self::open(root)
    }

    /// The directory, as an absolute path.
    pub fn root(&self) -> &Path {
        &self.files.root
    }

    /// The directory in which objects are assembled: if a reflink into it works, one into the store
    /// does too. Creates what is missing. Blocks.
    pub fn staging(&self) -> Result<&Path, StoreError> {
        self.files
            .prepare()
            .map_err(|error| failed(self.files.what("preparing", ""), error))?;
        Ok(&self.files.staging)
    }

    /// Carries out a request.
    async fn answer<T: Send + 'static>(
        &self,
        kind: RequestKind,
        work: impl FnOnce(&Files) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.requests.note(kind);
        self.run(work).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let files = Arc::clone(&self.files);
        run_blocking(move || work(&files)).await
    }
}

impl Files {
    fn what(&self, doing: &str, key: &str) -> String {
        format!("{doing} {}", self.root.join(key).display())
    }

    /// Creates the directories and removes what killed processes left, once.
    fn prepare(&self) -> Result<Sharing, DurableError> {
        let mut ready = self.ready.lock();
        if let Some(sharing) = *ready {
            return Ok(sharing);
        }
        let sharing = Sharing::of_dir(&self.root)?;
        create_dir(&self.staging, sharing)?;
        match sweep_abandoned(&self.staging) {
            Ok(0) => {}
            Ok(count) => tracing::info!(
                dir = %self.staging.display(),
                count,
                "removed objects that an earlier process did not finish"
            ),
            // They only take room; storing works beside them.
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot remove unfinished objects of earlier processes"
            ),
        }
        *ready = Some(sharing);
        Ok(sharing)
    }

    /// Opens an object under its present or its old name.
    fn open(&self, chunk: ContentHash) -> Result<(File, FileStamp), StoreError> {
        let key = data_key(chunk);
        let found = match open_file(&self.root.join(&key)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                open_file(&self.root.join(old_data_key(chunk)))
            }
            found => found,
        };
        found.map_err(|error| self.unreadable(&key, error))
    }

    /// Tells "the store has no such file" from "there is no store any more".
    fn unreadable(&self, key: &str, error: io::Error) -> StoreError {
        let what = self.what("reading", key);
        if !is_missing(error.kind()) {
            return failed(what, error);
        }
        match std::fs::metadata(&self.root) {
            Ok(meta) if meta.is_dir() => StoreError::NotFound {
                what: self.root.join(key).display().to_string(),
            },
            Ok(_) => failed(what, error),
            Err(error) => StoreError::Unreachable {
                what,
                source: error.into(),
            },
        }
    }

    fn get(&self, chunk: ContentHash, range: Range<u64>) -> Result<ObjectPart, StoreError> {
        let reading = self.begin(chunk, range)?;
        let bytes = read_range(&reading.file, reading.rest.clone());
        Ok(ObjectPart {
            bytes: bytes.map_err(|error| self.unreadable_part(chunk, error))?,
            object_len: reading.object_len,
            version: reading.version,
        })
    }

    /// Opens an object to read a range of it.
    fn begin(&self, chunk: ContentHash, range: Range<u64>) -> Result<Reading, StoreError> {
        let (file, stamp) = self.open(chunk)?;
        let start = range.start.min(stamp.size);
        let (ino, mtime, ctime) = (stamp.ino, stamp.mtime_ns, stamp.ctime_ns);
        Ok(Reading {
            file,
            chunk,
            rest: start..range.end.clamp(start, stamp.size),
            object_len: stamp.size,
            version: Some(format!("{ino:x}-{mtime:x}-{ctime:x}").into()),
        })
    }

    /// Reads the next block. A file that became shorter gives no more.
    fn read_block(&self, reading: &mut Reading) -> Result<Bytes, StoreError> {
        let Range { start, end } = reading.rest;
        let part = start..end.min((start + 1).next_multiple_of(STREAM_BLOCK));
        let len = part.end - part.start;
        let read = if len == STREAM_BLOCK {
            let mut block = self.blocks.take();
            fill_at(&reading.file, block.as_mut(), start).map(|filled| block.freeze(filled))
        } else {
            read_range(&reading.file, part.clone())
        };
        let bytes = read.map_err(|error| self.unreadable_part(reading.chunk, error))?;
        reading.rest.start = if bytes.len() as u64 == len {
            part.end
        } else {
            end
        };
        Ok(bytes)
    }

    fn unreadable_part(&self, chunk: ContentHash, error: io::Error) -> StoreError {
        failed(self.what("reading", &data_key(chunk)), error)
    }

    fn put(
        &self,
        chunk: ContentHash,
        payload: &Payload,
        rate: Option<&Pace>,
        cancelled: &AtomicBool,
    ) -> Result<(), StoreError> {
        let key = data_key(chunk);
        let failed = |error: DurableError| unwritable(self.what("storing", &key), error);
        let sharing = self.prepare().map_err(failed)?;
        let staged = Staged::create_in(&self.staging).map_err(failed)?;
        staged.share(sharing).map_err(failed)?;
        self.fill(&staged, &key, payload, rate, cancelled)?;
        payload.check_unchanged()?;
        staged
            .publish_grouped(&self.root.join(&key), &self.data)
            .map_err(failed)?;
        Ok(())
    }

    fn fill(
        &self,
        staged: &Staged,
        key: &str,
        payload: &Payload,
        rate: Option<&Pace>,
        cancelled: &AtomicBool,
    ) -> Result<(), StoreError> {
        let failed = |error: io::Error| unwritable(self.what("storing", key), error);
        match payload {
            Payload::Bytes(bytes) => {
                use std::io::Write as _;
                staged.file().write_all(bytes).map_err(failed)?;
            }
            Payload::File { file, range, stamp } => {
                if !reflink(file, range.clone(), staged.file(), 0) {
                    let block = rate.map_or(COPY_BLOCK, |rate| rate.step(COPY_BLOCK));
                    let mut at = range.start;
                    while at < range.end {
                        if let Some(rate) = rate {
                            rate.wait(block.min(range.end - at), cancelled);
                        }
                        if cancelled.load(Ordering::Relaxed) {
                            let error = io::Error::from(io::ErrorKind::Interrupted);
                            return Err(failed(error));
                        }
                        let end = range.end.min(at + block);
                        match copy_range(file, at..end, staged.file(), at - range.start) {
                            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                                return Err(stamp.changed());
                            }
                            copied => copied.map_err(failed)?,
                        }
                        at = end;
                    }
                }
                // The length of the new file counts, whatever the kernel's copy reported.
                let len = staged.file().metadata().map_err(failed)?.len();
                if len != payload.len() {
                    return Err(stamp.changed());
                }
            }
        }
        Ok(())
    }
}

/// An object that is being read.
#[derive(Debug)]
struct Reading {
    file: File,
    chunk: ContentHash,
    /// What is still to be read.
    rest: Range<u64>,
    object_len: u64,
    version: Option<Arc<str>>,
}

/// Opens a regular file, or one that a link leads to, and says what it is. Opening a pipe would wait for its other end, so
/// what is there is looked at before.
fn open_file(path: &Path) -> io::Result<(File, FileStamp)> {
    let kind = std::fs::metadata(path)?.file_type();
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file");
        return Err(error);
    }
    let file = File::open(path)?;
    let stamp = FileStamp::of(&file)?;
    Ok((file, stamp))
}

/// When a file was last written. Times before 1970 are taken for 1970.
fn time_of(stamp: &FileStamp) -> SystemTime {
    let since = u64::try_from(stamp.mtime_ns).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_nanos(since)
}

/// Tells the blocking half that its caller has gone.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl ChunkStore for DirectoryStore {
    async fn get(&self, chunk: ContentHash, range: Range<u64>) -> Result<ObjectPart, StoreError> {
        self.answer(RequestKind::Get, move |files| files.get(chunk, range))
            .await
    }

    async fn stream(
        &self,
        chunk: ContentHash,
        range: Range<u64>,
    ) -> Result<ObjectStream, StoreError> {
        let begun = self.answer(RequestKind::Get, move |files| {
            let mut reading = files.begin(chunk, range)?;
            let first = files.read_block(&mut reading)?;
            Ok((first, reading))
        });
        let (first, reading) = begun.await?;
        let (object_len, version) = (reading.object_len, reading.version.clone());
        let store = self.clone();
        let rest = stream::try_unfold(reading, move |mut reading| {
            let store = store.clone();
            async move {
                if reading.rest.is_empty() {
                    return Ok(None);
                }
                let read = store.run(move |files| {
                    let bytes = files.read_block(&mut reading)?;
                    Ok((bytes, reading))
                });
                read.await.map(Some)
            }
        });
        Ok(ObjectStream {
            object_len,
            version,
            pieces: stream::iter([Ok(first)]).chain(rest).boxed(),
        })
    }

    /// Two: while one is copied, the kernel reads the other from the disk. With more, what it reads ahead of each gets in
    /// the way of the others.
    fn parts_at_once(&self) -> Option<NonZero<u32>> {
        NonZero::new(2)
    }

    fn requests(&self) -> Option<RequestCounts> {
        Some(self.requests.so_far())
    }

    async fn head(&self, chunk: ContentHash) -> Result<ObjectMeta, StoreError> {
        self.answer(RequestKind::Head, move |files| {
            let key = data_key(chunk);
            let (_, stamp) =
                open_file(&files.root.join(&key)).map_err(|error| files.unreadable(&key, error))?;
            Ok(ObjectMeta { len: stamp.size })
        })
        .await
    }

    fn slowed(&self, bytes_per_second: NonZeroU64) -> Option<Arc<dyn ChunkStore>> {
        Some(Arc::new(Self {
            rate: Some(Arc::new(Pace::new(bytes_per_second))),
            ..self.clone()
        }))
    }

    async fn put(&self, chunk: ContentHash, payload: Payload) -> Result<(), StoreError> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let _guard = CancelOnDrop(Arc::clone(&cancelled));
        let rate = self.rate.clone();
        self.answer(RequestKind::Put, move |files| {
            files.put(chunk, &payload, rate.as_deref(), &cancelled)
        })
        .await
    }
}

#[async_trait]
impl ManifestStore for DirectoryStore {
    async fn get_manifest(&self, key: &ManifestKey) -> Result<StoredManifest, StoreError> {
        let key = key.clone();
        self.answer(RequestKind::Get, move |files| files.get_manifest(&key))
            .await
    }

    async fn put_manifest_if_absent(
        &self,
        key: &ManifestKey,
        bytes: Bytes,
        metadata: &Metadata,
    ) -> Result<PutOutcome, StoreError> {
        let (key, metadata) = (key.clone(), metadata.clone());
        self.answer(RequestKind::Put, move |files| {
            files.put_manifest_if_absent(&key, &bytes, &metadata)
        })
        .await
    }
}

#[async_trait]
impl ListStore for DirectoryStore {
    async fn list(&self, folder: &Folder, after: Option<&str>) -> Result<Page, StoreError> {
        let (folder, after) = (folder.clone(), after.map(str::to_owned));
        self.answer(RequestKind::List, move |files| {
            files.list(&folder, after.as_deref())
        })
        .await
    }
}

impl Store for DirectoryStore {
    fn address(&self) -> StoreAddress {
        StoreAddress::Directory(self.files.root.clone())
    }
}
