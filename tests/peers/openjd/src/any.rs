//! A manifest of any kind: the crate has a type for each, the protocol a word.

use openjd_snapshots::{
    AbsSnapshotDiff, DecodedManifest, DirEntry, FileEntry, HashAlgorithm, Manifest, Snapshot,
    SnapshotDiff, decode_manifest, encode_abs_snapshot_diff_v2025, encode_abs_snapshot_v2025,
    encode_snapshot_diff_v2025, encode_snapshot_v2025,
};
use serde_json::{Value, json};

use crate::request::{Fault, Request, needed};

/// Does the same with the manifest of every kind.
macro_rules! each {
    ($any:expr, $manifest:ident => $work:expr) => {
        match $any {
            DecodedManifest::AbsSnapshot($manifest) => $work,
            DecodedManifest::AbsSnapshotDiff($manifest) => $work,
            DecodedManifest::Snapshot($manifest) => $work,
            DecodedManifest::SnapshotDiff($manifest) => $work,
        }
    };
}

/// What a 2025-12 manifest is called in requests and answers; 2023-03-03 is decoded to `rel_snapshot`.
pub(crate) fn kind(manifest: &DecodedManifest) -> &'static str {
    match manifest {
        DecodedManifest::AbsSnapshot(_) => "abs_snapshot",
        DecodedManifest::AbsSnapshotDiff(_) => "abs_diff",
        DecodedManifest::Snapshot(_) => "rel_snapshot",
        DecodedManifest::SnapshotDiff(_) => "rel_diff",
    }
}

/// Into the 2025-12 format of its kind.
pub(crate) fn encode(manifest: &DecodedManifest) -> openjd_snapshots::Result<String> {
    match manifest {
        DecodedManifest::AbsSnapshot(manifest) => encode_abs_snapshot_v2025(manifest),
        DecodedManifest::AbsSnapshotDiff(manifest) => encode_abs_snapshot_diff_v2025(manifest),
        DecodedManifest::Snapshot(manifest) => encode_snapshot_v2025(manifest),
        DecodedManifest::SnapshotDiff(manifest) => encode_snapshot_diff_v2025(manifest),
    }
}

pub(crate) fn validate(manifest: &DecodedManifest) -> openjd_snapshots::Result<()> {
    each!(manifest, manifest => manifest.validate())
}

/// As an answer tells it.
pub(crate) fn tell(manifest: &DecodedManifest) -> Value {
    each!(manifest, manifest => json!({
        "files": manifest.files,
        "dirs": manifest.dirs,
        "totalSize": manifest.total_size,
        "fileChunkSizeBytes": manifest.file_chunk_size_bytes,
        "parentManifestHash": manifest.parent_manifest_hash,
    }))
}

pub(crate) fn decode(text: &str) -> openjd_snapshots::Result<DecodedManifest> {
    decode_manifest(text)
}

fn not(expected: &str, found: &DecodedManifest) -> Fault {
    Fault::request(format!("{} where {expected} is needed", kind(found)))
}

pub(crate) fn decode_snapshot(text: &str) -> Result<Snapshot, Fault> {
    match decode_manifest(text)? {
        DecodedManifest::Snapshot(manifest) => Ok(manifest),
        other => Err(not("rel_snapshot", &other)),
    }
}

pub(crate) fn decode_diff(text: &str) -> Result<SnapshotDiff, Fault> {
    match decode_manifest(text)? {
        DecodedManifest::SnapshotDiff(manifest) => Ok(manifest),
        other => Err(not("rel_diff", &other)),
    }
}

pub(crate) fn decode_abs_diff(text: &str) -> Result<AbsSnapshotDiff, Fault> {
    match decode_manifest(text)? {
        DecodedManifest::AbsSnapshotDiff(manifest) => Ok(manifest),
        other => Err(not("abs_diff", &other)),
    }
}

/// From the fields of an `encode` request, with the crate's own constructors: they normalise paths and targets.
pub(crate) fn build(request: &Request) -> Result<DecodedManifest, Fault> {
    let files = request.objects("files")?;
    let files: Vec<_> = files.iter().map(file).collect::<Result<_, _>>()?;
    let dirs = request.objects("dirs")?;
    let dirs: Vec<_> = dirs.iter().map(dir).collect::<Result<_, _>>()?;
    let chunk_size = request.integer("fileChunkSizeBytes")?;
    let chunk_size = chunk_size.unwrap_or(openjd_snapshots::DEFAULT_FILE_CHUNK_SIZE);
    let parent = request.text("parentManifestHash")?.map(str::to_owned);
    let total_size = request.size("totalSize")?;
    macro_rules! built {
        ($variant:ident) => {{
            let made = Manifest::new(HashAlgorithm::Xxh128, chunk_size);
            let made = made.with_files(files).with_dirs(dirs);
            let mut made = made.with_parent_hash(parent);
            made.total_size = total_size.unwrap_or(made.total_size);
            DecodedManifest::$variant(made)
        }};
    }
    match needed("kind", request.text("kind"))? {
        "abs_snapshot" => Ok(built!(AbsSnapshot)),
        "abs_diff" => Ok(built!(AbsSnapshotDiff)),
        "rel_snapshot" | "v2023" => Ok(built!(Snapshot)),
        "rel_diff" => Ok(built!(SnapshotDiff)),
        other => Err(Fault::request(format!("no kind {other}"))),
    }
}

fn file(fields: &Request) -> Result<FileEntry, Fault> {
    let path = needed("path", fields.text("path"))?;
    let mut file = match fields.text("symlink_target")? {
        Some(target) => FileEntry::symlink(path, target),
        None => FileEntry::new(path),
    };
    file.hash = fields.text("hash")?.map(str::to_owned);
    file.size = fields.size("size")?;
    file.mtime = fields.size("mtime")?;
    let chunks = fields.texts("chunkhashes")?;
    file.chunk_hashes = chunks.map(|all| all.into_iter().map(str::to_owned).collect());
    file.runnable = fields.flag("runnable", false)?;
    file.deleted = fields.flag("deleted", false)?;
    Ok(file)
}

fn dir(fields: &Request) -> Result<DirEntry, Fault> {
    let path = needed("path", fields.text("path"))?;
    Ok(match fields.flag("deleted", false)? {
        true => DirEntry::deleted(path),
        false => DirEntry::new(path),
    })
}
