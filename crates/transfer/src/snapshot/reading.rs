//! Reading and hashing files, on threads that may wait for the disk.

use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use attachfs_manifest::ContentHash;
use attachfs_scan::ScannedFile;
use attachfs_store::Payload;
use bytes::Bytes;
use tokio::sync::Semaphore;

use super::report::HashOptions;
use super::storing::Objects;
use crate::error::TransferError;
use crate::hash::{hash_chunks, hash_range};
use crate::meter::Meter;
use crate::run::blocking;
use crate::source::{FileToStore, SourceFile};

/// A file that was read: what it was while it was, where its bytes are to be had, their hashes.
pub(super) struct Read {
    pub(super) now: ScannedFile,
    pub(super) bytes: FileBytes,
    pub(super) hashes: Vec<ContentHash>,
}

impl Read {
    /// How many bytes of memory this takes.
    pub(super) fn in_memory(&self) -> u64 {
        match self.bytes {
            FileBytes::InMemory(_) => self.now.size,
            FileBytes::OnDisk(_) => 0,
        }
    }
}

/// The bytes of a file that was read.
pub(super) enum FileBytes {
    InMemory(Bytes),
    OnDisk(FileToStore),
}

impl FileBytes {
    pub(super) fn payload(&self, range: Range<u64>) -> Result<Payload, TransferError> {
        match self {
            Self::InMemory(bytes) => Ok(Payload::Bytes(
                bytes.slice(range.start as usize..range.end as usize),
            )),
            Self::OnDisk(source) => source.payload(range),
        }
    }
}

/// Reads files as the options say.
pub(super) struct Reading {
    pub(super) options: HashOptions,
    /// Files of up to this many bytes are kept in memory from reading to sending.
    pub(super) small_file: u64,
    pub(super) meter: Arc<Meter>,
    readers: Semaphore,
    pub(super) reader_count: usize,
}

impl Reading {
    pub(super) fn new(options: HashOptions, small_file: u64, meter: Arc<Meter>) -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        // More than there are cores, since some of them wait for the disk.
        let reader_count = 2 * threads;
        Self {
            options,
            small_file,
            meter,
            readers: Semaphore::new(reader_count),
            reader_count,
        }
    }

    /// Does a step that blocks, when there is a thread for it.
    pub(super) async fn blocking<T: Send + 'static>(
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

    /// Reads and hashes a file, keeps the hashes if they are certain, and looks up its objects. Blocks.
    pub(super) fn read(
        &self,
        scanned: &ScannedFile,
        objects: &Objects,
    ) -> Result<Read, TransferError> {
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
        objects.look_up_seen(&hashes);
        Ok(Read { now, bytes, hashes })
    }

    /// Keeps hashes for another time. The file's stamp was the same before and after they were made.
    pub(super) fn remember(&self, now: &ScannedFile, hashes: &[ContentHash], seen: SystemTime) {
        if let Some(caches) = &self.options.caches {
            caches.remember(now, self.options.chunk_size, hashes, seen);
        }
    }

    /// A range of a file that should have this hash. Blocks.
    pub(super) fn read_again(
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
}

/// Opens a file, and says what it is at that moment.
pub(super) fn open(scanned: &ScannedFile) -> Result<(FileToStore, ScannedFile), TransferError> {
    let (file, now) = scanned.open()?;
    let source = FileToStore {
        path: now.source(),
        file: SourceFile::Open(Arc::new(file)),
        stamp: now.stamp,
        size: now.size,
    };
    Ok((source, now))
}

/// Reads a range into memory, of a file that is afterwards what it was before.
fn read_small(source: &FileToStore, range: Range<u64>) -> Result<Bytes, TransferError> {
    let len = range.end - range.start;
    let file = source.open()?;
    let bytes = attachfs_durable::read_range(&file, range)
        .map_err(|error| TransferError::read(&source.path, error))?;
    source.check_unchanged(&file)?;
    if bytes.len() as u64 != len {
        return Err(TransferError::changed(&source.path));
    }
    Ok(bytes)
}
