//! Downloads into real folders, from stores that misbehave.

mod conflicts;
mod diffs;
mod faults;
mod groups;
mod hostile;
mod planning;
mod remembering;
mod resuming;
mod swaps;
mod whole;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use attachfs_durable::HeldDir;
use attachfs_manifest::{
    Change, ChunkSize, Content, ContentHash, Diff, File, LinkTarget, ManifestPath, Mtime, Node,
    Snapshot,
};
use attachfs_store::fault::{FaultStore, Rule};
use attachfs_store::record::RecordStore;
use attachfs_store::{CallKind, MemoryStore};
use tempfile::TempDir;

use super::leftovers::Leftovers;
use super::step::{Deletion, FileStep, Place};
use super::*;
use crate::Silent;

/// 2023-11-14, with microseconds.
const TIME: i64 = 1_700_000_000_123_456;

fn path(text: &str) -> ManifestPath {
    ManifestPath::new(text.as_bytes()).unwrap()
}

/// A folder to fill, and a store that has what it is to be filled with.
struct Setup {
    temp: TempDir,
    memory: Arc<MemoryStore>,
    fault: Arc<FaultStore>,
    record: Arc<RecordStore>,
    options: DownloadOptions,
}

impl Setup {
    /// Files longer than 1000 bytes are large.
    fn new() -> Self {
        let memory = Arc::new(MemoryStore::new());
        let fault = Arc::new(FaultStore::new(Arc::clone(&memory) as _));
        let record = Arc::new(RecordStore::new(Arc::clone(&fault) as _));
        let options = DownloadOptions {
            block_bytes: 1000,
            ..DownloadOptions::default()
        };
        Self {
            temp: TempDir::new().unwrap(),
            memory,
            fault,
            record,
            options,
        }
    }

    fn root(&self) -> PathBuf {
        self.temp.path().join("root")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// Makes a file that is there before.
    fn there(&self, name: &str, bytes: &str) {
        let at = self.at(name);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, bytes).unwrap();
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    /// A file whose bytes are in the store.
    fn file(&self, bytes: impl AsRef<[u8]>) -> Node {
        let bytes = bytes.as_ref();
        Node::File(File {
            size: bytes.len() as u64,
            mtime: Mtime(TIME),
            runnable: false,
            content: Content::Whole(self.memory.insert(bytes.to_vec())),
        })
    }

    /// The same in pieces of 1500 bytes.
    fn chunks(&self, bytes: &[u8]) -> Node {
        let pieces = bytes
            .chunks(1500)
            .map(|piece| self.memory.insert(piece.to_vec()));
        Node::File(File {
            size: bytes.len() as u64,
            mtime: Mtime(TIME),
            runnable: false,
            content: Content::Chunks(pieces.collect()),
        })
    }

    fn fails(&self, rule: Rule) {
        self.fault.add(rule);
    }

    fn gets(&self) -> usize {
        self.record.count(CallKind::Get)
    }

    async fn try_to(&self, wanted: Wanted<'_>) -> Result<DownloadReport, TransferError> {
        let sources = Sources {
            store: Arc::clone(&self.record) as _,
            nearby: None,
        };
        let placed = download(&self.root(), wanted, sources, &self.options, &Silent).await;
        placed.map_err(|stopped| stopped.source)
    }

    /// A download without a plan, to do steps one by one.
    fn run(&self, folder: Folder) -> Run {
        let sources = Sources {
            store: Arc::clone(&self.record) as _,
            nearby: None,
        };
        let meter = Meter::new(Phase::Download, 0, 0);
        let cut = ChunkSize::WholeFile;
        let copies = CopyNames::new(&folder.dir, std::iter::empty());
        let found = (Leftovers::default(), copies);
        let shared = Shared::new(folder, found, sources, &self.options, cut, meter);
        Run::new(shared, &self.options)
    }

    fn folder(&self) -> Folder {
        Folder::open(&self.root(), Permissions::default()).unwrap()
    }

    /// A step that places a file with these bytes.
    fn step(&self, name: &str, bytes: impl AsRef<[u8]>) -> FileStep {
        FileStep {
            path: path(name),
            file: self.file(bytes).as_file().unwrap().clone(),
            place: Place::Free,
            swap: None,
        }
    }

    async fn listened(
        &self,
        wanted: Wanted<'_>,
        progress: &dyn Progress,
    ) -> Result<DownloadReport, DownloadStopped> {
        let sources = Sources {
            store: Arc::clone(&self.record) as _,
            nearby: None,
        };
        download(&self.root(), wanted, sources, &self.options, progress).await
    }

    /// What is left in the root that a download made up.
    fn leftovers(&self) -> usize {
        let names = self.names();
        let made_up = names
            .iter()
            .filter(|name| names::key_of_part(name.as_bytes()).is_some());
        made_up.count()
    }

    /// The files that downloads made up, anywhere in the root.
    fn parts(&self) -> Vec<PathBuf> {
        fn add(dir: &std::path::Path, parts: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(dir).into_iter().flatten() {
                let entry = entry.unwrap();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    add(&entry.path(), parts);
                } else if names::key_of_part(entry.file_name().as_encoded_bytes()).is_some() {
                    parts.push(entry.path());
                }
            }
        }
        let mut parts = Vec::new();
        add(&self.root(), &mut parts);
        parts
    }

