//! Hashing files, as a whole or in chunks.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use attachfs_durable::{ReadBuffer, data_in, fill_at};
use attachfs_manifest::{ChunkSize, Content, ContentHash, Hasher};
use attachfs_scan::Phase;

use parking_lot::Mutex;

use crate::error::TransferError;
use crate::meter::Meter;
use crate::run::blocking;
use crate::source::FileToStore;

/// So many chunks of one file, or of the files of one commit together, are listed: a gigabyte of memory, and 1 PiB in chunks of 256 MiB.
pub const MOST_CHUNKS: u64 = 1 << 22;

/// S3 takes no longer object, in bytes: 10,000 parts of 5 GiB.
pub const LONGEST_OBJECT: u64 = 10_000 * (5 << 30);

/// How many zeros are hashed between two looks at whether to go on.
const ZEROS_AT_ONCE: u64 = 64 << 20;

/// How much is read at once: long enough to make calls cheap, short enough to stay in the cache.
const BUFFER_LEN: usize = 1 << 20;

thread_local! {
    /// What a thread reads into.
    static BUFFER: RefCell<ReadBuffer> = RefCell::default();
}

/// Hashes a file as a manifest of this chunk size names it. Blocks; reads each byte once, and none of holes.
///
/// Fails with [`TransferError::Changed`] if the file is not what its stamp says, before or after.
pub fn hash_file(source: &FileToStore, chunk_size: ChunkSize) -> Result<Content, TransferError> {
    let meter = Meter::new(Phase::Hash, 1, source.size);
    hash_chunks(source, chunk_size, &meter).map(content_of)
}

/// [`hash_file`] until `stopped` is set; then it fails with [`TransferError::Cancelled`].
pub fn hash_file_until(
    stopped: Arc<AtomicBool>,
    source: &FileToStore,
    chunk_size: ChunkSize,
) -> Result<Content, TransferError> {
    let meter = Meter::stopped_by(stopped, Phase::Hash, 1, source.size);
    hash_chunks(source, chunk_size, &meter).map(content_of)
}

/// [`hash_file`] on a thread of its own.
pub async fn hash_source(
    source: FileToStore,
    chunk_size: ChunkSize,
) -> Result<Content, TransferError> {
    let meter = Meter::new(Phase::Hash, 1, source.size);
    let counted = Arc::clone(&meter);
    blocking(&meter, move || {
        hash_chunks(&source, chunk_size, &counted).map(content_of)
    })
    .await
}

/// [`hash_source`] of a file all of which counts, wherever it is. Fails if there is more of it than its length says, as of files
/// that a kernel makes up while they are read (`/proc`): what was hashed would be the beginning.
pub async fn hash_whole_source(
    source: FileToStore,
    chunk_size: ChunkSize,
) -> Result<Content, TransferError> {
    let meter = Meter::new(Phase::Hash, 1, source.size);
    let counted = Arc::clone(&meter);
    blocking(&meter, move || {
        let hashes = hash_chunks(&source, chunk_size, &counted)?;
        let more = fill_at(&*source.open()?, &mut [0], source.size);
        match more.map_err(|error| TransferError::read(&source.path, error))? {
            0 => Ok(content_of(hashes)),
            _ => {
                let why = format!(
                    "it has more than the {} bytes that its length says",
                    source.size
                );
                Err(TransferError::read(
                    &source.path,
                    std::io::Error::other(why),
                ))
            }
        }
    })
    .await
}

/// The hashes of a file's chunks, in order.
pub(crate) fn hash_chunks(
    source: &FileToStore,
    chunk_size: ChunkSize,
    meter: &Meter,
) -> Result<Vec<ContentHash>, TransferError> {
    let longest = match chunk_size {
        ChunkSize::WholeFile => source.size,
        ChunkSize::Bytes(chunk) => chunk.get().min(source.size),
    };
    if chunk_size.count(source.size) > MOST_CHUNKS || longest > LONGEST_OBJECT {
        return Err(TransferError::TooLarge {
            path: source.path.clone(),
            size: source.size,
        });
    }
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
    source: &FileToStore,
    file: &File,
    range: Range<u64>,
    meter: &Meter,
) -> Result<ContentHash, TransferError> {
    // To ask is not worth it for what is read at once.
    let data = if range.end - range.start <= BUFFER_LEN as u64 {
        range.clone()
    } else {
        data_in(file, range.clone()).map_err(|error| TransferError::read(&source.path, error))?
    };
    if data.is_empty() && !range.is_empty() {
        return hash_zeros(range.end - range.start, meter);
    }
    BUFFER.with_borrow_mut(|buffer| {
        // A thread that only ever sees small files needs no more than they do.
        buffer.grow(BUFFER_LEN.min((range.end - range.start) as usize));
        hash_through(buffer.as_mut(), source, file, (range, data), meter)
    })
}

fn hash_through(
    buffer: &mut [u8],
    source: &FileToStore,
    file: &File,
    (range, mut data): (Range<u64>, Range<u64>),
    meter: &Meter,
) -> Result<ContentHash, TransferError> {
    let mut hasher = Hasher::new();
    let mut at = range.start;
    while at < range.end {
        meter.go_on()?;
        if at == data.end {
            data = data_in(file, at..range.end)
                .map_err(|error| TransferError::read(&source.path, error))?;
        }
        if at < data.start {
            let hole = (data.start - at).min(ZEROS_AT_ONCE);
            hasher.update_zeros(hole);
            meter.add_bytes(hole);
            at += hole;
            continue;
        }
        let want = buffer.len().min((data.end - at) as usize);
        let read = fill_at(file, &mut buffer[..want], at);
        let read = read.map_err(|error| TransferError::read(&source.path, error))?;
        if read == 0 {
            // Shorter than it was.
            return Err(TransferError::changed(&source.path));
        }
        hasher.update(&buffer[..read]);
        meter.add_bytes(read as u64);
        at += read as u64;
    }
    Ok(hasher.finish())
}

