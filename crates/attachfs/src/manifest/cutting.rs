//! One manifest becomes another, or several.

use attachfs_manifest::wire::{Format, Manifest};
use attachfs_manifest::{Losses, PartitionOptions, PathFilter, SymlinkPolicy, what_is_lost};

use super::opened::{MadeManifest, OpenedManifest, path_in};
use crate::error::Error;

/// Keeps the files, links and empty directories that the filter chooses, and what lies above them.
pub fn filter_manifest(
    opened: &OpenedManifest,
    filter: &PathFilter,
) -> Result<MadeManifest, Error> {
    let filtered = match &opened.manifest {
        Manifest::Snapshot(snapshot) => {
            Manifest::Snapshot(snapshot.filter(|path, _| filter.matches(path.as_bytes())))
        }
        Manifest::Diff(diff) => {
            Manifest::Diff(diff.filter(|path, _| filter.matches(path.as_bytes())))
        }
    };
    made(opened, filtered)
}

fn made(opened: &OpenedManifest, manifest: Manifest) -> Result<MadeManifest, Error> {
    let made = MadeManifest::new(manifest, opened.written_format());
    made.map_err(|error| opened.refused(error))
}

/// Takes out a directory, which becomes the root: the result is relative.
pub fn subtree_manifest(
    opened: &OpenedManifest,
    directory: &[u8],
    symlinks: SymlinkPolicy,
) -> Result<MadeManifest, Error> {
    let directory = opened.path(directory)?;
    let cut = match &opened.manifest {
        Manifest::Snapshot(snapshot) => snapshot
            .subtree(directory.as_ref(), symlinks)
            .map(Manifest::Snapshot),
        Manifest::Diff(diff) => diff
            .subtree(directory.as_ref(), symlinks)
            .map(Manifest::Diff),
    };
    let cut = cut.map_err(|error| opened.refused(error))?;
    relative(opened, cut)
}

fn relative(opened: &OpenedManifest, manifest: Manifest) -> Result<MadeManifest, Error> {
    let format = match opened.written_format() {
        Format::V2025_12Absolute => Format::V2025_12,
        format => format,
    };
    MadeManifest::new(manifest, format).map_err(|error| opened.refused(error))
}

/// Puts everything into a directory. An absolute path makes an absolute manifest.
pub fn join_manifest(opened: &OpenedManifest, directory: &[u8]) -> Result<MadeManifest, Error> {
    let to_absolute = directory.starts_with(b"/") || super::opened::is_on_drive(directory);
    if opened.format.is_absolute() {
        return Err(Error::usage(format!(
            "{} has absolute paths already; take out a directory with `subtree` first",
            opened.name
        )));
    }
    let prefix = path_in(to_absolute, directory).map_err(|error| opened.refused(error))?;
    let joined = match (&opened.manifest, &prefix) {
        (manifest, None) => Ok(manifest.clone()),
        (Manifest::Snapshot(snapshot), Some(prefix)) => {
            snapshot.join(prefix).map(Manifest::Snapshot)
        }
        (Manifest::Diff(diff), Some(prefix)) => diff.join(prefix).map(Manifest::Diff),
    };
    let joined = joined.map_err(|error| opened.refused(error))?;
    let format = if to_absolute {
        Format::V2025_12Absolute
    } else {
        opened.written_format()
    };
    MadeManifest::new(joined, format).map_err(|error| opened.refused(error))
}

/// A part of a manifest, relative to its root.
#[derive(Debug, Clone)]
pub struct PartManifest {
    /// Its root: a path of the manifest, `/` or `.` for the manifest's own.
    pub root: String,
    /// What lies below it.
    pub made: MadeManifest,
}

/// Splits a snapshot by root directories: those given, or else those that the snapshot's own directories suggest.
pub fn partition_manifest(
    opened: &OpenedManifest,
    roots: &[Vec<u8>],
    symlinks: SymlinkPolicy,
) -> Result<Vec<PartManifest>, Error> {
    let is_absolute = opened.format.is_absolute();
    let mut below = Vec::new();
    for root in roots {
        match opened.path(root)? {
            Some(root) => below.push(root),
            None => {
                return Err(Error::usage(
                    "the root of the manifest itself is no part of it",
                ));
            }
        }
    }
    let options = PartitionOptions {
        roots: below,
        referenced: Vec::new(),
        symlinks,
        is_absolute,
    };
    let parts = opened.snapshot()?.partition(&options);
    let parts = parts.map_err(|error| opened.refused(error))?;
    let shown = |root: Option<&attachfs_manifest::ManifestPath>| match (root, is_absolute) {
        (None, true) => "/".to_owned(),
        (None, false) => ".".to_owned(),
        (Some(root), true) if !super::opened::is_on_drive(root.as_bytes()) => format!("/{root}"),
        (Some(root), _) => root.to_string(),
    };
    parts
        .into_iter()
        .map(|(root, part)| {
            Ok(PartManifest {
                root: shown(root.as_ref()),
                made: relative(opened, Manifest::Snapshot(part))?,
            })
        })
        .collect()
}

/// Writes a manifest in another format, and says what that drops.
pub fn convert_manifest(
    opened: &OpenedManifest,
    format: Format,
) -> Result<(MadeManifest, Losses), Error> {
    if opened.format.is_absolute() != format.is_absolute() {
        return Err(Error::usage(format!(
            "{} is of format {}: `join` puts it below an absolute path, `subtree` takes a directory out",
            opened.name, opened.format
        )));
    }
    let losses = what_is_lost(&opened.manifest, format);
    let converted = match format {
        Format::V2023_03_03 => {
            let converted = opened.manifest.downgrade();
            Manifest::Snapshot(converted.map_err(|error| opened.refused(error))?)
        }
        _ => opened.manifest.clone(),
    };
    let made = MadeManifest::new(converted, format);
    Ok((made.map_err(|error| opened.refused(error))?, losses))
}
