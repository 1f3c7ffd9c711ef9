//! Whether two roots want one path for different things.

use attachfs_durable::path_bytes;
use attachfs_manifest::{EscapedBytes, ManifestPath, Node};

use super::plan::PlannedPlace;
use crate::error::Error;

/// Fails if two places that are one folder, or of which one lies in the other, have something else at one path. Files are
/// the same if their bytes are, whatever their times.
pub(super) fn check_clashes(places: &[PlannedPlace]) -> Result<(), Error> {
    for (number, inner) in places.iter().enumerate() {
        for (other, outer) in places.iter().enumerate() {
            let is_one_folder = inner.real == outer.real;
            if other == number || (is_one_folder && other > number) {
                continue;
            }
            if let Ok(below) = inner.real.strip_prefix(&outer.real) {
                check_pair(outer, inner, path_bytes(below))?;
            }
        }
    }
    Ok(())
}

/// `below` is where the one folder lies in the other; empty if they are one.
fn check_pair(outer: &PlannedPlace, inner: &PlannedPlace, below: &[u8]) -> Result<(), Error> {
    let clash = |path: &ManifestPath| {
        let path = outer
            .real
            .join(attachfs_durable::path_of_bytes(path.as_bytes()));
        Error::usage(format!(
            "the roots {:?} and {:?} both have {}, with different contents",
            outer.root,
            inner.root,
            EscapedBytes(path_bytes(&path))
        ))
        .advise(
            "put one of them elsewhere with --map-root, or each in a folder of its own with a DEST",
        )
    };
    if let Ok(folder) = ManifestPath::new(below) {
        for path in std::iter::once(folder.clone()).chain(folder.ancestors()) {
            if outer.snapshot.get(&path).is_some_and(|node| !node.is_dir()) {
                return Err(clash(&path));
            }
        }
    }
    for (path, node) in inner.snapshot.entries() {
        let whole = if below.is_empty() {
            path.as_bytes().to_vec()
        } else {
            [below, b"/", path.as_bytes()].concat()
        };
        // No manifest can have a path of this length, so the other root does not have it.
        let Ok(whole) = ManifestPath::new(&whole) else {
            continue;
        };
        let Some(there) = outer.snapshot.get(&whole) else {
            continue;
        };
        let same = match (&there, &node) {
            (Node::Dir, Node::Dir) => true,
            (Node::File(one), Node::File(other)) => {
                one.size == other.size && one.content == other.content
            }
            (Node::Symlink(one), Node::Symlink(other)) => {
                one.relative_to(&whole) == other.relative_to(&path.to_owned())
            }
            _ => false,
        };
        if !same {
            return Err(clash(&whole));
        }
    }
    Ok(())
}
