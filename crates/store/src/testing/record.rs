//! A store that writes down what it is asked, so that tests can say "the second read makes no
//! request", and that can hold calls until a test has seen enough of them.

use std::num::NonZero;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use attachfs_manifest::ContentHash;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::watch;

use crate::{
    Call, CallKind, ChunkStore, Folder, ListStore, ManifestKey, ManifestStore, Metadata,
    ObjectMeta, ObjectPart, ObjectStream, Page, Payload, PutOutcome, RequestCounts, Store,
    StoreAddress, StoreError, StoredManifest,
};

/// A store that remembers its calls, over another one.
#[derive(Debug)]
pub struct RecordStore {
    inner: Arc<dyn Store>,
    log: watch::Sender<Log>,
}

#[derive(Debug, Default)]
struct Log {
    calls: Vec<Call>,
    /// Calls that have begun and neither ended nor were dropped.
    in_flight: Vec<CallKind>,
    held: Vec<CallKind>,
    bytes_read: u64,
}

impl RecordStore {
    /// With nothing recorded.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            log: watch::Sender::default(),
        }
    }

    /// All calls in the order in which they began.
    pub fn calls(&self) -> Vec<Call> {
        self.log.borrow().calls.clone()
    }

    /// How many calls of one method there were.
    pub fn count(&self, kind: CallKind) -> usize {
        let log = self.log.borrow();
        log.calls.iter().filter(|call| call.kind() == kind).count()
    }

    /// How many bytes of objects were read.
    pub fn bytes_read(&self) -> u64 {
        self.log.borrow().bytes_read
    }

    /// Forgets the calls so far.
    pub fn clear(&self) {
        self.log.send_modify(|log| {
            log.calls.clear();
            log.bytes_read = 0;
        });
    }

    /// How many calls of one method have begun and not ended; held ones count.
    pub fn in_flight(&self, kind: CallKind) -> usize {
        self.log.borrow().in_flight(kind)
    }

    /// Returns when at least `count` calls of one method are in flight at once.
    pub async fn wait_in_flight(&self, kind: CallKind, count: usize) {
        self.wait(|log| log.in_flight(kind) >= count).await;
    }

    /// Returns when no call of one method is in flight.
    pub async fn wait_idle(&self, kind: CallKind) {
        self.wait(|log| log.in_flight(kind) == 0).await;
    }

    /// From now on calls of one method wait before they are made, until the guard is dropped.
    #[must_use = "dropping the guard lets the calls go"]
    pub fn hold(&self, kind: CallKind) -> Hold {
        self.log.send_modify(|log| log.held.push(kind));
        Hold {
            log: self.log.clone(),
            kind,
        }
    }

    async fn wait(&self, until: impl FnMut(&Log) -> bool) {
        self.log
            .subscribe()
            .wait_for(until)
            .await
            .expect("self keeps the sender");
    }

    async fn begin(&self, call: Call) -> InFlight {
        let kind = call.kind();
        self.log.send_modify(|log| {
            log.calls.push(call);
            log.in_flight.push(kind);
        });
        let in_flight = InFlight {
            log: self.log.clone(),
            kind,
        };
        self.wait(|log| !log.held.contains(&kind)).await;
        in_flight
    }
}

impl Log {
    fn in_flight(&self, kind: CallKind) -> usize {
        self.in_flight.iter().filter(|k| **k == kind).count()
    }
}

fn remove_one(kinds: &mut Vec<CallKind>, kind: CallKind) {
    if let Some(i) = kinds.iter().position(|k| *k == kind) {
        kinds.swap_remove(i);
    }
}

/// Calls of one method wait while this lives.
#[derive(Debug)]
pub struct Hold {
    log: watch::Sender<Log>,
    kind: CallKind,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.log
            .send_modify(|log| remove_one(&mut log.held, self.kind));
    }
}

/// A call that has begun.
#[derive(Debug)]
struct InFlight {
    log: watch::Sender<Log>,
    kind: CallKind,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.log
            .send_modify(|log| remove_one(&mut log.in_flight, self.kind));
    }
}

#[async_trait]
impl ChunkStore for RecordStore {
    async fn get(&self, chunk: ContentHash, range: Range<u64>) -> Result<ObjectPart, StoreError> {
        let _in_flight = self
            .begin(Call::Get {
                chunk,
                range: range.clone(),
            })
            .await;
        let part = self.inner.get(chunk, range).await?;
        self.log
            .send_modify(|log| log.bytes_read += part.bytes.len() as u64);
        Ok(part)
    }

