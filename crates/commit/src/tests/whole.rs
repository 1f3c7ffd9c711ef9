//! Single commits: the diff matches the file system, and only missing objects are sent.

use std::sync::Arc;

use attachfs_fetch::FetchError;
use attachfs_manifest::{Change, ChunkSize, Content, ContentHash, Hasher, LinkTarget, Node};
use attachfs_store::record::RecordStore;
use attachfs_store::{Call, CallKind, DirectoryStore, MemoryStore, Store};

use crate::hash::Purpose;
use crate::testing::{CHUNK, CUT, Fs, Given, World, bytes, committed, path, tempdir};
use crate::{Account, Commit, CommitError, CommitOptions, Preview, preview, touched};

fn base() -> Vec<(&'static str, Given)> {
    vec![
        ("big", Given::File(bytes(1, 5 * CHUNK))),
        ("d/e/deep", Given::File(bytes(2, 10))),
        ("d/l", Given::Link("big")),
        ("d/x", Given::File(bytes(3, CHUNK))),
        ("empty", Given::File(Vec::new())),
        ("gone", Given::Dir),
    ]
}

/// Some of each kind of change.
fn work(fs: &Fs) {
    fs.write("big", 1500, b"patched").unwrap();
    fs.write("new", 0, &bytes(9, 2 * CHUNK + 5)).unwrap();
    fs.mkdir("out").unwrap();
    fs.write("out/frame", 0, b"pixels").unwrap();
    fs.link("out/frame", "out/again").unwrap();
    fs.chmod("out/frame", 0o755).unwrap();
    fs.rename("d", "out/d").unwrap();
    fs.truncate("out/d/x", 500).unwrap();
    fs.symlink("out/link", "../new").unwrap();
    fs.rmdir("gone").unwrap();
    fs.write("gone", 0, b"a file now").unwrap();
    fs.unlink("empty").unwrap();
    fs.mkdir("empty").unwrap();
}

