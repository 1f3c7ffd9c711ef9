//! Nodes of the base in the form that manifests use.

use std::collections::BTreeMap;

use attachfs_manifest::{File, ManifestPath, Node};
use attachfs_tree::{BaseKind, Ino, LayeredBase};

/// The node at each changed path after the change; `None` where the path is deleted.
pub(crate) type Changes = BTreeMap<ManifestPath, Option<Node>>;

/// The node that the base has under this inode number.
pub(crate) fn base_node(tree: &LayeredBase, ino: Ino) -> Option<Node> {
    Some(match tree.kind(ino)? {
        BaseKind::Dir => Node::Dir,
        BaseKind::Symlink(target) => Node::Symlink(target.clone()),
        BaseKind::File {
            size,
            mtime,
            runnable,
        } => Node::File(File {
            size,
            mtime,
            runnable,
            content: tree.content(ino)?,
        }),
    })
}

/// The inode number of the base at a path.
pub(crate) fn base_ino(tree: &LayeredBase, path: &ManifestPath) -> Option<Ino> {
    path.components()
        .try_fold(Ino::ROOT, |dir, name| tree.child(dir, name))
}

/// The node of the base at a path.
pub(crate) fn base_at(tree: &LayeredBase, path: &ManifestPath) -> Option<Node> {
    base_node(tree, base_ino(tree, path)?)
}
