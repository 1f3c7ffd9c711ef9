//! Manifests of jobs in a store in memory.

use std::error::Error as _;

use attachfs_manifest::wire::{Format, encode_diff, encode_snapshot};
use attachfs_manifest::{ChunkSize, Content, Diff, File, ManifestPath, Mtime, Node};
use attachfs_paths::PathFormat;
use attachfs_store::record::RecordStore;
use attachfs_store::{CallKind, MemoryStore, Metadata};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::{ActionTime, InputKey, OutputKey, OutputPlace};

const HEX: &str = "0123456789abcdef0123456789abcdef";

fn snapshot_of(files: &[(&str, u8)]) -> Snapshot {
    let files = files.iter().map(|&(name, version)| {
        let node = Node::File(File {
            size: 1,
            mtime: Mtime(1_700_000_000_000_000),
            runnable: false,
            content: Content::Whole(ContentHash::of(&[version])),
        });
        (ManifestPath::new(name.as_bytes()).unwrap(), node)
    });
    Snapshot::new(ChunkSize::WholeFile, None, files).unwrap()
}

fn encoded(files: &[(&str, u8)]) -> Bytes {
    encode_snapshot(&snapshot_of(files), Format::V2023_03_03)
        .unwrap()
        .into()
}

fn address() -> JobAddress {
    format!("deadline://farm-{HEX}/queue-{HEX}/job-{HEX}")
        .parse()
        .unwrap()
}

fn step(number: u32) -> StepId {
    format!("step-{number:032x}").parse().unwrap()
}

fn key(step_number: u32, task: Option<u32>, run: u32, root: &str) -> OutputKey {
    let JobAddress {
        farm, queue, job, ..
    } = address();
    let place = OutputPlace {
        farm,
        queue,
        job,
        step: step(step_number),
        task: task.map(|task| format!("task-{HEX}-{task}").parse().unwrap()),
    };
    let time = ActionTime::from_micros(i64::from(run)).unwrap();
    let action = format!("sessionaction-{HEX}-{run}").parse().unwrap();
    OutputKey::new(place, time, action, None, root)
}

async fn put(store: &MemoryStore, key: &OutputKey, root: &str, bytes: Bytes) {
    let said = OutputMetadata {
        asset_root: root.to_owned(),
        location: None,
    };
    let key = key.manifest_key().unwrap();
    store
        .put_manifest_if_absent(&key, bytes, &said.encode().unwrap())
        .await
        .unwrap();
    // The store's clock tells them apart.
    std::thread::sleep(Duration::from_millis(2));
}

fn told(error: &ReadError) -> String {
    let source = error
        .source()
        .map_or(String::new(), |source| format!(": {source}"));
    format!("{error}{source}")
}

#[tokio::test]
async fn the_file_that_was_written_last_counts_in_each_root() {
    let store = MemoryStore::new();
    // Task 1 is written before task 0, and the chunk of step 2 between them.
    put(
        &store,
        &key(1, Some(1), 1, "/a"),
        "/a",
        encoded(&[("f", 1), ("of 1", 1)]),
    )
    .await;
    put(
        &store,
        &key(2, None, 2, "/a"),
        "/a",
        encoded(&[("f", 2), ("g", 2)]),
    )
    .await;
    put(
        &store,
        &key(1, Some(0), 3, "/a"),
        "/a",
        encoded(&[("f", 3)]),
    )
    .await;
    put(
        &store,
        &key(1, Some(0), 3, "/b"),
        "/b",
        encoded(&[("f", 4)]),
    )
    .await;
    let found = read_outputs(&store, &address(), Which::Latest(LatestBy::Modified))
        .await
        .unwrap();
    let [a, b] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!((&*a.root, a.manifests), ("/a", 3));
    assert_eq!(a.snapshot, snapshot_of(&[("f", 3), ("g", 2), ("of 1", 1)]));
    assert_eq!((&*b.root, &b.snapshot), ("/b", &snapshot_of(&[("f", 4)])));
    let none = format!("deadline://farm-{HEX}/queue-{HEX}/job-{}", "f".repeat(32));
    let which = Which::Latest(LatestBy::Modified);
    assert_eq!(
        read_outputs(&store, &none.parse().unwrap(), which)
            .await
            .unwrap(),
        []
    );
}

