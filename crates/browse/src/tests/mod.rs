//! A store with outputs of jobs, and a client that asks a file system as an adapter does.

mod failing;
mod fast;
mod model;
mod mounted;
mod shown;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use attachfs_fetch::{FetchOptions, Fetcher};
use attachfs_jobs::{ActionTime, JobAddress, JobPart, OutputKey, OutputMetadata, OutputPlace};
use attachfs_manifest::wire::{Format, Manifest, encode};
use attachfs_manifest::{
    Change, ChunkSize, Content, ContentHash, Diff, File, ManifestPath, Mtime, Node, Snapshot,
};
use attachfs_store::{
    ChunkStore, Folder, ListStore, ManifestKey, ManifestStore, MemoryStore, Metadata, ObjectMeta,
    ObjectPart, Page, Payload, PutOutcome, Store, StoreAddress, StoreError, StoredManifest,
};
use attachfs_tree::Timestamp;
use attachfs_vfs::{
    Access, Attachment, Entry, FileAttr, FileSystem, Found, FsError, FsErrorKind, HandleId,
    ListReply, Listed, NodeId, OpenedDir, OpenedFile, Passthrough, Reply, Settings,
};
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{Browse, BrowseOptions, Scope};

const CREATED: Timestamp = Timestamp {
    seconds: 1_700_000_000,
    nanoseconds: 0,
};
const REFRESH: Duration = Duration::from_secs(20);
const ROOT: &str = "/mnt/show/project";

fn digits(number: u64) -> String {
    format!("{:032x}", u128::from(number) << 64)
}

fn job(number: u64) -> JobAddress {
    JobAddress {
        farm: format!("farm-{}", digits(1)).parse().unwrap(),
        queue: format!("queue-{}", digits(2)).parse().unwrap(),
        job: format!("job-{}", digits(number)).parse().unwrap(),
        part: JobPart::Whole,
    }
}

fn step(number: u64) -> String {
    format!("step-{}", digits(number))
}

fn task(step: u64, number: u64) -> String {
    format!("task-{}-{number}", digits(step))
}

/// A store whose requests for keys, manifests and objects take time, are counted, and can fail or hang.
#[derive(Debug, Default)]
struct Slow {
    memory: MemoryStore,
    takes: Duration,
    lists: AtomicUsize,
    manifests: AtomicUsize,
    bytes: AtomicUsize,
    fails: AtomicBool,
    hangs: AtomicBool,
}

impl Slow {
    async fn begin(&self) -> Result<(), StoreError> {
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if !self.takes.is_zero() {
            tokio::time::sleep(self.takes).await;
        }
        if self.fails.load(Ordering::Relaxed) {
            return Err(StoreError::Unreachable {
                what: "a request".to_owned(),
                source: "the test pulled the plug".into(),
            });
        }
        Ok(())
    }
}

#[async_trait]
impl ChunkStore for Slow {
    async fn get(&self, chunk: ContentHash, range: Range<u64>) -> Result<ObjectPart, StoreError> {
        self.begin().await?;
        let part = self.memory.get(chunk, range).await?;
        self.bytes.fetch_add(part.bytes.len(), Ordering::Relaxed);
        Ok(part)
    }

    async fn head(&self, chunk: ContentHash) -> Result<ObjectMeta, StoreError> {
        self.memory.head(chunk).await
    }

    async fn put(&self, chunk: ContentHash, payload: Payload) -> Result<(), StoreError> {
        self.memory.put(chunk, payload).await
    }
}

#[async_trait]
impl ManifestStore for Slow {
    async fn get_manifest(&self, key: &ManifestKey) -> Result<StoredManifest, StoreError> {
        self.manifests.fetch_add(1, Ordering::Relaxed);
        self.begin().await?;
        self.memory.get_manifest(key).await
    }

    async fn put_manifest_if_absent(
        &self,
        key: &ManifestKey,
        bytes: Bytes,
        metadata: &Metadata,
    ) -> Result<PutOutcome, StoreError> {
        self.memory
            .put_manifest_if_absent(key, bytes, metadata)
            .await
    }
}

#[async_trait]
impl ListStore for Slow {
    async fn list(&self, folder: &Folder, after: Option<&str>) -> Result<Page, StoreError> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        self.begin().await?;
        self.memory.list(folder, after).await
    }
}

impl Store for Slow {
    fn address(&self) -> StoreAddress {
        self.memory.address()
    }
}

/// An output: who made it and when.
#[derive(Debug, Clone, Copy)]
struct Made {
    job: u64,
    step: u64,
    task: Option<u64>,
    /// Seconds since the beginning of the tests' time, and the number of the session action.
    run: u64,
    root: &'static str,
}

