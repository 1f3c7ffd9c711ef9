//! Whether a store gives what a mount needs, asked once before the mount is made.
//!
//! One byte of a small object proves address, credentials and permissions at once. What is refused or
//! missing may be this one object's trouble: a few more are asked for. If the store fails as a
//! whole, the mount can still be made where it never needs it, because all objects are in the disk
//! cache.

use std::sync::Arc;
use std::time::Duration;

use attachfs_fetch::Fetcher;
use attachfs_manifest::{ChunkLayout, ContentHash, OwnedChunkLayout, Piece};
use attachfs_session::FailureClass;
use attachfs_store::{Reach, StoreError, data_key, run_blocking};
use attachfs_tree::BaseTree;
use tokio::time::Instant;

use crate::error::Error;
use crate::store::OpenStore;

/// How long the store may take altogether, whatever it does. Credentials that do not come have 30 seconds of
/// that, and their absence is told.
const WITHIN: Duration = Duration::from_secs(45);
/// Objects that are asked for until one is there.
const TRIES: usize = 3;
/// Files among which those are chosen: looking at all of a large tree would take time.
const LOOKED_AT: usize = 4096;
/// How long it may take to look for all objects in the cache.
const CACHE_WITHIN: Duration = Duration::from_secs(20);

/// What the store said.
#[derive(Debug)]
pub(crate) enum Probed {
    /// It can be read.
    Answered,
    /// It cannot, and nothing of it is needed: the cache has all objects.
    AllCached(StoreError),
}

/// Files, some of which a store is asked for.
pub(crate) trait ProbedFiles: Send + Sync + 'static {
    /// Where their bytes are.
    fn layouts(&self) -> impl Iterator<Item = ChunkLayout<'_>>;
}

impl ProbedFiles for BaseTree {
    fn layouts(&self) -> impl Iterator<Item = ChunkLayout<'_>> {
        self.layouts()
    }
}

impl ProbedFiles for Vec<OwnedChunkLayout> {
    fn layouts(&self) -> impl Iterator<Item = ChunkLayout<'_>> {
        self.iter().map(OwnedChunkLayout::borrowed)
    }
}

/// Fails if the store cannot be read. Nothing is changed by it, and it can be dropped at any time.
pub(crate) async fn probe(
    store: &OpenStore,
    fetcher: &Arc<Fetcher>,
    files: &Arc<impl ProbedFiles>,
) -> Result<Probed, Error> {
    let until = Instant::now() + WITHIN;
    let chosen = choose(&**files);
    // Of the store itself, if there is nothing to read: that an object is missing is an answer.
    let first = chosen
        .first()
        .map_or_else(|| ContentHash::of(b""), |piece| piece.hash);
    let asked = tokio::time::timeout_at(until, ask(store, &chosen)).await;
    let failure = match asked.unwrap_or_else(|_| Err(late(first))) {
        Ok(()) => return Ok(Probed::Answered),
        Err(failure) => failure,
    };
    if !chosen.is_empty() && are_cached(fetcher, files).await {
        return Ok(Probed::AllCached(failure));
    }
    let address = store.settings.address.clone();
    Err(match failure {
        StoreError::NotFound { what } => {
            let sentence = format!(
                "the store {address} has none of {} objects of the manifest that were looked for, {what} is one of them",
                chosen.len()
            );
            Error::new(FailureClass::Store, sentence)
                .advise("check that the files were uploaded to this store and prefix")
        }
        failure => Error::new(
            FailureClass::Store,
            format!("the store {address} cannot be read"),
        )
        .because(failure),
    })
}

/// An answer that is not the object's: of a proxy that wants a login, for example.
fn wrong_length(piece: &Piece, found: u64) -> StoreError {
    StoreError::Other {
        what: format!("reading {}", data_key(piece.hash)),
        source: format!(
            "it should have {} bytes, but has {found}; check that the endpoint is that of the store",
            piece.object_len
        )
        .into(),
    }
}

fn late(hash: ContentHash) -> StoreError {
    StoreError::Unreachable {
        what: format!("reading {}", data_key(hash)),
        source: format!("there was no answer within {} s", WITHIN.as_secs()).into(),
    }
}

/// The first bytes of the smallest objects, each of another object.
fn choose(files: &impl ProbedFiles) -> Vec<Piece> {
    let mut chosen: Vec<Piece> = Vec::new();
    for (position, layout) in files.layouts().enumerate() {
        if position >= LOOKED_AT && !chosen.is_empty() {
            break;
        }
        let Some(piece) = layout.pieces(0..1).next() else {
            continue;
        };
        let at = chosen.partition_point(|known| known.object_len <= piece.object_len);
        if at < TRIES && chosen.iter().all(|known| known.hash != piece.hash) {
            chosen.insert(at, piece);
            chosen.truncate(TRIES);
        }
    }
    chosen
}