async fn assert_committed_as_shown(store: Arc<dyn Store>, cut: ChunkSize) {
    let dir = tempdir();
    let world = World::new(store, cut, &base()).await;
    let fs = world.create(dir.path());
    work(&fs);
    let shown = fs.show(cut).await;
    let outcome = committed(&world, &fs, &CommitOptions::default()).await;
    let published = outcome.unwrap().published.unwrap();
    assert_eq!(published.committed.key, World::key(1));
    let stored = world
        .store
        .get_manifest(&published.committed.key)
        .await
        .unwrap();
    assert_eq!(ContentHash::of(&stored.bytes), published.committed.hash);
    let diff = world.diff(&published.committed.key).await;
    assert_eq!(diff.parent(), Some(ContentHash::of(&world.manifest())));
    let applied = world.snapshot.apply(&diff).unwrap();
    assert_eq!(applied, shown);
    world.assert_readable(&applied).await;
    assert_eq!(fs.show(cut).await, shown, "a commit changes nothing here");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_diff_of_a_commit_gives_what_the_file_system_shows() {
    assert_committed_as_shown(Arc::new(MemoryStore::new()), CUT).await;
    let dir = tempdir();
    let store = DirectoryStore::create(dir.path()).unwrap();
    assert_committed_as_shown(Arc::new(store), CUT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_touched_file_of_a_base_of_whole_files_is_one_object() {
    let files: Vec<_> = base()
        .into_iter()
        .filter(|(_, given)| matches!(given, Given::File(_)))
        .collect();
    let dir = tempdir();
    let store = Arc::new(MemoryStore::new());
    let world = World::new(store, ChunkSize::WholeFile, &files).await;
    let fs = world.create(dir.path());
    fs.write("big", 1500, b"patched").unwrap();
    fs.truncate("d/x", 10).unwrap();
    let shown = fs.show(ChunkSize::WholeFile).await;
    let outcome = committed(&world, &fs, &CommitOptions::default()).await;
    let published = outcome.unwrap().published.unwrap();
    assert_eq!(published.account.uploaded_objects, 2);
    assert_eq!(published.account.uploaded_bytes, 5 * CHUNK as u64 + 10);
    let diff = world.diff(&published.committed.key).await;
    assert_eq!(diff.chunk_size(), ChunkSize::WholeFile);
    assert_eq!(world.snapshot.apply(&diff).unwrap(), shown);
    world.assert_readable(&shown).await;
}

async fn recorded(base: &[(&str, Given)]) -> (Arc<RecordStore>, Arc<MemoryStore>, World) {
    let memory = Arc::new(MemoryStore::new());
    let store = Arc::new(RecordStore::new(memory.clone()));
    let world = World::new(store.clone(), CUT, base).await;
    store.clear();
    (store, memory, world)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_chunk_that_was_touched_is_sent_and_the_others_are_confirmed() {
    let (store, _, world) = recorded(&base()).await;
    let dir = tempdir();
    let fs = world.create(dir.path());
    fs.write("big", 1500, b"patched").unwrap();
    let outcome = committed(&world, &fs, &CommitOptions::default()).await;
    let account = outcome.unwrap().account;
    assert_eq!((account.added, account.changed, account.deleted), (0, 1, 0));
    assert_eq!(
        (account.uploaded_objects, account.uploaded_bytes),
        (1, 1000)
    );
    assert_eq!((account.present_objects, account.present_bytes), (4, 4000));
    assert_eq!(store.count(CallKind::Put), 1);
    assert_eq!(store.count(CallKind::Head), 5);
    let mut patched = bytes(1, 5 * CHUNK)[1000..2000].to_vec();
    let asked = store
        .calls()
        .into_iter()
        .find(|c| c.kind() == CallKind::Get);
    let Some(Call::Get { chunk, .. }) = asked else {
        panic!("the rest of the chunk is fetched")
    };
    assert_eq!(chunk, ContentHash::of(&patched));
    patched[500..507].copy_from_slice(b"patched");
    let Node::File(file) = &world
        .diff(&World::key(1))
        .await
        .changes()
        .next()
        .unwrap()
        .1
        .as_put()
        .unwrap()
        .clone()
    else {
        panic!("a file is put")
    };
    assert_eq!(file.content.hashes()[1], ContentHash::of(&patched));
    assert_eq!(store.count(CallKind::Get), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_was_overwritten_whole_is_not_fetched() {
    let (store, _, world) = recorded(&base()).await;
    let dir = tempdir();
    let fs = world.create(dir.path());
    fs.write("big", 1000, &bytes(8, 2 * CHUNK)).unwrap();
    fs.truncate("big", 3000).unwrap();
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    assert_eq!(store.count(CallKind::Get), 0);
    assert_eq!(store.count(CallKind::Put), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_diff_is_the_same_when_base_objects_are_read_in_blocks() {
    for cut in [CUT, ChunkSize::WholeFile] {
        let dir = tempdir();
        let files: Vec<_> = base()
            .into_iter()
            .filter(|(_, given)| matches!(given, Given::File(_)))
            .collect();
        let world = World::new(Arc::new(MemoryStore::new()), cut, &files).await;
        let world = world.with_whole_objects_up_to(100);
        let fs = world.create(dir.path());
        fs.write("big", 990, b"over the edge of a chunk").unwrap();
        fs.write("big", 2000, &bytes(8, CHUNK)).unwrap();
        fs.write("big", 3100, b"one").unwrap();
        fs.write("big", 3300, b"two").unwrap();
        fs.truncate("big", 4500).unwrap();
        fs.truncate("big", 6500).unwrap();
        fs.write("d/x", 500, b"x").unwrap();
        let shown = fs.show(cut).await;
        committed(&world, &fs, &CommitOptions::default())
            .await
            .unwrap();
        let diff = world.diff(&World::key(1)).await;
        let made = world.snapshot.apply(&diff).unwrap();
        assert_eq!(made, shown, "{cut}");
        world.assert_readable(&made).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_a_base_object_that_is_read_in_blocks_never_gets_a_new_hash() {
    let (store, memory, world) = recorded(&base()).await;
    let world = world.with_whole_objects_up_to(100);
    let dir = tempdir();
    let fs = world.create(dir.path());
    let mut chunk = bytes(1, 5 * CHUNK)[1000..2000].to_vec();
    let hash = ContentHash::of(&chunk);
    // The damage is where the new bytes are written, so no read of the kept bytes shows it.
    chunk[505] ^= 1;
    let found = ContentHash::of(&chunk);
    memory.insert_as(hash, chunk);
    fs.write("big", 1500, b"patched").unwrap();
    let error = committed(&world, &fs, &CommitOptions::default()).await;
    let Err(CommitError::Base { path: at, source }) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*at, path("big"));
    assert!(
        matches!(source, FetchError::Damaged { hash: object, found: bytes }
            if (*object, *bytes) == (hash, found)),
        "{source:?}"
    );
    assert_eq!(store.count(CallKind::Put), 0);
    assert!(memory.manifests().is_empty());
    // A chunk that keeps no byte does not need the object.
    fs.write("big", 1000, &bytes(8, CHUNK)).unwrap();
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_base_is_missing_is_named_by_its_path() {
    let (_, memory, world) = recorded(&base()).await;
    let dir = tempdir();
    let fs = world.create(dir.path());
    fs.write("big", 1500, b"patched").unwrap();
    memory.remove(ContentHash::of(&bytes(1, 5 * CHUNK)[1000..2000]));
    let error = committed(&world, &fs, &CommitOptions::default()).await;
    let Err(CommitError::Overlay(cause)) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(cause.to_string(), "read \"big\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_open_only_while_they_are_hashed_or_sent() {
    let (store, _, world) = recorded(&base()).await;
    let dir = tempdir();
    let fs = world.create(dir.path());
    for at in 0..300 {
        fs.write(&format!("frame{at}"), 0, &bytes(at, 10)).unwrap();
    }
    let hold = store.hold(CallKind::Put);
    let committing = tokio::spawn({
        let (world, fs) = (world.clone(), fs.clone());
        async move { committed(&world, &fs, &CommitOptions::default()).await }
    });
    store.wait_in_flight(CallKind::Put, 1).await;
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let open = open
        .filter_map(|file| std::fs::read_link(file.ok()?.path()).ok())
        .filter(|to| to.starts_with(dir.path()))
        .count();
    // The files of concurrent requests, and those of the session itself.
    assert!(open < 64, "{open} files are open");
    drop(hold);
    committing.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn moving_a_directory_of_the_base_sends_nothing_but_the_manifest() {
    let (store, _, world) = recorded(&base()).await;
    let dir = tempdir();
    let fs = world.create(dir.path());
    fs.rename("d", "moved").unwrap();
    let account = committed(&world, &fs, &CommitOptions::default()).await;
    let account = account.unwrap().account;
    assert_eq!(account.uploaded_objects, 0);
    assert_eq!((account.added, account.deleted), (5, 5));
    for kind in [CallKind::Put, CallKind::Get] {
        assert_eq!(store.count(kind), 0, "{kind:?}");
    }
    assert_eq!(store.count(CallKind::Head), 2, "both files are confirmed");
    assert_eq!(store.count(CallKind::PutManifest), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_were_undone_are_no_change() {
    let (store, memory, world) = recorded(&base()).await;
    let dir = tempdir();
    let fs = world.create(dir.path());
    fs.write("temporary", 0, b"x").unwrap();
    fs.unlink("temporary").unwrap();
    fs.rename("d", "e").unwrap();
    fs.rename("e", "d").unwrap();
    fs.chmod("big", 0o600).unwrap();
    drop(fs.open("big").map(|handle| fs.vfs.release(handle)));
    let outcome = committed(&world, &fs, &CommitOptions::default()).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.published, None);
    assert_eq!(outcome.account, Account::default());
    assert!(memory.manifests().is_empty());
    assert_eq!(store.count(CallKind::Put), 0);
    assert!(fs.vfs.commits().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_files_and_names_of_one_file_are_sent_once() {
    let (store, _, world) = recorded(&[]).await;
    let dir = tempdir();
    let fs = world.create(dir.path());
    for number in 0..50 {
        fs.write(&format!("same{number}"), 0, b"same").unwrap();
        fs.link("same0", &format!("name{number}")).unwrap();
    }
    let shown = fs.show(CUT).await;
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    assert_eq!(store.count(CallKind::Put), 1);
    let diff = world.diff(&World::key(1)).await;
    assert_eq!(world.snapshot.apply(&diff).unwrap(), shown);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_kept_chunk_stops_the_commit_before_publishing() {
    let (_, memory, world) = recorded(&base()).await;
    let dir = tempdir();
    let fs = world.create(dir.path());
    fs.write("big", 1500, b"patched").unwrap();
    memory.remove(ContentHash::of(&bytes(1, 5 * CHUNK)[4000..]));
    let error = committed(&world, &fs, &CommitOptions::default()).await;
    assert!(matches!(error, Err(CommitError::Transfer(_))), "{error:?}");
    assert!(memory.manifests().is_empty());
    assert!(fs.vfs.commits().is_empty());
    memory.insert(bytes(1, 5 * CHUNK)[4000..].to_vec());
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_matches_the_commit_and_sends_nothing() {
    let (store, _, world) = recorded(&base()).await;
    let dir = tempdir();
    let fs = world.create(dir.path());
    work(&fs);
    let options = CommitOptions::default();
    let observer = crate::testing::At(|_| {});
    let preview = preview(&fs.session, &options, &observer).await.unwrap();
    assert_eq!(store.count(CallKind::Put), 0);
    assert_eq!(store.count(CallKind::Head), 0);
    let work_dir = dir.path().join("commits/work");
    assert!(!work_dir.exists(), "nothing is put together for it");
    let account = committed(&world, &fs, &options).await.unwrap().account;
    assert_eq!(preview.account.added, account.added);
    assert_eq!(preview.account.changed, account.changed);
    assert_eq!(preview.account.deleted, account.deleted);
    assert_eq!(preview.account.bytes, account.bytes);
    let diff = world.diff(&World::key(1)).await;
    for changed in &preview.changes {
        let mut last = diff.changes().filter(|(path, _)| *path == changed.path);
        let after = last.next_back().unwrap().1.as_put().cloned();
        assert_eq!(after, changed.after, "{}", changed.path);
    }
    assert_eq!(std::fs::read_dir(&work_dir).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_listed_without_reading_files() {
    let (store, _, world) = recorded(&base()).await;
    let dir = tempdir();
    let fs = world.create(dir.path());
    work(&fs);
    let options = CommitOptions::default();
    let observer = crate::testing::At(|_| {});
    let hashed = preview(&fs.session, &options, &observer).await.unwrap();
    store.clear();
    let seen = touched(&fs.session, &options).await.unwrap();
    let shown = |preview: &Preview| -> Vec<_> {
        let kind = |node: &Node| (node.kind(), node.as_file().map(|file| file.size));
        let changes = preview.changes.iter();
        changes
            .map(|changed| (changed.path.clone(), changed.after.as_ref().map(kind)))
            .collect()
    };
    assert_eq!(shown(&seen), shown(&hashed));
    assert_eq!(seen.account, hashed.account);
    // A file that would take days to read.
    fs.write("huge", 0, b"x").unwrap();
    fs.truncate("huge", 1 << 42).unwrap();
    let seen = touched(&fs.session, &options).await.unwrap();
    let huge = seen
        .changes
        .iter()
        .find(|changed| changed.path == path("huge"));
    let huge = huge.unwrap().after.as_ref().unwrap().as_file().unwrap();
    assert_eq!((huge.size, &huge.content), (1 << 42, &Content::Unhashed));
    assert_eq!(store.calls(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assembled_file_has_holes_where_nothing_was_written() {
    use std::os::unix::fs::MetadataExt as _;
    const LONG: u64 = 1 << 30;
    let base = [("a", Given::File(bytes(1, 5000)))];
    let world = World::new(Arc::new(MemoryStore::new()), ChunkSize::WholeFile, &base).await;
    // Objects that are read in blocks are copied into the file; the truncation has to show in it.
    for world in [world.clone(), world.with_whole_objects_up_to(100)] {
        let dir = tempdir();
        let fs = world.create(dir.path());
        fs.truncate("a", 3000).unwrap();
        fs.truncate("a", LONG).unwrap();
        let options = CommitOptions::default();
        let observer = crate::testing::At(|_| {});
        let planned = Commit::plan(fs.session.clone(), &options).await.unwrap();
        let hashed = planned.hash(Purpose::Commit, &observer).await.unwrap();
        let work = std::fs::read_dir(dir.path().join("commits/work")).unwrap();
        let files: Vec<_> = work.map(|file| file.unwrap().metadata().unwrap()).collect();
        let [file] = &files[..] else {
            panic!("{files:?}")
        };
        assert_eq!(file.len(), LONG);
        assert!(file.blocks() * 512 < 1 << 20, "{}", file.blocks());
        let mut hasher = Hasher::new();
        hasher.update(&bytes(1, 3000));
        hasher.update_zeros(LONG - 3000);
        let [(_, Some(Node::File(file)))] = &hashed.state.changes[..] else {
            panic!("{:?}", hashed.state.changes)
        };
        assert_eq!(file.content, Content::Whole(hasher.finish()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_link_is_committed_once() {
    let (_, _, world) = recorded(&base()).await;
    let dir = tempdir();
    let fs = world.create(dir.path());
    fs.symlink("broken", "no/such/place").unwrap();
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    let again = committed(&world, &fs, &CommitOptions::default()).await;
    assert_eq!(again.unwrap().published, None);
    let diff = world.diff(&World::key(1)).await;
    let target = LinkTarget::Below(path("no/such/place"));
    let put = Change::Put(Node::Symlink(target));
    assert!(
        diff.changes()
            .any(|change| change == (path("broken").borrowed(), put.clone()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_and_one_of_exactly_a_chunk_are_whole() {
    let (_, _, world) = recorded(&[]).await;
    let dir = tempdir();
    let fs = world.create(dir.path());
    fs.write("empty", 0, b"").unwrap();
    fs.write("chunk", 0, &bytes(1, CHUNK)).unwrap();
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    let diff = world.diff(&World::key(1)).await;
    let whole = |bytes: &[u8]| Content::Whole(ContentHash::of(bytes));
    let found: Vec<_> = diff
        .changes()
        .map(|(path, change)| {
            let file = change.as_put().unwrap().as_file().unwrap().clone();
            (path.to_string(), file.content)
        })
        .collect();
    assert_eq!(
        found,
        [
            ("chunk".to_owned(), whole(&bytes(1, CHUNK))),
            ("empty".to_owned(), whole(b""))
        ]
    );
    world.assert_readable(&fs.show(CUT).await).await;
}
