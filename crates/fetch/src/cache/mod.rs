//! The disk cache: whole, small, verified objects as files.
//!
//! ```text
//!     <dir>/                          yours alone, and nobody else can replace it
//!       v1/
//!         <hash of the partition>/    one for each endpoint, bucket and prefix
//!           incoming/                 files that are being written
//!           00/ .. ff/
//!             <32 hex digits>         the bytes of that object, nothing else
//! ```
//!
//! Files are renamed into place and never synced. They need not be: every file is hashed whenever it is
//! read, so one that is torn, damaged or not what it says is deleted, counted and fetched again.
//! Deleting the cache, or filling the disk under it, costs time and nothing else. Files are written by
//! one thread of the cache's own, off the path of any read; what does not fit into its queue is not
//! written. Several processes of one user may share a cache.

mod place;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attachfs_manifest::ContentHash;
use bytes::Bytes;

use crate::counters::Count;
pub use place::CacheError;
use writer::Writer;

/// A cache of whole objects in a directory of the local disk. Dropping it waits (for seconds at most)
/// until what was inserted is written.
#[derive(Debug)]
pub struct DiskCache {
    shelf: Arc<Shelf>,
    writer: Writer,
}

/// What a disk cache has done.
#[derive(Debug, Default)]
pub(crate) struct DiskCounts {
    pub(crate) written: Count,
    pub(crate) dropped: Count,
    pub(crate) damaged: Count,
}

/// Where the files of one partition are.
#[derive(Debug)]
struct Shelf {
    dir: PathBuf,
    partition: PathBuf,
    counts: DiskCounts,
}

impl Shelf {
    fn path(&self, hash: ContentHash) -> PathBuf {
        let hex = hash.to_hex();
        let hex = std::str::from_utf8(&hex).expect("hexadecimal digits are ASCII");
        let mut path = PathBuf::with_capacity(self.partition.as_os_str().len() + 40);
        path.push(&self.partition);
        path.push(&hex[..2]);
        path.push(hex);
        path
    }

    fn incoming(&self) -> PathBuf {
        self.partition.join("incoming")
    }

    /// Makes the directories, and refuses places that others can change.
    fn prepare(&self) -> Result<(), CacheError> {
        place::own(&self.dir)?;
        place::own(&self.incoming())
    }
}

impl DiskCache {
    /// Opens the cache in `dir`, creating what is missing. `partition` tells stores apart that may hold
    /// different bytes under the same hash: endpoint, bucket and prefix.
    ///
    /// Refuses a directory that is a symbolic link, belongs to another user, or can be changed by
    /// another user, itself or through one of its parents.
    pub fn open(dir: &Path, partition: &str) -> Result<Self, CacheError> {
        let name = ContentHash::of(partition.as_bytes()).to_string();
        let shelf = Arc::new(Shelf {
            dir: dir.to_owned(),
            partition: dir.join("v1").join(name),
            counts: DiskCounts::default(),
        });
        shelf.prepare()?;
        let writer = Writer::start(Arc::clone(&shelf))?;
        Ok(Self { shelf, writer })
    }

    /// Waits until everything inserted so far is written or dropped.
    pub fn flush(&self) {
        self.writer.flush();
    }

    /// The file that should hold an object, if it has the right length. Nobody has looked at its bytes.
    /// Blocks.
    pub fn file(&self, hash: ContentHash, len: u64) -> Option<std::fs::File> {
        let (file, found) = open(&self.shelf.path(hash)).ok()?;
        (found == len).then_some(file)
    }

    /// Whether a file of this name is there. Says nothing about what is in it.
    pub(crate) fn may_have(&self, hash: ContentHash) -> bool {
        attachfs_durable::Facts::at(&self.shelf.path(hash)).is_ok()
    }

    /// An object, if it is there and sound. A file that is not the object is deleted.
    pub(crate) fn get(&self, hash: ContentHash, len: u64) -> Option<Bytes> {
        let path = self.shelf.path(hash);
        match read(&path) {
            Ok(bytes) if bytes.len() as u64 == len && ContentHash::of(&bytes) == hash => {
                Some(bytes)
            }
            Ok(bytes) => {
                // The store may hold an object of another length than this reader expects. The file
                // is sound then: the reader has to hear of it from the store.
                let found = ContentHash::of(&bytes);
                if found != hash {
                    tracing::warn!(path = %path.display(), expected = %hash, %found,
                        "a file of the disk cache is damaged; it is deleted and fetched again");
                    self.discard(&path);
                }
                None
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error,
                    "a file of the disk cache cannot be read; it is deleted and fetched again");
                self.discard(&path);
                None
            }
        }
    }

    /// Has an object written some time later, unless the cache is busy or the disk is full. The caller
    /// has verified it.
    pub(crate) fn insert(&self, hash: ContentHash, object: Bytes) {
        self.writer.send(hash, object);
    }

    pub(crate) fn counts(&self) -> &DiskCounts {
        &self.shelf.counts
    }

    fn discard(&self, path: &Path) {
        self.shelf.counts.damaged.add(1);
        if let Err(error) = std::fs::remove_file(path) {
            // It is hashed again next time, and the fresh copy is renamed over it.
            tracing::debug!(path = %path.display(), %error, "a damaged cache file stays");
        }
    }
}

