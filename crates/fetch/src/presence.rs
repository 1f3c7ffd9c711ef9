//! How much of a file is on this machine.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use attachfs_durable::{FileStamp, fill_at};
use attachfs_manifest::{ChunkLayout, ContentHash, Hasher, Piece};
use parking_lot::Mutex;

use crate::disk::UNIT;
use crate::{DiskCache, Doubt, Fetcher};

/// How many units are asked about at once.
const AT_ONCE: u64 = 8192;
/// Bytes that are hashed at once.
const STEP: usize = 1 << 20;

/// A local file that had exactly the bytes of an object, or of several in order, verified, when it was opened.
#[derive(Debug)]
pub struct WholeOnDisk {
    file: File,
    /// The objects, with their lengths.
    objects: Vec<(ContentHash, u64)>,
    /// From when it was found right last; nothing if the disk did not tell it. Held for single look-ups and changes.
    stamp: Mutex<Option<FileStamp>>,
    is_told: AtomicBool,
}

impl WholeOnDisk {
    /// A file that was verified just now.
    pub fn new(file: File, hash: ContentHash, len: u64) -> Self {
        Self::of(file, vec![(hash, len)])
    }

    /// A file that was verified just now and has these objects, with their lengths, one after the other.
    fn of(file: File, objects: Vec<(ContentHash, u64)>) -> Self {
        Self {
            stamp: Mutex::new(FileStamp::of(&file).ok()),
            file,
            objects,
            is_told: AtomicBool::new(false),
        }
    }

    /// The file, open for reading.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether nobody has written to the file. Its names may have changed, and so its time of change.
    fn is_untouched(&self, now: Option<FileStamp>) -> bool {
        now.zip(*self.stamp.lock())
            .is_some_and(|(now, before)| (now.size, now.mtime_ns) == (before.size, before.mtime_ns))
    }

    /// The first object whose bytes it does not have now, as far as it can be read, and the hash of what it has in its place.
    fn wrong(&self) -> Option<Wrong> {
        let mut at = 0;
        let last = self.objects.len().checked_sub(1);
        for (index, &(hash, len)) in self.objects.iter().enumerate() {
            // What comes after the last one is wrong, too.
            let end = if Some(index) == last {
                u64::MAX
            } else {
                at + len
            };
            let (found, failed) = self.found(at, end);
            if found != hash || failed.is_some() {
                return Some(Wrong {
                    hash,
                    len,
                    found,
                    failed,
                });
            }
            at += len;
        }
        None
    }

    /// The hash of these bytes, up to the first that cannot be read, and why that is.
    fn found(&self, mut at: u64, end: u64) -> (ContentHash, Option<io::Error>) {
        let mut hasher = Hasher::new();
        let mut step = vec![0; STEP];
        while at < end {
            let most = usize::try_from(end - at).map_or(STEP, |left| left.min(STEP));
            match fill_at(&self.file, &mut step[..most], at) {
                Ok(0) => break,
                Ok(read) => {
                    hasher.update(&step[..read]);
                    at += read as u64;
                }
                Err(error) => return (hasher.finish(), Some(error)),
            }
        }
        (hasher.finish(), None)
    }
}

/// An object that a file should have and has not.
struct Wrong {
    hash: ContentHash,
    len: u64,
    found: ContentHash,
    failed: Option<io::Error>,
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

    /// The file of the disk cache that has all bytes of a file, and no others, verified. Of a file of several objects there is one
    /// once they were joined, which is begun here if they all are in the cache. Open for reading, and not removed to make room as long as it is open. `None` also if every object is to be verified
    /// before its first byte is given out, or the disk is asked for much already. Can be called on any thread; blocks for
    /// a local file at most, of an object of up to 8 MiB to hash all of it.
    pub fn whole_on_disk(&self, layout: &ChunkLayout<'_>) -> Option<WholeOnDisk> {
        let engine = self.engine();
        if engine.options.verifies_first {
            return None;
        }
        let disk = engine.disk.as_ref()?;
        let pieces = || layout.pieces(0..layout.size());
        if pieces().any(|piece| engine.known.refused(&piece).is_some()) {
            return None;
        }
        let objects: Vec<_> = pieces()
            .map(|piece| (piece.hash, piece.object_len))
            .collect();
        let file = match objects[..] {
            [(hash, len)] => disk.complete_at_once(hash, len)?,
            _ => disk.joined_at_once(&objects)?,
        };
        // What is read of it is not seen.
        for piece in pieces() {
            engine.note_read(&piece);
        }
        Some(WholeOnDisk::of(file, objects))
    }

