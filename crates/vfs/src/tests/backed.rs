//! Inputs that the kernel reads by itself, from their objects in the disk cache: which are offered, and what happens when one of
//! them is written.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use attachfs_durable::CacheDir;
use attachfs_fetch::FetchOptions;
use attachfs_manifest::ContentHash;
use tempfile::TempDir;

use super::serving::now;
use super::world::{Given, Kernel, READ, READ_WRITE, World, bytes, seeded, tempdir};
use crate::serving::SHORTEST_BACKED;
use crate::{
    Access, Backing, Entry, FileAttr, FileSystem, Found, FsErrorKind, HandleId, Invalidation,
    NodeId, OpenedFile, Released, SetAttr, Vfs,
};

const LONG: usize = SHORTEST_BACKED as usize;

/// A file system whose inputs were all read once: a file of one object, a shorter one, and one of two objects.
struct Cached {
    world: World,
    dir: TempDir,
    cache: TempDir,
    kernel: Kernel,
}

impl Cached {
    fn new() -> Self {
        Self::with(FetchOptions::default())
    }

    fn with(options: FetchOptions) -> Self {
        let world = World::in_chunks(
            2 * LONG as u64,
            &[
                ("long", Given::File(bytes(LONG))),
                ("short", Given::File(bytes(LONG - 1))),
                ("two", Given::File(seeded(5, 3 * LONG))),
            ],
        );
        let (dir, cache) = (tempdir(), tempdir());
        let kernel = world.create_caching(&dir.path().join("session"), cache.path(), options);
        let cached = Self {
            world,
            dir,
            cache,
            kernel,
        };
        cached.read_all();
        cached.serve();
        cached
    }

    /// Reads everything, so that the cache has it.
    fn read_all(&self) {
        for (name, len) in [("long", LONG), ("short", LONG - 1), ("two", 3 * LONG)] {
            assert_eq!(self.kernel.cat(name).len(), len);
        }
        assert!(self.kernel.vfs.fetcher().disk().unwrap().flush());
    }

    fn serve(&self) {
        // What is told is not looked at.
        drop(self.kernel.attach());
    }

    fn vfs(&self) -> &Vfs {
        &self.kernel.vfs
    }

    fn entry(&self, name: &str) -> Entry {
        let lookup =
            |reply| FileSystem::lookup(self.vfs(), NodeId::ROOT, name.as_bytes(), || None, reply);
        now::<Found>(lookup).unwrap().entry.unwrap()
    }

    fn node(&self, name: &str) -> NodeId {
        self.entry(name).node
    }

    fn open(
        &self,
        node: NodeId,
        access: Access,
        truncate: bool,
    ) -> Result<OpenedFile, FsErrorKind> {
        let open = |reply| FileSystem::open(self.vfs(), node, access, truncate, reply);
        now(open).map_err(|error| error.kind())
    }

    fn open_to_read(&self, node: NodeId) -> OpenedFile {
        self.open(node, READ, false).unwrap()
    }

    /// Opens for reading, as the kernel does that takes what it is offered.
    fn taken(&self, node: NodeId) -> HandleId {
        let opened = self.open_to_read(node);
        assert!(take(&opened.backing.unwrap()));
        opened.handle
    }

    fn close(&self, handle: HandleId) {
        now::<Released>(|reply| FileSystem::release(self.vfs(), handle, reply)).unwrap();
    }

    fn attr(&self, node: NodeId) -> Result<FileAttr, FsErrorKind> {
        let attr = now(|reply| FileSystem::getattr(self.vfs(), node, reply));
        attr.map_err(|error| error.kind())
    }

    fn cut(&self, node: NodeId, len: u64) -> Result<FileAttr, FsErrorKind> {
        let set = SetAttr {
            size: Some(len),
            ..SetAttr::default()
        };
        let set = now(|reply| FileSystem::setattr(self.vfs(), node, set, reply));
        set.map_err(|error| error.kind())
    }
}

/// The kernel takes a file, unless it cannot any more. Whether it has it.
fn take(backing: &Backing) -> bool {
    backing.taken_by(|_| Some(())).is_some()
}

fn content(file: &File, len: usize) -> Vec<u8> {
    attachfs_durable::read_range(file, 0..len as u64 + 1)
        .unwrap()
        .to_vec()
}