fn read(path: &Path) -> io::Result<Bytes> {
    let (file, len) = open(path)?;
    attachfs_durable::read_range(&file, 0..len)
}

/// A file and its length.
fn open(path: &Path) -> io::Result<(std::fs::File, u64)> {
    let file = attachfs_durable::open_file(path)?;
    let len = file.metadata()?.len();
    Ok((file, len))
}

#[cfg(test)]
mod tests {
    use attachfs_manifest::Piece;
    use attachfs_store::record::RecordStore;
    use attachfs_store::{CallKind, MemoryStore};
    use tempfile::TempDir;

    use super::*;
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

        fn dir(&self) -> PathBuf {
            self.temp.path().join("cache")
        }

        fn fetcher(&self, partition: &str) -> Fetcher {
            let disk = DiskCache::open(&self.dir(), partition).unwrap();
            Fetcher::new(
                Arc::clone(&self.store) as _,
                Some(disk),
                FetchOptions::default(),
            )
        }

        /// The object's file in the cache.
        fn file(&self) -> PathBuf {
            DiskCache::open(&self.dir(), "a")
                .unwrap()
                .shelf
                .path(self.piece.hash)
        }

        async fn read(&self, fetcher: &Fetcher) {
            assert_eq!(fetcher.read(&self.piece).await.unwrap(), TEXT);
        }
    }

    #[tokio::test]
    async fn what_one_fetcher_read_the_next_one_has_on_disk() {
        let setup = Setup::new();
        let first = setup.fetcher("a");
        setup.read(&first).await;
        drop(first);
        let second = setup.fetcher("a");
        assert_eq!(second.read_cached(&setup.piece).unwrap(), TEXT);
        setup.read(&setup.fetcher("a")).await;
        assert_eq!(setup.store.count(CallKind::Get), 1);
        assert_eq!(second.counters().disk_hits, 1);
    }

    #[tokio::test]
    async fn partitions_do_not_see_each_other() {
        let setup = Setup::new();
        setup.read(&setup.fetcher("a")).await;
        assert!(setup.fetcher("b").read_cached(&setup.piece).is_none());
    }

    #[tokio::test]
    async fn a_damaged_file_is_deleted_and_fetched_again() {
        let setup = Setup::new();
        setup.read(&setup.fetcher("a")).await;
        for damaged in [&b"worth keepinG"[..], b"worth", b"", b"worth keeping?"] {
            std::fs::write(setup.file(), damaged).unwrap();
            let fetcher = setup.fetcher("a");
            assert!(fetcher.read_cached(&setup.piece).is_none());
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
        setup.read(&setup.fetcher("a")).await;
        let outside = setup.temp.path().join("outside");
        std::fs::rename(setup.file(), &outside).unwrap();
        std::os::unix::fs::symlink(&outside, setup.file()).unwrap();
        assert!(setup.fetcher("a").read_cached(&setup.piece).is_none());
        assert!(outside.exists());
    }

    #[tokio::test]
    async fn a_cache_deleted_under_its_user_is_begun_anew() {
        let setup = Setup::new();
        let memory = MemoryStore::new();
        let hashes = [memory.insert("one"), memory.insert("two")];
        let disk = DiskCache::open(&setup.dir(), "a").unwrap();
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
            fetcher.disk.as_ref().unwrap().flush();
        };
        read(hashes[0]).await;
        std::fs::remove_dir_all(setup.dir()).unwrap();
        read(hashes[1]).await;
        assert_eq!(fetcher.counters().disk_written, 2);
        let shelf = DiskCache::open(&setup.dir(), "a").unwrap().shelf;
        assert!(shelf.path(hashes[1]).exists());
    }

    #[tokio::test]
    async fn an_object_of_another_length_than_expected_stays_in_the_cache() {
        let setup = Setup::new();
        setup.read(&setup.fetcher("a")).await;
        let fetcher = setup.fetcher("a");
        let longer = Piece {
            object_len: setup.piece.object_len + 1,
            ..setup.piece.clone()
        };
        fetcher.read(&longer).await.unwrap_err();
        assert!(setup.file().exists());
    }

    #[test]
    fn a_file_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let setup = Setup::new();
        let cache = DiskCache::open(&setup.dir(), "a").unwrap();
        cache.insert(setup.piece.hash, Bytes::from_static(TEXT));
        cache.flush();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&setup.file()), 0o600);
        for dir in setup.file().ancestors().skip(1).take(4) {
            assert_eq!(mode(dir), 0o700, "{}", dir.display());
        }
    }
}