    /// Written down as a [`Call::Get`], which is in flight until its stream ends or is dropped.
    async fn stream(
        &self,
        chunk: ContentHash,
        range: Range<u64>,
    ) -> Result<ObjectStream, StoreError> {
        let call = Call::Get {
            chunk,
            range: range.clone(),
        };
        let in_flight = self.begin(call).await;
        let mut stream = self.inner.stream(chunk, range).await?;
        let log = self.log.clone();
        stream.pieces = stream
            .pieces
            .inspect_ok(move |piece| {
                let _until_it_ends = &in_flight;
                log.send_modify(|log| log.bytes_read += piece.len() as u64);
            })
            .boxed();
        Ok(stream)
    }

    fn parts_at_once(&self) -> Option<NonZero<u32>> {
        self.inner.parts_at_once()
    }

    fn requests(&self) -> Option<RequestCounts> {
        self.inner.requests()
    }

    async fn head(&self, chunk: ContentHash) -> Result<ObjectMeta, StoreError> {
        let _in_flight = self.begin(Call::Head { chunk }).await;
        self.inner.head(chunk).await
    }

    async fn put(&self, chunk: ContentHash, payload: Payload) -> Result<(), StoreError> {
        let len = payload.len();
        let _in_flight = self.begin(Call::Put { chunk, len }).await;
        self.inner.put(chunk, payload).await
    }
}

#[async_trait]
impl ManifestStore for RecordStore {
    async fn get_manifest(&self, key: &ManifestKey) -> Result<StoredManifest, StoreError> {
        let _in_flight = self.begin(Call::GetManifest { key: key.clone() }).await;
        self.inner.get_manifest(key).await
    }

    async fn put_manifest_if_absent(
        &self,
        key: &ManifestKey,
        bytes: Bytes,
        metadata: &Metadata,
    ) -> Result<PutOutcome, StoreError> {
        let _in_flight = self
            .begin(Call::PutManifest {
                key: key.clone(),
                len: bytes.len() as u64,
                metadata: metadata.clone(),
            })
            .await;
        self.inner
            .put_manifest_if_absent(key, bytes, metadata)
            .await
    }
}

#[async_trait]
impl ListStore for RecordStore {
    async fn list(&self, folder: &Folder, after: Option<&str>) -> Result<Page, StoreError> {
        let call = Call::List {
            folder: folder.clone(),
            after: after.map(str::to_owned),
        };
        let _in_flight = self.begin(call).await;
        self.inner.list(folder, after).await
    }
}

impl Store for RecordStore {
    fn address(&self) -> StoreAddress {
        self.inner.address()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_recording_store_conforms() {
        let store = RecordStore::new(Arc::new(MemoryStore::new()));
        crate::conformance::run(Arc::new(store)).await;
    }

    #[tokio::test]
    async fn calls_are_recorded_in_their_order() {
        let memory = MemoryStore::new();
        let chunk = memory.insert(&b"0123456789"[..]);
        let store = RecordStore::new(Arc::new(memory));
        store.get(chunk, 2..5).await.unwrap();
        store.head(chunk).await.unwrap();
        assert_eq!(
            store.calls(),
            [Call::Get { chunk, range: 2..5 }, Call::Head { chunk }]
        );
        assert_eq!(store.count(CallKind::Get), 1);
        assert_eq!(store.bytes_read(), 3);
        store.clear();
        assert_eq!(store.calls(), []);
    }

    #[tokio::test]
    async fn held_calls_are_in_flight_until_they_are_let_go() {
        let memory = MemoryStore::new();
        let chunk = memory.insert(&b"x"[..]);
        let store = Arc::new(RecordStore::new(Arc::new(memory)));
        let hold = store.hold(CallKind::Get);
        let reads: Vec<_> = (0..3)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move { store.get(chunk, 0..1).await.unwrap() })
            })
            .collect();
        store.wait_in_flight(CallKind::Get, 3).await;
        assert_eq!(store.bytes_read(), 0);
        drop(hold);
        for read in reads {
            read.await.unwrap();
        }
        assert_eq!(store.in_flight(CallKind::Get), 0);
        assert_eq!(store.bytes_read(), 3);
    }

    #[tokio::test]
    async fn a_dropped_call_is_not_in_flight() {
        let store = Arc::new(RecordStore::new(Arc::new(MemoryStore::new())));
        let _hold = store.hold(CallKind::Head);
        let call = tokio::spawn({
            let store = store.clone();
            async move { store.head(ContentHash::of(b"")).await.map(drop) }
        });
        store.wait_in_flight(CallKind::Head, 1).await;
        call.abort();
        store.wait_idle(CallKind::Head).await;
    }
}
