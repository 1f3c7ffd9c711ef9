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
        "layer {layer} cuts files into chunks of {found}, the layers below it into chunks of {expected}; mount them apart"
    )]
    ChunkSize {
        /// 1 for the first layer.
        layer: usize,
        /// What it says.
        found: String,
        /// What the others say.
        expected: String,
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

fn say(size: ChunkSize) -> String {
    match size {
        ChunkSize::WholeFile => "whole files".to_owned(),
        ChunkSize::Bytes(bytes) => format!("{bytes} bytes"),
    }
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
                    let expected = say(lower.chunk_size());
                    return Err(LayerError::ChunkSize {
                        layer,
                        found: say(found),
                        expected,
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
    let mut entries: BTreeMap<ManifestPath, Node> = lower.into_entries().collect();
    let mut hidden: HashSet<ManifestPath> = HashSet::new();
    let below = |path: ManifestPath| match at {
        None => Ok(path),
        Some(at) => path.below(at),
    };
    let above = at
        .into_iter()
        .flat_map(|at| at.ancestors().chain([at.clone()]))
        .map(|path| Ok((path, Node::Dir)));
    let placed = upper.into_entries().map(|(path, node)| {
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
