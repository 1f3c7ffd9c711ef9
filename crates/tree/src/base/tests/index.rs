//! Trees that were opened from an index, sound or damaged.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use attachfs_manifest::{ContentHash, Mtime, Node, Snapshot};
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::super::{BaseKind, BaseTree, IndexError, IndexIdentity, IndexSource, Rebuild};
use super::NAMES;
use crate::Ino;
use crate::testing::{CHUNK, any_snapshot_of, at, file, link, path, snapshot, tree};

fn identity() -> IndexIdentity {
    IndexIdentity {
        layers: ContentHash::from_bytes([1; 16]),
        composed: ContentHash::from_bytes([2; 16]),
    }
}

fn saved(tree: &BaseTree) -> Vec<u8> {
    let mut bytes = Vec::new();
    let index = tree.index(&identity()).unwrap();
    let written: Result<(), ()> = index.write(|part| {
        bytes.extend_from_slice(part);
        Ok(())
    });
    written.unwrap();
    assert_eq!(index.size(), bytes.len() as u64);
    bytes
}

fn open(bytes: Vec<u8>, rebuild: Rebuild) -> Result<BaseTree, IndexError> {
    BaseTree::open(Box::new(bytes), identity().layers, rebuild)
}

fn no_rebuild() -> Rebuild {
    Box::new(|error| panic!("nothing is damaged: {error}"))
}

/// Everything that can be asked of a tree.
fn answers(tree: &BaseTree) -> String {
    let mut answers = format!("{} {} {}", tree.len(), tree.is_empty(), tree.chunk_size());
    for raw in 0..tree.len() as u64 + 3 {
        let ino = Ino::from_raw(raw);
        let names = tree.children(ino).map(|child| {
            let name = tree.name(child);
            (name, name.and_then(|name| tree.child(ino, name)))
        });
        let own = (
            (tree.kind(ino), tree.plain_kind(ino), tree.layout(ino)),
            (tree.content(ino), tree.name(ino), tree.parent(ino)),
            (tree.path(ino), tree.child_at(ino, 1), tree.contains(ino)),
        );
        answers += &format!("\n{own:?} {:?}", names.collect::<Vec<_>>());
    }
    answers
}

/// All columns, a name that is there twice and a file of several objects.
fn small() -> Arc<BaseTree> {
    tree(&snapshot([
        ("d/a", file(25)),
        ("e/a", file(3)),
        ("l", link("d/a")),
    ]))
}

proptest! {
    #[test]
    fn an_opened_tree_answers_as_the_one_that_was_saved(snapshot in any_snapshot_of(&NAMES)) {
        let built = tree(&snapshot);
        let opened = open(saved(&built), no_rebuild()).unwrap();
        prop_assert_eq!(opened.identity(), Some(&identity()));
        prop_assert_eq!(answers(&opened), answers(&built));
        prop_assert_eq!(saved(&opened), saved(&built));
    }
}

#[test]
fn every_changed_byte_is_refused_or_made_good() {
    let built = small();
    let bytes = saved(&built);
    let expected = answers(&built);
    let mut refused = 0;
    for at in 0..bytes.len() {
        for change in [1, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= change;
            let calls = Arc::new(AtomicUsize::new(0));
            let counted = calls.clone();
            let rebuild = move |error: IndexError| {
                assert!(matches!(error, IndexError::Page { .. }), "{error}");
                counted.fetch_add(1, Ordering::Relaxed);
                Some(small())
            };
            match open(damaged, Box::new(rebuild)) {
                Err(_) => refused += 1,
                Ok(opened) => {
                    assert_eq!(answers(&opened), expected, "byte {at}");
                    assert_eq!(calls.load(Ordering::Relaxed), 1, "byte {at} was noticed");
                }
            }
        }
    }
    assert_eq!(
        refused,
        3 * (80 + 4 * 16 + 8),
        "all of the header and nothing else"
    );
}

#[test]
fn every_other_length_is_refused() {
    let bytes = saved(&small());
    for len in 0..bytes.len() {
        assert!(open(bytes[..len].to_vec(), no_rebuild()).is_err(), "{len}");
    }
    let longer = [&*bytes, b"\0"].concat();
    assert!(matches!(
        open(longer, no_rebuild()),
        Err(IndexError::Header)
    ));
}

