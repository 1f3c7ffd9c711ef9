//! One file: reading and hashing it, and seeing to it that its objects are in the store.

use std::collections::HashMap;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use attachfs_fetch::ByteBudget;
use attachfs_manifest::{ChunkSize, ContentHash, File, ManifestPath};
use attachfs_scan::{ScanError, ScannedFile};
use attachfs_store::Payload;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};

use super::{Done, HashOptions, Item, Unreadable, node_of};
use crate::hash::{hash_chunks, hash_range};
use crate::meter::Meter;
use crate::run::blocking;
use crate::upload::{Outcome, Sending};
use crate::{Source, SourceFile, TransferError, Uploader};

/// How often a file that changes is read before it is an error.
const MOST_TRIES: u32 = 3;

/// What all files of one snapshot share.
pub(super) struct Shared {
    pub(super) options: HashOptions,
    /// Files of up to this many bytes are kept in memory from reading to sending.
    small_file: u64,
    memory: ByteBudget,
    readers: Semaphore,
    pub(super) reader_count: usize,
    pub(super) store: Option<Uploader>,
    stored: Arc<Stored>,
    pub(super) meter: Arc<Meter>,
    /// What the hashes of files should be is said by somebody else: a file that has others is an error.
    is_named: bool,
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

/// A file that was read: what it was while it was, where its bytes are to be had, their hashes.
pub(super) struct Read {
    pub(super) now: ScannedFile,
    bytes: FileBytes,
    pub(super) hashes: Vec<ContentHash>,
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

/// Counts how often a file was found changed.
#[derive(Debug, Default)]
struct Tries(u32);

impl Tries {
    /// Whether to try again after this.
    fn again(&mut self, error: &TransferError, item: &Item) -> bool {
        self.0 += 1;
        let again = matches!(error, TransferError::Changed { .. }) && self.0 < MOST_TRIES;
        if again {
            tracing::info!(path = %item.path,
                "the file changed while it was being read; reading it again");
        }
        again
    }
}

impl Shared {
    pub(super) fn new(
        options: HashOptions,
        store: Option<&Uploader>,
        meter: Arc<Meter>,
        is_named: bool,
    ) -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        // More than there are cores, since some of them wait for the disk.
        let reader_count = 2 * threads;
        Self {
            options,
            // Only what is sent is worth keeping in memory.
            small_file: store.map_or(0, |store| store.options.small_file),
            memory: store.map_or_else(|| ByteBudget::new(0), |store| store.memory.clone()),
            readers: Semaphore::new(reader_count),
            reader_count,
            store: store.cloned(),
            stored: Arc::default(),
            meter,
            is_named,
        }
    }

    /// The same, for files that are gone through once more.
    pub(super) fn again(&self, meter: Arc<Meter>) -> Self {
        Self {
            stored: Arc::clone(&self.stored),
            ..Self::new(
                self.options.clone(),
                self.store.as_ref(),
                meter,
                self.is_named,
            )
        }
    }

    /// Stores what the store lacks of a file, hashing it unless its hashes are known.
    pub(super) async fn file(self: Arc<Self>, mut item: Item) -> Result<Done, TransferError> {
        let mut kept = Kept {
            stored: std::mem::take(&mut item.stored),
            relies: false,
        };
        if let Some(known) = &item.known {
            match self.known_once(&item, known, &mut kept).await {
                Ok(read) => {
                    self.meter.known(item.scanned.size, read);
                    let now = item.scanned.clone();
                    let known = known.clone();
                    return Ok(kept.done(item, now, known, read == 0));
                }
                Err(TransferError::Changed { path }) if self.is_named => {
                    return self.failed(item, kept, TransferError::Differs { path });
                }
                Err(TransferError::Changed { .. }) => {}
                Err(error) => return self.failed(item, kept, error),
            }
        }
        let mut tries = Tries::default();
        loop {
            kept.relies = false;
            match self.file_once(&item.scanned, &mut kept).await {
                Ok((now, hashes)) => {
                    self.meter.finished(|| item.path.to_string());
                    return Ok(kept.done(item, now, hashes, false));
                }
                Err(error) if tries.again(&error, &item) => {}
                Err(error) => return self.failed(item, kept, error),
            }
        }
    }

