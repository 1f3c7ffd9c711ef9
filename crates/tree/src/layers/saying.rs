//! What one layer says of one path: to explain why a tree has something there, or nothing.

use attachfs_manifest::wire::Manifest;
use attachfs_manifest::{Change, Diff, ManifestPath, Node, PathRef, Snapshot};

use super::Layer;
use crate::{Kind, Root};

/// What a layer says of a path of the tree that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Nothing.
    Nothing,
    /// That this is there.
    Puts(Kind),
    /// That it is not there: the layer is a diff.
    Deletes,
    /// That a file or a link is where a directory would have to lead there.
    Blocks,
}

fn kind(node: &Node) -> Kind {
    match node {
        Node::Dir => Kind::Dir,
        Node::File(_) => Kind::File,
        Node::Symlink(_) => Kind::Symlink,
    }
}

impl Layer {
    /// What it says of a path. `root` is the directory of absolute manifests that is shown.
    pub fn says(&self, path: &ManifestPath, root: Option<&Root>) -> Said {
        let whole = match (self.is_absolute, root) {
            // A path that is too long for a manifest is in none.
            (true, Some(Root::Directory(root))) => match path.below(root) {
                Ok(whole) => whole,
                Err(_) => return Said::Nothing,
            },
            _ => path.clone(),
        };
        let path = match &self.at {
            None => whole.borrowed(),
            Some(at) if at == path || at.is_below(path) => return Said::Puts(Kind::Dir),
            Some(at) => match whole.borrowed().within(at.borrowed()) {
                Some(rest) => rest,
                None => return Said::Nothing,
            },
        };
        match &self.manifest {
            Manifest::Snapshot(snapshot) => snapshot_says(snapshot, path),
            Manifest::Diff(diff) => diff_says(diff, path),
        }
    }
}

fn snapshot_says(snapshot: &Snapshot, path: PathRef<'_>) -> Said {
    if let Some(node) = snapshot.get(path) {
        return Said::Puts(kind(&node));
    }
    let is_no_dir = |above: PathRef<'_>| snapshot.get(above).is_some_and(|node| !node.is_dir());
    if path.ancestors().any(is_no_dir) {
        Said::Blocks
    } else {
        Said::Nothing
    }
}

fn diff_says(diff: &Diff, path: PathRef<'_>) -> Said {
    // A deletion comes before what takes its place.
    match diff.at(path).last() {
        Some(Change::Put(node)) => return Said::Puts(kind(&node)),
        Some(Change::DeleteDir | Change::DeleteFile) => return Said::Deletes,
        None => {}
    }
    let above = path.ancestors().filter_map(|above| diff.at(above).last());
    let said = above.map(|change| match change {
        Change::Put(node) if node.is_dir() => Said::Nothing,
        Change::Put(_) => Said::Blocks,
        Change::DeleteDir | Change::DeleteFile => Said::Deletes,
    });
    said.into_iter()
        .find(|said| *said != Said::Nothing)
        .unwrap_or(Said::Nothing)
}

#[cfg(test)]
mod tests {
    use attachfs_manifest::ContentHash;
    use attachfs_manifest::wire::{Format, encode_snapshot};

    use super::*;
    use crate::testing::{CHUNK, file, path, snapshot};

    fn layer(manifest: Manifest, format: Format) -> Layer {
        Layer::new(manifest, ContentHash::of(b"any"), format)
    }

    #[test]
    fn a_snapshot_says_what_it_has_and_what_is_in_the_way() {
        let manifest = snapshot([("d/f", file(1))]);
        let bytes = encode_snapshot(&manifest, Format::V2025_12).unwrap();
        let layer = Layer::decode(&bytes, None).unwrap();
        let says = |text| layer.says(&path(text), None);
        assert_eq!(says("d"), Said::Puts(Kind::Dir));
        assert_eq!(says("d/f"), Said::Puts(Kind::File));
        assert_eq!(says("d/f/x"), Said::Blocks);
        assert_eq!(says("d/g"), Said::Nothing);

        let placed = Layer::decode(&bytes, Some(path("a/b"))).unwrap();
        let says = |text| placed.says(&path(text), None);
        assert_eq!(says("a"), Said::Puts(Kind::Dir));
        assert_eq!(says("a/b"), Said::Puts(Kind::Dir));
        assert_eq!(says("a/b/d/f"), Said::Puts(Kind::File));
        assert_eq!(says("a/c"), Said::Nothing);
        assert_eq!(says("d/f"), Said::Nothing);
    }

    #[test]
    fn an_absolute_manifest_is_asked_for_the_whole_path() {
        let manifest = snapshot([("projects/scene/f", file(1))]);
        let layer = layer(Manifest::Snapshot(manifest), Format::V2025_12Absolute);
        let root = Root::Directory(path("projects/scene"));
        assert_eq!(layer.says(&path("f"), Some(&root)), Said::Puts(Kind::File));
        assert_eq!(layer.says(&path("projects"), Some(&root)), Said::Nothing);
    }

    #[test]
    fn a_diff_says_what_it_deletes_and_puts_in_its_place() {
        let changes = [
            (path("d"), Change::DeleteDir),
            (path("d"), Change::Put(file(1))),
            (path("e"), Change::DeleteDir),
            (path("e/x"), Change::DeleteFile),
            (path("f"), Change::DeleteFile),
            (path("g"), Change::Put(Node::Dir)),
        ];
        let diff = Diff::new(CHUNK, None, changes).unwrap();
        let layer = layer(Manifest::Diff(diff), Format::V2025_12);
        let says = |text| layer.says(&path(text), None);
        assert_eq!(says("d"), Said::Puts(Kind::File));
        assert_eq!(says("d/x"), Said::Blocks);
        assert_eq!(says("e/x"), Said::Deletes);
        assert_eq!(says("e/y"), Said::Deletes);
        assert_eq!(says("f"), Said::Deletes);
        assert_eq!(says("g/x"), Said::Nothing);
        assert_eq!(says("h"), Said::Nothing);
    }
}