    /// Whether such a file has the object's bytes still, as far as its length and its time of modification tell; if somebody
    /// has changed them, it is hashed. The first time that it has not, those who listen to doubts are told. Blocks for the local
    /// file.
    pub fn is_still_right(&self, whole: &WholeOnDisk) -> bool {
        let now = FileStamp::of(whole.file()).ok();
        if whole.is_untouched(now) {
            return true;
        }
        let Some(wrong) = whole.wrong() else {
            // Another mount notes in a file that it uses it. Once is enough to find that out.
            *whole.stamp.lock() = now;
            return true;
        };
        if !whole.is_told.swap(true, Ordering::Relaxed) {
            let Wrong {
                hash,
                len,
                found,
                failed,
            } = wrong;
            tracing::error!(object = %hash, %found, ?failed,
                "a file of the disk cache was changed while the kernel read it: programs may have read wrong bytes");
            // One that cannot be read may have been changed: the session is marked all the same.
            self.engine().doubts.tell(&Doubt {
                hash,
                len,
                found: Some(found),
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

    use attachfs_manifest::ChunkSize;
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

    const CHUNK: u64 = 4 * UNIT;

    /// A file of two large chunks and a small one, all in the cache.
    struct Chunked {
        temp: tempfile::TempDir,
        bytes: Vec<u8>,
        hashes: Vec<ContentHash>,
        fetcher: Fetcher,
    }

    impl Chunked {
        async fn with(verifies_first: bool) -> Self {
            let temp = tempfile::tempdir().unwrap();
            let memory = MemoryStore::new();
            let bytes: Vec<u8> = (0..2 * CHUNK + 7).map(|at| (at / 99) as u8).collect();
            let chunks = bytes.chunks(CHUNK as usize);
            let hashes = chunks.map(|chunk| memory.insert(chunk.to_vec())).collect();
            let cache = crate::testing::unbounded(temp.path().join("cache"));
            let disk = DiskCache::start(cache.objects([1; 16]).unwrap()).unwrap();
            let options = FetchOptions {
                whole_object_limit: 1000,
                verifies_first,
                ..FetchOptions::default()
            };
            let fetcher = Fetcher::new(Arc::new(memory), Some(disk), options);
            let chunked = Self {
                temp,
                bytes,
                hashes,
                fetcher,
            };
            for piece in chunked.layout().pieces(0..u64::MAX) {
                let warm = chunked.fetcher.warm(piece.hash, piece.object_len);
                warm.await.unwrap();
            }
            chunked.fetcher.flush_disk().await;
            chunked
        }

        /// The joined file in the cache.
        fn joined(&self) -> std::path::PathBuf {
            let partition = self.temp.path().join("cache/v1").join("01".repeat(16));
            let shelves = std::fs::read_dir(partition).unwrap();
            let mut files =
                shelves.flat_map(|shelf| std::fs::read_dir(shelf.unwrap().path()).unwrap());
            files
                .find_map(|file| {
                    let path = file.unwrap().path();
                    path.extension()
                        .is_some_and(|ending| ending == "joined")
                        .then_some(path)
                })
                .unwrap()
        }

        fn layout(&self) -> ChunkLayout<'_> {
            let size = ChunkSize::Bytes(CHUNK.try_into().unwrap());
            ChunkLayout::from_hashes(self.bytes.len() as u64, size, &self.hashes).unwrap()
        }

        async fn whole(&self) -> WholeOnDisk {
            for _ in 0..60_000 {
                if let Some(whole) = self.fetcher.whole_on_disk(&self.layout()) {
                    return whole;
                }
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            panic!("it is not joined");
        }
    }

    #[tokio::test]
    async fn a_file_of_several_chunks_is_one_file_once_it_was_opened_before() {
        let chunked = Chunked::with(false).await;
        assert!(chunked.fetcher.whole_on_disk(&chunked.layout()).is_none());
        let whole = chunked.whole().await;
        let read = attachfs_durable::read_range(whole.file(), 0..1 << 24).unwrap();
        assert!(read == chunked.bytes);
        assert!(chunked.fetcher.is_still_right(&whole));
        let pieces: Vec<_> = chunked.layout().pieces(0..u64::MAX).collect();
        let there = chunked.fetcher.bytes_on_disk(pieces).await.unwrap();
        assert_eq!(there, [CHUNK, CHUNK, 7]);
        let counts = chunked.fetcher.counters();
        assert_eq!(counts.disk_joined, 1);
        let strict = Chunked::with(true).await;
        for _ in 0..2 {
            assert!(strict.fetcher.whole_on_disk(&strict.layout()).is_none());
            strict.fetcher.flush_disk().await;
        }
        assert_eq!(strict.fetcher.counters().disk_joined, 0);
    }

    #[tokio::test]
    async fn a_joined_file_that_was_changed_while_the_kernel_reads_it_is_told_by_its_chunk() {
        for at in [CHUNK + 5, 2 * CHUNK + 7] {
            let chunked = Chunked::with(false).await;
            let whole = chunked.whole().await;
            let name = chunked.joined();
            let file = File::options().write(true).open(name).unwrap();
            attachfs_durable::write_all_at(&file, b"?", at).unwrap();
            attachfs_durable::set_modified(&file, 1000, 0).unwrap();
            assert!(!chunked.fetcher.is_still_right(&whole));
            assert!(!chunked.fetcher.is_still_right(&whole));
            let told = chunked.fetcher.wrong_and_given();
            assert_eq!(told.len(), 1);
            let index = (at / CHUNK) as usize;
            assert_eq!(
                (told[0].hash, told[0].was_given),
                (chunked.hashes[index], true)
            );
        }
    }

    fn alone() -> Fetcher {
        Fetcher::new(Arc::new(MemoryStore::new()), None, FetchOptions::default())
    }

    #[test]
    fn a_file_that_another_mount_uses_is_hashed_once_and_not_at_each_open() {
        let file = tempfile::tempfile().unwrap();
        let fetcher = alone();
        attachfs_durable::write_all_at(&file, b"bytes", 0).unwrap();
        let whole = WholeOnDisk::new(file.try_clone().unwrap(), ContentHash::of(b"bytes"), 5);
        attachfs_durable::set_modified(&file, 1000, 0).unwrap();
        assert!(fetcher.is_still_right(&whole));
        // Who hashed it again would see that.
        attachfs_durable::write_all_at(&file, b"BYTES", 0).unwrap();
        attachfs_durable::set_modified(&file, 1000, 0).unwrap();
        assert!(fetcher.is_still_right(&whole));
        attachfs_durable::set_modified(&file, 2000, 0).unwrap();
        assert!(!fetcher.is_still_right(&whole));
    }

    #[test]
    fn a_file_that_cannot_be_read_any_more_marks_the_session() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let fetcher = alone();
        std::fs::write(file.path(), b"bytes").unwrap();
        let closed = File::options().write(true).open(file.path()).unwrap();
        let whole = WholeOnDisk::new(closed, ContentHash::of(b"bytes"), 5);
        assert!(fetcher.is_still_right(&whole), "nobody changed it");
        attachfs_durable::set_modified(file.as_file(), 1000, 0).unwrap();
        assert!(!fetcher.is_still_right(&whole));
        let told = fetcher.wrong_and_given();
        assert_eq!((told.len(), told[0].hash), (1, ContentHash::of(b"bytes")));
    }
}