#[test]
fn only_damaged_pages_that_cannot_be_built_again_are_missing() {
    let built = small();
    let bytes = saved(&built);
    for at in 80 + 4 * 16 + 8..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        let opened = open(damaged, Box::new(|_| None)).unwrap();
        assert_ne!(answers(&opened), answers(&built));
        assert!(opened.contains(Ino::ROOT));
    }
}

#[test]
fn a_tree_of_other_manifests_does_not_replace_a_damaged_page() {
    let mut bytes = saved(&small());
    *bytes.last_mut().unwrap() ^= 1;
    let other = snapshot([("d/a", file(25)), ("e/a", file(4)), ("l", link("d/b"))]);
    let opened = open(bytes, Box::new(move |_| Some(tree(&other)))).unwrap();
    let link = at(&opened, "l");
    assert!(opened.kind(link).is_none());
    assert_eq!(
        opened.name(link),
        Some(b"l".as_slice()),
        "sound pages are used"
    );
}

#[test]
fn an_index_of_other_manifests_is_refused() {
    let bytes = saved(&small());
    let other = ContentHash::from_bytes([9; 16]);
    let error = BaseTree::open(Box::new(bytes.clone()), other, no_rebuild()).unwrap_err();
    assert!(matches!(error, IndexError::OtherLayers(found) if found == identity().layers));
    let mut newer = bytes;
    newer[8] = 3;
    assert!(matches!(
        open(newer, no_rebuild()),
        Err(IndexError::Version(3))
    ));
    assert!(matches!(
        open(b"{}".to_vec(), no_rebuild()),
        Err(IndexError::NotAnIndex)
    ));
}

/// Says what is read of it, and can be made to vanish.
#[derive(Debug, Clone, Default)]
struct Watched {
    bytes: Arc<Mutex<Vec<u8>>>,
    reads: Arc<Mutex<Vec<(u64, usize)>>>,
}

impl IndexSource for Watched {
    fn size(&self) -> io::Result<u64> {
        self.bytes.lock().unwrap().size()
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.reads.lock().unwrap().push((offset, len));
        self.bytes.lock().unwrap().read_at(offset, len)
    }
}

fn large() -> Snapshot {
    let name = |number: u32| path(&format!("{:03}/{:05}", number / 1000, number));
    let files = (0..100_000).map(|number| (name(number), file(1)));
    Snapshot::new(CHUNK, None, files).unwrap()
}

#[test]
fn only_touched_pages_are_read_and_each_once() {
    let built = tree(&large());
    let source = Watched::default();
    *source.bytes.lock().unwrap() = saved(&built);
    let layers = identity().layers;
    let opened = BaseTree::open(Box::new(source.clone()), layers, no_rebuild()).unwrap();
    assert_eq!(source.reads.lock().unwrap().len(), 2, "the header");
    let ino = at(&opened, "077/77123");
    assert_eq!(opened.content(ino), built.content(ino));
    let reads = source.reads.lock().unwrap().split_off(2);
    let pages: std::collections::BTreeSet<_> = reads.iter().collect();
    assert_eq!(pages.len(), reads.len(), "none twice");
    assert!(pages.len() <= 8, "{pages:?}");
    at(&opened, "077/77123");
    assert_eq!(source.reads.lock().unwrap().len(), 2, "what was read stays");
}

#[test]
fn a_file_that_is_cut_off_under_an_opened_tree_goes_unnoticed() {
    let built = tree(&large());
    let source = Watched::default();
    *source.bytes.lock().unwrap() = saved(&built);
    let again = built.clone();
    let rebuild = move |error: IndexError| {
        assert!(matches!(error, IndexError::Read(_)), "{error}");
        Some(again.clone())
    };
    let layers = identity().layers;
    let opened = BaseTree::open(Box::new(source.clone()), layers, Box::new(rebuild)).unwrap();
    let before = at(&opened, "000/00001");
    source.bytes.lock().unwrap().clear();
    assert_eq!(opened.path(before), built.path(before));
    for raw in 1..=built.len() as u64 {
        let ino = Ino::from_raw(raw);
        assert_eq!(opened.content(ino), built.content(ino));
        assert_eq!(opened.path(ino), built.path(ino));
    }
}

