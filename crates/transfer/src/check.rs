//! Whether a store has objects, and whether they are what their names say.

use std::sync::Arc;

use attachfs_manifest::{ContentHash, Hasher};
use attachfs_scan::{Phase, Progress};
use attachfs_store::{ChunkStore, StoreError};

use crate::error::TransferError;
use crate::meter::Meter;
use crate::refusals::{Refusals, Request};
use crate::run::run_all;
use crate::summary::error_chain;

/// Requests at once.
const AT_ONCE: usize = 32;
/// How much of an object is read at once.
const STEP: u64 = 8 << 20;
/// Objects that are read at once: each holds a step in memory.
const DEEP_AT_ONCE: usize = 8;

/// What is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectFault {
    /// The store does not have it.
    Missing,
    /// It has this length, and another was expected.
    Length(u64),
    /// Its bytes have this hash.
    Damaged(ContentHash),
    /// It cannot be read, for this reason; others can.
    Unread(String),
}

/// Asks a store for each of these objects, and says which are not as they should be: there, of their
/// length and, if it goes `deep`, with the bytes that their hashes say. Fails if the store cannot be
/// asked at all, or fails for one object after the other; one that cannot be read does not hide the others.
pub async fn check_objects(
    store: Arc<dyn ChunkStore>,
    objects: Vec<(ContentHash, u64)>,
    deep: bool,
    progress: &dyn Progress,
) -> Result<Vec<(ContentHash, ObjectFault)>, TransferError> {
    let bytes = if deep {
        objects
            .iter()
            .map(|&(_, len)| len)
            .fold(0, u64::saturating_add)
    } else {
        0
    };
    let meter = Meter::new(Phase::Check, objects.len() as u64, bytes);
    let request = if deep { Request::Read } else { Request::Ask };
    let refusals = Arc::new(Refusals::default());
    let jobs = objects.into_iter().map(|(hash, len)| {
        let (store, meter) = (Arc::clone(&store), Arc::clone(&meter));
        let refusals = Arc::clone(&refusals);
        async move {
            let fault = if deep {
                read(&*store, hash, len, &meter).await
            } else {
                ask(&*store, hash, len).await
            };
            let found = match fault {
                Ok(fault) => {
                    refusals.answered(request);
                    Ok(fault)
                }
                Err(TransferError::Ask { hash, source }) => {
                    refusals.refused(request, hash, &source);
                    if !refusals.others_may_pass(request, &source) {
                        return Err(TransferError::Ask { hash, source });
                    }
                    Err(source)
                }
                Err(error) => return Err(error),
            };
            meter.finished(|| hash.to_string());
            Ok((hash, found))
        }
    });
    let (mut faults, mut unread) = (Vec::new(), None);
    let at_once = if deep { DEEP_AT_ONCE } else { AT_ONCE };
    run_all(jobs, at_once, &meter, progress, |(hash, found)| {
        let fault = found.unwrap_or_else(|source| {
            let fault = ObjectFault::Unread(error_chain(&source));
            unread = Some((hash, source));
            Some(fault)
        });
        faults.extend(fault.map(|fault| (hash, fault)));
    })
    .await?;
    match unread {
        Some((hash, source)) if refusals.never_passed(request) => {
            Err(TransferError::Ask { hash, source })
        }
        _ => Ok(faults),
    }
}

async fn ask(
    store: &dyn ChunkStore,
    hash: ContentHash,
    len: u64,
) -> Result<Option<ObjectFault>, TransferError> {
    Ok(match readable_len(store, hash).await? {
        Some(found) if found == len => None,
        Some(found) => Some(ObjectFault::Length(found)),
        None => Some(ObjectFault::Missing),
    })
}

