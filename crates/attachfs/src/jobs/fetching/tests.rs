//! Names that one system has and another has not: on this machine only one side can be tried for real.

use attachfs_manifest::{ChunkSize, LinkTarget, ManifestPath, Node, Snapshot};
use attachfs_paths::PathFormat;

use super::plan::impossible;

fn snapshot(paths: &[&str]) -> Snapshot {
    let node = || Node::Symlink(LinkTarget::Root);
    let entries = paths
        .iter()
        .map(|path| (ManifestPath::new(path.as_bytes()).unwrap(), node()));
    Snapshot::new(ChunkSize::WholeFile, None, entries).unwrap()
}

#[test]
fn names_that_a_system_cannot_have_are_found_whatever_this_one_is() {
    let all = snapshot(&["ok", "nul.txt", "a:b/c", "end.", "x\\y/z", "OK"]);
    let found = |of, on| {
        let mut found: Vec<_> = impossible(&all, of, on).into_keys().collect();
        found.sort();
        let found = found
            .iter()
            .map(|path| String::from_utf8_lossy(path).into_owned());
        found.collect::<Vec<_>>()
    };
    let (posix, windows) = (PathFormat::Posix, PathFormat::Windows);
    assert_eq!(found(posix, posix), [""; 0]);
    assert_eq!(found(windows, posix), ["x\\y"]);
    let on_windows = ["a:b", "end.", "nul.txt", "ok", "x\\y"];
    assert_eq!(found(posix, windows), on_windows);
    assert_eq!(found(windows, windows), on_windows);
}