    /// Waits until nothing runs any more of a download that was ended: what runs has the root open.
    async fn ended(&self) {
        let root = self.root().canonicalize().unwrap();
        let is_open = || {
            let files = fs::read_dir("/proc/self/fd").unwrap();
            let mut open = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
            open.any(|to| to.starts_with(&root))
        };
        while is_open() {
            tokio::task::yield_now().await;
        }
    }

    async fn place(&self, snapshot: &Snapshot) -> DownloadReport {
        self.try_to(Wanted::Snapshot(snapshot)).await.unwrap()
    }

    async fn apply(&self, diff: &Diff) -> DownloadReport {
        self.try_to(Wanted::Diff(diff)).await.unwrap()
    }
}

/// Runs this where it, and every thread that it starts, has nothing of root's power over files.
fn as_anybody<T: Send + 'static>(run: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    use rustix::thread::CapabilitySet as Set;
    let thread = std::thread::spawn(|| {
        let mut sets = rustix::thread::capabilities(None).unwrap();
        let power = Set::CHOWN | Set::DAC_OVERRIDE | Set::DAC_READ_SEARCH | Set::FOWNER;
        sets.effective.remove(power);
        rustix::thread::set_capabilities(None, sets).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(run())
    });
    thread.join().unwrap()
}

/// Hears how far a download is, and has enough when it says so.
struct Listening<F> {
    heard: parking_lot::Mutex<Vec<crate::ProgressEvent>>,
    has_enough: F,
}

fn listening<F: Fn(&crate::ProgressEvent) -> bool>(has_enough: F) -> Listening<F> {
    let heard = parking_lot::Mutex::default();
    Listening { heard, has_enough }
}

impl<F: Fn(&crate::ProgressEvent) -> bool + Send + Sync> Progress for Listening<F> {
    fn update(&self, event: &crate::ProgressEvent) -> std::ops::ControlFlow<()> {
        self.heard.lock().push(event.clone());
        if (self.has_enough)(event) {
            std::ops::ControlFlow::Break(())
        } else {
            std::ops::ControlFlow::Continue(())
        }
    }
}

impl<F> Listening<F> {
    /// Bytes done, those of them that were skipped, and all of them, when it ended. They never were more.
    fn bytes(&self) -> (u64, u64, u64) {
        let heard = self.heard.lock();
        let is_too_much = |event: &&crate::ProgressEvent| {
            event
                .bytes_total
                .is_some_and(|total| event.bytes_done > total)
        };
        assert_eq!(heard.iter().find(is_too_much), None);
        let last = heard.last().unwrap();
        (
            last.bytes_done,
            last.bytes_skipped,
            last.bytes_total.unwrap(),
        )
    }
}

fn runnable(node: Node) -> Node {
    match node {
        Node::File(file) => Node::File(File {
            runnable: true,
            ..file
        }),
        other => other,
    }
}

fn link(target: &str) -> Node {
    Node::Symlink(LinkTarget::Below(path(target)))
}

fn snapshot<const N: usize>(entries: [(&str, Node); N]) -> Snapshot {
    let entries = entries.map(|(text, node)| (path(text), node));
    Snapshot::new(ChunkSize::Bytes(1500.try_into().unwrap()), None, entries).unwrap()
}

fn diff<const N: usize>(changes: [(&str, Change); N]) -> Diff {
    let changes = changes.map(|(text, change)| (path(text), change));
    Diff::new(ChunkSize::Bytes(1500.try_into().unwrap()), None, changes).unwrap()
}

/// Bytes that are not the same everywhere.
fn long(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 7 + i / 911) as u8).collect()
}

fn counts(report: &DownloadReport) -> (u64, u64, u64, usize) {
    let summary = &report.summary;
    (
        summary.total.count,
        summary.processed.count,
        summary.skipped.count,
        summary.errors.len(),
    )
}

fn hash_of(node: &Node) -> ContentHash {
    node.as_file().unwrap().content.hashes()[0]
}
