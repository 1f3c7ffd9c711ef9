//! How long a run takes that finds nothing new, what goes into which part of a root, and what is forgotten.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::ops::{Bound, Range};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use attachfs_durable::CacheDir;
use attachfs_jobs::{ActionTime, OutputKey, OutputManifest, OutputMetadata, OutputPlace};
use attachfs_manifest::wire::{Format, encode_snapshot};
use attachfs_manifest::{
    ChunkSize, Content, File, LinkTarget, ManifestPath, Mtime, Node, Snapshot,
};
use attachfs_session::StoreSettings;
use attachfs_store::{
    ChunkStore, Folder, Listed, ManifestKey, MemoryStore, Metadata, ObjectMeta, ObjectPart, Page,
    Payload, PutOutcome, S3Access, Store, StoreAddress, StoreError, StoredManifest,
};
use attachfs_transfer::{Conflict, Permissions, Silent};
use bytes::Bytes;

use super::*;
use crate::jobs::naming::{JobDocuments, NamedJobs};
use crate::jobs::placing::{Placing, PlacingOptions};
use crate::manifest::Hashing;

const HEX: &str = "0123456789abcdef0123456789abcdef";

/// How many keys S3 lists at once.
const PAGE: usize = 1000;

/// A store whose requests take time and are counted. It lists as S3 does; what it holds in memory it would look through for each page.
#[derive(Debug, Default)]
struct Slow {
    memory: MemoryStore,
    listed: Mutex<BTreeMap<String, Listed>>,
    takes: Duration,
    lists: AtomicUsize,
    reads: AtomicUsize,
}

#[async_trait]
impl ChunkStore for Slow {
    async fn get(&self, chunk: ContentHash, range: Range<u64>) -> Result<ObjectPart, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.memory.get(chunk, range).await
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
        self.reads.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(self.takes).await;
        self.memory.get_manifest(key).await
    }

    async fn put_manifest_if_absent(
        &self,
        key: &ManifestKey,
        bytes: Bytes,
        metadata: &Metadata,
    ) -> Result<PutOutcome, StoreError> {
        let listed = Listed::new(
            key.object_key(),
            bytes.len() as u64,
            Some(SystemTime::now()),
        );
        let key_text = key.object_key();
        self.listed.lock().unwrap().insert(key_text, listed);
        let put = self.memory.put_manifest_if_absent(key, bytes, metadata);
        put.await
    }
}

#[async_trait]
impl ListStore for Slow {
    async fn list(&self, folder: &Folder, after: Option<&str>) -> Result<Page, StoreError> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(self.takes).await;
        let start = folder.key_start();
        let listed = self.listed.lock().unwrap();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = listed.range::<str, _>((from, Bound::Unbounded));
        let within = behind.filter(|(key, _)| key.starts_with(&start));
        let mut entries: Vec<Listed> = within.take(PAGE + 1).map(|(_, of)| of.clone()).collect();
        let is_last = entries.len() <= PAGE;
        entries.truncate(PAGE);
        let next = entries.last().filter(|_| !is_last);
        Ok(Page {
            next: next.map(|entry| entry.key.clone()),
            entries,
        })
    }
}

impl Store for Slow {
    fn address(&self) -> StoreAddress {
        self.memory.address()
    }
}

fn path(text: &str) -> ManifestPath {
    ManifestPath::new(text.as_bytes()).unwrap()
}

fn snapshot(entries: impl IntoIterator<Item = (ManifestPath, Node)>) -> Snapshot {
    Snapshot::new(ChunkSize::WholeFile, None, entries).unwrap()
}

fn file(text: &str) -> Node {
    Node::File(File {
        size: text.len() as u64,
        mtime: Mtime(1_600_000_000_000_000),
        runnable: false,
        content: Content::Whole(ContentHash::of(text.as_bytes())),
    })
}