const FIRST: Made = Made {
    job: 1,
    step: 1,
    task: Some(0),
    run: 1,
    root: ROOT,
};

impl Made {
    fn key(&self) -> ManifestKey {
        let of = job(self.job);
        let place = OutputPlace {
            farm: of.farm,
            queue: of.queue,
            job: of.job,
            step: step(self.step).parse().unwrap(),
            task: self
                .task
                .map(|number| task(self.step, number).parse().unwrap()),
        };
        let time = ActionTime::from_micros((1_700_000_000 + self.run as i64) * 1_000_000).unwrap();
        let action = format!("sessionaction-{}-{}", digits(9), self.run);
        let key = OutputKey::new(place, time, action.parse().unwrap(), None, self.root);
        key.manifest_key().unwrap()
    }

    fn run_folder(&self) -> String {
        let key = OutputKey::try_from(&self.key()).unwrap();
        crate::names::run_name(key.time, key.action)
    }
}

fn path(text: &str) -> ManifestPath {
    ManifestPath::new(text.as_bytes()).unwrap()
}

/// A file whose bytes are a text.
fn file(text: &str) -> Node {
    Node::File(File {
        size: text.len() as u64,
        mtime: Mtime(1_600_000_000_000_000),
        runnable: false,
        content: Content::Whole(ContentHash::of(text.as_bytes())),
    })
}

fn snapshot<const N: usize>(entries: [(&str, Node); N]) -> Manifest {
    let entries = entries.map(|(name, node)| (path(name), node));
    Manifest::Snapshot(Snapshot::new(ChunkSize::WholeFile, None, entries).unwrap())
}

fn diff<const N: usize>(changes: [(&str, Change); N]) -> Manifest {
    let changes = changes.map(|(name, change)| (path(name), change));
    let parent = Some(ContentHash::of(b"the inputs"));
    Manifest::Diff(Diff::new(ChunkSize::DEFAULT, parent, changes).unwrap())
}

impl Slow {
    async fn publish(&self, made: Made, manifest: &Manifest) {
        let format = match manifest {
            Manifest::Snapshot(_) => Format::V2023_03_03,
            Manifest::Diff(_) => Format::V2025_12,
        };
        let bytes = encode(manifest, format).unwrap();
        self.publish_bytes(made, bytes).await;
    }

    async fn publish_bytes(&self, made: Made, bytes: Vec<u8>) {
        let said = OutputMetadata {
            asset_root: made.root.to_owned(),
            location: None,
        };
        let metadata = said.encode().unwrap();
        let (key, bytes) = (made.key(), Bytes::from(bytes));
        let put = self.memory.put_manifest_if_absent(&key, bytes, &metadata);
        assert_eq!(put.await.unwrap(), PutOutcome::Created);
    }

    /// An output with one file, whose bytes are in the store.
    async fn publish_file(&self, made: Made, name: &str, text: &str) {
        self.memory.insert(text.as_bytes().to_vec());
        self.publish(made, &snapshot([(name, file(text))])).await;
    }
}

fn settings() -> Settings {
    Settings {
        uid: 0,
        gid: 0,
        file_mode: 0o644,
        dir_mode: 0o755,
        created: CREATED,
        case_insensitive: false,
    }
}

fn options(scope: Scope) -> BrowseOptions {
    BrowseOptions {
        refresh: REFRESH,
        ..BrowseOptions::new(scope, settings())
    }
}

fn browse(store: &Arc<Slow>, options: BrowseOptions) -> Browse {
    let chunks: Arc<dyn ChunkStore> = store.clone();
    let fetching = BrowseOptions::fetching(FetchOptions::default());
    let fetcher = Fetcher::new(chunks, None, fetching);
    Browse::new(store.clone(), fetcher, options)
}

/// Asks as an adapter does, and waits for the answers. Keeps its references to nodes.
#[derive(Debug)]
struct Client {
    fs: Arc<Browse>,
}

struct Answered<T>(oneshot::Sender<Result<T, FsError>>);

impl<T: Send + 'static> Reply<T> for Answered<T> {
    fn ok(self, value: T) {
        let _ = self.0.send(Ok(value));
    }

    fn fail(self, error: FsError) {
        let _ = self.0.send(Err(error));
    }
}

struct Copied(oneshot::Sender<Result<Vec<u8>, FsError>>);

impl Reply<&[u8]> for Copied {
    fn ok(self, bytes: &[u8]) {
        let _ = self.0.send(Ok(bytes.to_vec()));
    }

    fn fail(self, error: FsError) {
        let _ = self.0.send(Err(error));
    }
}

type Names = Vec<(String, Entry, u64)>;

/// A buffer with room for some entries.
struct Buffer {
    room: usize,
    names: Names,
    to: oneshot::Sender<Result<Names, FsError>>,
}

