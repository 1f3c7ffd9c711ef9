//! Names that differ only in case.

use std::collections::BTreeSet;

use attachfs_manifest::{Change, Diff, FoldedName, Node};
use attachfs_tree::{Ino, Kind};
use proptest::prelude::*;

use super::world::{CHUNK, Given, Kernel, World, bytes, path, tempdir};
use crate::{FsErrorKind, Walk};

fn world() -> World {
    World::new(&[
        ("Textures/Wood.PNG", Given::File(bytes(100))),
        ("README", Given::File(bytes(10))),
        ("Readme", Given::File(bytes(20))),
        ("\u{c9}t\u{e9}", Given::File(bytes(30))),
    ])
}

fn names(kernel: &Kernel, dir: &str) -> Vec<String> {
    let dir = kernel.stat(dir).unwrap().ino;
    let handle = kernel.vfs.opendir(dir).unwrap().handle;
    let view = kernel.vfs.dir_view(handle).unwrap();
    let entries = (2..).map_while(|offset| view.entry(offset));
    let names = entries.map(|entry| String::from_utf8(entry.name.to_vec()).unwrap());
    let names = names.collect();
    kernel.vfs.releasedir(handle).unwrap();
    names
}

#[test]
fn a_missing_name_leads_to_one_that_differs_in_case_and_one_that_is_written_so_comes_first() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create_ignoring_case(dir.path());
    let ino = |at| kernel.stat(at).unwrap().ino;
    assert_eq!(ino("textures/WOOD.png"), ino("Textures/Wood.PNG"));
    assert_eq!(ino("\u{e9}T\u{c9}"), ino("\u{c9}t\u{e9}"));
    assert_eq!(kernel.stat("README").unwrap().size, 10);
    assert_eq!(kernel.stat("Readme").unwrap().size, 20);
    assert_eq!(kernel.stat("readme").unwrap().size, 10, "the first of two");
    assert_eq!(kernel.stat("nothing").err(), Some(FsErrorKind::NotFound));
    assert_eq!(
        kernel.stat("README/x").err(),
        Some(FsErrorKind::NotADirectory)
    );
    let walk = kernel.vfs.walk(&path("textures/wood.png"));
    assert!(matches!(walk, Walk::Found { path: Some(at), .. } if at == path("Textures/Wood.PNG")));

    let strict = tempdir();
    let strict = world.create(strict.path());
    assert_eq!(strict.stat("readme").err(), Some(FsErrorKind::NotFound));
    assert!(strict.vfs.case_index.is_none());
}

#[test]
fn no_second_name_is_made_that_differs_only_in_case() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create_ignoring_case(dir.path());
    let made = |name: &[u8]| {
        kernel
            .vfs
            .create_file(Ino::ROOT, name, 0o644, (0, 0), crate::testing::READ)
    };
    assert_eq!(made(b"TEXTURES").unwrap_err().kind(), FsErrorKind::Exists);
    assert_eq!(kernel.mkdir("textures"), Err(FsErrorKind::Exists));
    assert_eq!(kernel.symlink("readME", "x"), Err(FsErrorKind::Exists));
    assert_eq!(kernel.link("README", "textures"), Err(FsErrorKind::Exists));
    assert_eq!(
        names(&kernel, ""),
        ["README", "Readme", "Textures", "\u{c9}t\u{e9}"]
    );
}

#[test]
fn names_are_removed_and_replaced_as_they_are_written() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create_ignoring_case(dir.path());
    kernel.unlink("textures/wood.png").unwrap();
    assert_eq!(names(&kernel, "textures"), [] as [&str; 0]);
    kernel.rmdir("TEXTURES").unwrap();
    kernel.rename("readme", "Readme").unwrap();
    assert_eq!(names(&kernel, ""), ["Readme", "\u{c9}t\u{e9}"]);
    kernel.put("new", b"new");
    kernel.rename("NEW", "README").unwrap();
    assert_eq!(
        names(&kernel, ""),
        ["Readme", "\u{c9}t\u{e9}"],
        "it stays as it is written"
    );
    assert_eq!(kernel.cat("Readme"), b"new");
    kernel.rename("readme", "README").unwrap();
    assert_eq!(
        names(&kernel, ""),
        ["README", "\u{c9}t\u{e9}"],
        "its own name is written anew"
    );
}

