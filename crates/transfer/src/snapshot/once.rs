//! One try at one file: reading, hashing and storing it, or storing it under hashes that are known.
//!
//! What waits for what, so that no two wait for each other: memory or a turn, then an object that somebody
//! else is storing, then a slot for a request. Threads for reading are taken and given back in between.

use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use attachfs_manifest::{ChunkSize, ContentHash};
use attachfs_scan::ScannedFile;
use attachfs_scan::cache::{SETTLED, is_settled};

use super::item::Item;
use super::reading::{Read, open};
use super::shared::Shared;
use super::storing::{Kept, whole};
use crate::error::TransferError;
use crate::hash::hash_range;
use crate::source::FileToStore;

/// Reads and stores a file. Gives what it is, and its hashes.
pub(super) async fn file_once(
    shared: &Arc<Shared>,
    scanned: &ScannedFile,
    kept: &mut Kept,
) -> Result<(ScannedFile, Vec<ContentHash>), TransferError> {
    if scanned.size > shared.reading.small_file {
        return large_once(shared, scanned, kept).await;
    }
    let mut room = scanned.size;
    let (_held, read) = loop {
        let held = shared.memory.take(room).await;
        let (mine, file) = (Arc::clone(shared), scanned.clone());
        let read = shared
            .reading
            .blocking(move || mine.reading.read(&file, &mine.objects))
            .await?;
        if read.in_memory() <= room {
            break (held, read);
        }
        // It has grown since it was listed. Nothing that is read into memory is longer than this.
        room = shared.reading.small_file;
    };
    let Read { now, bytes, hashes } = read;
    for (&hash, range) in hashes
        .iter()
        .zip(shared.reading.options.chunk_size.ranges(now.size))
    {
        let len = range.end - range.start;
        let sending = std::future::ready(bytes.payload(range).map(whole));
        shared.objects.store(hash, len, sending, &now, kept).await?;
    }
    Ok((now, hashes))
}

/// Chunk by chunk: the next is hashed while one is sent.
async fn large_once(
    shared: &Arc<Shared>,
    scanned: &ScannedFile,
    kept: &mut Kept,
) -> Result<(ScannedFile, Vec<ContentHash>), TransferError> {
    let _turn = match &shared.objects.store {
        Some(store) => store.turn(scanned.size).await,
        None => None,
    };
    let seen = SystemTime::now();
    let file = scanned.clone();
    let (source, now) = shared.reading.blocking(move || open(&file)).await?;
    let_settle(shared, &now).await;
    let mut hashes = Vec::new();
    let mut last: Option<(ContentHash, Range<u64>)> = None;
    for range in shared.reading.options.chunk_size.ranges(now.size) {
        let hashing = hash_chunk(shared, &source, range.clone());
        let hash = match last.take() {
            None => hashing.await?,
            Some((hash, range)) => {
                let sending = send_chunk(shared, hash, range, &source, &now, kept);
                tokio::try_join!(hashing, sending)?.0
            }
        };
        hashes.push(hash);
        last = Some((hash, range));
    }
    let (mine, read) = (Arc::clone(shared), source.clone());
    let (file, found) = (now.clone(), hashes.clone());
    shared
        .reading
        .blocking(move || {
            let open = read.open()?;
            read.check_unchanged(&open)?;
            mine.reading.remember(&file, &found, seen);
            Ok(())
        })
        .await?;
    if let Some((hash, range)) = last {
        send_chunk(shared, hash, range, &source, &now, kept).await?;
    }
    Ok((now, hashes))
}

/// Waits until every later change of a file would show in its stamp: two seconds at most. What is read
/// twice, to be hashed and to be sent, has only the stamp to say that it was the same.
async fn let_settle(shared: &Shared, file: &ScannedFile) {
    if shared.objects.store.is_some() && !is_settled(&file.stamp, SystemTime::now()) {
        tokio::time::sleep(SETTLED).await;
    }
}

async fn hash_chunk(
    shared: &Arc<Shared>,
    source: &FileToStore,
    range: Range<u64>,
) -> Result<ContentHash, TransferError> {
    let (mine, source) = (Arc::clone(shared), source.clone());
    shared
        .reading
        .blocking(move || {
            let file = source.open()?;
            let hash = hash_range(&source, &file, range, &mine.reading.meter)?;
            mine.objects.look_up_seen(&[hash]);
            Ok(hash)
        })
        .await
}

async fn send_chunk(
    shared: &Shared,
    hash: ContentHash,
    range: Range<u64>,
    source: &FileToStore,
    now: &ScannedFile,
    kept: &mut Kept,
) -> Result<(), TransferError> {
    let len = range.end - range.start;
    let sending = std::future::ready(source.payload(range).map(whole));
    shared.objects.store(hash, len, sending, now, kept).await
}

/// Sees to it that the objects of a file whose hashes are known are in the store. Reads of it what
/// the store lacks, and compares the hash again. Gives how many bytes that were. The file counts as
/// changed if it is not what it was, or the hash is another.
pub(super) async fn known_once(
    shared: &Arc<Shared>,
    item: &Item,
    hashes: &[ContentHash],
    kept: &mut Kept,
) -> Result<u64, TransferError> {
    let scanned = &item.scanned;
    // Before there is a request: whoever has memory may wait for one, so nobody who has one may
    // wait for memory.
    let _held = shared.memory.take(in_memory(shared, scanned)).await;
    let before = kept.sent();
    // One hash is of the whole file, however the manifest cuts others.
    let cut = match hashes {
        [_] => ChunkSize::WholeFile,
        _ => item.chunk_size,
    };
    let is_large = scanned.size > shared.reading.small_file;
    for (&hash, range) in hashes.iter().zip(cut.ranges(scanned.size)) {
        let len = range.end - range.start;
        // A turn is taken before an object is waited for, never while others wait for it; and only
        // for what has to be sent.
        if is_large && shared.objects.has(hash, len, scanned, kept).await? {
            continue;
        }
        let _turn = match &shared.objects.store {
            Some(store) => store.turn(scanned.size).await,
            None => None,
        };
        if is_large {
            let_settle(shared, scanned).await;
        }
        let (mine, file) = (Arc::clone(shared), scanned.clone());
        let payload = shared
            .reading
            .blocking(move || mine.reading.read_again(&file, hash, range));
        let sending = async { payload.await.map(whole) };
        shared
            .objects
            .store(hash, len, sending, scanned, kept)
            .await?;
    }
    Ok(kept.sent() - before)
}

/// How much memory the file takes from reading to sending.
fn in_memory(shared: &Shared, scanned: &ScannedFile) -> u64 {
    if scanned.size <= shared.reading.small_file {
        scanned.size
    } else {
        0
    }
}
