//! Several manifests, one tree.

use std::collections::{BTreeMap, HashSet};

use attachfs_manifest::wire::{
    DecodeError, EncodeError, Format, Manifest, decode, encode_snapshot,
};
use attachfs_manifest::{
    ChunkSize, ContentHash, Diff, DiffError, LinkTarget, ManifestPath, Node, PathError, Snapshot,
    SnapshotError,
};

/// A manifest and where it goes. The second layer lies over the first, and so on.
#[derive(Debug, Clone)]
pub enum Layer {
    /// Everything in the snapshot is placed below `at`, the root if `None`. Directories are merged;
    /// where a path is taken otherwise, the upper layer's node counts and hides what is there, with
    /// all that lies below it.
    Snapshot {
        /// What is placed.
        snapshot: Snapshot,
        /// The hash of the manifest's bytes.
        hash: ContentHash,
        /// The directory it is placed in.
        at: Option<ManifestPath>,
    },
    /// Changes to all that lies below, at the root.
    Diff(Diff),
}

impl Layer {
    /// The layer that a manifest's bytes are. A diff cannot be placed in a directory.
    pub fn decode(bytes: &[u8], at: Option<ManifestPath>) -> Result<Self, LayerError> {
        match (decode(bytes)?.1, at) {
            (Manifest::Snapshot(snapshot), at) => Ok(Self::Snapshot {
                snapshot,
                hash: ContentHash::of(bytes),
                at,
            }),
            (Manifest::Diff(diff), None) => Ok(Self::Diff(diff)),
            (Manifest::Diff(_), Some(at)) => Err(LayerError::PlacedDiff(at)),
        }
    }
}

/// All layers as one snapshot, and the hash that a diff against it names as its parent.
#[derive(Debug, Clone)]
pub struct Composed {
    /// Everything.
    pub snapshot: Snapshot,
    /// The hash of the manifest, if it is one snapshot at the root; else of the composed snapshot's
    /// encoding as a 2025-12 manifest.
    pub hash: ContentHash,
}

/// Why layers do not make one tree.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// No layer at all.
    #[error("there is no manifest to mount")]
    None,
    /// The bytes are no manifest.
    #[error("the manifest cannot be read")]
    Decode(#[from] DecodeError),
    /// A diff speaks of paths from the root.
    #[error("a diff cannot be placed in \"{0}\": it changes what lies at the root")]
    PlacedDiff(ManifestPath),
    /// A diff alone does not say what the files are.
    #[error("layer 1 is a diff; give the snapshot it was made from before it")]
    LoneDiff,
    /// Files are cut differently.
    #[error(
        "layer {layer} has a chunk size of {found}, the layers below it of {expected}; mount them apart"
    )]
    ChunkSize {
        /// 1 for the first layer.
        layer: usize,
        /// What it says.
        found: ChunkSize,
        /// What the others say.
        expected: ChunkSize,
    },
    /// A path of a layer does not fit where the layer is placed.
    #[error("layer {layer}: \"{path}\" cannot be placed")]
    Path {
        /// 1 for the first layer.
        layer: usize,
        /// The path in the manifest.
        path: ManifestPath,
        /// What is wrong with it.
        #[source]
        source: PathError,
    },
    /// Layers contradict each other.
    #[error("layer {layer} does not go with the layers below it")]
    Snapshot {
        /// 1 for the first layer.
        layer: usize,
        /// What is wrong.
        #[source]
        source: SnapshotError,
    },
    /// A diff does not apply.
    #[error("layer {layer}, a diff, does not apply to the layers below it")]
    Diff {
        /// 1 for the first layer.
        layer: usize,
        /// What is wrong.
        #[source]
        source: DiffError,
    },
    /// The result cannot be written as a manifest.
    #[error("the layers together make no manifest")]
    Encode(#[from] EncodeError),
}

/// Puts layers over one another.
pub fn compose(layers: Vec<Layer>) -> Result<Composed, LayerError> {
    let mut composed: Option<(Snapshot, Option<ContentHash>)> = None;
    for (layer, upper) in layers.into_iter().enumerate() {
        let layer = layer + 1;
        composed = Some(match (composed, upper) {
            (None, Layer::Diff(_)) => return Err(LayerError::LoneDiff),
            (
                None,
                Layer::Snapshot {
                    snapshot,
                    hash,
                    at: None,
                },
            ) => (snapshot, Some(hash)),
            (
                None,
                Layer::Snapshot {
                    snapshot,
                    at: Some(at),
                    ..
                },
            ) => {
                let nothing = Snapshot::new(snapshot.chunk_size(), None, [])
                    .map_err(|source| LayerError::Snapshot { layer, source })?;
                (place(nothing, snapshot, Some(&at), layer)?, None)
            }
            (Some((lower, _)), upper) => {
                let found = match &upper {
                    Layer::Snapshot { snapshot, .. } => snapshot.chunk_size(),
                    Layer::Diff(diff) => diff.chunk_size(),
                };
                if found != lower.chunk_size() {
                    return Err(LayerError::ChunkSize {
                        layer,
                        found,
                        expected: lower.chunk_size(),
                    });
                }
                match upper {
                    Layer::Diff(diff) => {
                        let applied = lower
                            .apply(&diff)
                            .map_err(|source| LayerError::Diff { layer, source })?;
                        (applied, None)
                    }
                    Layer::Snapshot { snapshot, at, .. } => {
                        (place(lower, snapshot, at.as_ref(), layer)?, None)
                    }
                }
            }
        });
    }
    let (snapshot, hash) = composed.ok_or(LayerError::None)?;
    let hash = match hash {
        Some(hash) => hash,
        None => ContentHash::of(&encode_snapshot(&snapshot, Format::V2025_12)?),
    };
    Ok(Composed { snapshot, hash })
}