/// The output of a task of a job, of which there are as many as digits.
fn key(job: usize, task: usize) -> OutputKey {
    let place = OutputPlace {
        farm: format!("farm-{HEX}").parse().unwrap(),
        queue: format!("queue-{HEX}").parse().unwrap(),
        job: format!("job-{job:x}{}", &HEX[1..]).parse().unwrap(),
        step: format!("step-{HEX}").parse().unwrap(),
        task: Some(format!("task-{HEX}-{task}").parse().unwrap()),
    };
    let time = ActionTime::from_micros(1_700_000_000_000_000 + task as i64).unwrap();
    let action = format!("sessionaction-{HEX}-{task}").parse().unwrap();
    OutputKey::new(place, time, action, None, "/proj")
}

fn request(folder: &Path) -> SyncRequest {
    let address = format!("deadline://farm-{HEX}/queue-{HEX}");
    SyncRequest {
        named: NamedJobs {
            store: "memory".to_owned(),
            address: address.parse().unwrap(),
            action: None,
            documents: JobDocuments::default(),
        },
        placing: Placing::new(&PlacingOptions {
            map_roots: vec![("/proj".to_owned(), folder.join("proj"))],
            ..PlacingOptions::default()
        })
        .unwrap(),
        jobs: Vec::new(),
        conflict: Conflict::CreateCopy,
        permissions: Permissions::default(),
        hashing: Hashing {
            caches: None,
            force_rehash: false,
        },
        checkpoint_dir: Some(folder.join("state")),
        beginning: Beginning::default(),
        retry_failed: false,
        dry_run: false,
    }
}

async fn run(store: &Arc<Slow>, folder: &Path) -> SyncReport {
    let opened = OpenStore {
        store: store.clone(),
        settings: StoreSettings {
            address: "memory".to_owned(),
            s3: S3Access::default(),
        },
        bucket_url: None,
    };
    let places = Places {
        state: folder.join("state"),
        cache: CacheDir::new(folder.join("cache")),
        data: folder.join("data"),
    };
    let never = CancellationToken::new();
    let request = request(folder);
    let synced = sync_outputs(&request, &opened, &places, &Silent, &never);
    synced.await.unwrap()
}

#[test]
fn a_run_with_nothing_new_over_ten_thousand_session_actions_takes_two_seconds_at_most() {
    const JOBS: usize = 4;
    const TASKS: usize = 2500;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Arc::new(Slow {
            takes: Duration::from_millis(20),
            ..Slow::default()
        });
        store.memory.insert("text");
        let said = OutputMetadata {
            asset_root: "/proj".to_owned(),
            location: None,
        };
        let said = said.encode().unwrap();
        for job in 0..JOBS {
            for task in 0..TASKS {
                let name = format!("{job}/{}/{task}", task % 50);
                let made = snapshot([(path(&name), file("text"))]);
                let bytes = encode_snapshot(&made, Format::V2023_03_03).unwrap();
                let key = key(job, task).manifest_key().unwrap();
                let put = store.put_manifest_if_absent(&key, bytes.into(), &said);
                put.await.unwrap();
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let first = run(&store, folder.path()).await;
        assert_eq!(first.downloaded_files, 10_000);
        assert_eq!(first.downloaded_session_actions, 10_000);
        let (lists, reads) = (&store.lists, &store.reads);
        lists.store(0, Ordering::Relaxed);
        reads.store(0, Ordering::Relaxed);
        let begun = Instant::now();
        let second = run(&store, folder.path()).await;
        let took = begun.elapsed();
        let checkpoint = fs::metadata(&second.checkpoint).unwrap().len();
        println!(
            "{took:?}, {} requests for keys, a checkpoint of {checkpoint} bytes",
            lists.load(Ordering::Relaxed)
        );
        assert_eq!(second.listed_manifests, 10_000);
        assert_eq!(second.read_manifests, 0);
        assert_eq!(reads.load(Ordering::Relaxed), 0);
        assert!(took <= Duration::from_secs(2), "{took:?}");
        assert!(checkpoint < 50 * 10_000);
    });
}