#[tokio::test]
async fn at_the_same_time_chunks_come_before_tasks_as_for_python() {
    let store = MemoryStore::new();
    put(
        &store,
        &key(1, Some(0), 1, "/a"),
        "/a",
        encoded(&[("f", 1)]),
    )
    .await;
    put(&store, &key(2, None, 2, "/a"), "/a", encoded(&[("f", 2)])).await;
    let mut outputs = outputs_of(&store, &address(), Which::All).await.unwrap();
    for output in &mut outputs {
        output.modified = Some(SystemTime::UNIX_EPOCH);
    }
    let merged = merge_outputs(outputs).unwrap();
    assert_eq!(merged[0].snapshot, snapshot_of(&[("f", 1)]));
}

#[tokio::test]
async fn inputs_lie_below_the_outputs_of_the_steps_that_are_depended_on() {
    let store = MemoryStore::new();
    let JobAddress { farm, queue, .. } = address();
    let submission = HEX.parse().unwrap();
    let input = InputKey::new(farm, queue, submission, PathFormat::Posix, "/a");
    let input = input.manifest_key().unwrap();
    let bytes = encoded(&[("f", 1), ("g", 1), ("h", 1)]);
    let hash = ContentHash::of(&bytes);
    store
        .put_manifest_if_absent(&input, bytes, &Metadata::new())
        .await
        .unwrap();
    // Step 2 is written last, and listed first; step 3 is not depended on.
    put(
        &store,
        &key(1, Some(0), 1, "/a"),
        "/a",
        encoded(&[("f", 2), ("g", 2)]),
    )
    .await;
    put(
        &store,
        &key(2, Some(0), 2, "/a"),
        "/a",
        encoded(&[("f", 3)]),
    )
    .await;
    put(
        &store,
        &key(2, Some(0), 2, "/only"),
        "/only",
        encoded(&[("f", 4)]),
    )
    .await;
    put(
        &store,
        &key(3, Some(0), 3, "/a"),
        "/a",
        encoded(&[("f", 5)]),
    )
    .await;
    let root = |root: &str, inputs: Option<&ManifestKey>, said| RootAttachment {
        root: root.to_owned(),
        format: PathFormat::Posix,
        location: None,
        inputs: inputs.cloned(),
        inputs_hash: said,
        outputs: Vec::new(),
    };
    let mut attachments = Attachments {
        roots: vec![
            root("/none", None, None),
            root("/a", Some(&input), Some(hash)),
        ],
        ..Attachments::default()
    };
    let depended = [step(2), step(1), step(2)];
    let by = LatestBy::Modified;
    let found = read_inputs(&store, &address(), &attachments, &depended, by)
        .await
        .unwrap();
    let [a, only] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!((&*a.root, a.manifests), ("/a", 3));
    assert_eq!(a.snapshot, snapshot_of(&[("f", 3), ("g", 2), ("h", 1)]));
    assert_eq!((&*only.root, only.manifests), ("/only", 1));
    attachments.roots[1].inputs_hash = Some(ContentHash::of(b"other"));
    let error = read_inputs(&store, &address(), &attachments, &[], by)
        .await
        .unwrap_err();
    assert!(
        told(&error).contains(&format!("has the hash {hash}, and the job says")),
        "{error}"
    );
    attachments.roots[1].inputs = Some("gone".parse().unwrap());
    let error = read_inputs(&store, &address(), &attachments, &[], by)
        .await
        .unwrap_err();
    assert!(
        told(&error).contains("cannot read the manifest gone: "),
        "{}",
        told(&error)
    );
}

