//! Several commits of one session: each diff applies to the result of the one before.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::Arc;

use attachfs_manifest::wire::{Format, encode_diff, encode_snapshot};
use attachfs_manifest::{ContentHash, LinkTarget, ManifestPath, Node, Snapshot};
use attachfs_store::record::RecordStore;
use attachfs_store::{CallKind, MemoryStore};
use attachfs_tree::{Layer, LayerOptions, compose};
use proptest::prelude::*;

use crate::generations::encode_total;
use crate::testing::{CHUNK, CUT, Fs, Given, World, bytes, committed, path, tempdir};
use crate::{CommitError, CommitOptions, Committed, uncommitted};

const NAMES: [&str; 9] = ["a", "b", "d", "e", "d/a", "d/b", "d/e", "d/e/a", "e/a"];
/// Targets of links. Some are in directories that appear, disappear, or never exist.
const TARGETS: [&str; 7] = [".", "a", "b/x", "d/e/x", "e/x/y", "n/x", "a/b/e"];

#[derive(Debug, Clone)]
enum Op {
    Write(&'static str, u64, usize, u8),
    Truncate(&'static str, u64),
    Chmod(&'static str, u32),
    Mkdir(&'static str),
    Rmdir(&'static str),
    Unlink(&'static str),
    Rename(&'static str, &'static str),
    Link(&'static str, &'static str),
    Symlink(&'static str, &'static str),
    /// Commit.
    Commit,
    /// The process is killed and its session taken over.
    Kill,
}

fn any_op() -> impl Strategy<Value = Op> {
    let name = || prop::sample::select(NAMES.to_vec());
    let offset = || prop_oneof![0..40u64, 990..1010u64, 1990..2600u64];
    prop_oneof![
        8 => (name(), offset(), 0..60usize, 0..3u8).prop_map(|(at, offset, len, byte)| Op::Write(at, offset, len, byte)),
        3 => (name(), offset()).prop_map(|(at, size)| Op::Truncate(at, size)),
        1 => (name(), prop_oneof![Just(0o600), Just(0o755)]).prop_map(|(at, mode)| Op::Chmod(at, mode)),
        2 => name().prop_map(Op::Mkdir),
        1 => name().prop_map(Op::Rmdir),
        3 => name().prop_map(Op::Unlink),
        5 => (name(), name()).prop_map(|(from, to)| Op::Rename(from, to)),
        1 => (name(), name()).prop_map(|(from, to)| Op::Link(from, to)),
        3 => (name(), prop::sample::select(TARGETS.to_vec())).prop_map(|(at, to)| Op::Symlink(at, to)),
        2 => Just(Op::Commit),
        1 => Just(Op::Kill),
    ]
}

impl Op {
    /// Runs the operation, which may fail.
    fn apply(&self, fs: &Fs) {
        let done = match *self {
            Self::Write(at, offset, len, byte) => fs.write(at, offset, &vec![byte; len]),
            Self::Truncate(at, size) => fs.truncate(at, size),
            Self::Chmod(at, mode) => match fs.stat(at) {
                Ok(attr) if attr.kind == attachfs_tree::Kind::File => fs.chmod(at, mode),
                _ => Ok(()),
            },
            Self::Mkdir(at) => fs.mkdir(at),
            Self::Rmdir(at) => fs.rmdir(at),
            Self::Unlink(at) => fs.unlink(at),
            Self::Rename(from, to) => fs.rename(from, to),
            Self::Link(from, to) => fs.link(from, to),
            Self::Symlink(at, to) => fs.symlink(at, to),
            Self::Commit | Self::Kill => Ok(()),
        };
        let _ = done;
    }
}

fn base() -> Vec<(&'static str, Given)> {
    vec![
        ("a", Given::File(bytes(1, 2500))),
        ("b", Given::File(bytes(2, 10))),
        ("d/a", Given::File(bytes(3, CHUNK))),
        ("d/e/a", Given::File(Vec::new())),
        ("e", Given::Dir),
    ]
}

/// All published manifests over the base, as a reader composes them.
async fn composed(world: &World, generations: u32) -> (Snapshot, ContentHash) {
    let mut layers = vec![Layer::decode(&world.manifest(), None).unwrap()];
    for generation in 1..=generations {
        let bytes = world.store.get_manifest(&World::key(generation)).await;
        layers.push(Layer::decode(&bytes.unwrap().bytes, None).unwrap());
    }
    let composed = compose(layers, &LayerOptions::default()).unwrap();
    (composed.snapshot, composed.hash)
}

/// The file system as readers of its manifests have it: with the directories above the targets of
/// links, as far as they are in `made`.
fn as_read(shown: &Snapshot, made: &Snapshot) -> Snapshot {
    let mut entries: BTreeMap<_, _> = owned(shown).collect();
    for (_, node) in owned(shown) {
        if let Node::Symlink(LinkTarget::Below(target)) = node {
            let above = target.ancestors();
            let above = above.filter(|path| made.get(path) == Some(Node::Dir));
            for path in above {
                entries.entry(path).or_insert(Node::Dir);
            }
        }
    }
    Snapshot::new(CUT, None, entries).unwrap()
}

fn owned(snapshot: &Snapshot) -> impl Iterator<Item = (ManifestPath, Node)> {
    let entries = snapshot.entries();
    entries.map(|(path, node)| (path.to_owned(), node))
}

async fn check(ops: Vec<Op>) -> Result<(), TestCaseError> {
    let dirs = [tempdir(), tempdir()];
    let mut dir = dirs[0].path().join("session");
    let world = World::new(Arc::new(MemoryStore::new()), CUT, &base()).await;
    let mut fs = world.create(&dir);
    let mut generations = 0;
    let mut last = world.snapshot.clone();
    for (number, op) in ops.into_iter().chain([Op::Commit]).enumerate() {
        match op {
            Op::Kill => {
                let next = dirs[1].path().join(number.to_string());
                crate::testing::copy_dir(&dir, &next);
                dir = next;
                fs = world.recover(&dir);
            }
            Op::Commit => {
                let shown = fs.show(CUT).await;
                let (_, parent) = composed(&world, generations).await;
                let outcome = committed(&world, &fs, &CommitOptions::default()).await;
                let published = outcome.unwrap().published;
                if shown == last {
                    prop_assert_eq!(&published, &None);
                }
                if published.is_some() {
                    generations += 1;
                    let diff = world.diff(&World::key(generations)).await;
                    prop_assert_eq!(diff.parent(), Some(parent));
                    prop_assert_eq!(uncommitted(&fs.session, &[]).await.unwrap().paths, 0);
                }
                let (made, _) = composed(&world, generations).await;
                prop_assert_eq!(&made, &as_read(&shown, &made));
                last = shown;
            }
            op => op.apply(&fs),
        }
    }
    world.assert_readable(&last).await;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_base_and_all_diffs_are_what_the_file_system_shows(ops in prop::collection::vec(any_op(), 1..50)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        runtime.block_on(check(ops))?;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_parent_of_a_diff_knows_the_layer_that_was_added_before_it() {
    for commits_before in [false, true] {
        let world = World::new(Arc::new(MemoryStore::new()), CUT, &base()).await;
        let dir = tempdir();
        let fs = world.create(dir.path());
        if commits_before {
            fs.write("new", 0, b"1").unwrap();
            let first = committed(&world, &fs, &CommitOptions::default()).await;
            assert!(first.unwrap().published.is_some());
        }
        let (_, file) = owned(&world.snapshot)
            .find(|(_, node)| matches!(node, Node::File(_)))
            .unwrap();
        let with_added = owned(&world.snapshot).chain([(path("added"), file)]);
        let with_added = Snapshot::new(CUT, None, with_added).unwrap();
        let layer = with_added.diff(&world.snapshot, None);
        fs.vfs.add_layer(&layer).unwrap();
        let before = encode_snapshot(&fs.show(CUT).await, Format::V2025_12).unwrap();
        fs.write("more", 0, b"2").unwrap();
        let second = committed(&world, &fs, &CommitOptions::default()).await;
        assert!(second.unwrap().published.is_some());
        let diff = world.diff(&World::key(1 + u32::from(commits_before))).await;
        assert_eq!(diff.parent(), Some(ContentHash::of(&before)));
        assert_eq!(diff.len(), 1, "what was added is no change of the job's");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_parent_of_a_second_diff_is_the_hash_of_the_first_result() {
    let world = World::new(Arc::new(MemoryStore::new()), CUT, &base()).await;
    let dir = tempdir();
    let fs = world.create(dir.path());
    fs.write("new", 0, b"1").unwrap();
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    let after_first = encode_snapshot(&fs.show(CUT).await, Format::V2025_12).unwrap();
    fs.unlink("new").unwrap();
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    let diff = world.diff(&World::key(2)).await;
    assert_eq!(diff.parent(), Some(ContentHash::of(&after_first)));
    assert_eq!(diff.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_commit_looks_only_at_what_changed_since_the_first() {
    let store = Arc::new(RecordStore::new(Arc::new(MemoryStore::new())));
    let world = World::new(store.clone(), CUT, &base()).await;
    let dir = tempdir();
    let fs = world.create(dir.path());
    for number in 0..20 {
        fs.write(&format!("f{number}"), 0, &[number]).unwrap();
    }
    fs.write("a", 5, b"x").unwrap();
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    assert_eq!(uncommitted(&fs.session, &[]).await.unwrap().paths, 0);
    store.clear();
    let nothing = committed(&world, &fs, &CommitOptions::default()).await;
    assert_eq!(nothing.unwrap().published, None);
    assert_eq!(store.calls(), []);

    fs.write("f7", 0, b"again").unwrap();
    fs.rename("f8", "moved").unwrap();
    assert_eq!(uncommitted(&fs.session, &[]).await.unwrap().paths, 3);
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    assert_eq!(store.count(CallKind::Put), 1, "f7");
    assert_eq!(store.count(CallKind::Head), 2, "f7 and moved");
    assert_eq!(store.count(CallKind::Get), 0, "a is not put together again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_the_store_lost_is_sent_again_with_its_next_change() {
    let memory = Arc::new(MemoryStore::new());
    let world = World::new(memory.clone(), CUT, &base()).await;
    let dir = tempdir();
    let fs = world.create(dir.path());
    fs.write("new", 0, b"lost").unwrap();
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    assert!(memory.remove(ContentHash::of(b"lost")));
    fs.rename("new", "moved").unwrap();
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    assert!(memory.objects().contains(&ContentHash::of(b"lost")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncation_that_did_not_reach_the_scratch_file_is_still_a_change() {
    let world = World::new(Arc::new(MemoryStore::new()), CUT, &base()).await;
    let dir = tempdir();
    let fs = world.create(dir.path());
    fs.write("a", 5, b"x").unwrap();
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    // Killed after the record and before the scratch file was shortened.
    let scratch = std::fs::read_dir(dir.path().join("scratch"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let before = std::fs::read(&scratch).unwrap();
    fs.truncate("a", 2).unwrap();
    std::fs::write(&scratch, before).unwrap();
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    let (made, _) = composed(&world, 2).await;
    assert_eq!(made, fs.show(CUT).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_result_of_a_commit_is_checked_when_it_is_read() {
    let world = World::new(Arc::new(MemoryStore::new()), CUT, &base()).await;
    let dir = tempdir();
    let fs = world.create(dir.path());
    fs.write("new", 0, b"1").unwrap();
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    fs.write("new", 0, b"2").unwrap();
    let total = dir.path().join("commits/1.total");
    let sound = std::fs::read(&total).unwrap();
    let mut damaged = sound.clone();
    *damaged.last_mut().unwrap() ^= 1;
    for bytes in [&damaged[..], &sound[..20], b""] {
        std::fs::write(&total, bytes).unwrap();
        let error = committed(&world, &fs, &CommitOptions::default()).await;
        assert!(matches!(error, Err(CommitError::Damaged(_))), "{error:?}");
    }
    std::fs::write(&total, sound).unwrap();
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_at_the_same_time_run_one_after_the_other() {
    let world = World::new(Arc::new(MemoryStore::new()), CUT, &base()).await;
    let dir = tempdir();
    let fs = world.create(dir.path());
    fs.write("new", 0, b"1").unwrap();
    let options = CommitOptions::default();
    let (one, two) = tokio::join!(
        committed(&world, &fs, &options),
        committed(&world, &fs, &options)
    );
    let published = [one, two].map(|outcome| outcome.unwrap().published.is_some());
    assert_eq!(published.iter().filter(|&&published| published).count(), 1);
    assert_eq!(fs.vfs.commits().len(), 2, "one intent, one end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_may_replace_the_former_target_of_a_link() {
    let world = World::new(Arc::new(MemoryStore::new()), CUT, &base()).await;
    let dir = tempdir();
    let fs = world.create(dir.path());
    fs.symlink("l", "new/sub/x").unwrap();
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    let (made, _) = composed(&world, 1).await;
    assert_eq!(made.get(&path("new/sub")), Some(Node::Dir));
    assert_eq!(uncommitted(&fs.session, &[]).await.unwrap().paths, 0);
    fs.unlink("l").unwrap();
    fs.write("new", 0, b"f").unwrap();
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    let (made, _) = composed(&world, 2).await;
    assert_eq!(made, fs.show(CUT).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_link_may_lead_nowhere_and_a_file_may_come_there() {
    let world = World::new(Arc::new(MemoryStore::new()), CUT, &base()).await;
    let dir = tempdir();
    let fs = world.create(dir.path());
    fs.symlink("d/l", "e/a").unwrap();
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    // The target is "e/a" from now on, below an empty directory that is removed.
    fs.rename("d/l", "l").unwrap();
    fs.rmdir("e").unwrap();
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    fs.unlink("l").unwrap();
    fs.write("e", 0, b"f").unwrap();
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    let (made, _) = composed(&world, 3).await;
    assert_eq!(made, fs.show(CUT).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_readers_could_not_use_is_not_published() {
    let memory = Arc::new(MemoryStore::new());
    let world = World::new(memory.clone(), CUT, &base()).await;
    let dir = tempdir();
    let fs = world.create(dir.path());
    fs.symlink("l", "new/x").unwrap();
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    // The session's record of its commit differs from what readers have.
    let link = fs.show(CUT).await.get(&path("l"));
    let total = encode_total(&[(path("l"), link)].into());
    std::fs::write(dir.path().join("commits/1.total"), total).unwrap();
    fs.unlink("l").unwrap();
    fs.write("new", 0, b"f").unwrap();
    let before = fs.vfs.commits();
    let error = committed(&world, &fs, &CommitOptions::default()).await;
    let Err(CommitError::Unreadable(source)) = error else {
        panic!("{error:?}")
    };
    let why = source.source().unwrap().to_string();
    assert!(why.contains("\"new\""), "{why}");
    assert_eq!((fs.vfs.commits(), memory.manifests().len()), (before, 1));

    // Readers would have a file that the session takes for deleted.
    let total = encode_total(&[(path("b"), None)].into());
    std::fs::write(dir.path().join("commits/1.total"), total).unwrap();
    fs.unlink("new").unwrap();
    fs.unlink("b").unwrap();
    fs.write("f", 0, b"f").unwrap();
    let error = committed(&world, &fs, &CommitOptions::default()).await;
    let Err(CommitError::Differs(paths)) = error else {
        panic!("{error:?}")
    };
    assert_eq!(paths, [path("b"), path("l"), path("new")]);
    assert_eq!(memory.manifests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_earlier_manifest_stops_the_next_commit() {
    let world = World::new(Arc::new(MemoryStore::new()), CUT, &base()).await;
    let dir = tempdir();
    let fs = world.create(dir.path());
    fs.write("new", 0, b"1").unwrap();
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    fs.write("new", 0, b"2").unwrap();
    std::fs::write(dir.path().join("commits/1.manifest"), "{}").unwrap();
    let error = committed(&world, &fs, &CommitOptions::default()).await;
    let error = error.unwrap_err();
    assert!(error.to_string().contains("1.manifest"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_made_again_above_an_output_directory_exists_for_readers() {
    let base = [
        ("a/other", Given::File(bytes(1, 10))),
        ("a/out/old", Given::File(bytes(2, 10))),
    ];
    let world = World::new(Arc::new(MemoryStore::new()), CUT, &base).await;
    let dir = tempdir();
    let fs = world.create(dir.path());
    for gone in ["a/out/old", "a/other"] {
        fs.unlink(gone).unwrap();
    }
    fs.rmdir("a/out").unwrap();
    fs.rmdir("a").unwrap();
    fs.write("a", 0, b"file").unwrap();
    committed(&world, &fs, &CommitOptions::default())
        .await
        .unwrap();
    fs.unlink("a").unwrap();
    fs.mkdir("a").unwrap();
    fs.mkdir("a/out").unwrap();
    fs.write("a/out/new", 0, b"f").unwrap();
    let only = CommitOptions {
        output_dirs: vec![path("a/out")],
        ..CommitOptions::default()
    };
    committed(&world, &fs, &only).await.unwrap();
    let (made, _) = composed(&world, 2).await;
    assert_eq!(made, fs.show(CUT).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_go_on_after_a_layer_was_added_that_does_not_fit_the_earlier_ones() {
    for starts_over in [false, true] {
        let world = World::new(Arc::new(MemoryStore::new()), CUT, &base()).await;
        let mut added: BTreeMap<_, _> = owned(&world.snapshot).collect();
        // The layer deletes what the job deleted, too; or it has a file where the job's file lies in a directory.
        let file = added.remove(&path("a")).unwrap();
        if starts_over {
            added.insert(path("e"), file);
        }
        let added = Snapshot::new(CUT, None, added).unwrap();
        let dir = tempdir();
        let fs = world.create(dir.path());
        fs.unlink("a").unwrap();
        fs.write("e/file", 0, b"1").unwrap();
        let commit = async || {
            let outcome = committed(&world, &fs, &CommitOptions::default()).await;
            outcome.unwrap().published.unwrap().committed
        };
        let first = commit().await;
        let layer = added.diff(&world.snapshot, None);
        fs.vfs.add_layer(&layer).unwrap();
        fs.write("more", 0, b"2").unwrap();
        let second = commit().await;
        fs.write("e/file", 0, b"3").unwrap();
        let third = commit().await;
        let published = async |commit: &Committed| {
            let manifest = world.store.get_manifest(&commit.key).await;
            manifest.unwrap().bytes.to_vec()
        };
        let layer = encode_diff(&layer, Format::V2025_12).unwrap();
        let composed = |manifests: &[&Vec<u8>]| {
            let below = [&world.manifest(), &layer];
            let all = below.iter().chain(manifests);
            let layers = all.map(|bytes| Layer::decode(bytes, None).unwrap());
            let options = LayerOptions {
                ignore_parent: true,
                ..LayerOptions::default()
            };
            compose(layers.collect(), &options).unwrap()
        };
        let [first, second, third] = [
            published(&first).await,
            published(&second).await,
            published(&third).await,
        ];
        let parent = world.diff(&World::key(2)).await.parent();
        let earlier: &[&Vec<u8>] = if starts_over { &[] } else { &[&first] };
        assert_eq!(parent, Some(composed(earlier).hash));
        let read = composed(&[earlier, &[&second, &third]].concat()).snapshot;
        let shown = fs.show(CUT).await;
        assert!(owned(&read).eq(owned(&shown)), "{read:?} {shown:?}");
        assert_eq!(uncommitted(&fs.session, &[]).await.unwrap().paths, 0);
    }
}