#[test]
fn what_lies_below_a_rule_of_its_own_goes_there_and_links_do_not_lead_from_part_to_part() {
    let rule = |source: &str, destination: &str| attachfs_paths::MappingRule {
        source_format: attachfs_paths::PathFormat::Posix,
        source: source.to_owned(),
        destination: destination.to_owned(),
    };
    let placing = Placing::new(&PlacingOptions {
        rules: vec![rule("/proj/fx", "/here/fx"), rule("/proj/a", "/here/a")],
        ..PlacingOptions::default()
    })
    .unwrap();
    let link = |target: &str| Node::Symlink(LinkTarget::Below(path(target)));
    let output = OutputManifest {
        listed: ListedOutput {
            key: key(1, 1),
            len: 0,
            modified: None,
        },
        said: OutputMetadata {
            asset_root: "/proj".to_owned(),
            location: None,
        },
        modified: None,
        hash: ContentHash::of(b""),
        snapshot: snapshot([
            (path("fx/d/f"), file("text")),
            (path("fx/in"), link("fx/d/f")),
            (path("fx/out"), link("a/f")),
            (path("a/f"), file("a")),
            (path("b/f"), file("no place")),
            (path("fx2/f"), file("none")),
        ]),
    };
    let item = Item::of(output, ContentHash::of(b"k"), &placing, None).unwrap();
    let placed: Vec<_> = item
        .placed
        .iter()
        .map(|(folder, of)| {
            let entries = of.entries().filter(|(_, node)| !node.is_dir());
            let entries = entries.map(|(path, node)| match node {
                Node::Symlink(LinkTarget::Below(target)) => format!("{} -> {target}", shown(path)),
                _ => shown(path),
            });
            (
                folder.to_str().unwrap().to_owned(),
                entries.collect::<Vec<_>>(),
            )
        })
        .collect();
    let expected = [
        ("/here/fx", vec!["d/f", "in -> d/f"]),
        ("/here/a", vec!["f"]),
    ];
    let expected = expected.map(|(folder, entries)| {
        let entries = entries.into_iter().map(str::to_owned).collect::<Vec<_>>();
        (folder.to_owned(), entries)
    });
    assert_eq!(placed, expected);
    assert_eq!((item.unmapped.count, item.unmapped.bytes), (3, 12));
}

fn shown(path: attachfs_manifest::PathRef<'_>) -> String {
    path.to_owned().to_string()
}

#[tokio::test]
async fn what_the_store_lists_no_more_is_forgotten_after_two_minutes_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let place = key(1, 1).place;
    let owner = Owner {
        store: "memory".to_owned(),
        farm: place.farm,
        queue: place.queue,
    };
    let open = || Checkpoint::open(folder.path(), "c", owner.clone(), false, true);
    let (kept, lost, other) = (
        ContentHash::of(b"kept"),
        ContentHash::of(b"lost"),
        ContentHash::of(b"other job"),
    );
    let now = SystemTime::now();
    let mut checkpoint = open().await.unwrap();
    for key in [kept, lost] {
        checkpoint.set_done(key, place.job);
    }
    checkpoint.set_done(other, key(2, 1).place.job);
    checkpoint.forget(&HashSet::from([kept]), |job| *job == place.job, now);
    checkpoint.write().unwrap();
    drop(checkpoint);
    let mut checkpoint = open().await.unwrap();
    assert!(checkpoint.is_done(&lost));
    // It is seen again, and gone again: the time begins anew.
    let later = |minutes| now + Duration::from_mins(minutes);
    checkpoint.forget(&HashSet::from([kept, lost]), |_| false, later(1));
    checkpoint.forget(&HashSet::from([kept]), |job| *job == place.job, later(3));
    assert!(checkpoint.is_done(&lost));
    checkpoint.forget(&HashSet::from([kept]), |job| *job == place.job, later(6));
    checkpoint.write().unwrap();
    drop(checkpoint);
    let checkpoint = open().await.unwrap();
    assert!(!checkpoint.is_done(&lost));
    assert!(checkpoint.is_done(&kept) && checkpoint.is_done(&other));
}
