//! Mounts of a file system that is not a `Vfs`: what the adapter does for any file system.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use attachfs_manifest::Name;
use attachfs_vfs::{FsErrorKind, Invalidation, NodeId};
use rustix::io::Errno;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{errno, names};
use crate::testing::lazy::{Item, LazyTree};
use crate::testing::{PATIENCE, can_mount};
use crate::{FastPath, MountOptions, Mounted, Unmount, mount};

struct Lazy {
    tree: Arc<LazyTree>,
    dir: TempDir,
    mounted: Mounted,
    _runtime: Runtime,
}

impl Lazy {
    fn mount(tree: LazyTree) -> Option<Self> {
        if !can_mount() {
            return None;
        }
        let (tree, dir) = (Arc::new(tree), tempfile::tempdir().unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let options = MountOptions {
            mount_point: dir.path().to_owned(),
            allow_other: false,
            fast_path: FastPath::Passthrough,
            runtime: runtime.handle().clone(),
            session: None,
        };
        let mounted = mount(tree.clone(), &options).unwrap();
        Some(Self {
            tree,
            dir,
            mounted,
            _runtime: runtime,
        })
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn unmount(&self) {
        self.mounted.unmount(Unmount::IfUnused, PATIENCE).unwrap();
        assert!(!self.tree.has_adapter());
    }
}

/// Waits for an effect of another thread.
fn until(what: &str, holds: impl Fn() -> bool) {
    let late = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < late, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn items(path: &str) -> Vec<(&'static str, Item)> {
    match path {
        "" => vec![("d", Item::Dir), ("f", Item::File(b"file".to_vec()))],
        "d" => vec![("e", Item::Dir), ("a", Item::File(b"aa".to_vec()))],
        "d/e" => vec![("deep", Item::File(b"deep".to_vec()))],
        _ => panic!("{path} is no directory"),
    }
}

#[test]
fn a_directory_is_listed_when_it_is_read() {
    let listed = Arc::new(Mutex::new(Vec::new()));
    let heard = listed.clone();
    let Some(lazy) = Lazy::mount(LazyTree::new(move |path| {
        heard.lock().unwrap().push(path.to_owned());
        Ok(items(path))
    })) else {
        return;
    };
    assert_eq!(fs::read(lazy.at("f")).unwrap(), b"file");
    assert_eq!(*listed.lock().unwrap(), [""]);
    assert_eq!(names(&lazy.at("d")), ["a", "e"]);
    assert_eq!(fs::read(lazy.at("d/e/deep")).unwrap(), b"deep");
    assert_eq!(fs::metadata(lazy.at("d/a")).unwrap().len(), 2);
    assert_eq!(*listed.lock().unwrap(), ["", "d", "d/e"]);
    assert_eq!(errno(fs::metadata(lazy.at("d/none"))), Some(Errno::NOENT));
    assert_eq!(errno(File::create(lazy.at("f"))), Some(Errno::ROFS));
    lazy.unmount();
}

#[test]
fn requests_that_wait_do_not_block_others() {
    let ((entered, begun), (release, released)) = (channel(), channel());
    let (entered, released) = (Mutex::new(entered), Mutex::new(released));
    let Some(lazy) = Lazy::mount(LazyTree::new(move |path| {
        if path == "d" {
            entered.lock().unwrap().send(()).unwrap();
            released.lock().unwrap().recv().unwrap();
        }
        Ok(items(path))
    })) else {
        return;
    };
    std::thread::scope(|scope| {
        // More than the number of event loops.
        let waiting: Vec<_> = (0..40)
            .map(|_| scope.spawn(|| names(&lazy.at("d"))))
            .collect();
        begun.recv_timeout(PATIENCE).unwrap();
        assert_eq!(fs::read(lazy.at("f")).unwrap(), b"file");
        assert!(waiting.iter().all(|reader| !reader.is_finished()));
        release.send(()).unwrap();
        for reader in waiting {
            assert_eq!(reader.join().unwrap(), ["a", "e"]);
        }
    });
    lazy.unmount();
}

#[test]
fn a_failed_listing_is_an_error_and_can_be_tried_again() {
    let attempts = Mutex::new(0);
    let Some(lazy) = Lazy::mount(LazyTree::new(move |path| {
        let mut attempts = attempts.lock().unwrap();
        *attempts += usize::from(path == "d");
        if path == "d" && *attempts == 1 {
            return Err(FsErrorKind::Io.into());
        }
        Ok(items(path))
    })) else {
        return;
    };
    assert_eq!(errno(fs::metadata(lazy.at("d/a"))), Some(Errno::IO));
    assert_eq!(fs::read(lazy.at("d/a")).unwrap(), b"aa");
    lazy.unmount();
}

#[test]
fn a_reply_that_is_dropped_is_an_io_error() {
    let Some(lazy) = Lazy::mount(LazyTree::new(|_| Ok(vec![("lost", Item::Lost)]))) else {
        return;
    };
    assert_eq!(errno(fs::read(lazy.at("lost"))), Some(Errno::IO));
    lazy.unmount();
}

#[test]
fn the_shown_inode_number_may_differ_from_the_node() {
    let Some(lazy) = Lazy::mount(LazyTree::new(|path| Ok(items(path)))) else {
        return;
    };
    for _ in 0..2 {
        for path in ["f", "d", "d/a", "d/e/deep"] {
            let shown = fs::metadata(lazy.at(path)).unwrap().ino();
            assert!(shown > 1_000_000, "{path} shows {shown}");
            let opened = File::open(lazy.at(path)).unwrap();
            assert_eq!(opened.metadata().unwrap().ino(), shown, "{path}");
        }
        assert_eq!(fs::metadata(lazy.dir.path()).unwrap().ino(), 77);
        // With a listing that has attributes.
        for entry in fs::read_dir(lazy.at("d")).unwrap() {
            let entry = entry.unwrap();
            let shown = entry.metadata().unwrap().ino();
            assert!(shown > 1_000_000, "{}", entry.path().display());
        }
    }
    lazy.unmount();
}

#[test]
fn a_file_that_moved_to_another_node_is_opened_there_and_shows_the_same_number() {
    let Some(lazy) = Lazy::mount(LazyTree::new(|path| Ok(items(path)))) else {
        return;
    };
    let before = fs::metadata(lazy.at("f")).unwrap().ino();
    let reader = File::open(lazy.at("f")).unwrap();
    lazy.tree.replace("f", b"moved!");
    assert_eq!(fs::read(lazy.at("f")).unwrap(), b"moved!");
    assert_eq!(fs::metadata(lazy.at("f")).unwrap().ino(), before);
    let mut bytes = [0; 4];
    reader.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"file", "who had it open has it still");
    drop(reader);
    lazy.unmount();
}

#[test]
fn pages_that_are_invalidated_are_read_again() {
    let Some(lazy) = Lazy::mount(LazyTree::new(|path| Ok(items(path)))) else {
        return;
    };
    let opened = File::open(lazy.at("f")).unwrap();
    let read = || {
        let mut bytes = vec![0; 100];
        let len = opened.read_at(&mut bytes, 0).unwrap();
        bytes.truncate(len);
        bytes
    };
    assert_eq!(read(), b"file");
    let node = lazy.tree.change("f", b"other bytes");
    assert_eq!(read(), b"file", "the kernel has it");
    let range = 0..u64::MAX;
    lazy.tree.invalidate(Invalidation::Pages { node, range });
    until("the new bytes", || read() == b"other bytes");
    drop(opened);
    lazy.unmount();
}

#[test]
fn attributes_that_are_invalidated_are_asked_for_again() {
    let Some(lazy) = Lazy::mount(LazyTree::new(|path| Ok(items(path)))) else {
        return;
    };
    let opened = File::open(lazy.at("f")).unwrap();
    let len = || opened.metadata().unwrap().len();
    assert_eq!(len(), 4);
    let node = lazy.tree.change("f", b"other bytes");
    assert_eq!(len(), 4, "the kernel has them");
    lazy.tree.invalidate(Invalidation::Attributes { node });
    until("the new length", || len() == 11);
    drop(opened);
    lazy.unmount();
}

#[test]
fn the_file_system_is_told_which_nodes_the_kernel_forgets() {
    let Some(lazy) = Lazy::mount(LazyTree::new(|path| Ok(items(path)))) else {
        return;
    };
    for _ in 0..3 {
        // Each listing with attributes is one more reference.
        assert_eq!(names(&lazy.at("d")).len(), 2);
        fs::metadata(lazy.at("d/a")).unwrap();
    }
    assert_eq!(lazy.tree.forgotten(), [""; 0]);
    for (parent, name) in [("d", "a"), ("d", "e")] {
        let parent = lazy.tree.node(parent);
        lazy.tree.invalidate(Invalidation::Name {
            parent,
            name: Name::new(name.as_bytes()).unwrap(),
            after: Duration::ZERO,
        });
    }
    until("both are forgotten", || lazy.tree.forgotten().len() == 2);
    assert_eq!(fs::read(lazy.at("d/a")).unwrap(), b"aa");
    assert_ne!(lazy.tree.node("d"), NodeId::ROOT);
    lazy.unmount();
}
