//! How much of a file is on this machine.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use attachfs_durable::{FileStamp, fill_at};
use attachfs_manifest::{ChunkLayout, ContentHash, Hasher, Piece};

use crate::disk::UNIT;
use crate::{DiskCache, Doubt, Fetcher};

/// How many units are asked about at once.
const AT_ONCE: u64 = 8192;
/// Bytes that are hashed at once.
const STEP: usize = 1 << 20;

/// A local file that had exactly the bytes of an object, verified, when it was opened.
#[derive(Debug)]
pub struct WholeOnDisk {
    file: File,
    hash: ContentHash,
    len: u64,
    /// Nothing if the disk did not tell it.
    stamp: Option<FileStamp>,
    is_told: AtomicBool,
}

impl WholeOnDisk {
    /// A file that was verified just now.
    pub fn new(file: File, hash: ContentHash, len: u64) -> Self {
        Self {
            stamp: FileStamp::of(&file).ok(),
            file,
            hash,
            len,
            is_told: AtomicBool::new(false),
        }
    }

    /// The file, open for reading.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether nobody has written to the file. Its names may have changed, and so its time of change.
    fn is_untouched(&self) -> bool {
        let now = FileStamp::of(&self.file).ok();
        now.zip(self.stamp)
            .is_some_and(|(now, before)| (now.size, now.mtime_ns) == (before.size, before.mtime_ns))
    }

    /// The hash of what it has now.
    fn found(&self) -> io::Result<ContentHash> {
        let (mut hasher, mut at) = (Hasher::new(), 0);
        let mut step = vec![0; STEP];
        loop {
            let read = fill_at(&self.file, &mut step, at)?;
            if read == 0 {
                return Ok(hasher.finish());
            }
            hasher.update(&step[..read]);
            at += read as u64;
        }
    }
}

impl Fetcher {
    /// How many bytes of each of these pieces are in the disk cache, as far as the names and lengths of its files and the
    /// checksums of large objects tell: nobody has looked at the bytes. `None` if the disk does not answer. Needs a tokio
    /// runtime with time enabled.
    pub async fn bytes_on_disk(&self, pieces: Vec<Piece>) -> Option<Vec<u64>> {
        let Some(disk) = self.disk() else {
            return Some(vec![0; pieces.len()]);
        };
        let fetcher = self.clone();
        let count = move |disk: &DiskCache| {
            let present = pieces.iter().map(|piece| {
                if fetcher.verifies(piece) {
                    let is_there = disk.may_have(piece.hash, piece.object_len);
                    if is_there { len(&piece.range) } else { 0 }
                } else {
                    of_large(disk, piece)
                }
            });
            present.collect()
        };
        Arc::clone(&disk).ask(count).await
    }

    /// The file of the disk cache that has all bytes of a file, and no others, verified: the file must be one whole object.
    /// Open for reading, and not removed to make room as long as it is open. `None` also if every object is to be verified
    /// before its first byte is given out, or the disk is asked for much already. Can be called on any thread; blocks for
    /// a local file at most, of an object of up to 8 MiB to hash all of it.
    pub fn whole_on_disk(&self, layout: &ChunkLayout<'_>) -> Option<WholeOnDisk> {
        let engine = self.engine();
        if engine.options.verifies_first {
            return None;
        }
        let size = layout.size();
        let piece = layout.pieces(0..size).next()?;
        if piece.range != (0..size) || piece.object_len != size {
            return None;
        }
        if engine.known.refused(&piece).is_some() {
            return None;
        }
        let file = engine.disk.as_ref()?.complete_at_once(piece.hash, size)?;
        // What is read of it is not seen.
        engine.note_read(&piece);
        Some(WholeOnDisk::new(file, piece.hash, size))
    }

