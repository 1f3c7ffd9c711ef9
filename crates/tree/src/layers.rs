//! Several manifests, one tree.
//!
//! ```text
//!     diff           changes the result of all layers below it, strictly
//!     snapshot=sub   lies over them, moved into "sub" with its links
//!     snapshot       lies over them: directories merge, anything else hides what is below it
//!     snapshot       the lowest layer
//! ```
//!
//! A diff deletes only what the layers below it have. One that names its parent may delete more: it can
//! be several diffs in one ([`Diff::then`](attachfs_manifest::Diff::then)), and its parent is checked.
//!
//! All layers are put together in one walk ([`merge`]). Only a diff whose parent is not among the hashes
//! of the manifests needs another walk: then the layers below it are put together first, and encoded.
//!
//! Layers with absolute paths come first. They are put together as they are, then one directory of them
//! becomes the root, and layers with relative paths lie over that.

mod merge;
#[cfg(test)]
mod reference;
mod saying;
mod stream;
#[cfg(test)]
mod tests;

use attachfs_manifest::wire::{
    DecodeError, EncodeError, Format, Manifest, decode, encode_snapshot,
};
use attachfs_manifest::{
    Change, ChunkSize, Content, ContentHash, DiffError, ManifestPath, Node, PathError, Snapshot,
    SnapshotError,
};

use serde::{Deserialize, Serialize};

use crate::{Root, RootError};
use merge::merge;

pub use saying::Said;

/// A manifest and where it goes. The second layer lies over the first, and so on.
#[derive(Debug, Clone)]
pub struct Layer {
    manifest: Manifest,
    /// Of the manifest's bytes.
    hash: ContentHash,
    /// The directory it is placed in; nothing but a relative snapshot is.
    at: Option<ManifestPath>,
    is_absolute: bool,
}

impl Layer {
    /// The layer that a manifest's bytes are, placed in `at`, or at the root. A diff and an absolute
    /// manifest cannot be placed in a directory.
    pub fn decode(bytes: &[u8], at: Option<ManifestPath>) -> Result<Self, LayerError> {
        let (format, manifest) = decode(bytes)?;
        match (at, &manifest) {
            (Some(at), _) if format.is_absolute() => Err(LayerError::PlacedAbsolute(at)),
            (Some(at), Manifest::Diff(_)) => Err(LayerError::PlacedDiff(at)),
            (at, _) => Ok(Self {
                manifest,
                hash: ContentHash::of(bytes),
                at,
                is_absolute: format.is_absolute(),
            }),
        }
    }

    /// The layer that a manifest is, at the root; `hash` is that of its bytes.
    pub fn new(manifest: Manifest, hash: ContentHash, format: Format) -> Self {
        Self {
            manifest,
            hash,
            at: None,
            is_absolute: format.is_absolute(),
        }
    }

    fn manifest_len(&self) -> usize {
        match &self.manifest {
            Manifest::Snapshot(snapshot) => snapshot.len(),
            Manifest::Diff(diff) => diff.len(),
        }
    }

    /// A snapshot at the root.
    fn root_snapshot(snapshot: Snapshot, hash: ContentHash) -> Self {
        Self {
            manifest: Manifest::Snapshot(snapshot),
            hash,
            at: None,
            is_absolute: false,
        }
    }
}

/// How layers are put together, beside the layers themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerOptions {
    /// The directory of absolute manifests that is shown.
    pub root: Option<Root>,
    /// Do not check that the layers below a diff are the parent that it names.
    pub ignore_parent: bool,
}

/// All layers as one snapshot, and the hash that a diff against it names as its parent.
#[derive(Debug, Clone)]
pub struct Composed {
    /// Everything.
    pub snapshot: Snapshot,
    /// The hash of the manifest, if it is one relative snapshot at the root; else of the composed
    /// snapshot's encoding as a 2025-12 manifest.
    pub hash: ContentHash,
}

