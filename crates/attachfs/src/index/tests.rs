//! Trees that are saved, opened again and damaged.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::time::Duration;

use attachfs_durable::CacheDir;
use attachfs_manifest::wire::{Format, encode_snapshot};
use attachfs_manifest::{ChunkSize, File as ManifestFile, ManifestPath, Mtime};
use attachfs_tree::Ino;
use tempfile::TempDir;

use std::path::PathBuf;

use attachfs_session::SessionMeta;

use super::*;
use crate::manifests::ManifestBytes;

fn path(text: &str) -> ManifestPath {
    ManifestPath::new(text.as_bytes()).unwrap()
}

fn manifest(files: usize) -> ManifestBytes {
    let entry = |number: usize| {
        let file = ManifestFile {
            size: number as u64,
            mtime: Mtime(number as i64),
            runnable: false,
            content: Content::Whole(ContentHash::of(&number.to_le_bytes())),
        };
        (path(&format!("{}/{number}", number % 7)), Node::File(file))
    };
    let snapshot = Snapshot::new(ChunkSize::DEFAULT, None, (0..files).map(entry)).unwrap();
    ManifestBytes {
        name: "a manifest".to_owned(),
        bytes: encode_snapshot(&snapshot, Format::V2025_12).unwrap(),
        at: None,
    }
}

/// A session of one manifest, and places of its own.
struct Setup {
    temp: TempDir,
    manifest: ManifestBytes,
    session: Session,
}

impl Setup {
    fn new(files: usize) -> Self {
        let temp = TempDir::new().unwrap();
        let manifest = manifest(files);
        let meta = SessionMeta {
            mount_point: temp.path().join("mnt"),
            manifests: vec![manifest.describe()],
            ..attachfs_fixtures::session_meta(&manifest.bytes)
        };
        let bytes = [manifest.bytes.clone()];
        let session = Session::create(&temp.path().join("session"), meta, &bytes).unwrap();
        Self {
            temp,
            manifest,
            session,
        }
    }

    fn places(&self) -> Places {
        let place = |name: &str| self.temp.path().join(name);
        Places {
            state: place("state"),
            cache: CacheDir::new(place("cache")),
            data: place("data"),
        }
    }

    fn saved(&self) -> TreeFiles {
        self.places().cache.trees()
    }

    fn file(&self) -> PathBuf {
        let described = [self.manifest.describe()];
        let layers = key(&described, &LayerOptions::default());
        self.saved().path(*layers.as_bytes())
    }

    /// Begins as a mount does, and ends when the tree is saved. Whether it had to be built.
    fn begin(&self) -> (MountBase, bool) {
        let mut asked = false;
        let manifests = || {
            asked = true;
            Session::map_manifests(self.session.dir(), self.session.meta())
        };
        let described = [self.manifest.describe()];
        let (options, places) = (LayerOptions::default(), self.places());
        let mut base =
            open_base(&described, &options, manifests, self.session.dir(), &places).unwrap();
        if let Some(saving) = base.save_later() {
            saving.join().unwrap();
        }
        (base, asked)
    }
}

fn assert_same(tree: &BaseTree, other: &BaseTree) {
    assert_eq!(tree.len(), other.len());
    for raw in 1..=tree.len() as u64 {
        let ino = Ino::from_raw(raw);
        assert_eq!(tree.path(ino), other.path(ino));
        assert_eq!(tree.content(ino), other.content(ino));
    }
}

#[test]
fn a_tree_is_built_once_and_opened_from_then_on() {
    let setup = Setup::new(WORTH_KEEPING);
    let (built, was_built) = setup.begin();
    assert!(was_built);
    let (opened, was_built) = setup.begin();
    assert!(!was_built, "nobody looks at the manifests");
    assert_eq!(opened.parent, built.parent);
    assert_same(&opened.tree, &built.tree);
    assert!(
        !base_of(&setup.session, &setup.places())
            .unwrap()
            .tree
            .is_empty()
    );
}

#[test]
fn a_small_tree_is_not_kept() {
    let setup = Setup::new(10);
    setup.begin();
    assert!(setup.begin().1);
    assert!(!setup.saved().dir().exists());
}

#[test]
fn damage_that_is_found_later_is_made_good_from_the_session() {
    let setup = Setup::new(WORTH_KEEPING);
    let built = setup.begin().0;
    let sound = fs::read(setup.file()).unwrap();
    let opened = setup.begin().0;
    // All pages, and the header again under the tree that has it open.
    let file = File::options().write(true).open(setup.file()).unwrap();
    file.write_all_at(&vec![0xff; sound.len()], 0).unwrap();
    assert_same(&opened.tree, &built.tree);
    // The thread that replaces it is nobody's to wait for.
    let deadline = std::time::Instant::now() + Duration::from_mins(1);
    while fs::read(setup.file()).unwrap() != sound {
        assert!(std::time::Instant::now() < deadline, "it is replaced");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_damaged_header_costs_a_build() {
    let setup = Setup::new(WORTH_KEEPING);
    setup.begin();
    let file = File::options().write(true).open(setup.file()).unwrap();
    file.write_all_at(&[0xff], 100).unwrap();
    assert!(setup.begin().1);
    assert!(!setup.begin().1, "it was replaced");
}

#[test]
fn what_others_can_change_is_neither_used_nor_written() {
    let setup = Setup::new(WORTH_KEEPING);
    setup.begin();
    let dir = setup.saved().dir().to_owned();
    fs::set_permissions(&dir, Permissions::from_mode(0o770)).unwrap();
    fs::remove_file(setup.file()).unwrap();
    assert!(setup.begin().1);
    assert!(!setup.file().exists());
    fs::set_permissions(&dir, Permissions::from_mode(0o700)).unwrap();
    setup.begin();
    fs::set_permissions(setup.file(), Permissions::from_mode(0o666)).unwrap();
    assert!(setup.begin().1);
}

#[test]
fn a_cache_that_cannot_be_made_costs_a_build() {
    let setup = Setup::new(WORTH_KEEPING);
    fs::write(setup.places().cache.path(), "a file").unwrap();
    assert!(setup.begin().1);
    assert!(setup.begin().1);
}

#[test]
fn another_order_another_place_and_another_way_make_another_key() {
    let one = manifest(1).describe();
    let two = manifest(2).describe();
    let at = |text: &str| BaseManifest {
        at: Some(path(text)),
        ..one.clone()
    };
    let lists = [
        vec![one.clone()],
        vec![two.clone()],
        vec![one.clone(), two.clone()],
        vec![two, one.clone()],
        vec![at("a")],
        vec![at("b")],
    ];
    let ways = [None, Some("/"), Some("/a")].map(|root| {
        [false, true].map(|ignore_parent| {
            let root = root.map(|root| root.parse().unwrap());
            LayerOptions {
                root,
                ignore_parent,
            }
        })
    });
    let keys: std::collections::HashSet<_> = lists
        .iter()
        .flat_map(|list| ways.iter().flatten().map(move |way| key(list, way)))
        .collect();
    assert_eq!(keys.len(), lists.len() * 6);
}