/// The file of `long` in a cache directory.
fn object(cache: &Path) -> PathBuf {
    let objects = CacheDir::new(cache).objects([1; 16]).unwrap();
    objects.path(*ContentHash::of(&bytes(LONG)).as_bytes())
}

#[test]
fn an_input_that_lies_complete_in_the_cache_is_offered_and_a_short_or_cut_one_is_not() {
    let cached = Cached::new();
    let [first, second] = [0, 1].map(|_| cached.open_to_read(cached.node("long")).backing.unwrap());
    assert!(Arc::ptr_eq(&first, &second), "all who open it get the same");
    first
        .taken_by(|file| {
            assert_eq!(content(file, LONG), bytes(LONG));
            Some(())
        })
        .unwrap();
    for not in ["short", "two"] {
        assert!(cached.open_to_read(cached.node(not)).backing.is_none());
    }
    assert!(take(&second));
    assert_eq!(cached.vfs().counters().passthrough_opens, 2);
}

/// Writes into the file of `long` in the cache, as nobody should.
fn damage(cached: &Cached) {
    let mut options = File::options();
    let file = options
        .write(true)
        .open(object(cached.cache.path()))
        .unwrap();
    attachfs_durable::write_all_at(&file, b"?", 7).unwrap();
}

#[test]
fn a_cached_file_that_was_changed_while_the_kernel_reads_it_is_not_opened_again_and_is_told() {
    let cached = Cached::new();
    let told = Arc::new(AtomicUsize::new(0));
    let hear = Arc::clone(&told);
    cached.vfs().fetcher().on_doubt(move |doubt| {
        assert!(doubt.was_given && doubt.found.is_some());
        hear.fetch_add(1, Ordering::Relaxed);
    });
    let node = cached.node("long");
    let reader = cached.taken(node);
    cached.close(cached.taken(node));
    damage(&cached);
    for _ in 0..2 {
        assert_eq!(cached.open(node, READ, false).unwrap_err(), FsErrorKind::Io);
    }
    assert_eq!(told.load(Ordering::Relaxed), 1);
    cached.close(reader);
    // Once nobody has it open, its right bytes are fetched again.
    assert!(cached.open_to_read(node).backing.is_none());
}

#[test]
fn a_cached_file_that_was_changed_while_the_kernel_read_it_is_told_when_it_is_closed() {
    let cached = Cached::new();
    let told = Arc::new(AtomicUsize::new(0));
    let hear = Arc::clone(&told);
    cached.vfs().fetcher().on_doubt(move |_| {
        hear.fetch_add(1, Ordering::Relaxed);
    });
    let reader = cached.taken(cached.node("long"));
    damage(&cached);
    cached.close(reader);
    assert_eq!(told.load(Ordering::Relaxed), 1);
}

#[test]
fn a_cached_file_that_lost_its_name_or_is_used_by_another_mount_is_still_right() {
    let cached = Cached::new();
    let node = cached.node("long");
    let reader = cached.taken(node);
    let file = object(cached.cache.path());
    attachfs_durable::set_modified(&File::options().write(true).open(&file).unwrap(), 1000, 0)
        .unwrap();
    cached.close(cached.taken(node));
    std::fs::remove_file(&file).unwrap();
    cached.close(cached.taken(node));
    cached.close(reader);
}

#[test]
fn nothing_is_offered_where_each_byte_is_verified_first_or_nobody_has_a_use_for_it() {
    let strict = Cached::with(FetchOptions {
        verifies_first: true,
        ..FetchOptions::default()
    });
    let node = strict.node("long");
    assert!(strict.open_to_read(node).backing.is_none());

    let cached = Cached::new();
    let _runtime = super::serving::serve(cached.vfs());
    let node = cached.node("long");
    assert!(cached.open_to_read(node).backing.is_none());
}

#[test]
fn a_damaged_object_is_not_offered_and_neither_is_one_that_is_not_there() {
    for damage in [
        |path: &Path| std::fs::write(path, vec![7; LONG]).unwrap(),
        |path: &Path| std::fs::write(path, &bytes(LONG)[1..]).unwrap(),
        |path: &Path| std::fs::remove_file(path).unwrap(),
    ] {
        let cached = Cached::new();
        let node = cached.node("long");
        // As the cache has it: hashed once, and believed from then on.
        let opened = cached.open_to_read(node);
        assert!(opened.backing.is_some());
        cached.close(opened.handle);
        damage(&object(cached.cache.path()));
        assert!(cached.open_to_read(node).backing.is_none());
        assert_eq!(cached.kernel.cat("long"), bytes(LONG));
    }
}