/// Puts a snapshot over what lies below, as an overlay does: where both have a directory the two are
/// merged; anything else of the upper layer hides what it stands on.
fn place(
    lower: Snapshot,
    upper: Snapshot,
    at: Option<&ManifestPath>,
    layer: usize,
) -> Result<Snapshot, LayerError> {
    let chunk_size = upper.chunk_size();
    let mut entries: BTreeMap<ManifestPath, Node> = lower
        .entries()
        .map(|(path, node)| (path.to_owned(), node))
        .collect();
    let mut hidden: HashSet<ManifestPath> = HashSet::new();
    let below = |path: ManifestPath| match at {
        None => Ok(path),
        Some(at) => path.below(at),
    };
    let above = at
        .into_iter()
        .flat_map(|at| at.ancestors().chain([at.clone()]))
        .map(|path| Ok((path, Node::Dir)));
    let placed = upper.entries().map(|(path, node)| {
        let path = path.to_owned();
        let node = match node {
            Node::Symlink(LinkTarget::Below(target)) => {
                below(target).map(|target| Node::Symlink(LinkTarget::Below(target)))
            }
            Node::Symlink(LinkTarget::Root) => {
                Ok(Node::Symlink(at.map_or(LinkTarget::Root, |at| {
                    LinkTarget::Below(at.clone())
                })))
            }
            node => Ok(node),
        };
        let placed = node.and_then(|node| Ok((below(path.clone())?, node)));
        placed.map_err(|source| LayerError::Path {
            layer,
            path,
            source,
        })
    });
    for entry in above.chain(placed) {
        let (path, node) = entry?;
        let is_dir = node.is_dir();
        match entries.insert(path.clone(), node) {
            Some(Node::Dir) if !is_dir => {
                hidden.insert(path);
            }
            _ => {}
        }
    }
    if !hidden.is_empty() {
        entries.retain(|path, _| !path.ancestors().any(|above| hidden.contains(&above)));
    }
    Snapshot::new(chunk_size, None, entries)
        .map_err(|source| LayerError::Snapshot { layer, source })
}

#[cfg(test)]
mod tests {
    use attachfs_manifest::wire::encode_diff;
    use attachfs_manifest::{Change, PathRef};

    use super::*;
    use crate::testing::{CHUNK, any_snapshot, file, link, path, snapshot};
    use proptest::prelude::*;

    fn layer(snapshot: Snapshot, at: Option<&str>) -> Layer {
        let bytes = encode_snapshot(&snapshot, Format::V2025_12).unwrap();
        Layer::Snapshot {
            snapshot,
            hash: ContentHash::of(&bytes),
            at: at.map(path),
        }
    }

    fn composed<const N: usize>(layers: [Layer; N]) -> Snapshot {
        compose(layers.into()).unwrap().snapshot
    }

    fn encoded_hash(snapshot: &Snapshot) -> ContentHash {
        ContentHash::of(&encode_snapshot(snapshot, Format::V2025_12).unwrap())
    }

    #[test]
    fn one_manifest_is_itself_and_keeps_its_own_hash() {
        let bytes = encode_snapshot(&snapshot([("f", file(25))]), Format::V2025_12).unwrap();
        let made = compose(vec![Layer::decode(&bytes, None).unwrap()]).unwrap();
        assert_eq!(made.snapshot, snapshot([("f", file(25))]));
        assert_eq!(made.hash, ContentHash::of(&bytes));
    }

    #[test]
    fn the_upper_file_counts_and_directories_are_merged() {
        let lower = snapshot([("d/a", file(1)), ("d/b", file(2)), ("e", Node::Dir)]);
        let upper = snapshot([("d/b", file(3)), ("d/c", file(4))]);
        let made = compose(vec![layer(lower, None), layer(upper, None)]).unwrap();
        let expected = snapshot([
            ("d/a", file(1)),
            ("d/b", file(3)),
            ("d/c", file(4)),
            ("e", Node::Dir),
        ]);
        assert_eq!(made.hash, encoded_hash(&expected));
        assert_eq!(made.snapshot, expected);
    }

    #[test]
    fn what_is_no_directory_hides_all_below_it_and_is_hidden_by_one() {
        let lower = snapshot([("d/e/a", file(1)), ("d-e", file(2)), ("f", file(3))]);
        let upper = snapshot([("d", link("d-e")), ("f/x", file(4))]);
        assert_eq!(
            composed([layer(lower, None), layer(upper, None)]),
            snapshot([("d", link("d-e")), ("d-e", file(2)), ("f/x", file(4))])
        );
    }

