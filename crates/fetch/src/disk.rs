//! The disk cache: whole, small, verified objects as files.
//!
//! Where the files are, and who is trusted with them, is [`ObjectFiles`]. Here an object is hashed whenever it is
//! read: one that is torn, damaged or not what it says is removed, counted and fetched again. Deleting the
//! cache, or filling the disk under it, costs time and nothing else. Files are written by one thread of the
//! cache's own, off the path of any read; what does not fit into its queue is not written.

mod writer;

use std::io;
use std::sync::Arc;

use attachfs_durable::{DurableError, ObjectFiles};
use attachfs_manifest::ContentHash;
use bytes::Bytes;

use crate::counters::Count;
use writer::Writer;

/// A cache of whole objects on the local disk. Dropping it waits (for seconds at most) until what was inserted is
/// written.
#[derive(Debug)]
pub struct DiskCache {
    objects: ObjectFiles,
    counts: Arc<DiskCounts>,
    writer: Writer,
}

/// What a disk cache has done.
#[derive(Debug, Default)]
pub(crate) struct DiskCounts {
    pub(crate) written: Count,
    pub(crate) dropped: Count,
    pub(crate) damaged: Count,
}

impl DiskCache {
    /// Begins to read and write these objects; starts the thread that writes.
    pub fn start(objects: ObjectFiles) -> Result<Self, DurableError> {
        let counts = Arc::<DiskCounts>::default();
        let writer = Writer::start(objects.clone(), Arc::clone(&counts))?;
        Ok(Self {
            objects,
            counts,
            writer,
        })
    }

    /// Waits until everything inserted so far is written or dropped.
    pub fn flush(&self) {
        self.writer.flush();
    }

    /// Whether a file has the name and the length of an object. Nobody has looked at its bytes. Blocks.
    pub(crate) fn may_have(&self, hash: ContentHash, len: u64) -> bool {
        self.objects.find(*hash.as_bytes(), len).is_some()
    }

