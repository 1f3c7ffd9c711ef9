//! Hashing without a store: many files, large files, and files that cannot be read.

use super::*;
use crate::snapshot::batch::{Job, jobs};

const MIB: u64 = 1 << 20;

/// A file of this length, each MiB of it other bytes.
fn large(folder: &TempDir, name: &str, len: u64) {
    let mut file = fs::File::create(folder.path().join(name)).unwrap();
    for at in 0..len.div_ceil(MIB) {
        let rest = (len - at * MIB).min(MIB);
        file.write_all(&vec![at as u8; rest as usize]).unwrap();
    }
}

async fn taken(scan: &Scan, chunk_size: ChunkSize) -> Result<Snapshot, TransferError> {
    let options = HashOptions::new(chunk_size);
    let taken = snapshot(scan, &options, None, &Silent).await;
    taken.map(|(snapshot, _)| snapshot)
}

fn item(name: &str, size: u64) -> Item {
    let folder = folder(&[("a", b"")]);
    let scan = scanned(&folder);
    let EntryKind::File(mut scanned) = scan.entries[0].kind.clone() else {
        panic!("a file")
    };
    scanned.size = size;
    Item {
        path: path(name),
        scanned,
        known: None,
        chunk_size: ChunkSize::DEFAULT,
        stored: Vec::new(),
    }
}

#[test]
fn small_files_share_a_job_and_a_large_one_has_a_job_for_each_chunk() {
    let mut items: Vec<_> = (0..300).map(|i| item(&format!("f{i}"), 1)).collect();
    items.insert(10, item("large", 40 * MIB + 1));
    items.push(item("one-object", 30 * MIB));
    items.push(item("m", 9 * MIB));
    items.push(item("n", 9 * MIB));
    let shapes: Vec<_> = jobs(items, chunks_of(40 * MIB))
        .map(|job| match job {
            Job::Files(files) => files.len() as u64,
            Job::Chunk(_, at) => 1000 + at as u64,
        })
        .collect();
    assert_eq!(shapes, [10, 1000, 1001, 256, 34, 1, 1, 1]);
}

#[tokio::test]
async fn the_chunks_of_a_large_file_are_hashed_in_their_places() {
    let folder = TempDir::new().unwrap();
    large(&folder, "a", 17 * MIB + 5);
    large(&folder, "b", 40 * MIB);
    let snapshot = taken(&scanned(&folder), chunks_of(2 * MIB)).await.unwrap();
    for name in ["a", "b"] {
        let bytes = fs::read(folder.path().join(name)).unwrap();
        let right: Vec<_> = bytes
            .chunks(2 * MIB as usize)
            .map(ContentHash::of)
            .collect();
        assert_eq!(
            file(&snapshot, name).content,
            Content::Chunks(right.into()),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_large_file_that_changed_since_the_scan_is_taken_as_it_is_now() {
    let folder = TempDir::new().unwrap();
    for (before, after) in [(40, 18), (18, 40), (40, 1), (40, 40)] {
        large(&folder, "a", before * MIB);
        let scan = scanned(&folder);
        large(&folder, "a", after * MIB);
        let snapshot = taken(&scan, chunks_of(2 * MIB)).await.unwrap();
        assert_eq!(file(&snapshot, "a").size, after * MIB);
        assert_eq!(
            snapshot,
            taken(&scanned(&folder), chunks_of(2 * MIB)).await.unwrap()
        );
    }
}

#[tokio::test]
async fn a_large_file_that_vanished_is_an_error_that_names_it() {
    let folder = TempDir::new().unwrap();
    large(&folder, "gone", 20 * MIB);
    let scan = scanned(&folder);
    fs::remove_file(folder.path().join("gone")).unwrap();
    let error = taken(&scan, chunks_of(MIB)).await.unwrap_err();
    assert!(error.to_string().contains("gone"), "{error}");
}

#[tokio::test]
async fn files_that_cannot_be_read_are_left_out_and_reported_if_that_is_asked_for() {
    for store in [None, Some(uploader(Arc::new(MemoryStore::new()), 100))] {
        let folder = folder(&[("gone", b"x"), ("here", b"y"), ("other", b"z")]);
        large(&folder, "large", 20 * MIB);
        let scan = scanned(&folder);
        for name in ["gone", "other", "large"] {
            fs::remove_file(folder.path().join(name)).unwrap();
        }
        fs::create_dir(folder.path().join("other")).unwrap();
        let options = HashOptions {
            skip_unreadable: true,
            ..HashOptions::new(chunks_of(MIB))
        };
        let (snapshot, report) = snapshot(&scan, &options, store.as_ref(), &Silent)
            .await
            .unwrap();
        let left: Vec<_> = report
            .unreadable
            .iter()
            .map(|file| file.path.to_string())
            .collect();
        assert_eq!(left, ["gone", "large", "other"]);
        assert_eq!(snapshot.len(), 1);
        file(&snapshot, "here");
        assert_eq!(report.hashed.count, 1);
    }
}

#[tokio::test]
async fn a_cancelled_snapshot_says_how_far_it_was() {
    struct Impatient;
    impl Progress for Impatient {
        fn update(&self, event: &ProgressEvent) -> ControlFlow<()> {
            if event.items_done >= 50 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        }
    }
    let folder = TempDir::new().unwrap();
    for i in 0..60 {
        fs::write(folder.path().join(i.to_string()), "x").unwrap();
    }
    let cancelled = snapshot(&scanned(&folder), &whole(), None, &Impatient).await;
    let Err(TransferError::Cancelled(cancelled)) = cancelled else {
        panic!("{cancelled:?}")
    };
    assert!(cancelled.so_far.items_done >= 50);
    assert_eq!(cancelled.so_far.items_total, Some(60));
}