    #[test]
    fn a_layer_moves_into_its_directory_with_its_links() {
        let lower = snapshot([("a", file(1)), ("sub", file(7))]);
        let root = Node::Symlink(LinkTarget::Root);
        let upper = snapshot([("a", file(2)), ("d/l", link("a")), ("r", root)]);
        assert_eq!(
            composed([layer(lower, None), layer(upper, Some("sub/dir"))]),
            snapshot([
                ("a", file(1)),
                ("sub/dir/a", file(2)),
                ("sub/dir/d/l", link("sub/dir/a")),
                ("sub/dir/r", link("sub/dir")),
            ])
        );
    }

    #[test]
    fn an_empty_layer_is_still_a_directory() {
        let made = compose(vec![layer(snapshot([]), Some("x/y"))]).unwrap();
        assert_eq!(made.snapshot, snapshot([("x/y", Node::Dir)]));
        assert_eq!(made.hash, encoded_hash(&made.snapshot));
    }

    #[test]
    fn a_diff_changes_all_that_lies_below_it() {
        let lower = snapshot([("a", file(1)), ("d/b", file(2))]);
        let changes = [
            (path("a"), Change::DeleteFile),
            (path("s/c"), Change::Put(file(3))),
        ];
        let diff = Diff::new(CHUNK, Some(encoded_hash(&lower)), changes).unwrap();
        let diff = Layer::decode(&encode_diff(&diff, Format::V2025_12).unwrap(), None).unwrap();
        let placed = layer(snapshot([("x", file(4))]), Some("s"));
        let made = compose(vec![layer(lower, None), placed, diff]).unwrap();
        let expected = snapshot([("d/b", file(2)), ("s/c", file(3)), ("s/x", file(4))]);
        assert_eq!(made.hash, encoded_hash(&expected));
        assert_eq!(made.snapshot, expected);
    }

    proptest! {
        #[test]
        fn the_difference_of_two_trees_over_the_one_is_the_other(old in any_snapshot(), new in any_snapshot()) {
            let diff = Layer::Diff(new.diff(&old, None));
            prop_assert_eq!(composed([layer(old, None), diff]), new);
        }

        #[test]
        fn any_layer_goes_over_any_other_and_is_seen_whole(lower in any_snapshot(), upper in any_snapshot()) {
            let made = composed([layer(lower.clone(), None), layer(upper.clone(), None)]);
            for (path, node) in upper.entries() {
                prop_assert_eq!(made.get(path), Some(node));
            }
            for (path, node) in made.entries() {
                prop_assert!([&lower, &upper].iter().any(|layer| layer.get(path).as_ref() == Some(&node)));
            }
            for (path, node) in lower.entries() {
                let hides = |above: PathRef<'_>| upper.get(above).is_some_and(|node| !node.is_dir());
                let hidden = upper.get(path).is_some() || path.ancestors().any(hides);
                prop_assert!(hidden || made.get(path) == Some(node));
            }
        }
    }

    #[test]
    fn layers_that_make_no_tree_say_which_and_why() {
        assert!(matches!(compose(Vec::new()), Err(LayerError::None)));
        let diff = snapshot([("a", file(1))]).diff(&snapshot([]), None);
        let bytes = encode_diff(&diff, Format::V2025_12).unwrap();
        assert!(matches!(
            compose(vec![Layer::Diff(diff)]),
            Err(LayerError::LoneDiff)
        ));
        match Layer::decode(&bytes, Some(path("d"))) {
            Err(LayerError::PlacedDiff(at)) => assert_eq!(at, path("d")),
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            Layer::decode(b"{}", None),
            Err(LayerError::Decode(_))
        ));

        let gone = Diff::new(CHUNK, None, [(path("b"), Change::DeleteFile)]).unwrap();
        let layers = vec![layer(snapshot([("a", file(1))]), None), Layer::Diff(gone)];
        match compose(layers) {
            Err(LayerError::Diff { layer: 2, source }) => {
                assert_eq!(source.path(), Some(&path("b")));
            }
            other => panic!("{other:?}"),
        }

        let whole = Snapshot::new(ChunkSize::WholeFile, None, []).unwrap();
        let layers = vec![layer(snapshot([]), None), layer(whole, None)];
        let error = compose(layers).unwrap_err();
        assert_eq!(
            error.to_string(),
            "layer 2 has a chunk size of the whole file, the layers below it of 10 bytes; mount \
             them apart"
        );

        let long = vec!["d"; 2000].join("/");
        let layers = vec![layer(
            snapshot([(&long, Node::Dir)]),
            Some(
                "a-long-name/below-the-root/that-is-too-much-when-put-before-it/as-it-is-longer-than-what-is-left",
            ),
        )];
        assert!(matches!(
            compose(layers),
            Err(LayerError::Path { layer: 1, .. })
        ));
    }
}
