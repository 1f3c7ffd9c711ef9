//! A store that fails on purpose, for tests of everything that uses a store.
//!
//! Faults are scripted by [`Rule`]s ("the second `put` of this object is made and then reported as
//! failed") or drawn from a seed. A drawn fault depends on the seed, the call and how often that
//! call was made before, not on which task ran first, so a seed that failed once fails again.

mod pieces;

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::io;
use std::num::NonZero;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use attachfs_manifest::ContentHash;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    Call, CallKind, ChunkStore, Folder, ListStore, ManifestKey, ManifestStore, Metadata,
    ObjectMeta, ObjectPart, ObjectStream, Page, Payload, PutOutcome, Reach, RequestCounts, Store,
    StoreAddress, StoreError, StoredManifest,
};

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call fails and does nothing.
    Before(Failure),
    /// The call is made and then reported as failed.
    After(Failure),
    /// A read gives only this many of its bytes, as if a connection had broken unnoticed. Other
    /// calls are made as usual.
    Truncate(usize),
    /// A read gives this many of its bytes and then fails, as if a connection had broken. Other calls are made as
    /// usual.
    Break(usize),
    /// The bytes of a stream come this many at a time, each as much later. Other calls are made as usual.
    Trickle {
        /// Bytes in a piece.
        piece: usize,
        /// Before each piece.
        every: Duration,
    },
    /// The object is this much shorter than it should be, and the store says so. Reads and `head`.
    Shorten(u64),
    /// A read gives the right number of bytes, one bit of them wrong.
    Corrupt,
    /// The call is made this much later.
    Delay(Duration),
    /// The call is made when the store is [healed](FaultStore::heal).
    Hold,
    /// The call never ends.
    Hang,
}

/// The error that a failed call reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the variants of StoreError")]
pub enum Failure {
    NotFound,
    Denied,
    Unreachable,
    Full,
    Other,
}

/// Which calls a fault is for.
#[derive(Debug, Clone)]
pub struct Rule {
    kind: Option<CallKind>,
    chunk: Option<ContentHash>,
    skip: usize,
    times: usize,
    fault: Fault,
}

impl Rule {
    /// Every call.
    pub fn always(fault: Fault) -> Self {
        Self {
            kind: None,
            chunk: None,
            skip: 0,
            times: usize::MAX,
            fault,
        }
    }

    /// Calls of one method.
    pub fn on(kind: CallKind, fault: Fault) -> Self {
        Self {
            kind: Some(kind),
            ..Self::always(fault)
        }
    }

    /// Only calls about this object.
    #[must_use]
    pub fn of(self, chunk: ContentHash) -> Self {
        Self {
            chunk: Some(chunk),
            ..self
        }
    }

    /// Lets the first `calls` that fit pass.
    #[must_use]
    pub fn after(self, calls: usize) -> Self {
        Self {
            skip: calls,
            ..self
        }
    }

    /// Strikes this often, then no more.
    #[must_use]
    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    fn fits(&self, call: &Call) -> bool {
        self.kind.is_none_or(|kind| kind == call.kind())
            && self.chunk.is_none_or(|chunk| Some(chunk) == call.chunk())
    }
}

/// A fault that strikes at random, and how often.
#[derive(Debug, Clone)]
pub struct Chance {
    /// The method whose calls it strikes.
    pub kind: CallKind,
    /// In how many of 1000 calls.
    pub per_mille: u32,
    /// What happens.
    pub fault: Fault,
}

/// A store whose calls fail as the test asks, over one that works.
#[derive(Debug)]
pub struct FaultStore {
    inner: Arc<dyn Store>,
    plan: Mutex<Plan>,
    /// So often it was healed.
    healed: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Plan {
    rules: Vec<Rule>,
    seed: u64,
    chances: Vec<Chance>,
    /// How often each call was made that may be struck at random.
    made: HashMap<u64, u64>,
    struck: usize,
}

impl FaultStore {
    /// Without faults yet.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self::seeded(inner, 0, Vec::new())
    }

    /// Faults drawn from a seed. Rules that are added are asked first.
    pub fn seeded(inner: Arc<dyn Store>, seed: u64, chances: Vec<Chance>) -> Self {
        Self {
            inner,
            plan: Mutex::new(Plan {
                seed,
                chances,
                ..Plan::default()
            }),
            healed: watch::Sender::default(),
        }
    }