#[test]
fn how_a_file_is_read_is_decided_by_its_first_open_and_holds_until_its_last_close() {
    let cached = Cached::new();
    let node = cached.node("long");
    let object = object(cached.cache.path());
    let hidden = object.with_extension("hidden");
    std::fs::rename(&object, &hidden).unwrap();
    let first = cached.open_to_read(node);
    assert!(first.backing.is_none());
    std::fs::rename(&hidden, &object).unwrap();
    let second = cached.open_to_read(node);
    assert!(second.backing.is_none());
    cached.close(first.handle);
    let third = cached.open_to_read(node);
    assert!(third.backing.is_none());
    cached.close(second.handle);
    cached.close(third.handle);
    assert!(cached.open_to_read(node).backing.is_some());
}

#[test]
fn an_input_that_the_kernel_reads_gets_another_node_when_it_is_written_and_keeps_its_number() {
    let cached = Cached::new();
    let before = cached.entry("long");
    let reader = cached.taken(before.node);

    assert_eq!(
        cached.open(before.node, READ_WRITE, false).unwrap_err(),
        FsErrorKind::Moved
    );
    let now = cached.entry("long");
    assert_ne!(now.node, before.node);
    assert_eq!(now.attr, before.attr);
    let writer = cached.open(now.node, READ_WRITE, false).unwrap();
    assert!(writer.backing.is_none());
    assert_eq!(
        cached.kernel.write(writer.handle, LONG as u64, b"more"),
        Ok(4)
    );

    // The reader has what it had, new ones see what was written.
    assert_eq!(cached.attr(before.node).unwrap().size, LONG as u64);
    let after = cached.attr(now.node).unwrap();
    assert_eq!((after.size, after.ino), (LONG as u64 + 4, before.attr.ino));
    assert_eq!(cached.kernel.cat("long")[LONG..], *b"more");
    for access in [READ, READ_WRITE] {
        let again = cached.open(before.node, access, false);
        assert_eq!(again.unwrap_err(), FsErrorKind::Moved);
    }
    assert!(cached.open_to_read(now.node).backing.is_none());
    cached.close(reader);
    assert_eq!(cached.attr(before.node).unwrap_err(), FsErrorKind::Moved);
    assert_eq!(cached.entry("long").node, now.node);
}

#[test]
fn an_input_that_the_kernel_reads_gets_another_node_when_it_is_emptied_or_cut() {
    for by_path in [false, true] {
        let cached = Cached::new();
        let node = cached.node("long");
        let _reader = cached.taken(node);
        let empty = |node| {
            if by_path {
                cached.cut(node, 0).map(drop)
            } else {
                cached.open(node, READ_WRITE, true).map(drop)
            }
        };
        assert_eq!(empty(node), Err(FsErrorKind::Moved));
        let second = cached.node("long");
        assert_eq!(empty(second), Ok(()));
        assert_eq!(cached.kernel.cat("long"), b"");
        assert_eq!(cached.attr(node).unwrap().size, LONG as u64);
        // Modes and times are the file's, by whichever node they are set.
        let set = SetAttr {
            mode: Some(0o600),
            ..SetAttr::default()
        };
        let set = |reply| FileSystem::setattr(cached.vfs(), node, set, reply);
        assert_eq!(now(set).unwrap().size, LONG as u64);
        assert_eq!(cached.attr(second).unwrap().perm, 0o600);
    }
}

#[test]
fn the_close_of_an_old_node_is_no_close_of_the_writer() {
    let cached = Cached::new();
    let node = cached.node("long");
    let reader = cached.taken(node);
    let opens = || {
        let account = cached.vfs().input_account(10);
        let mut read = account.most_read.into_iter();
        read.find(|file| file.path == "long").unwrap().opens
    };
    let before = opens();
    let moved = cached.open(node, READ_WRITE, false).map(|_| ());
    assert_eq!(moved.unwrap_err(), FsErrorKind::Moved);
    assert_eq!(opens(), before, "it is opened again by its other node");
    let writer = cached.open(cached.node("long"), READ_WRITE, true).unwrap();
    let emptied = || {
        !cached
            .vfs()
            .overlay
            .as_ref()
            .unwrap()
            .emptied
            .lock()
            .is_empty()
    };
    assert!(emptied());
    cached.close(reader);
    assert!(emptied(), "that is left to the writer's close");
    cached.close(writer.handle);
    assert!(!emptied());
}