/// Why layers do not make one tree. Layers are counted from 1 for the lowest.
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
    /// A manifest of absolute paths cannot be placed in a directory.
    #[error(
        "a manifest of absolute paths cannot be placed in \"{0}\"; `attachfs manifest subtree` makes a \
         relative one of it"
    )]
    PlacedAbsolute(ManifestPath),
    /// A diff alone does not say what the files are.
    #[error("layer 1 is a diff; give the snapshot it was made from before it")]
    LoneDiff,
    /// Paths of a whole machine over those of some directory.
    #[error("layer {0} has absolute paths, a layer below it relative ones")]
    AbsoluteOverRelative(usize),
    /// The directory that is shown of absolute manifests cannot be used.
    #[error(transparent)]
    Root(#[from] RootError),
    /// A diff was made from something else.
    #[error(
        "layer {layer}, a diff, was made from a manifest with the hash {expected}, but what lies below it \
         has the hash {found}; `--ignore-parent` layers it all the same (`attachfs add` goes by that of its mount)"
    )]
    Parent {
        /// The diff.
        layer: usize,
        /// What it says.
        expected: ContentHash,
        /// What all layers below it together have.
        found: ContentHash,
    },
    /// Files are cut differently.
    #[error(
        "layer {layer} has a chunk size of {found}, the layers below it of {expected}; mount them apart"
    )]
    ChunkSize {
        /// The layer.
        layer: usize,
        /// What it says.
        found: ChunkSize,
        /// What the others say.
        expected: ChunkSize,
    },
    /// A path of a layer does not fit where the layer is placed.
    #[error("layer {layer}: \"{path}\" cannot be placed")]
    Path {
        /// The layer.
        layer: usize,
        /// The path in the manifest.
        path: ManifestPath,
        /// What is wrong with it.
        #[source]
        source: PathError,
    },
    /// Layers contradict each other.
    #[error("layer {layer} does not fit the layers below it")]
    Snapshot {
        /// The layer.
        layer: usize,
        /// What is wrong.
        #[source]
        source: SnapshotError,
    },
    /// A diff does not apply.
    #[error("layer {layer}, a diff, does not apply to the layers below it")]
    Diff {
        /// The layer.
        layer: usize,
        /// What is wrong.
        #[source]
        source: DiffError,
    },
    /// The result cannot be written as a manifest.
    #[error("the layers together make no manifest")]
    Encode(#[from] EncodeError),
}

/// Puts layers over one another. A lone snapshot at the root is taken as it is.
pub fn compose(layers: Vec<Layer>, options: &LayerOptions) -> Result<Composed, LayerError> {
    match layers.first() {
        None => return Err(LayerError::None),
        Some(first) if matches!(first.manifest, Manifest::Diff(_)) => {
            return Err(LayerError::LoneDiff);
        }
        Some(_) => {}
    }
    let count = layers.iter().take_while(|layer| layer.is_absolute).count();
    if let Some(over) = layers[count..].iter().position(|layer| layer.is_absolute) {
        return Err(LayerError::AbsoluteOverRelative(count + over + 1));
    }
    let mut absolute: Vec<_> = (1..).zip(layers).collect();
    let mut relative = absolute.split_off(count);
    match (&options.root, absolute.last()) {
        (Some(_), None) => return Err(RootError::Relative.into()),
        (None, Some(_)) => {
            let common = Root::common(absolute.iter().map(|(_, layer)| &layer.manifest));
            return Err(RootError::Missing(common).into());
        }
        (None, None) => {}
        (Some(root), Some(&(number, _))) => {
            let whole = flatten(stack(absolute, Format::V2025_12Absolute, options)?)?.snapshot;
            if let Manifest::Snapshot(shown) = root.show(Manifest::Snapshot(whole))? {
                // No manifest has this hash once more layers follow: their diffs name the composed
                // snapshot as their parent.
                let hash = encoded_hash(&shown, Format::V2025_12)?;
                relative.insert(0, (number, Layer::root_snapshot(shown, hash)));
            }
        }
    }
    let Flat { snapshot, hash } = flatten(stack(relative, Format::V2025_12, options)?)?;
    let hash = match hash {
        Some(hash) => hash,
        None => encoded_hash(&snapshot, Format::V2025_12)?,
    };
    Ok(Composed { snapshot, hash })
}

fn encoded_hash(snapshot: &Snapshot, format: Format) -> Result<ContentHash, EncodeError> {
    Ok(ContentHash::of(&encode_snapshot(snapshot, format)?))
}

/// Checks the parents of diffs. Where a diff's parent is not the hash of a manifest, the layers
/// below it are put together; returns the layers that are left to merge.
fn stack(
    layers: Vec<(usize, Layer)>,
    format: Format,
    options: &LayerOptions,
) -> Result<Vec<(usize, Layer)>, LayerError> {
    let mut lower: Vec<(usize, Layer)> = Vec::with_capacity(layers.len());
    for (number, layer) in layers {
        if let Manifest::Diff(diff) = &layer.manifest
            && let Some(said) = diff.parent()
            && !options.ignore_parent
            && let Some(&(below, Layer { hash, at: ref place, .. })) = lower.last()
            // A diff of a chain names the manifest before it; a diff over a placed snapshot names
            // the composed snapshot.
            && !(place.is_none() && hash == said)
        {
            let flat = flatten(lower)?;
            let encoded = encoded_hash(&flat.snapshot, format)?;
            if encoded != said {
                return Err(LayerError::Parent {
                    layer: number,
                    expected: said,
                    found: flat.hash.unwrap_or(encoded),
                });
            }
            let whole = Layer::root_snapshot(flat.snapshot, encoded);
            lower = vec![(below, whole)];
        }
        lower.push((number, layer));
    }
    Ok(lower)
}

