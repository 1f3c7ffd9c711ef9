//! One file: reading and hashing it, and seeing to it that its objects are in the store.

use std::collections::HashMap;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use attachfs_fetch::ByteBudget;
use attachfs_manifest::{ContentHash, File};
use attachfs_scan::{ScanError, ScannedFile};
use attachfs_store::Payload;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};

use super::{Done, HashOptions, Item, Unreadable, node_of};
use crate::hash::{hash_chunks, hash_range};
use crate::meter::Meter;
use crate::run::blocking;
use crate::upload::Outcome;
use crate::{Source, SourceFile, TransferError, Uploader};

/// How often a file that changes is read before it is an error.
const MOST_TRIES: u32 = 3;

/// What all files of one snapshot share.
pub(super) struct Shared {
    pub(super) options: HashOptions,
    /// Files of up to this many bytes are kept in memory from reading to sending.
    pub(super) small_file: u64,
    pub(super) memory: ByteBudget,
    pub(super) readers: Semaphore,
    pub(super) store: Option<Uploader>,
    pub(super) stored: Stored,
    pub(super) meter: Arc<Meter>,
}

/// The objects that are in the store by now or on their way. Who wants to store one waits for who
/// came first, and takes over if that one fails: its file may have changed.
#[derive(Default)]
pub(super) struct Stored(Mutex<HashMap<ContentHash, Arc<OnceCell<()>>>>);

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
    /// Hashes a file and stores what the store lacks of it.
    pub(super) async fn file(self: Arc<Self>, item: Item) -> Result<Done, TransferError> {
        let mut stored = Vec::new();
        if let Some(known) = &item.known {
            match self.known_once(&item.scanned, known, &mut stored).await {
                Ok(read) => {
                    self.meter.known(item.scanned.size, read);
                    return Ok(match item.into_done() {
                        Done::File { path, file, .. } => Done::File {
                            path,
                            file,
                            was_known: read == 0,
                            stored,
                        },
                        unreadable @ Done::Unreadable(_) => unreadable,
                    });
                }
                Err(TransferError::Changed { .. }) => {}
                Err(error) => return self.failed(item, error),
            }
        }
        let mut tries = Tries::default();
        loop {
            match self.file_once(&item.scanned, &mut stored).await {
                Ok(file) => return Ok(self.done(item, file, stored)),
                Err(error) if tries.again(&error, &item) => {}
                Err(error) => return self.failed(item, error),
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
                    return Ok(self.done(item, file, Vec::new()));
                }
                Err(error) if tries.again(&error, &item) => {}
                Err(error) => return self.failed(item, error),
            }
        }
    }

    pub(super) fn done(&self, item: Item, file: File, stored: Vec<(Outcome, u64)>) -> Done {
        self.meter.finished(|| item.path.to_string());
        Done::File {
            path: item.path,
            file,
            was_known: false,
            stored,
        }
    }

    /// An error, or a file that is left out.
    fn failed(&self, item: Item, error: TransferError) -> Result<Done, TransferError> {
        let is_unreadable = matches!(
            error,
            TransferError::Scan(ScanError::Io { .. } | ScanError::Replaced(_))
                | TransferError::Read { .. }
        );
        if !is_unreadable || !self.options.skip_unreadable {
            return Err(error);
        }
        tracing::warn!(path = %item.path, error = &error as &dyn std::error::Error,
            "the file cannot be read and is left out");
        self.meter.known(item.scanned.size, 0);
        Ok(Done::Unreadable(Unreadable {
            path: item.path,
            error,
        }))
    }

    async fn file_once(
        self: &Arc<Self>,
        scanned: &ScannedFile,
        stored: &mut Vec<(Outcome, u64)>,
    ) -> Result<File, TransferError> {
        let _held = self.memory.take(self.in_memory(scanned)).await;
        let (shared, file) = (Arc::clone(self), scanned.clone());
        let read = self.reading(move || shared.read(&file)).await?;
        let Read { now, bytes, hashes } = read;
        for (&hash, range) in hashes.iter().zip(self.options.chunk_size.ranges(now.size)) {
            let len = range.end - range.start;
            let payload = std::future::ready(bytes.payload(range));
            stored.extend(self.store(hash, len, payload, &now).await?);
        }
        Ok(node_of(&now, hashes))
    }

    /// Sees to it that the objects of a file whose hashes are known are in the store. Reads of it what
    /// the store lacks, and compares the hash again. Gives how many bytes that were. The file counts as
    /// changed if it is not what it was, or the hash is another.
    async fn known_once(
        self: &Arc<Self>,
        scanned: &ScannedFile,
        hashes: &[ContentHash],
        stored: &mut Vec<(Outcome, u64)>,
    ) -> Result<u64, TransferError> {
        // Before there is a request: whoever has memory may wait for one, so nobody who has one may
        // wait for memory.
        let _held = self.memory.take(self.in_memory(scanned)).await;
        let mut read = 0;
        let ranges = self.options.chunk_size.ranges(scanned.size);
        for (&hash, range) in hashes.iter().zip(ranges) {
            let len = range.end - range.start;
            let (shared, file) = (Arc::clone(self), scanned.clone());
            let payload = self.reading(move || shared.read_again(&file, hash, range));
            if let Some((outcome, len)) = self.store(hash, len, payload, scanned).await? {
                stored.push((outcome, len));
                if outcome == Outcome::Uploaded {
                    read += len;
                }
            }
        }
        Ok(read)
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

    /// Sees to it that an object is in the store, if there is one. `None` if somebody else did.
    async fn store(
        &self,
        hash: ContentHash,
        len: u64,
        payload: impl Future<Output = Result<Payload, TransferError>> + Send,
        file: &ScannedFile,
    ) -> Result<Option<(Outcome, u64)>, TransferError> {
        let Some(store) = &self.store else {
            return Ok(None);
        };
        let mut mine = None;
        let cell = self.stored.cell(hash);
        let ensure = || async {
            mine = Some((store.ensure(hash, len, payload, &file.source()).await?, len));
            Ok::<_, TransferError>(())
        };
        cell.get_or_try_init(ensure).await?;
        Ok(mine)
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