    /// Hashes a file, without a store. Blocks.
    pub(super) fn hash(&self, item: Item) -> Result<Done, TransferError> {
        let mut tries = Tries::default();
        loop {
            match self.read(&item.scanned) {
                Ok(read) => {
                    let file = node_of(&read.now, read.hashes);
                    return Ok(self.done(item, file));
                }
                Err(error) if tries.again(&error, &item) => {}
                Err(error) => return self.failed(item, Kept::default(), error),
            }
        }
    }

    /// A file that was hashed and nothing else.
    pub(super) fn done(&self, item: Item, file: File) -> Done {
        self.meter.finished(|| item.path.to_string());
        Done::File {
            path: item.path,
            file,
            was_known: false,
            stored: Vec::new(),
            relied: None,
        }
    }

    /// The end of everything, a file that is left out, or one that failed while others may not.
    fn failed(&self, item: Item, kept: Kept, error: TransferError) -> Result<Done, TransferError> {
        let is_unreadable = matches!(
            error,
            TransferError::Scan(ScanError::Io { .. } | ScanError::Replaced(_))
                | TransferError::Read { .. }
        );
        if is_unreadable && self.options.skip_unreadable {
            tracing::warn!(path = %item.path, error = &error as &dyn std::error::Error,
                "the file cannot be read and is left out");
            self.meter.known(item.scanned.size, 0);
            return Ok(Done::Unreadable(Unreadable {
                path: item.path,
                error,
            }));
        }
        match &self.store {
            Some(store) if store.others_may_pass(&error) => {
                tracing::warn!(path = %item.path, error = &error as &dyn std::error::Error,
                    "the file is not stored");
                self.meter.known(item.scanned.size, 0);
                Ok(Done::Failed {
                    path: item.path,
                    stored: kept.stored,
                    error,
                })
            }
            _ => Err(error),
        }
    }

    /// A file that failed before anything was done with it.
    pub(super) fn failed_before(
        &self,
        path: ManifestPath,
        error: TransferError,
    ) -> Result<Done, TransferError> {
        if !error.is_of_one_file() {
            return Err(error);
        }
        self.meter.known(0, 0);
        Ok(Done::Failed {
            path,
            stored: Vec::new(),
            error,
        })
    }

    async fn file_once(
        self: &Arc<Self>,
        scanned: &ScannedFile,
        kept: &mut Kept,
    ) -> Result<(ScannedFile, Vec<ContentHash>), TransferError> {
        if scanned.size > self.small_file {
            return self.large_once(scanned, kept).await;
        }
        let _held = self.memory.take(scanned.size).await;
        let (shared, file) = (Arc::clone(self), scanned.clone());
        let read = self.reading(move || shared.read(&file)).await?;
        let Read { now, bytes, hashes } = read;
        for (&hash, range) in hashes.iter().zip(self.options.chunk_size.ranges(now.size)) {
            let len = range.end - range.start;
            let sending = std::future::ready(bytes.payload(range).map(whole));
            self.store(hash, len, sending, &now, kept).await?;
        }
        Ok((now, hashes))
    }

    /// Chunk by chunk: the next is hashed while one is sent.
    async fn large_once(
        self: &Arc<Self>,
        scanned: &ScannedFile,
        kept: &mut Kept,
    ) -> Result<(ScannedFile, Vec<ContentHash>), TransferError> {
        let _turn = match &self.store {
            Some(store) => store.turn(scanned.size).await,
            None => None,
        };
        let seen = SystemTime::now();
        let file = scanned.clone();
        let (source, now) = self.reading(move || open(&file)).await?;
        let mut hashes = Vec::new();
        let mut last: Option<(ContentHash, Range<u64>)> = None;
        for range in self.options.chunk_size.ranges(now.size) {
            let hashing = self.hash_chunk(&source, range.clone());
            let hash = match last.take() {
                None => hashing.await?,
                Some((hash, range)) => {
                    let sending = self.send_chunk(hash, range, &source, &now, kept);
                    tokio::try_join!(hashing, sending)?.0
                }
            };
            hashes.push(hash);
            last = Some((hash, range));
        }
        let (shared, read) = (Arc::clone(self), source.clone());
        let (file, found) = (now.clone(), hashes.clone());
        self.reading(move || {
            let open = read.open()?;
            read.check_unchanged(&open)?;
            shared.remember(&file, &found, seen);
            Ok(())
        })
        .await?;
        if let Some((hash, range)) = last {
            self.send_chunk(hash, range, &source, &now, kept).await?;
        }
        Ok((now, hashes))
    }