#[test]
fn attributes_that_are_set_by_one_node_are_asked_for_again_by_the_other() {
    let cached = Cached::new();
    let told = cached.kernel.attach_silently();
    let first = cached.node("long");
    let _reader = cached.taken(first);
    let set = |node, perm: u32| {
        let set = SetAttr {
            mode: Some(perm),
            ..SetAttr::default()
        };
        now(|reply| FileSystem::setattr(cached.vfs(), node, set, reply)).unwrap();
        let told = told.try_iter().filter_map(|told| match told {
            Invalidation::Attributes { node } => Some(node),
            _ => None,
        });
        told.collect::<Vec<_>>()
    };
    assert_eq!(set(first, 0o640), [], "there is one node");
    cached.open(first, READ_WRITE, false).unwrap_err();
    let second = cached.node("long");
    assert_eq!(set(first, 0o600), [second]);
    assert_eq!(set(second, 0o400), [first]);
    for node in [first, second] {
        assert_eq!(cached.attr(node).unwrap().perm, 0o400);
    }
}

#[test]
fn the_kernel_is_told_that_the_names_of_a_written_input_lead_elsewhere() {
    let cached = Cached::new();
    let told = cached.kernel.attach();
    cached.kernel.link("long", "linked").unwrap();
    let node = cached.node("long");
    let _reader = cached.taken(node);
    assert!(Kernel::told(&told).is_empty());
    cached.open(node, READ_WRITE, false).unwrap_err();
    let mut names = std::collections::BTreeSet::new();
    while names.len() < 2 {
        if let Invalidation::Name { parent, name, .. } = told.recv().unwrap() {
            assert_eq!(parent, NodeId::ROOT);
            names.insert(name.to_string());
        }
    }
    assert_eq!(cached.node("linked"), cached.node("long"));
}

#[test]
fn an_input_is_written_in_place_unless_the_kernel_reads_it() {
    let cached = Cached::new();
    let node = cached.node("long");
    // It is offered, and the kernel has not taken it yet.
    let reader = cached.open_to_read(node);
    let writer = cached.open(node, READ_WRITE, false).unwrap();
    assert!(writer.backing.is_none());
    assert!(!take(&reader.backing.unwrap()), "it is too late");
    cached.kernel.write(writer.handle, 0, b"new").unwrap();
    assert_eq!(cached.kernel.read(reader.handle, 0, 3).unwrap(), b"new");
    assert_eq!(cached.node("long"), node);
    assert_eq!(cached.cut(node, 2).unwrap().size, 2);

    let cached = Cached::new();
    let node = cached.node("long");
    let reader = cached.taken(node);
    cached.close(reader);
    assert_eq!(cached.cut(node, 5).unwrap().size, 5);
    assert_eq!(cached.node("long"), node);
}

#[test]
fn a_file_without_a_name_is_kept_as_long_as_the_kernel_knows_either_of_its_nodes() {
    let cached = Cached::new();
    let first = cached.node("long");
    let reader = cached.taken(first);
    cached.open(first, READ_WRITE, false).unwrap_err();
    let second = cached.node("long");
    let writer = cached.open(second, READ_WRITE, false).unwrap();
    cached.kernel.unlink("long").unwrap();
    cached.close(writer.handle);
    FileSystem::forget(cached.vfs(), second, u64::MAX);
    assert_eq!(cached.attr(first).unwrap().nlink, 0);
    cached.close(reader);
    assert_eq!(cached.attr(second).unwrap().nlink, 0);
    FileSystem::forget(cached.vfs(), first, u64::MAX);
    assert_eq!(cached.attr(second).unwrap_err(), FsErrorKind::NotFound);
}

#[test]
fn what_was_written_while_the_kernel_read_survives_the_process() {
    let cached = Cached::new();
    let first = cached.node("long");
    let _reader = cached.taken(first);
    cached.open(first, READ_WRITE, false).unwrap_err();
    let writer = cached.open(cached.node("long"), READ_WRITE, false).unwrap();
    cached.kernel.write(writer.handle, 1, b"kept").unwrap();
    let (_copy, recovered) = cached.world.after_kill(&cached.dir.path().join("session"));
    assert_eq!(
        recovered.cat("long")[..6],
        [&bytes(1), &b"kept"[..], &bytes(6)[5..]].concat()
    );
}