    /// Whether such a file has the object's bytes still, as far as its length and its time of modification tell; if somebody
    /// has changed them, it is hashed. The first time that it has not, those who listen to doubts are told. Blocks for the local
    /// file.
    pub fn is_still_right(&self, whole: &WholeOnDisk) -> bool {
        if whole.is_untouched() {
            return true;
        }
        let (hash, len) = (whole.hash, whole.len);
        let found = whole.found();
        // Another mount notes in a file that it uses it.
        if found.as_ref().is_ok_and(|&found| found == hash) {
            return true;
        }
        if !whole.is_told.swap(true, Ordering::Relaxed) {
            tracing::error!(object = %hash, ?found,
                "a file of the disk cache was changed while the kernel read it: programs may have read wrong bytes");
            self.engine().doubts.tell(&Doubt {
                hash,
                len,
                found: found.ok(),
                was_given: true,
            });
        }
        false
    }
}

fn len(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

/// The bytes of a piece of a large object that are there.
fn of_large(disk: &DiskCache, piece: &Piece) -> u64 {
    let Some(large) = disk.large(piece.hash, piece.object_len) else {
        return 0;
    };
    let units = piece.range.start / UNIT..piece.range.end.div_ceil(UNIT);
    let mut bytes = 0;
    for first in units.clone().step_by(AT_ONCE as usize) {
        let some = first..(first + AT_ONCE).min(units.end);
        let numbered = some.clone().zip(large.there(some));
        let present = numbered.filter(|&(_, is_there)| is_there);
        bytes += present
            .map(|(unit, _)| {
                let start = (unit * UNIT).max(piece.range.start);
                let end = ((unit + 1) * UNIT).min(piece.range.end);
                len(&(start..end))
            })
            .sum::<u64>();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use attachfs_store::MemoryStore;

    use super::*;
    use crate::FetchOptions;

    #[tokio::test]
    async fn bytes_are_on_disk_once_they_were_read_and_written_there() {
        let temp = tempfile::tempdir().unwrap();
        let memory = MemoryStore::new();
        let options = FetchOptions {
            whole_object_limit: 1000,
            prefetch: crate::Prefetch::Off,
            ..FetchOptions::default()
        };
        let (small, large) = (vec![1; 1000], vec![2; 4 * UNIT as usize + 7]);
        let whole = |bytes: &Vec<u8>| {
            let object_len = bytes.len() as u64;
            Piece {
                hash: memory.insert(bytes.clone()),
                object_len,
                range: 0..object_len,
            }
        };
        let pieces = [&small, &large].map(whole);
        let cache = crate::testing::unbounded(temp.path().join("cache"));
        let disk = DiskCache::start(cache.objects([1; 16]).unwrap()).unwrap();
        let fetcher = Fetcher::new(Arc::new(memory), Some(disk), options.clone());
        let on_disk = |pieces: &[Piece]| fetcher.bytes_on_disk(pieces.to_vec());
        assert_eq!(on_disk(&pieces).await, Some(vec![0, 0]));

        fetcher.read(&pieces[0]).await.unwrap();
        let part = Piece {
            range: UNIT + 5..2 * UNIT,
            ..pieces[1].clone()
        };
        fetcher.read(&part).await.unwrap();
        fetcher.flush_disk().await;
        assert_eq!(on_disk(&pieces).await, Some(vec![1000, UNIT]));
        let across = Piece {
            range: UNIT - 3..UNIT + 9,
            ..pieces[1].clone()
        };
        assert_eq!(on_disk(&[across]).await, Some(vec![9]));
        fetcher
            .warm(pieces[1].hash, pieces[1].object_len)
            .await
            .unwrap();
        fetcher.flush_disk().await;
        assert_eq!(on_disk(&pieces).await, Some(vec![1000, 4 * UNIT + 7]));

        let without = Fetcher::new(Arc::new(MemoryStore::new()), None, options);
        assert_eq!(
            without.bytes_on_disk(pieces.to_vec()).await,
            Some(vec![0, 0])
        );
    }
}