    /// Adds a rule. Of several that fit a call the first strikes.
    pub fn add(&self, rule: Rule) {
        self.plan.lock().rules.push(rule);
    }

    /// From now on nothing fails, and calls that are held are made.
    pub fn heal(&self) {
        let mut plan = self.plan.lock();
        plan.rules.clear();
        plan.chances.clear();
        self.healed.send_modify(|times| *times += 1);
    }

    /// How many faults struck so far, so that a test can say that its fault did.
    pub fn struck(&self) -> usize {
        self.plan.lock().struck
    }

    /// Decides whether a fault strikes a call, and applies a fault that comes before the call.
    /// Returns one that comes after it.
    async fn begin(&self, call: &Call) -> Result<Option<Fault>, StoreError> {
        let (fault, mut healed) = {
            let mut plan = self.plan.lock();
            (plan.decide(call), self.healed.subscribe())
        };
        match fault {
            Some(Fault::Before(failure)) => Err(failure.of(call)),
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                Ok(None)
            }
            Some(Fault::Hold) => {
                // Ends in an error only when the sender goes, and `self` has it.
                let _ = healed.changed().await;
                Ok(None)
            }
            Some(Fault::Hang) => std::future::pending().await,
            fault => Ok(fault),
        }
    }
}

impl Plan {
    fn decide(&mut self, call: &Call) -> Option<Fault> {
        let fault = self.by_rule(call).or_else(|| self.by_chance(call));
        self.struck += usize::from(fault.is_some());
        fault
    }

    fn by_rule(&mut self, call: &Call) -> Option<Fault> {
        for rule in &mut self.rules {
            if !rule.fits(call) {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if rule.times > 0 {
                rule.times -= 1;
                return Some(rule.fault);
            }
        }
        None
    }

    fn by_chance(&mut self, call: &Call) -> Option<Fault> {
        if self.chances.is_empty() {
            return None;
        }
        let hash_of = |parts: &[u64]| {
            let mut hasher = DefaultHasher::new();
            parts.hash(&mut hasher);
            hasher.finish()
        };
        let mut hasher = DefaultHasher::new();
        format!("{call:?}").hash(&mut hasher);
        let name = hasher.finish();
        let made = self.made.entry(name).or_default();
        *made += 1;
        let (seed, made) = (self.seed, *made);
        self.chances
            .iter()
            .enumerate()
            .filter(|(_, chance)| chance.kind == call.kind())
            .find(|(i, chance)| {
                hash_of(&[seed, name, made, *i as u64]) % 1000 < u64::from(chance.per_mille)
            })
            .map(|(_, chance)| chance.fault)
    }
}

impl Failure {
    fn of(self, call: &Call) -> StoreError {
        let what = format!("{call:?}");
        let source = Box::new(io::Error::other("a fault that was asked for"));
        match self {
            Self::NotFound => StoreError::NotFound { what },
            Self::Denied => StoreError::Denied {
                what,
                advice: "this is a test".to_owned(),
                reach: Reach::Unknown,
                source,
            },
            Self::Unreachable => StoreError::Unreachable { what, source },
            Self::Full => StoreError::Full { what, source },
            Self::Other => StoreError::Other { what, source },
        }
    }
}

impl Fault {
    /// Applies a fault that comes after the call.
    fn end<T>(fault: Option<Self>, call: &Call, result: T) -> Result<T, StoreError> {
        match fault {
            Some(Self::After(failure)) => Err(failure.of(call)),
            _ => Ok(result),
        }
    }

    fn damage(fault: Option<Self>, bytes: Bytes) -> Bytes {
        match fault {
            Some(Self::Truncate(len)) => bytes.slice(..len.min(bytes.len())),
            Some(Self::Corrupt) if !bytes.is_empty() => {
                let mut bytes = BytesMut::from(&bytes[..]);
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                bytes.freeze()
            }
            _ => bytes,
        }
    }
}

#[async_trait]
impl ChunkStore for FaultStore {
    async fn get(&self, chunk: ContentHash, range: Range<u64>) -> Result<ObjectPart, StoreError> {
        let call = Call::Get {
            chunk,
            range: range.clone(),
        };
        let fault = self.begin(&call).await?;
        let mut part = self.inner.get(chunk, range.clone()).await?;
        if let Some(Fault::Shorten(by)) = fault {
            part.object_len = part.object_len.saturating_sub(by);
            let left = part.object_len.saturating_sub(range.start);
            part.bytes.truncate(left as usize);
        }
        part.bytes = Fault::damage(fault, part.bytes);
        if let Some(Fault::Break(_)) = fault {
            return Err(Failure::Unreachable.of(&call));
        }
        Fault::end(fault, &call, part)
    }