struct Flat {
    snapshot: Snapshot,
    /// Of the manifest, if it is one.
    hash: Option<ContentHash>,
}

/// Puts layers together without checking the parents of diffs.
fn flatten(mut layers: Vec<(usize, Layer)>) -> Result<Flat, LayerError> {
    let is_alone = layers.len() == 1 && layers[0].1.at.is_none();
    if is_alone
        && let Some((_, layer)) = layers.pop()
        && let Manifest::Snapshot(snapshot) = layer.manifest
    {
        let hash = Some(layer.hash);
        return Ok(Flat { snapshot, hash });
    }
    let (limit, chunk_size, wrong) = check_each(&layers);
    let snapshot = merge(&layers, limit, chunk_size)?;
    match wrong {
        Some(error) => Err(error),
        None => Ok(Flat {
            snapshot,
            hash: None,
        }),
    }
}

/// The chunk size that does for all layers. If a layer has no place in that, or does not fit its
/// directory: the chunk size of the layers below it, their number, and the error. One of those may
/// still fail by itself.
fn check_each(layers: &[(usize, Layer)]) -> (usize, ChunkSize, Option<LayerError>) {
    let (mut fitting, mut chunk_size) = (layers.len(), layers[0].1.manifest.chunk_size());
    let mut wrong = None;
    let is_other = |(_, layer): &(usize, Layer)| layer.manifest.chunk_size() != chunk_size;
    if layers.iter().any(is_other) {
        let cuts: Vec<_> = layers
            .iter()
            .map(|(_, layer)| Cut::of(&layer.manifest))
            .collect();
        if let Some(size) = Cut::common(&cuts) {
            chunk_size = size;
        } else {
            for (place, (layer, _)) in layers.iter().enumerate() {
                let Some(size) = Cut::common(&cuts[..=place]) else {
                    fitting = place;
                    wrong = Some(LayerError::ChunkSize {
                        layer: *layer,
                        found: cuts[place].chunk_size,
                        expected: chunk_size,
                    });
                    break;
                };
                chunk_size = size;
            }
        }
    }
    for (place, (layer, Layer { manifest, at, .. })) in layers[..fitting].iter().enumerate() {
        if let (Manifest::Snapshot(snapshot), Some(at)) = (manifest, at)
            && let Err((path, source)) = stream::check_fit(snapshot, at)
        {
            let layer = *layer;
            wrong = Some(LayerError::Path {
                layer,
                path,
                source,
            });
            fitting = place;
            break;
        }
    }
    (fitting, chunk_size, wrong)
}

/// How the files of a manifest are cut.
#[derive(Debug, Clone, Copy)]
struct Cut {
    chunk_size: ChunkSize,
    /// Whether a file is stored in several chunks.
    in_chunks: bool,
    /// The size of the longest file that is stored in one piece.
    longest_whole: u64,
}

impl Cut {
    fn of(manifest: &Manifest) -> Self {
        let mut cut = Self {
            chunk_size: manifest.chunk_size(),
            in_chunks: false,
            longest_whole: 0,
        };
        let mut look = |node: &Node| match node.as_file().map(|file| (&file.content, file.size)) {
            Some((Content::Chunks(_), _)) => cut.in_chunks = true,
            Some((Content::Whole(_) | Content::Unhashed, size)) => {
                cut.longest_whole = cut.longest_whole.max(size);
            }
            None => {}
        };
        match manifest {
            Manifest::Snapshot(snapshot) => snapshot.entries().for_each(|(_, node)| look(&node)),
            Manifest::Diff(diff) => diff.changes().for_each(|(_, change)| {
                if let Change::Put(node) = change {
                    look(&node);
                }
            }),
        }
        cut
    }

    /// Whether a manifest that says `chunk_size` would have the same files.
    fn does_with(self, chunk_size: ChunkSize) -> bool {
        let is_short_enough = match chunk_size {
            ChunkSize::WholeFile => true,
            ChunkSize::Bytes(bytes) => self.longest_whole <= bytes.get(),
        };
        self.chunk_size == chunk_size || !self.in_chunks && is_short_enough
    }

    /// The first chunk size, from the lowest layer up, that does for all.
    fn common(cuts: &[Self]) -> Option<ChunkSize> {
        let sizes = cuts.iter().map(|cut| cut.chunk_size);
        let mut sizes = sizes.filter(|&size| cuts.iter().all(|cut| cut.does_with(size)));
        sizes.next()
    }
}
