//! Several manifests become one, and two are compared.

use attachfs_manifest::wire::{Format, Manifest};
use attachfs_manifest::{Changes, ChunkSize, DiffOptions, Snapshot, merge};
use attachfs_tree::{Layer, LayerOptions, Root, compose};

use super::opened::{MadeManifest, OpenedManifest, OperationError};
use crate::error::Error;

/// What changed between two snapshots.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The diff manifest.
    pub diff: MadeManifest,
    /// The same as lists.
    pub changes: Changes,
}

/// What changed from `old` to `new`. The diff names the old manifest as its parent.
pub fn compare(
    old: &OpenedManifest,
    new: &OpenedManifest,
    options: DiffOptions,
) -> Result<Comparison, Error> {
    check_style(old, new)?;
    let (base, now) = (old.snapshot()?, new.snapshot()?);
    let cuts = [base.chunk_size(), now.chunk_size()];
    if cuts[0] != cuts[1] && [base, now].iter().any(|one| needs_its_cut(one, cuts)) {
        return Err(new.refused(OperationError::ChunkSize {
            old: cuts[0],
            new: cuts[1],
        }));
    }
    let diff = now.diff_by(base, Some(old.hash), options);
    let changes = Changes::of(&diff, base);
    let format = diff_format(old.written_format());
    let diff = MadeManifest::new(Manifest::Diff(diff), format);
    Ok(Comparison {
        diff: diff.map_err(|error| new.refused(error))?,
        changes,
    })
}

/// Whether a file says how it is cut: it is in chunks, or in one piece and longer than a chunk.
fn needs_its_cut(snapshot: &Snapshot, cuts: [ChunkSize; 2]) -> bool {
    let is_cut = |size| cuts.iter().any(|cut| cut.count(size) > 1);
    let mut files = snapshot.entries();
    files.any(|(_, node)| node.as_file().is_some_and(|file| is_cut(file.size)))
}

/// 2023-03-03 has no diffs.
fn diff_format(format: Format) -> Format {
    match format {
        Format::V2023_03_03 | Format::V2025_12 | Format::Draft2025_12_04 => Format::V2025_12,
        Format::V2025_12Absolute => Format::V2025_12Absolute,
    }
}

fn check_style(first: &OpenedManifest, other: &OpenedManifest) -> Result<(), Error> {
    if first.format.is_absolute() == other.format.is_absolute() {
        return Ok(());
    }
    Err(other.refused(OperationError::Style {
        first: first.format,
        found: other.format,
    }))
}

fn first_of(manifests: &[OpenedManifest]) -> Result<&OpenedManifest, Error> {
    let none = || Error::usage("there is no manifest to work on");
    let first = manifests.first().ok_or_else(none)?;
    for other in manifests {
        check_style(first, other)?;
    }
    Ok(first)
}

/// Puts a snapshot and what follows it, or diffs alone, together into one. Later snapshots are laid over
/// what lies before them.
pub fn compose_manifests(
    manifests: Vec<OpenedManifest>,
    ignore_parent: bool,
) -> Result<MadeManifest, Error> {
    let first = first_of(&manifests)?;
    let format = first.written_format();
    let made = match &first.manifest {
        Manifest::Diff(diff) => {
            let mut together = diff.clone();
            for next in &manifests[1..] {
                together = together
                    .then(next.diff()?)
                    .map_err(|error| next.refused(error))?;
            }
            Manifest::Diff(together)
        }
        Manifest::Snapshot(_) => {
            let name = first.name.clone();
            let options = LayerOptions {
                root: format.is_absolute().then_some(Root::Machine),
                ignore_parent,
            };
            let layers = manifests
                .into_iter()
                .map(|one| Layer::new(one.manifest, one.hash, one.format));
            let composed = compose(layers.collect(), &options);
            let composed = composed.map_err(|error| OperationError::from(error).of(&name))?;
            Manifest::Snapshot(composed.snapshot)
        }
    };
    let has_kinds = |manifest: &Manifest| match manifest {
        Manifest::Diff(_) => true,
        Manifest::Snapshot(snapshot) => needs_2025(snapshot),
    };
    let format = match format {
        Format::V2023_03_03 if has_kinds(&made) => Format::V2025_12,
        format => format,
    };
    Ok(MadeManifest::new(made, format)?)
}

/// Whether 2023-03-03 would refuse the snapshot.
fn needs_2025(snapshot: &Snapshot) -> bool {
    snapshot.entries().any(|(_, node)| match node {
        attachfs_manifest::Node::Dir => false,
        attachfs_manifest::Node::Symlink(_) => true,
        attachfs_manifest::Node::File(file) => file.content.hashes().len() != 1,
    })
}

/// Merges snapshots as the Python library does: of each path the last counts.
pub fn merge_manifests(manifests: &[OpenedManifest]) -> Result<MadeManifest, Error> {
    let first = first_of(manifests)?;
    let snapshots = manifests.iter().map(OpenedManifest::snapshot);
    let snapshots: Vec<&Snapshot> = snapshots.collect::<Result<_, _>>()?;
    let merged = merge(&snapshots).map_err(|error| first.refused(error))?;
    let merged = merged.ok_or_else(|| Error::usage("there is nothing to merge"))?;
    let mut formats = manifests.iter().map(OpenedManifest::written_format);
    let format = formats
        .find(|&format| format != Format::V2023_03_03)
        .unwrap_or_else(|| first.written_format());
    Ok(MadeManifest::new(Manifest::Snapshot(merged), format)?)
}