/// Makes an index of any bytes look sound: corrects all its checksums.
fn forge(bytes: &mut [u8]) {
    const ROWS: usize = 4;
    let mut offset = 80 + ROWS * 16 + 8;
    for row in 0..ROWS {
        let row = 80 + row * 16;
        let len = u64::from_le_bytes(bytes[row..row + 8].try_into().unwrap()) as usize;
        let checksum = xxh3_64(&bytes[offset..offset + len]);
        bytes[row + 8..row + 16].copy_from_slice(&checksum.to_le_bytes());
        offset += len;
    }
    let end = 80 + ROWS * 16;
    let checksum = xxh3_64(&bytes[..end]);
    bytes[end..end + 8].copy_from_slice(&checksum.to_le_bytes());
}

proptest! {
    #[test]
    fn no_content_of_an_index_makes_a_look_up_panic_or_go_on_for_ever(
        changes in prop::collection::vec((152..400_usize, any::<u8>()), 1..6),
    ) {
        let mut bytes = saved(&small());
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        forge(&mut bytes);
        let opened = open(bytes, Box::new(|_| None)).unwrap();
        answers(&opened);
        let namespace = crate::Namespace::new(Arc::new(opened));
        for raw in 0..9 {
            let ino = Ino::from_raw(raw);
            let _ = (namespace.link_text(ino), namespace.names(ino), namespace.path(ino));
            let _ = namespace.list(ino).iter().count();
        }
    }
}

#[test]
fn a_forged_index_is_opened() {
    let mut bytes = saved(&small());
    let whole = bytes.clone();
    forge(&mut bytes);
    assert_eq!(bytes, whole);
}

/// An index as it is: whoever changes these bytes has to change the version of the format too.
#[test]
fn the_format_of_an_index_does_not_change() {
    let node = |text: &str| ContentHash::of(text.as_bytes());
    let entries = [
        (
            path("d/f"),
            Node::File(attachfs_manifest::File {
                size: 0x0102,
                mtime: Mtime(-1),
                runnable: true,
                content: attachfs_manifest::Content::Whole(node("f")),
            }),
        ),
        (path("d/l"), link("d/f")),
    ];
    let tree = BaseTree::build(&Snapshot::new(CHUNK, None, entries).unwrap()).unwrap();
    assert!(matches!(
        tree.kind(at(&tree, "d/f")),
        Some(BaseKind::File { size: 0x0102, .. })
    ));
    let digits = GOLDEN.concat();
    let golden: Result<Vec<u8>, _> = (0..digits.len() / 2)
        .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16))
        .collect();
    assert_eq!(Ok(saved(&tree)), golden);
}

const GOLDEN: [&str; 17] = [
    // magic, version, nodes
    "61747466737472650200000004000000",
    // what it was made of
    "01010101010101010101010101010101",
    // composed manifest
    "02020202020202020202020202020202",
    // chunk size, length of the file
    "0a000000000000004001000000000000",
    // pages of each column
    "01000000010000000100000001000000",
    // nodes: length, checksum
    "9000000000000000c644750af1ecb59f",
    // names: length, checksum
    "03000000000000005b149ca5119242bb",
    // hashes: length, checksum
    "1000000000000000c646716888b33d74",
    // targets: length, checksum
    "05000000000000009e2b33bd56f33824",
    // checksum of the header
    "253d288cde52731f",
    // /
    "010000000000000000000000000000000000000000000000010000000100000000000000",
    // /d
    "000000000000000000000000000000000000000000000000020000000200000001000000",
    // /d/f
    "0201000000000000ffffffffffffffff0100000001000000000000000100000001010100",
    // /d/l
    "000000000000000000000000000000000100000002000000000000000000000001020000",
    // names
    "64666c",
    // hash of f
    "b3b2b50bf19ad7d533c155909ff3ba9a",
    // target of l
    "0300642f66",
];