    /// An object, if it is there and sound. A file that is not the object is removed. Blocks.
    pub(crate) fn get(&self, hash: ContentHash, len: u64) -> Option<Bytes> {
        match self.read(hash) {
            Ok(bytes) if bytes.len() as u64 == len && ContentHash::of(&bytes) == hash => {
                Some(bytes)
            }
            Ok(bytes) => {
                // The store may hold an object of another length than this reader expects. The file
                // is sound then: the reader has to hear of it from the store.
                let found = ContentHash::of(&bytes);
                if found != hash {
                    tracing::warn!(path = %self.objects.path(*hash.as_bytes()).display(), expected = %hash, %found,
                        "a file of the disk cache is damaged; it is deleted and fetched again");
                    self.discard(hash);
                }
                None
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %self.objects.path(*hash.as_bytes()).display(), %error,
                    "a file of the disk cache cannot be read; it is deleted and fetched again");
                self.discard(hash);
                None
            }
        }
    }

    fn read(&self, hash: ContentHash) -> io::Result<Bytes> {
        let (file, len) = self.objects.open(*hash.as_bytes())?;
        attachfs_durable::read_range(&file, 0..len)
    }

    /// Has an object written some time later, unless the cache is busy or the disk is full. The caller
    /// has verified it.
    pub(crate) fn insert(&self, hash: ContentHash, object: Bytes) {
        self.writer.send(hash, object);
    }

    pub(crate) fn counts(&self) -> &DiskCounts {
        &self.counts
    }

    fn discard(&self, hash: ContentHash) {
        self.counts.damaged.add(1);
        if let Err(error) = self.objects.remove(*hash.as_bytes()) {
            // It is hashed again next time, and the fresh copy is renamed over it.
            tracing::debug!(%hash, %error, "a damaged cache file stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use attachfs_durable::CacheDir;
    use attachfs_manifest::Piece;
    use attachfs_store::record::RecordStore;
    use attachfs_store::{CallKind, MemoryStore};
    use tempfile::TempDir;

    use super::*;
    use crate::testing::cached;
    use crate::{FetchOptions, Fetcher};

    const TEXT: &[u8] = b"worth keeping";

    struct Setup {
        temp: TempDir,
        store: Arc<RecordStore>,
        piece: Piece,
    }

    impl Setup {
        fn new() -> Self {
            let memory = MemoryStore::new();
            let hash = memory.insert(TEXT);
            let len = TEXT.len() as u64;
            Self {
                temp: TempDir::new().unwrap(),
                store: Arc::new(RecordStore::new(Arc::new(memory))),
                piece: Piece {
                    hash,
                    object_len: len,
                    range: 0..len,
                },
            }
        }

        fn objects(&self, partition: u8) -> ObjectFiles {
            let dir = CacheDir::new(self.temp.path().join("cache"));
            dir.objects([partition; 16]).unwrap()
        }

        fn fetcher(&self, partition: u8) -> Fetcher {
            let disk = DiskCache::start(self.objects(partition)).unwrap();
            Fetcher::new(
                Arc::clone(&self.store) as _,
                Some(disk),
                FetchOptions::default(),
            )
        }

        /// The object's file in the cache.
        fn file(&self) -> PathBuf {
            self.objects(1).path(*self.piece.hash.as_bytes())
        }

        async fn read(&self, fetcher: &Fetcher) {
            assert_eq!(fetcher.read(&self.piece).await.unwrap(), TEXT);
        }
    }

    #[tokio::test]
    async fn what_one_fetcher_read_the_next_one_has_on_disk() {
        let setup = Setup::new();
        let first = setup.fetcher(1);
        setup.read(&first).await;
        drop(first);
        let second = setup.fetcher(1);
        assert_eq!(cached(&second, &setup.piece).unwrap(), TEXT);
        setup.read(&setup.fetcher(1)).await;
        assert_eq!(setup.store.count(CallKind::Get), 1);
        assert_eq!(second.counters().disk_hits, 1);
    }

    #[tokio::test]
    async fn partitions_do_not_see_each_other() {
        let setup = Setup::new();
        setup.read(&setup.fetcher(1)).await;
        assert!(cached(&setup.fetcher(2), &setup.piece).is_none());
    }

    #[tokio::test]
    async fn a_damaged_file_is_deleted_and_fetched_again() {
        let setup = Setup::new();
        setup.read(&setup.fetcher(1)).await;
        for damaged in [&b"worth keepinG"[..], b"worth", b"", b"worth keeping?"] {
            std::fs::write(setup.file(), damaged).unwrap();
            let fetcher = setup.fetcher(1);
            assert!(cached(&fetcher, &setup.piece).is_none());
            assert!(!setup.file().exists());
            setup.store.clear();
            setup.read(&fetcher).await;
            assert_eq!(setup.store.count(CallKind::Get), 1);
            assert_eq!(fetcher.counters().disk_damaged, 1);
            drop(fetcher);
            assert_eq!(std::fs::read(setup.file()).unwrap(), TEXT);
        }
    }

    #[tokio::test]
    async fn a_link_in_a_files_place_is_not_followed() {
        let setup = Setup::new();
        setup.read(&setup.fetcher(1)).await;
        let outside = setup.temp.path().join("outside");
        std::fs::rename(setup.file(), &outside).unwrap();
        std::os::unix::fs::symlink(&outside, setup.file()).unwrap();
        assert!(cached(&setup.fetcher(1), &setup.piece).is_none());
        assert!(outside.exists());
    }

    #[tokio::test]
    async fn a_cache_deleted_under_its_user_is_begun_anew() {
        let setup = Setup::new();
        let memory = MemoryStore::new();
        let hashes = [memory.insert("one"), memory.insert("two")];
        let disk = DiskCache::start(setup.objects(1)).unwrap();
        let fetcher = Fetcher::new(Arc::new(memory), Some(disk), FetchOptions::default());
        let read = async |hash| {
            fetcher
                .read(&Piece {
                    hash,
                    object_len: 3,
                    range: 0..3,
                })
                .await
                .unwrap();
            fetcher.shared().disk.as_ref().unwrap().flush();
        };
        read(hashes[0]).await;
        std::fs::remove_dir_all(setup.objects(1).dir()).unwrap();
        read(hashes[1]).await;
        assert_eq!(fetcher.counters().disk_written, 2);
        let objects = setup.objects(1);
        assert!(objects.path(*hashes[1].as_bytes()).exists());
    }

    #[tokio::test]
    async fn an_object_of_another_length_than_expected_stays_in_the_cache() {
        let setup = Setup::new();
        setup.read(&setup.fetcher(1)).await;
        let fetcher = setup.fetcher(1);
        let longer = Piece {
            object_len: setup.piece.object_len + 1,
            ..setup.piece.clone()
        };
        fetcher.read(&longer).await.unwrap_err();
        assert!(setup.file().exists());
    }
}