    async fn hash_chunk(
        self: &Arc<Self>,
        source: &Source,
        range: Range<u64>,
    ) -> Result<ContentHash, TransferError> {
        let (shared, source) = (Arc::clone(self), source.clone());
        self.reading(move || {
            let file = source.open()?;
            let hash = hash_range(&source, &file, range, &shared.meter)?;
            shared.look_up_seen(&[hash]);
            Ok(hash)
        })
        .await
    }

    async fn send_chunk(
        &self,
        hash: ContentHash,
        range: Range<u64>,
        source: &Source,
        now: &ScannedFile,
        kept: &mut Kept,
    ) -> Result<(), TransferError> {
        let len = range.end - range.start;
        let sending = std::future::ready(source.payload(range).map(whole));
        self.store(hash, len, sending, now, kept).await
    }

    /// Sees to it that the objects of a file whose hashes are known are in the store. Reads of it what
    /// the store lacks, and compares the hash again. Gives how many bytes that were. The file counts as
    /// changed if it is not what it was, or the hash is another.
    async fn known_once(
        self: &Arc<Self>,
        item: &Item,
        hashes: &[ContentHash],
        kept: &mut Kept,
    ) -> Result<u64, TransferError> {
        let scanned = &item.scanned;
        // Before there is a request: whoever has memory may wait for one, so nobody who has one may
        // wait for memory.
        let _held = self.memory.take(self.in_memory(scanned)).await;
        let before = kept.sent();
        // One hash is of the whole file, however the manifest cuts others.
        let cut = match hashes {
            [_] => ChunkSize::WholeFile,
            _ => item.chunk_size,
        };
        for (&hash, range) in hashes.iter().zip(cut.ranges(scanned.size)) {
            let len = range.end - range.start;
            let (shared, file) = (Arc::clone(self), scanned.clone());
            let sending = async move {
                let _turn = match &shared.store {
                    Some(store) => store.turn(file.size).await,
                    None => None,
                };
                let reader = Arc::clone(&shared);
                let read = move || reader.read_again(&file, hash, range);
                let payload = shared.reading(read).await?;
                Ok(Sending { payload, _turn })
            };
            self.store(hash, len, sending, scanned, kept).await?;
        }
        Ok(kept.sent() - before)
    }

    /// How much memory the file takes from reading to sending.
    fn in_memory(&self, scanned: &ScannedFile) -> u64 {
        if scanned.size <= self.small_file {
            scanned.size
        } else {
            0
        }
    }

    async fn reading<T: Send + 'static>(
        &self,
        step: impl FnOnce() -> Result<T, TransferError> + Send + 'static,
    ) -> Result<T, TransferError> {
        let _reader = self
            .readers
            .acquire()
            .await
            .expect("the semaphore is never closed");
        blocking(&self.meter, step).await
    }

    /// Reads and hashes a file, and keeps the hashes if they are certain. Blocks.
    fn read(&self, scanned: &ScannedFile) -> Result<Read, TransferError> {
        self.meter.go_on()?;
        let seen = SystemTime::now();
        let (source, now) = open(scanned)?;
        let chunk_size = self.options.chunk_size;
        let (bytes, hashes) = if now.size > self.small_file {
            let hashes = hash_chunks(&source, chunk_size, &self.meter)?;
            (FileBytes::OnDisk(source), hashes)
        } else {
            let bytes = read_small(&source, 0..now.size)?;
            let hash = |range: Range<u64>| {
                ContentHash::of(&bytes[range.start as usize..range.end as usize])
            };
            let hashes = chunk_size.ranges(now.size).map(hash).collect();
            self.meter.add_bytes(now.size);
            (FileBytes::InMemory(bytes), hashes)
        };
        self.remember(&now, &hashes, seen);
        self.look_up_seen(&hashes);
        Ok(Read { now, bytes, hashes })
    }

    /// Keeps hashes for another time. The file's stamp was the same before and after they were made.
    pub(super) fn remember(&self, now: &ScannedFile, hashes: &[ContentHash], seen: SystemTime) {
        if let Some(caches) = &self.options.caches {
            caches.remember(now, self.options.chunk_size, hashes, seen);
        }
    }

