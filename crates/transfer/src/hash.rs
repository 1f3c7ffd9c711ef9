//! Hashing files, as a whole or in chunks.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use attachfs_durable::ReadBuffer;
use attachfs_manifest::{ChunkSize, Content, ContentHash, Hasher};

use crate::meter::Meter;
use crate::run::blocking;
use crate::{Phase, Source, TransferError};

/// How much is read at once: long enough to make calls cheap, short enough to stay in the cache.
const BUFFER_LEN: usize = 1 << 20;

thread_local! {
    /// What a thread reads into.
    static BUFFER: RefCell<ReadBuffer> = RefCell::default();
}

/// Hashes a file as a manifest of this chunk size names it. Blocks; reads each byte once.
///
/// Fails with [`TransferError::Changed`] if the file is not what its stamp says, before or after.
pub fn hash_file(source: &Source, chunk_size: ChunkSize) -> Result<Content, TransferError> {
    let meter = Meter::new(Phase::Hash, 1, source.size);
    hash_chunks(source, chunk_size, &meter).map(content_of)
}

/// [`hash_file`] on a thread of its own.
pub async fn hash_source(source: Source, chunk_size: ChunkSize) -> Result<Content, TransferError> {
    let meter = Meter::new(Phase::Hash, 1, source.size);
    let counted = Arc::clone(&meter);
    blocking(&meter, move || {
        hash_chunks(&source, chunk_size, &counted).map(content_of)
    })
    .await
}

/// The hashes of a file's chunks, in order.
pub(crate) fn hash_chunks(
    source: &Source,
    chunk_size: ChunkSize,
    meter: &Meter,
) -> Result<Vec<ContentHash>, TransferError> {
    let file = source.open()?;
    let hashes = chunk_size
        .ranges(source.size)
        .map(|range| hash_range(source, &file, range, meter))
        .collect::<Result<_, _>>()?;
    source.check_unchanged(&file)?;
    Ok(hashes)
}

/// The hash of a range of an open file. Fails if the file ends before it.
pub(crate) fn hash_range(
    source: &Source,
    file: &File,
    range: Range<u64>,
    meter: &Meter,
) -> Result<ContentHash, TransferError> {
    BUFFER.with_borrow_mut(|buffer| {
        // A thread that only ever sees small files needs no more than they do.
        buffer.grow(BUFFER_LEN.min((range.end - range.start) as usize));
        hash_through(buffer.as_mut(), source, file, range, meter)
    })
}

fn hash_through(
    buffer: &mut [u8],
    source: &Source,
    file: &File,
    range: Range<u64>,
    meter: &Meter,
) -> Result<ContentHash, TransferError> {
    let mut hasher = Hasher::new();
    let mut at = range.start;
    while at < range.end {
        meter.go_on()?;
        let want = buffer.len().min((range.end - at) as usize);
        match file.read_at(&mut buffer[..want], at) {
            // Shorter than it was.
            Ok(0) => return Err(TransferError::changed(&source.path)),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                meter.add_bytes(read as u64);
                at += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(TransferError::read(&source.path, error)),
        }
    }
    Ok(hasher.finish())
}

/// What a manifest says of a file whose chunks have these hashes.
pub(crate) fn content_of(hashes: Vec<ContentHash>) -> Content {
    match hashes[..] {
        [whole] => Content::Whole(whole),
        _ => Content::Chunks(hashes.into()),
    }
}