impl Reply<()> for Buffer {
    fn ok(self, (): ()) {
        let _ = self.to.send(Ok(self.names));
    }

    fn fail(self, error: FsError) {
        let _ = self.to.send(Err(error));
    }
}

impl ListReply<Listed<'_>> for Buffer {
    fn add(&mut self, Listed { name, entry }: Listed<'_>, next: u64) -> bool {
        let has_room = self.names.len() < self.room;
        if has_room {
            let name = String::from_utf8(name.to_vec()).unwrap();
            self.names.push((name, entry, next));
        }
        has_room
    }
}

async fn asked<T>(ask: impl FnOnce(oneshot::Sender<Result<T, FsError>>)) -> Result<T, FsError> {
    let (to, answer) = oneshot::channel();
    ask(to);
    answer.await.expect("every request is answered")
}

impl Client {
    fn of(fs: Browse) -> Self {
        let (invalidations, _) = std::sync::mpsc::channel();
        fs.attach(Attachment {
            invalidations,
            runtime: tokio::runtime::Handle::current(),
            backing: Passthrough::default(),
            tells_opens: true,
            writes_late: false,
        });
        Self { fs: Arc::new(fs) }
    }

    fn over(store: &Arc<Slow>) -> Self {
        Self::of(browse(store, options(Scope::Job(job(1)))))
    }

    async fn find(&self, path: &str) -> Result<Option<Entry>, FsError> {
        let attr = asked::<FileAttr>(|to| self.fs.getattr(NodeId::ROOT, Answered(to))).await?;
        let mut entry = Entry {
            node: NodeId::ROOT,
            attr,
        };
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let found = asked::<Found>(|to| {
                let name = name.as_bytes();
                self.fs.lookup(entry.node, name, || None, Answered(to));
            });
            match found.await?.entry {
                Some(below) => entry = below,
                None => return Ok(None),
            }
        }
        Ok(Some(entry))
    }

    async fn stat(&self, path: &str) -> Entry {
        let found = self.find(path).await.unwrap();
        found.unwrap_or_else(|| panic!("{path} is not there"))
    }

    async fn opendir(&self, path: &str) -> Result<HandleId, FsError> {
        let found = self.find(path).await?.ok_or(FsErrorKind::NotFound)?;
        let opened = asked::<OpenedDir>(|to| self.fs.opendir(found.node, Answered(to)));
        Ok(opened.await?.handle)
    }

    async fn some(&self, handle: HandleId, offset: u64, room: usize) -> Result<Names, FsError> {
        asked(|to| {
            let names = Vec::new();
            self.fs
                .readdirplus(handle, offset, Buffer { room, names, to });
        })
        .await
    }

    /// What is in a directory, read a few entries at a time, without `.` and `..`.
    async fn entries(&self, path: &str) -> Result<Vec<(String, Entry)>, FsError> {
        let handle = self.opendir(path).await?;
        let (mut all, mut offset) = (Vec::new(), 0);
        loop {
            let some = self.some(handle, offset, 100).await?;
            let Some((_, _, next)) = some.last() else {
                break;
            };
            offset = *next;
            all.extend(some.into_iter().map(|(name, entry, _)| (name, entry)));
        }
        asked(|to| self.fs.releasedir(handle, Answered(to))).await?;
        assert_eq!((&*all[0].0, &*all[1].0), (".", ".."));
        Ok(all.split_off(2))
    }

    async fn ls(&self, path: &str) -> Vec<String> {
        let entries = self.entries(path).await.unwrap();
        entries.into_iter().map(|(name, _)| name).collect()
    }

    async fn open(&self, path: &str) -> Result<HandleId, FsError> {
        let node = self.stat(path).await.node;
        let access = Access {
            read: true,
            write: false,
            sync: false,
        };
        let opened = asked::<OpenedFile>(|to| self.fs.open(node, access, false, Answered(to)));
        Ok(opened.await?.handle)
    }

    async fn read_open(&self, handle: HandleId) -> Result<String, FsError> {
        let bytes = asked(|to| self.fs.read(handle, 0, 1 << 20, Copied(to))).await?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    async fn cat(&self, path: &str) -> String {
        let handle = self.open(path).await.unwrap();
        self.read_open(handle).await.unwrap()
    }

    async fn xattr(&self, path: &str, name: &str) -> Result<String, FsErrorKind> {
        let node = self.stat(path).await.node;
        let value = asked(|to| self.fs.getxattr(node, name.as_bytes(), Copied(to)));
        let value = value.await.map_err(|error| error.kind())?;
        Ok(String::from_utf8(value).unwrap())
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build();
    runtime.unwrap().block_on(test)
}