    /// A range of a file that should have this hash. Blocks.
    fn read_again(
        &self,
        scanned: &ScannedFile,
        hash: ContentHash,
        range: Range<u64>,
    ) -> Result<Payload, TransferError> {
        self.meter.go_on()?;
        let (source, now) = open(scanned)?;
        if now.stamp != scanned.stamp {
            return Err(TransferError::changed(&scanned.source()));
        }
        let (found, payload) = if scanned.size <= self.small_file {
            let bytes = read_small(&source, range.clone())?;
            self.meter.add_bytes(range.end - range.start);
            (ContentHash::of(&bytes), Payload::Bytes(bytes))
        } else {
            let file = source.open()?;
            let found = hash_range(&source, &file, range.clone(), &self.meter)?;
            source.check_unchanged(&file)?;
            (found, source.payload(range)?)
        };
        if found != hash {
            tracing::warn!(path = %scanned.source().display(), known = %hash, %found,
                "a hash cache was wrong; the file is hashed again");
            return Err(TransferError::changed(&scanned.source()));
        }
        Ok(payload)
    }

    /// Finds out which of these objects were seen in the store at an earlier time. Blocks.
    pub(super) fn look_up_seen(&self, hashes: &[ContentHash]) {
        let store = self.store.as_ref();
        if let Some(seen) = store.and_then(|store| store.seen.as_ref()) {
            seen.look_up(hashes);
        }
    }

    /// Sees to it that an object is in the store, if there is one.
    async fn store(
        &self,
        hash: ContentHash,
        len: u64,
        sending: impl Future<Output = Result<Sending, TransferError>> + Send,
        file: &ScannedFile,
        kept: &mut Kept,
    ) -> Result<(), TransferError> {
        let Some(store) = &self.store else {
            return Ok(());
        };
        let cell = self.stored.cell(hash);
        if !cell.initialized() && store.relies_on(hash, len) {
            kept.relies = true;
            return Ok(());
        }
        let mut mine = None;
        let ensure = || async {
            mine = Some(store.ensure(hash, len, sending, &file.source()).await?);
            Ok::<_, TransferError>(())
        };
        cell.get_or_try_init(ensure).await?;
        // Whoever came first counts it.
        kept.stored.extend(mine.map(|outcome| (outcome, len)));
        Ok(())
    }
}

/// What became of a file's objects so far.
#[derive(Debug, Default)]
struct Kept {
    stored: Vec<(Outcome, u64)>,
    /// One of them was seen in the store at an earlier time only.
    relies: bool,
}

impl Kept {
    /// The bytes that were sent.
    fn sent(&self) -> u64 {
        let sent = self.stored.iter();
        sent.filter(|(outcome, _)| *outcome == Outcome::Uploaded)
            .map(|(_, len)| len)
            .sum()
    }

    /// A file that was this and has these hashes.
    fn done(self, item: Item, now: ScannedFile, hashes: Vec<ContentHash>, was_known: bool) -> Done {
        let file = node_of(&now, hashes.clone());
        let relied = self.relies.then(|| {
            Box::new(Item {
                path: item.path.clone(),
                scanned: now,
                known: Some(hashes),
                chunk_size: item.chunk_size,
                stored: self.stored.clone(),
            })
        });
        Done::File {
            path: item.path,
            file,
            was_known,
            stored: self.stored,
            relied,
        }
    }
}

/// What is sent without a turn of its own.
fn whole(payload: Payload) -> Sending {
    Sending {
        payload,
        _turn: None,
    }
}

/// Opens a file, and says what it is at that moment.
pub(super) fn open(scanned: &ScannedFile) -> Result<(Source, ScannedFile), TransferError> {
    let (file, now) = scanned.open()?;
    let source = Source {
        path: now.source(),
        file: SourceFile::Open(Arc::new(file)),
        stamp: now.stamp,
        size: now.size,
    };
    Ok((source, now))
}

/// Reads a range into memory, of a file that is afterwards what it was before.
fn read_small(source: &Source, range: Range<u64>) -> Result<Bytes, TransferError> {
    let len = range.end - range.start;
    let file = source.open()?;
    let bytes = attachfs_durable::read_range(&file, range)
        .map_err(|error| TransferError::read(&source.path, error))?;
    source.check_unchanged(&file)?;
    if bytes.len() as u64 != len {
        return Err(TransferError::changed(&source.path));
    }
    Ok(bytes.into())
}