#[tokio::test]
async fn an_output_that_cannot_be_used_is_named_and_the_next_one_is_read() {
    let store = MemoryStore::new();
    let diff = Diff::new(ChunkSize::WholeFile, None, []).unwrap();
    let diff = encode_diff(&diff, Format::V2025_12).unwrap();
    let bad = key(1, Some(0), 1, "/a").manifest_key().unwrap();
    store
        .put_manifest_if_absent(&bad, encoded(&[("f", 1)]), &Metadata::new())
        .await
        .unwrap();
    put(
        &store,
        &key(1, Some(1), 1, "/a"),
        "/a",
        Bytes::from_static(b"{}"),
    )
    .await;
    put(&store, &key(1, Some(2), 1, "/a"), "/a", diff.into()).await;
    put(
        &store,
        &key(1, Some(3), 1, "/a"),
        "/a",
        encoded(&[("f", 1)]),
    )
    .await;
    let found = Outputs::of(&store, &address(), Which::All)
        .all()
        .await
        .unwrap();
    let mut reader = OutputReader::of(&store, found.manifests.clone());
    for (task, said) in [
        (0, "nothing says which root the manifest belongs to"),
        (1, "cannot read the manifest"),
        (2, "is a diff: the outputs and inputs of jobs are snapshots"),
    ] {
        let error = reader.next().await.unwrap_err();
        assert!(told(&error).contains(said), "{}", told(&error));
        assert!(
            told(&error).contains(&format!("task-{HEX}-{task}/")),
            "{}",
            told(&error)
        );
    }
    let last = reader.next().await.unwrap().unwrap();
    assert_eq!(last.listed, found.manifests[3]);
    assert_eq!(reader.next().await.unwrap(), None);
}

#[tokio::test]
async fn outputs_are_read_128_at_once_and_within_64_mib() {
    let memory = Arc::new(MemoryStore::new());
    for task in 0..200 {
        put(
            &memory,
            &key(1, Some(task), 1, "/a"),
            "/a",
            encoded(&[("f", 1)]),
        )
        .await;
    }
    let store = Arc::new(RecordStore::new(memory));
    let found = Outputs::of(&*store, &address(), Which::All)
        .all()
        .await
        .unwrap();
    let mut outputs = found.manifests;
    for (claimed, at_once) in [(1, 128), (16 << 20, 4), (100 << 20, 1)] {
        store.clear();
        let held = store.hold(CallKind::GetManifest);
        for output in &mut outputs {
            output.len = claimed;
        }
        let mut reader = OutputReader::of(&*store, outputs.clone());
        {
            let next = std::pin::pin!(reader.next());
            let waited = std::pin::pin!(store.wait_in_flight(CallKind::GetManifest, at_once));
            let either = futures::future::select(next, waited).await;
            assert!(matches!(either, futures::future::Either::Right(_)));
        }
        assert_eq!(store.in_flight(CallKind::GetManifest), at_once);
        drop(held);
        let mut read = 0;
        while let Some(output) = reader.next().await.unwrap() {
            assert_eq!(output.listed.key, outputs[read].key);
            read += 1;
        }
        assert_eq!(read, 200);
    }
}

/// A store that takes 20 ms for a manifest.
#[derive(Debug)]
struct Slow(MemoryStore);

#[async_trait::async_trait]
impl ManifestStore for Slow {
    async fn get_manifest(&self, key: &ManifestKey) -> Result<StoredManifest, StoreError> {
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.0.get_manifest(key).await
    }

    async fn put_manifest_if_absent(
        &self,
        key: &ManifestKey,
        bytes: Bytes,
        metadata: &Metadata,
    ) -> Result<attachfs_store::PutOutcome, StoreError> {
        self.0.put_manifest_if_absent(key, bytes, metadata).await
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_outputs_are_read_in_two_seconds_and_their_roots_at_once() {
    let store = Slow(MemoryStore::new());
    let mut outputs = Vec::new();
    for task in 0..10_000 {
        let root = ["/a", "/b"][task as usize % 2];
        let key = key(1, Some(task), 1, root);
        let said = OutputMetadata {
            asset_root: root.to_owned(),
            location: None,
        };
        let bytes = encoded(&[("f", 1)]);
        outputs.push(ListedOutput {
            key,
            len: bytes.len() as u64,
            modified: None,
        });
        let key = key.manifest_key().unwrap();
        let said = said.encode().unwrap();
        store
            .put_manifest_if_absent(&key, bytes, &said)
            .await
            .unwrap();
    }
    let began = tokio::time::Instant::now();
    let mut reader = OutputReader::of(&store, one_of_each_root(&outputs));
    let mut roots = Vec::new();
    while let Some(output) = reader.next().await.unwrap() {
        roots.push(output.said.asset_root);
    }
    assert_eq!(roots, ["/a", "/b"]);
    assert!(began.elapsed() < Duration::from_millis(50));
    let mut reader = OutputReader::of(&store, outputs);
    let mut read = 0;
    while reader.next().await.unwrap().is_some() {
        read += 1;
    }
    assert_eq!(read, 10_000);
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
}
