//! `attachfs manifest`, as its users run it: each verb by its laws, the references' vectors, and everything that may be wrong with what
//! it is given.

mod faults;
mod telling;
mod vectors;
mod verbs;

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::golden::set_mtime;
use crate::machine::{Machine, args};

/// A file's time, in nanoseconds.
const TIME: i64 = 1_700_000_000_123_456_789;

/// A folder with everything that a manifest can hold.
fn scene(machine: &Machine) -> PathBuf {
    let root = machine.dir("scene");
    machine.dir("scene/empty");
    let run = machine.file("scene/d/run.sh", "run");
    fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unwrap();
    let files = [
        run,
        machine.file("scene/a.txt", "a"),
        machine.file("scene/d/e/deep.exr", "deep"),
        machine.file("scene/big", "0123456789".repeat(250)),
        machine.file(
            Path::new("scene").join(std::ffi::OsStr::from_bytes(b"bad\xff")),
            "b",
        ),
    ];
    for file in files {
        set_mtime(&file, TIME);
    }
    symlink("../a.txt", root.join("d/up")).unwrap();
    symlink("e", root.join("d/in")).unwrap();
    root
}

/// Its manifest, with `big` in three pieces, and its objects in the machine's store.
fn snapshot(machine: &Machine, root: &Path, name: &str) -> PathBuf {
    machine.snapshot_in_pieces(root, name, 1000)
}

/// The manifest that a verb prints.
fn made(machine: &Machine, arguments: impl AsRef<[OsString]>) -> String {
    let mut all: Vec<OsString> = args!["manifest"].into();
    all.extend_from_slice(arguments.as_ref());
    all.extend(args!["-o", "-"]);
    machine.ok(all).out
}

fn text(file: &Path) -> String {
    fs::read_to_string(file).unwrap()
}