async fn ask(store: &OpenStore, chosen: &[Piece]) -> Result<(), StoreError> {
    if chosen.is_empty() {
        return match store.store.get(ContentHash::of(b""), 0..0).await {
            Ok(_) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        };
    }
    let mut failure = None;
    for piece in chosen {
        let error = match store.store.get(piece.hash, piece.range.clone()).await {
            Ok(part) if part.object_len == piece.object_len => return Ok(()),
            Ok(part) => wrong_length(piece, part.object_len),
            Err(
                error @ (StoreError::NotFound { .. }
                | StoreError::Denied {
                    reach: Reach::Unknown,
                    ..
                }),
            ) => error,
            Err(error) => return Err(error),
        };
        // This object alone may be missing. A refusal or another length says more than a missing object.
        if failure
            .as_ref()
            .is_none_or(|known| matches!(known, StoreError::NotFound { .. }))
        {
            failure = Some(error);
        }
    }
    failure.map_or(Ok(()), Err)
}

/// Whether the disk cache has all objects of these files, as far as names and lengths tell. Not if that cannot be said
/// soon.
async fn are_cached(fetcher: &Arc<Fetcher>, files: &Arc<impl ProbedFiles>) -> bool {
    let (fetcher, files) = (fetcher.clone(), files.clone());
    let until = Instant::now() + CACHE_WITHIN;
    let looked = run_blocking(move || {
        Ok(files.layouts().all(|layout| {
            Instant::now() < until
                && layout
                    .pieces(0..layout.size())
                    .all(|piece| fetcher.is_on_disk(&piece))
        }))
    });
    // It fails only when the program ends.
    looked.await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use attachfs_durable::{CacheDir, CacheLimits};
    use attachfs_fetch::{DiskCache, FetchOptions};
    use attachfs_manifest::{ChunkSize, Content, File, ManifestPath, Mtime, Node, Snapshot};
    use attachfs_store::fault::{Failure, Fault, FaultStore, Rule};
    use attachfs_store::record::RecordStore;
    use attachfs_store::{CallKind, MemoryStore};

    use super::*;
    use crate::StoreSettings;

    struct Setup {
        record: Arc<RecordStore>,
        fault: Arc<FaultStore>,
        fetcher: Arc<Fetcher>,
        tree: Arc<BaseTree>,
        hashes: Vec<ContentHash>,
        cache: Cache,
    }

    struct Cache(tempfile::TempDir);

    impl Cache {
        fn fetcher(&self, chunks: Arc<RecordStore>) -> Fetcher {
            // Whether objects are kept must not depend on the disk that the tests run on.
            let limits = CacheLimits {
                min_free: Some(0),
                ..CacheLimits::default()
            };
            let cache = CacheDir::new(self.0.path().join("c")).with_limits(limits);
            let disk = DiskCache::start(cache.objects([1; 16]).unwrap()).unwrap();
            Fetcher::new(chunks, Some(disk), FetchOptions::default())
        }
    }

    /// A manifest of files of these lengths, and a store that has them.
    fn setup(lengths: &[usize]) -> Setup {
        let memory = Arc::new(MemoryStore::new());
        let mut hashes = Vec::new();
        let mut entries = Vec::new();
        for (number, &len) in lengths.iter().enumerate() {
            let hash = memory.insert(vec![number as u8; len]);
            hashes.push(hash);
            let file = File {
                size: len as u64,
                mtime: Mtime(1),
                runnable: false,
                content: Content::Whole(hash),
            };
            let path = ManifestPath::new(format!("f{number}").as_bytes()).unwrap();
            entries.push((path, Node::File(file)));
        }
        let snapshot = Snapshot::new(ChunkSize::DEFAULT, None, entries).unwrap();
        let fault = Arc::new(FaultStore::new(memory));
        let record = Arc::new(RecordStore::new(fault.clone()));
        let cache = Cache(tempfile::tempdir().unwrap());
        Setup {
            fetcher: Arc::new(cache.fetcher(record.clone())),
            record,
            fault,
            tree: Arc::new(BaseTree::build(&snapshot).unwrap()),
            hashes,
            cache,
        }
    }

    impl Setup {
        async fn probe(&self) -> Result<Probed, Error> {
            let store = OpenStore {
                store: self.record.clone(),
                settings: StoreSettings::default(),
                bucket_url: None,
            };
            probe(&store, &self.fetcher, &self.tree).await
        }

        fn fail(&self, number: usize, failure: Failure) {
            let rule = Rule::on(CallKind::Get, Fault::Before(failure));
            self.fault.add(rule.of(self.hashes[number]));
        }

        /// How many requests it takes, if the store can be read.
        async fn requests(&self) -> usize {
            assert!(matches!(self.probe().await, Ok(Probed::Answered)));
            self.record.count(CallKind::Get)
        }
    }

    #[tokio::test]
    async fn one_request_for_a_byte_of_the_smallest_object_is_enough() {
        let setup = setup(&[500, 0, 20, 300]);
        assert_eq!(setup.requests().await, 1);
        let calls = setup.record.calls();
        let asked = format!("{:?}", calls[0]);
        assert!(
            asked.contains("0..1") && asked.contains(&setup.hashes[2].to_string()),
            "{asked}"
        );
    }

    #[tokio::test]
    async fn objects_that_are_missing_or_refused_do_not_keep_others_from_being_tried() {
        for failure in [Failure::NotFound, Failure::Denied] {
            let setup = setup(&[10, 20, 30, 40]);
            setup.fail(0, failure);
            setup.fail(1, failure);
            assert_eq!(setup.requests().await, 3);
        }
    }

    #[tokio::test]
    async fn a_store_that_has_none_of_three_objects_is_the_wrong_one() {
        let setup = setup(&[10, 20, 30, 40]);
        for number in 0..3 {
            setup.fail(number, Failure::NotFound);
        }
        let error = setup.probe().await.unwrap_err();
        assert!(error.to_string().contains("none of 3 objects"), "{error}");
        assert_eq!(error.class(), FailureClass::Store);
    }

    #[tokio::test]
    async fn a_store_whose_answers_have_other_lengths_cannot_be_read() {
        let setup = setup(&[10, 20]);
        for hash in &setup.hashes {
            let shorter = Rule::on(CallKind::Get, Fault::Shorten(1));
            setup.fault.add(shorter.of(*hash));
        }
        let error = setup.probe().await.unwrap_err();
        assert_eq!(error.class(), FailureClass::Store);
        let text = crate::error_chain(&error);
        assert!(text.contains("should have 10 bytes, but has"), "{text}");
    }

    #[tokio::test]
    async fn a_refusal_is_told_rather_than_that_something_is_missing() {
        let setup = setup(&[10, 20]);
        setup.fail(0, Failure::NotFound);
        setup.fail(1, Failure::Denied);
        let error = setup.probe().await.unwrap_err();
        let is_refusal = matches!(error.cause(), Some(StoreError::Denied { .. }));
        assert!(is_refusal, "{error:?}");
    }

    #[tokio::test]
    async fn a_store_that_is_away_is_asked_once() {
        let setup = setup(&[10, 20]);
        setup.fail(0, Failure::Unreachable);
        let error = setup.probe().await.unwrap_err();
        assert_eq!(error.class(), FailureClass::Store);
        assert_eq!(setup.record.count(CallKind::Get), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_never_answers_is_given_up() {
        let setup = setup(&[10]);
        setup.fault.add(Rule::on(CallKind::Get, Fault::Hang));
        let begun = Instant::now();
        let error = setup.probe().await.unwrap_err();
        let source = std::error::Error::source(&error).unwrap();
        assert!(source.source().unwrap().to_string().contains("45 s"));
        assert!(begun.elapsed() < 2 * WITHIN);
    }

    #[tokio::test]
    async fn a_manifest_without_bytes_asks_for_the_store() {
        for lengths in [&[][..], &[0]] {
            let setup = setup(lengths);
            assert_eq!(setup.requests().await, 1);
            setup
                .fault
                .add(Rule::always(Fault::Before(Failure::Denied)));
            assert_eq!(
                setup.probe().await.unwrap_err().class(),
                FailureClass::Store
            );
        }
    }

    #[tokio::test]
    async fn a_store_that_is_away_is_not_needed_if_the_cache_has_everything() {
        let setup = setup(&[10, 20, 0]);
        let read = async |number: usize| {
            let hash = setup.hashes[number];
            let piece = Piece {
                hash,
                object_len: 10 * (number as u64 + 1),
                range: 0..1,
            };
            // What it has read is in the cache when it is dropped.
            let reader = setup.cache.fetcher(setup.record.clone());
            reader.read(&piece).await.unwrap();
        };
        read(0).await;
        let gone = || Rule::always(Fault::Before(Failure::Unreachable));
        setup.fault.add(gone());
        setup.probe().await.unwrap_err();
        setup.fault.heal();
        read(1).await;
        setup.fault.add(gone());
        assert!(matches!(setup.probe().await, Ok(Probed::AllCached(_))));
    }
}