/// The length of an object, under whatever name readers find it; `None` if they do not.
pub(crate) async fn readable_len(
    store: &dyn ChunkStore,
    hash: ContentHash,
) -> Result<Option<u64>, TransferError> {
    let found = match store.head(hash).await {
        Ok(meta) => Ok(meta.len),
        // What old clients stored has another name, which reading knows.
        Err(StoreError::NotFound { .. }) => {
            let part = store.get(hash, 0..0).await;
            part.map(|part| part.object_len)
        }
        Err(error) => Err(error),
    };
    match found {
        Ok(len) => Ok(Some(len)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(source) => Err(cannot_ask(hash, source)),
    }
}

fn cannot_ask(hash: ContentHash, source: StoreError) -> TransferError {
    let source = Arc::new(source);
    TransferError::Ask { hash, source }
}

async fn read(
    store: &dyn ChunkStore,
    hash: ContentHash,
    len: u64,
    meter: &Meter,
) -> Result<Option<ObjectFault>, TransferError> {
    let mut hasher = Hasher::new();
    let mut at = 0;
    loop {
        let end = len.min(at + STEP);
        let part = match store.get(hash, at..end).await {
            Ok(part) => part,
            Err(StoreError::NotFound { .. }) => return Ok(Some(ObjectFault::Missing)),
            Err(source) => return Err(cannot_ask(hash, source)),
        };
        if part.object_len != len {
            return Ok(Some(ObjectFault::Length(part.object_len)));
        }
        if part.bytes.len() as u64 != end - at {
            return Ok(Some(ObjectFault::Length(at + part.bytes.len() as u64)));
        }
        hasher.update(&part.bytes);
        meter.add_bytes(end - at);
        at = end;
        if at == len {
            break;
        }
    }
    let found = hasher.finish();
    Ok((found != hash).then_some(ObjectFault::Damaged(found)))
}

#[cfg(test)]
mod tests {
    use attachfs_store::fault::{Failure, Fault, FaultStore, Rule};
    use attachfs_store::record::RecordStore;
    use attachfs_store::{CallKind, DirectoryStore, MemoryStore, Payload, data_key, old_data_key};
    use tempfile::TempDir;

    use super::*;
    use crate::Silent;

    async fn put(store: &dyn ChunkStore, bytes: &'static [u8]) -> (ContentHash, u64) {
        let hash = ContentHash::of(bytes);
        store.put(hash, Payload::Bytes(bytes.into())).await.unwrap();
        (hash, bytes.len() as u64)
    }

    #[tokio::test]
    async fn what_is_there_is_asked_for_and_not_read() {
        let memory = Arc::new(MemoryStore::new());
        let objects = vec![put(&*memory, b"one").await, put(&*memory, b"").await];
        let store = Arc::new(RecordStore::new(memory));
        let asked = check_objects(Arc::clone(&store) as _, objects.clone(), false, &Silent).await;
        assert_eq!(asked.unwrap(), []);
        assert_eq!(
            (store.count(CallKind::Head), store.count(CallKind::Get)),
            (2, 0)
        );
        let read = check_objects(store, objects, true, &Silent).await;
        assert_eq!(read.unwrap(), []);
    }

    #[tokio::test]
    async fn an_object_is_missing_of_another_length_or_damaged() {
        let home = TempDir::new().unwrap();
        let store = Arc::new(DirectoryStore::create(home.path()).unwrap());
        let (good, damaged, short) = (
            put(&*store, b"good").await,
            put(&*store, b"damaged").await,
            put(&*store, b"short").await,
        );
        let file = |hash| home.path().join(data_key(hash));
        std::fs::write(file(damaged.0), b"DAMAGED").unwrap();
        std::fs::write(file(short.0), b"sho").unwrap();
        let missing = (ContentHash::of(b"missing"), 7);
        let objects = vec![good, damaged, short, missing];
        let mut asked = check_objects(Arc::clone(&store) as _, objects.clone(), false, &Silent)
            .await
            .unwrap();
        asked.sort_by_key(|&(hash, _)| hash);
        let mut expected = vec![
            (short.0, ObjectFault::Length(3)),
            (missing.0, ObjectFault::Missing),
        ];
        expected.sort_by_key(|&(hash, _)| hash);
        assert_eq!(asked, expected);
        let mut read = check_objects(store, objects, true, &Silent).await.unwrap();
        read.sort_by_key(|&(hash, _)| hash);
        expected.push((damaged.0, ObjectFault::Damaged(ContentHash::of(b"DAMAGED"))));
        expected.sort_by_key(|&(hash, _)| hash);
        assert_eq!(read, expected);
    }

    #[tokio::test]
    async fn an_object_that_readers_find_under_its_old_name_is_not_missing() {
        let home = TempDir::new().unwrap();
        let store = Arc::new(DirectoryStore::create(home.path()).unwrap());
        let object = put(&*store, b"old").await;
        let (now, old) = (data_key(object.0), old_data_key(object.0));
        std::fs::rename(home.path().join(now), home.path().join(old)).unwrap();
        for deep in [false, true] {
            let store = Arc::clone(&store) as _;
            let asked = check_objects(store, vec![object], deep, &Silent).await;
            assert_eq!(asked.unwrap(), []);
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn an_object_that_cannot_be_read_does_not_hide_the_others() {
        let home = TempDir::new().unwrap();
        let store = Arc::new(DirectoryStore::create(home.path()).unwrap());
        let unread = put(&*store, b"unread").await;
        let file = home.path().join(data_key(unread.0));
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(&file, &file).unwrap();
        let missing = (ContentHash::of(b"missing"), 7);
        for deep in [false, true] {
            let objects = vec![unread, missing];
            let faults = check_objects(Arc::clone(&store) as _, objects, deep, &Silent).await;
            let faults = faults.unwrap();
            assert!(faults.contains(&(missing.0, ObjectFault::Missing)));
            let is_unread = |(hash, fault): &(ContentHash, ObjectFault)| {
                *hash == unread.0 && matches!(fault, ObjectFault::Unread(_))
            };
            assert!(faults.iter().any(is_unread), "{faults:?}");
        }
    }

    #[tokio::test]
    async fn an_object_that_is_refused_does_not_hide_the_others() {
        let memory = Arc::new(MemoryStore::new());
        let refused = put(&*memory, b"refused").await;
        let good = put(&*memory, b"good").await;
        let missing = (ContentHash::of(b"missing"), 7);
        for (deep, kind) in [(false, CallKind::Head), (true, CallKind::Get)] {
            let store = FaultStore::new(Arc::clone(&memory) as _);
            store.add(Rule::on(kind, Fault::Before(Failure::Denied)).of(refused.0));
            let objects = vec![refused, good, missing];
            let faults = check_objects(Arc::new(store), objects, deep, &Silent).await;
            let faults = faults.unwrap();
            assert_eq!(faults.len(), 2);
            assert!(faults.contains(&(missing.0, ObjectFault::Missing)));
        }
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_asked_is_an_error_and_not_a_missing_object() {
        let memory = Arc::new(MemoryStore::new());
        let object = put(&*memory, b"one").await;
        let store = Arc::new(FaultStore::new(memory));
        store.add(Rule::always(Fault::Before(Failure::Unreachable)));
        let error = check_objects(store, vec![object], false, &Silent).await;
        assert!(matches!(error, Err(TransferError::Ask { .. })));
    }
}