/// The hash of so many zeros. Chunks of a file with large holes are the same zeros again and again: those
/// that were asked for last are remembered.
fn hash_zeros(len: u64, meter: &Meter) -> Result<ContentHash, TransferError> {
    const REMEMBERED: usize = 8;
    static KNOWN: Mutex<VecDeque<(u64, ContentHash)>> = Mutex::new(VecDeque::new());
    meter.go_on()?;
    let known = KNOWN.lock().iter().find(|(of, _)| *of == len).copied();
    if let Some((_, hash)) = known {
        meter.add_bytes(len);
        return Ok(hash);
    }
    let mut hasher = Hasher::new();
    let mut left = len;
    while left > 0 {
        meter.go_on()?;
        let part = left.min(ZEROS_AT_ONCE);
        hasher.update_zeros(part);
        meter.add_bytes(part);
        left -= part;
    }
    let hash = hasher.finish();
    let mut known = KNOWN.lock();
    known.truncate(REMEMBERED - 1);
    known.push_front((len, hash));
    Ok(hash)
}

/// The hash of so many zeros, which are not there to be read. Blocks, for a second or so for 10 GB.
pub fn hash_of_zeros(len: u64) -> ContentHash {
    let meter = Meter::new(Phase::Hash, 1, len);
    hash_zeros(len, &meter).expect("nobody stops what nobody listens to")
}

/// What a manifest says of a file whose chunks have these hashes.
pub(crate) fn content_of(hashes: Vec<ContentHash>) -> Content {
    match hashes[..] {
        [whole] => Content::Whole(whole),
        _ => Content::Chunks(hashes.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use attachfs_durable::FileStamp;

    use super::*;
    use crate::SourceFile;

    const MIB: u64 = 1 << 20;

    fn source(file: File) -> FileToStore {
        let stamp = FileStamp::of(&file).unwrap();
        FileToStore {
            path: "sparse".into(),
            file: SourceFile::Open(Arc::new(file)),
            stamp,
            size: stamp.size,
        }
    }

    #[test]
    fn a_file_with_holes_has_the_hashes_of_its_bytes() {
        let file = tempfile::tempfile().unwrap();
        let size = 40 * MIB + 5;
        file.set_len(size).unwrap();
        for (bytes, at) in [("begin", 0), ("middle", 17 * MIB - 3), ("end", size - 3)] {
            attachfs_durable::write_all_at(&file, bytes.as_bytes(), at).unwrap();
        }
        let bytes = attachfs_durable::read_range(&file, 0..size).unwrap();
        let cut = ChunkSize::Bytes(NonZeroU64::new(8 * MIB).unwrap());
        for cut in [cut, ChunkSize::WholeFile] {
            let pieces = cut.ranges(size);
            let pieces = pieces.map(|range| &bytes[range.start as usize..range.end as usize]);
            let expected = pieces.map(ContentHash::of).collect();
            let hashed = hash_file(&source(file.try_clone().unwrap()), cut).unwrap();
            assert_eq!(hashed, content_of(expected));
        }
    }

    #[test]
    fn what_is_too_long_to_be_read_is_hashed_if_it_is_a_hole() {
        let file = tempfile::tempfile().unwrap();
        // A day's reading.
        let size = 8 << 40;
        file.set_len(size).unwrap();
        let cut = ChunkSize::Bytes(NonZeroU64::new(256 * MIB).unwrap());
        let hashed = hash_file(&source(file), cut).unwrap();
        let Content::Chunks(hashes) = &hashed else {
            panic!("{hashed:?}")
        };
        assert_eq!(hashes.len(), 8 << 12);
        let zeros = hash_of_zeros(256 * MIB);
        assert!(hashes.iter().all(|&hash| hash == zeros));
    }

    #[test]
    fn a_file_whose_hashes_would_fill_the_memory_is_not_hashed() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(MOST_CHUNKS * 1000 + 1).unwrap();
        let cut = ChunkSize::Bytes(NonZeroU64::new(1000).unwrap());
        let hashed = hash_file(&source(file), cut);
        assert!(
            matches!(hashed, Err(TransferError::TooLarge { size, .. }) if size == MOST_CHUNKS * 1000 + 1),
            "{:?}",
            hashed.map(|content| content.hashes().len())
        );
    }

    #[test]
    fn an_object_that_no_store_takes_is_not_hashed() {
        let longer = FileToStore {
            size: LONGEST_OBJECT + 1,
            ..source(tempfile::tempfile().unwrap())
        };
        let hashed = hash_file(&longer, ChunkSize::WholeFile);
        assert!(matches!(hashed, Err(TransferError::TooLarge { .. })));
    }

    #[test]
    fn a_file_that_ends_before_its_hole_has_changed() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4 * MIB).unwrap();
        let longer = FileToStore {
            size: 8 * MIB,
            ..source(file)
        };
        let hashed = hash_file(&longer, ChunkSize::WholeFile);
        assert!(
            matches!(hashed, Err(TransferError::Changed { .. })),
            "{hashed:?}"
        );
    }
}
