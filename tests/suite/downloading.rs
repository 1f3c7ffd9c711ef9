//! `attachfs download`, as its users run it: interrupted anywhere, into folders that somebody else works in, onto disks that are full.

mod choosing;
mod interrupted;
mod permissions;
mod placing;
mod refusing;
mod telling;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use attachfs_test_s3::Request;

use crate::golden::set_mtime;
use crate::machine::{Machine, args};
use crate::tree::{Detail, Tree};

/// Of all files, in nanoseconds.
const TIME: i64 = 1_700_000_000_123_456_789;

/// How the names begin of files that are still being filled.
const STAGED: &str = ".attachfs-";

/// A folder with everything that a manifest can hold, and long files.
fn scene(machine: &Machine, name: &str) -> PathBuf {
    let root = machine.dir(name);
    machine.dir(root.join("empty/inner"));
    for at in 0..40_u32 {
        let len = 1000 * at as usize;
        machine.file(
            root.join(format!("many/{}/{at}", at % 3)),
            vec![at as u8; len],
        );
    }
    let long: Vec<u8> = (0..5_000_001_u32).map(|i| (i / 13) as u8).collect();
    machine.file(root.join("long.exr"), &long);
    let run = machine.file(root.join("bin/run.sh"), "run");
    fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unwrap();
    symlink("../long.exr", root.join("bin/up")).unwrap();
    symlink("run.sh", root.join("bin/in")).unwrap();
    for file in tree(&root).files() {
        set_mtime(&root.join(file), TIME);
    }
    root
}

/// The objects of the scene: 40 small files, the one that runs, and the long one in five pieces.
const OBJECTS: usize = 46;

fn tree(root: &Path) -> Tree {
    Tree::read(root, Detail::Committed)
}

fn same(one: &Path, other: &Path) {
    tree(one).assert_is(&tree(other));
}

/// What a download has placed so far; nothing that it is still filling.
fn placed(root: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        // What is being filled may go while it is looked at.
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(kind) if kind.is_file() && !name.as_bytes().starts_with(STAGED.as_bytes()) => {
                    found.insert(entry.path().strip_prefix(root).unwrap().to_owned());
                }
                _ => {}
            }
        }
    }
    found
}

/// The arguments of a download from the machine's store.
fn into(machine: &Machine, manifest: &Path, root: &Path) -> Vec<std::ffi::OsString> {
    args![
        "download",
        manifest,
        "--root",
        root,
        "--store",
        machine.store()
    ]
    .into()
}

fn with(mut arguments: Vec<std::ffi::OsString>, more: &[&str]) -> Vec<std::ffi::OsString> {
    arguments.extend(more.iter().map(Into::into));
    arguments
}

fn is_fetch(request: &Request) -> bool {
    request.method == "GET" && request.path.contains("/Data/")
}

/// The objects that were asked for since the first `before` requests for objects.
fn fetched(machine: &Machine, before: usize) -> Vec<String> {
    let requests = machine.server().requests();
    let fetches = requests.iter().filter(|of| is_fetch(of)).skip(before);
    fetches.map(|of| of.path.clone()).collect()
}

/// The objects of a file of the scene.
fn objects_of(file: &Path) -> Vec<String> {
    let bytes = fs::read(file).unwrap();
    let pieces = bytes.chunks(1 << 20);
    let hash = |piece| attachfs_manifest::ContentHash::of(piece).to_string();
    pieces.map(hash).collect()
}
