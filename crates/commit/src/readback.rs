//! Reading a commit back before other readers can see it.
//!
//! The plan and the manifest are two calculations; a mistake in either would make an unusable manifest
//! of a session that is deleted afterwards. So the bytes that are about to be published are decoded,
//! put over the base and the session's earlier manifests by the same code that mounts, composes and
//! downloads, and the result is compared with the plan. That needs only the part of the base that the
//! manifests mention: layers are applied path by path, and the effect of one on a path depends on the
//! entries above it and, for a deleted directory, directly in it.

use std::collections::{BTreeSet, HashSet};

use attachfs_manifest::wire::{Format, Manifest, decode};
use attachfs_manifest::{Change, ContentHash, ManifestPath, Name, Snapshot};
use attachfs_tree::{Ino, Layer, LayerOptions, LayeredBase, compose};

use crate::error::CommitError;
use crate::node::{Changes, base_at, base_ino};

/// Fails unless the base, the manifests that the session published and these bytes together give
/// `total`, which is relative to the base.
pub(crate) fn read_back(
    tree: &LayeredBase,
    earlier: &[Vec<u8>],
    bytes: &[u8],
    total: &Changes,
) -> Result<(), CommitError> {
    let mut touched: BTreeSet<ManifestPath> = total.keys().cloned().collect();
    let mut layers = Vec::new();
    for bytes in earlier.iter().map(Vec::as_slice).chain([bytes]) {
        let (format, manifest) = decode(bytes)?;
        if let Manifest::Diff(diff) = &manifest {
            for (path, change) in diff.changes() {
                let path = path.to_owned();
                if change == Change::DeleteDir {
                    touched.extend(children(tree, &path)?);
                }
                touched.insert(path);
            }
        }
        layers.push(Layer::new(manifest, ContentHash::of(bytes), format));
    }
    let mut above = HashSet::new();
    for path in &touched {
        // Where one is known, all above it are: so each is looked at once, however deep the paths are.
        for dir in path.ancestors() {
            if !above.insert(dir) {
                break;
            }
        }
    }
    touched.extend(above);

    let base = touched
        .iter()
        .filter_map(|path| Some((path.clone(), base_at(tree, path)?)));
    let base = Manifest::Snapshot(Snapshot::new(tree.chunk_size(), None, base)?);
    // No manifest has this hash, because only a part of one is composed.
    layers.insert(0, Layer::new(base, ContentHash::of(&[]), Format::V2025_12));
    let options = LayerOptions {
        root: None,
        ignore_parent: true,
    };
    let made = compose(layers, &options).map_err(CommitError::Unreadable)?;

    let planned = |path: &ManifestPath| match total.get(path) {
        Some(node) => node.clone(),
        None => base_at(tree, path),
    };
    let made = made.snapshot;
    let paths = made.entries().map(|(path, _)| path.to_owned());
    touched.extend(paths);
    let differs = |path: &ManifestPath| made.get(path) != planned(path);
    let differing: Vec<ManifestPath> = touched.into_iter().filter(differs).collect();
    if differing.is_empty() {
        Ok(())
    } else {
        Err(CommitError::Differs(differing))
    }
}

/// The entries directly in a directory of the base.
fn children(tree: &LayeredBase, dir: &ManifestPath) -> Result<Vec<ManifestPath>, CommitError> {
    let Some(ino) = base_ino(tree, dir) else {
        return Ok(Vec::new());
    };
    let path = |child: Ino| {
        let damaged = || CommitError::Damaged(format!("what is in \"{dir}\" has no name"));
        let name = tree.name(child).ok_or_else(damaged)?;
        let joined = Name::new(name).and_then(|name| dir.join(&name));
        joined.map_err(|source| CommitError::Path {
            path: [dir.as_bytes(), b"/", name].concat(),
            source,
        })
    };
    tree.children(ino).map(path).collect()
}