    async fn stream(
        &self,
        chunk: ContentHash,
        range: Range<u64>,
    ) -> Result<ObjectStream, StoreError> {
        let call = Call::Get {
            chunk,
            range: range.clone(),
        };
        let fault = self.begin(&call).await?;
        let start = range.start;
        let mut stream = self.inner.stream(chunk, range).await?;
        match fault {
            Some(Fault::Shorten(by)) => {
                stream.object_len = stream.object_len.saturating_sub(by);
                let left = stream.object_len.saturating_sub(start);
                stream.pieces = pieces::first(stream.pieces, left as usize);
            }
            Some(fault) => stream.pieces = fault.spoil(&call, stream.pieces),
            None => {}
        }
        Fault::end(fault, &call, stream)
    }

    fn parts_at_once(&self) -> Option<NonZero<u32>> {
        self.inner.parts_at_once()
    }

    fn requests(&self) -> Option<RequestCounts> {
        self.inner.requests()
    }

    async fn head(&self, chunk: ContentHash) -> Result<ObjectMeta, StoreError> {
        let call = Call::Head { chunk };
        let fault = self.begin(&call).await?;
        let mut meta = self.inner.head(chunk).await?;
        if let Some(Fault::Shorten(by)) = fault {
            meta.len = meta.len.saturating_sub(by);
        }
        Fault::end(fault, &call, meta)
    }

    async fn put(&self, chunk: ContentHash, payload: Payload) -> Result<(), StoreError> {
        let len = payload.len();
        let call = Call::Put { chunk, len };
        let fault = self.begin(&call).await?;
        self.inner.put(chunk, payload).await?;
        Fault::end(fault, &call, ())
    }
}

#[async_trait]
impl ManifestStore for FaultStore {
    async fn get_manifest(&self, key: &ManifestKey) -> Result<StoredManifest, StoreError> {
        let call = Call::GetManifest { key: key.clone() };
        let fault = self.begin(&call).await?;
        let mut manifest = self.inner.get_manifest(key).await?;
        manifest.bytes = Fault::damage(fault, manifest.bytes);
        Fault::end(fault, &call, manifest)
    }

    async fn put_manifest_if_absent(
        &self,
        key: &ManifestKey,
        bytes: Bytes,
        metadata: &Metadata,
    ) -> Result<PutOutcome, StoreError> {
        let call = Call::PutManifest {
            key: key.clone(),
            len: bytes.len() as u64,
            metadata: metadata.clone(),
        };
        let fault = self.begin(&call).await?;
        let outcome = self
            .inner
            .put_manifest_if_absent(key, bytes, metadata)
            .await?;
        Fault::end(fault, &call, outcome)
    }
}

#[async_trait]
impl ListStore for FaultStore {
    async fn list(&self, folder: &Folder, after: Option<&str>) -> Result<Page, StoreError> {
        let call = Call::List {
            folder: folder.clone(),
            after: after.map(str::to_owned),
        };
        let fault = self.begin(&call).await?;
        let page = self.inner.list(folder, after).await?;
        Fault::end(fault, &call, page)
    }
}

impl Store for FaultStore {
    fn address(&self) -> StoreAddress {
        self.inner.address()
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, TryStreamExt as _};

    use super::*;
    use crate::MemoryStore;