#[test]
fn who_removes_a_name_under_another_spelling_has_the_adapter_drop_both() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create_ignoring_case(dir.path());
    let told = kernel.attach_silently();
    kernel.unlink("textures/WOOD.png").unwrap();
    let names: BTreeSet<_> = Kernel::told(&told)
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    assert_eq!(names, ["WOOD.png", "Wood.PNG"].map(str::to_owned).into());
    kernel.unlink("README").unwrap();
    assert_eq!(Kernel::told(&told), [], "it is written so");
}

#[test]
fn a_layer_that_is_added_is_looked_up_without_regard_to_case_too() {
    let (world, dir) = (world(), tempdir());
    let kernel = world.create_ignoring_case(dir.path());
    assert_eq!(kernel.stat("readme").unwrap().size, 10);
    assert_eq!(
        kernel.stat("textures/NEW").err(),
        Some(FsErrorKind::NotFound)
    );
    let changes = [
        (path("Textures/New"), Change::Put(Node::Dir)),
        (path("readme"), Change::Put(Node::Dir)),
        (path("README"), Change::DeleteFile),
    ];
    let chunk_size = attachfs_fixtures::chunk_size(CHUNK);
    let diff = Diff::new(chunk_size, None, changes).unwrap();
    kernel.vfs.add_layer(&diff).unwrap();
    assert_eq!(kernel.stat("textures/NEW").unwrap().kind, Kind::Dir);
    assert_eq!(kernel.stat("readme").unwrap().kind, Kind::Dir);
    assert_eq!(
        kernel.stat("README").unwrap().size,
        20,
        "the first that is left"
    );
}

/// Few names, so that operations meet each other.
const NAMES: [&str; 6] = ["a", "A", "bb", "bB", "BB", "\u{e9}"];

#[derive(Debug, Clone)]
enum Step {
    Create(&'static str),
    Mkdir(&'static str),
    Unlink(&'static str),
    Rmdir(&'static str),
    Rename(&'static str, &'static str),
}

fn any_step() -> impl Strategy<Value = Step> {
    let name = || prop::sample::select(NAMES.to_vec());
    prop_oneof![
        3 => name().prop_map(Step::Create),
        1 => name().prop_map(Step::Mkdir),
        2 => name().prop_map(Step::Unlink),
        1 => name().prop_map(Step::Rmdir),
        2 => (name(), name()).prop_map(|(from, to)| Step::Rename(from, to)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_names_that_are_found_are_those_that_are_there(steps in prop::collection::vec(any_step(), 1..20)) {
        let (world, dir) = (World::new(&[("A", Given::Dir), ("a", Given::Dir), ("bB", Given::File(bytes(5)))]), tempdir());
        let kernel = world.create_ignoring_case(dir.path());
        for step in steps {
            // Many of these are refused, which changes nothing.
            let _ = match step {
                Step::Create(name) => kernel.create(name).map(|handle| kernel.vfs.release(handle).map(drop).unwrap()),
                Step::Mkdir(name) => kernel.mkdir(name),
                Step::Unlink(name) => kernel.unlink(name),
                Step::Rmdir(name) => kernel.rmdir(name),
                Step::Rename(from, to) => kernel.rename(from, to),
            };
            let there = names(&kernel, "");
            for asked in NAMES {
                let folded = FoldedName::of(asked.as_bytes());
                let same = |name: &&String| FoldedName::of(name.as_bytes()) == folded;
                let exact = there.iter().find(|name| *name == asked);
                let expected = exact.or_else(|| there.iter().find(same));
                let expected = expected.map(|name| kernel.stat(name).unwrap().ino);
                prop_assert_eq!(kernel.stat(asked).ok().map(|attr| attr.ino), expected, "{} of {:?}", asked, there);
            }
        }
    }
}
