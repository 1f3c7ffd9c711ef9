//! What layering means, one layer at a time: the model that tests compare the walk over all layers
//! with.

use std::collections::{BTreeMap, HashSet};

use attachfs_manifest::wire::Manifest;
use attachfs_manifest::{LinkTarget, ManifestPath, Node, Snapshot};

use super::{Layer, LayerError};

/// Puts layers over one another, without checking parents. All cut files alike.
pub(super) fn compose(layers: &[Layer]) -> Result<Snapshot, LayerError> {
    let mut composed: Option<Snapshot> = None;
    for (number, upper) in (1..).zip(layers) {
        composed = Some(match (composed, &upper.manifest) {
            (None, Manifest::Diff(_)) => return Err(LayerError::LoneDiff),
            (Some(lower), Manifest::Diff(diff)) => {
                // A diff that names its parent is taken to have been made from it.
                let applied = match diff.parent() {
                    Some(_) => lower.apply_composed(diff),
                    None => lower.apply(diff),
                };
                applied.map_err(|source| LayerError::Diff {
                    layer: number,
                    source,
                })?
            }
            (lower, Manifest::Snapshot(snapshot)) => {
                place(lower.as_ref(), snapshot, upper.at.as_ref(), number)?
            }
        });
    }
    composed.ok_or(LayerError::None)
}

/// Puts a snapshot over what lies below, as an overlay does: where both have a directory the two are
/// merged; anything else of the upper layer hides what it stands on.
fn place(
    lower: Option<&Snapshot>,
    upper: &Snapshot,
    at: Option<&ManifestPath>,
    layer: usize,
) -> Result<Snapshot, LayerError> {
    let mut entries: BTreeMap<ManifestPath, Node> = lower
        .into_iter()
        .flat_map(Snapshot::entries)
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
        if let Some(Node::Dir) = entries.insert(path.clone(), node)
            && !is_dir
        {
            hidden.insert(path);
        }
    }
    entries.retain(|path, _| !path.ancestors().any(|above| hidden.contains(&above)));
    Snapshot::new(upper.chunk_size(), None, entries)
        .map_err(|source| LayerError::Snapshot { layer, source })
}