    fn over_one_object() -> (FaultStore, ContentHash) {
        let memory = MemoryStore::new();
        let hash = memory.insert(&b"0123456789"[..]);
        (FaultStore::new(Arc::new(memory)), hash)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_store_conforms_without_faults() {
        let store = FaultStore::new(Arc::new(MemoryStore::new()));
        crate::conformance::run(Arc::new(store)).await;
    }

    #[tokio::test]
    async fn a_rule_strikes_where_and_as_often_as_it_says() {
        let (store, hash) = over_one_object();
        let fault = Fault::Before(Failure::Unreachable);
        store.add(Rule::on(CallKind::Get, fault).of(hash).after(1).times(2));
        store.get(hash, 0..1).await.unwrap();
        store.head(hash).await.unwrap();
        assert!(store.get(hash, 0..1).await.unwrap_err().is_transient());
        assert!(store.get(hash, 0..1).await.unwrap_err().is_transient());
        store.get(hash, 0..1).await.unwrap();
        assert_eq!(store.struck(), 2);
    }

    #[tokio::test]
    async fn a_put_that_failed_afterwards_happened() {
        let (store, _) = over_one_object();
        store.add(Rule::on(CallKind::Put, Fault::After(Failure::Unreachable)));
        let hash = ContentHash::of(b"new");
        let payload = Payload::Bytes(Bytes::from_static(b"new"));
        store.put(hash, payload).await.unwrap_err();
        assert_eq!(store.head(hash).await.unwrap().len, 3);
    }

    #[tokio::test]
    async fn a_put_that_failed_before_did_not_happen() {
        let (store, _) = over_one_object();
        store.add(Rule::on(CallKind::Put, Fault::Before(Failure::Full)));
        let hash = ContentHash::of(b"new");
        let payload = Payload::Bytes(Bytes::from_static(b"new"));
        store.put(hash, payload).await.unwrap_err();
        let error = store.head(hash).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound { .. }));
    }

    #[tokio::test]
    async fn reads_can_be_short_shortened_and_wrong() {
        let (store, hash) = over_one_object();
        store.add(Rule::on(CallKind::Get, Fault::Truncate(4)).times(1));
        store.add(Rule::on(CallKind::Get, Fault::Shorten(1)).times(1));
        store.add(Rule::on(CallKind::Get, Fault::Corrupt).times(1));
        let short = store.get(hash, 0..10).await.unwrap();
        assert_eq!((&short.bytes[..], short.object_len), (&b"0123"[..], 10));
        let shortened = store.get(hash, 0..10).await.unwrap();
        assert_eq!(
            (&shortened.bytes[..], shortened.object_len),
            (&b"012345678"[..], 9)
        );
        let wrong = store.get(hash, 0..10).await.unwrap();
        assert_eq!(
            (&wrong.bytes[..], wrong.object_len),
            (&b"0123446789"[..], 10)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_can_break_trickle_and_be_short() {
        let (store, hash) = over_one_object();
        let every = Duration::from_secs(1);
        let trickle = Fault::Trickle { piece: 4, every };
        for fault in [Fault::Break(4), Fault::Truncate(4), trickle] {
            store.add(Rule::on(CallKind::Get, fault).times(1));
        }
        let read = async || store.stream(hash, 0..10).await.unwrap().pieces;
        let broken: Vec<_> = read().await.collect().await;
        assert!(matches!(&broken[..], [Ok(bytes), Err(_)] if bytes == "0123"));
        let short: Vec<_> = read().await.try_collect().await.unwrap();
        assert_eq!(short, ["0123"]);
        let begun = tokio::time::Instant::now();
        let slow: Vec<_> = read().await.try_collect().await.unwrap();
        assert_eq!(slow, ["0123", "4567", "89"]);
        assert_eq!(begun.elapsed(), 3 * every);
    }

    #[tokio::test]
    async fn a_seed_gives_the_same_faults_in_any_order() {
        let memory = Arc::new(MemoryStore::new());
        let hashes: Vec<_> = (0..64_u8).map(|i| memory.insert(vec![i])).collect();
        let chances = vec![Chance {
            kind: CallKind::Get,
            per_mille: 300,
            fault: Fault::Before(Failure::Unreachable),
        }];
        let failing = async |order: Vec<ContentHash>| {
            let store = FaultStore::seeded(memory.clone(), 7, chances.clone());
            let mut failed = Vec::new();
            for hash in order {
                if store.get(hash, 0..1).await.is_err() {
                    failed.push(hash);
                }
            }
            failed.sort();
            failed
        };
        let forward = failing(hashes.clone()).await;
        let backward = failing(hashes.into_iter().rev().collect()).await;
        assert_eq!(forward, backward);
        assert!((5..40).contains(&forward.len()), "{}", forward.len());
    }
}
