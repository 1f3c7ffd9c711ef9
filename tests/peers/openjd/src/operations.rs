//! The operations, each from a request to what it answers.

use std::path::PathBuf;
use std::sync::Arc;

use openjd_snapshots::hash::hash_data;
use openjd_snapshots::{
    AbsManifest, AbsSnapshot, CollectOptions, DecodedManifest, DiffOptions, HashCache, HashOptions,
    IncludeExcludePathsFilter, PartitionOptions, SymlinkPolicy, collect_abs_snapshot,
    compose_diffs, compose_snapshot_with_diffs, diff_snapshots, encode_snapshot_v2023,
    filter_manifest, hash_abs_snapshot, hash_abs_snapshot_diff, join_snapshot, join_snapshot_diff,
    join_snapshot_diff_rel, join_snapshot_rel, partition_manifest, partition_rel_manifest,
    subtree_rel_snapshot, subtree_rel_snapshot_diff, subtree_snapshot, subtree_snapshot_diff,
};
use serde_json::{Value, json};

use crate::any;
use crate::request::{Fault, Request, from_bytes, needed};
use crate::timing;
use crate::transfer::Transfer;

pub(crate) fn perform(request: &Request) -> Result<Value, Fault> {
    match needed("op", request.text("op"))? {
        "encode" => encode(request),
        "decode" => decode(request),
        "hash" => {
            let bytes = needed("bytes", request.bytes("bytes"))?;
            Ok(json!({ "hash": hash_data(&bytes) }))
        }
        "collect" => collect(request),
        "hash_files" => hash_files(request),
        "diff" => diff(request),
        "compose" => compose(request),
        "filter" => filter(request),
        "subtree" => subtree(request),
        "partition" => partition(request),
        "join" => join(request),
        "upload" => upload(request),
        "download" => {
            let text = needed("manifest", request.manifest("manifest"))?;
            Transfer::new(request)?.download(&any::decode_snapshot(&text)?, request)?;
            Ok(json!({}))
        }
        "time" => timing::perform(request),
        other => Err(Fault::request(format!("no operation {other}"))),
    }
}

fn upload(request: &Request) -> Result<Value, Fault> {
    match Transfer::new(request)?.upload(request)? {
        AbsManifest::Snapshot(made) => manifest(&DecodedManifest::AbsSnapshot(made)),
        AbsManifest::Diff(made) => manifest(&DecodedManifest::AbsSnapshotDiff(made)),
    }
}

fn manifest(made: &DecodedManifest) -> Result<Value, Fault> {
    Ok(json!({ "manifest": from_bytes(any::encode(made)?) }))
}

fn encode(request: &Request) -> Result<Value, Fault> {
    let built = any::build(request)?;
    let invalid = any::validate(&built).err().map(|error| error.to_string());
    let text = match (request.text("kind")?, &built) {
        (Some("v2023"), DecodedManifest::Snapshot(snapshot)) => encode_snapshot_v2023(snapshot)?,
        _ => any::encode(&built)?,
    };
    Ok(json!({ "manifest": from_bytes(text), "invalid": invalid }))
}

fn decode(request: &Request) -> Result<Value, Fault> {
    let text = needed("manifest", request.manifest("manifest"))?;
    let decoded = any::decode(&text)?;
    Ok(json!({
        "kind": any::kind(&decoded),
        "decoded": any::tell(&decoded),
        "manifest": from_bytes(any::encode(&decoded)?),
    }))
}

/// Walks folders as a request says.
pub(crate) fn walked(request: &Request) -> Result<AbsSnapshot, Fault> {
    let paths = |field| -> Result<Vec<PathBuf>, Fault> {
        let all = request.texts(field)?.unwrap_or_default();
        Ok(all.into_iter().map(PathBuf::from).collect())
    };
    let mut options = CollectOptions::default();
    options.optional_filenames = paths("optional_files")?;
    options.file_chunk_size_bytes = request.integer("fileChunkSizeBytes")?;
    options.symlink_policy = request.policy("policy")?.unwrap_or(options.symlink_policy);
    let (folders, files) = (paths("folders")?, paths("files")?);
    Ok(collect_abs_snapshot(&folders, &files, options)?)
}

/// Walks folders, and hashes what it finds unless `hash` is false.
pub(crate) fn collected(request: &Request) -> Result<AbsSnapshot, Fault> {
    let collected = walked(request)?;
    if !request.flag("hash", true)? {
        return Ok(collected);
    }
    Ok(hash_abs_snapshot(&collected, hash_options(request)?)?.manifest)
}

fn hash_options(request: &Request) -> Result<HashOptions, Fault> {
    let cache = request.text("cache")?.map(HashCache::new).transpose()?;
    Ok(HashOptions {
        hash_cache: cache.map(Arc::new),
        force_rehash: request.flag("force_rehash", false)?,
        ..HashOptions::default()
    })
}

fn collect(request: &Request) -> Result<Value, Fault> {
    let absolute = collected(request)?;
    let relative = match request.text("root")? {
        None => None,
        Some(root) => {
            let policy = request.policy("subtree_policy")?;
            let policy = policy.unwrap_or(SymlinkPolicy::CollapseEscaping);
            let relative = subtree_snapshot(&absolute, root, policy)?;
            Some(from_bytes(any::encode(&DecodedManifest::Snapshot(
                relative,
            ))?))
        }
    };
    let absolute = from_bytes(any::encode(&DecodedManifest::AbsSnapshot(absolute))?);
    Ok(json!({ "absolute": absolute, "relative": relative }))
}

fn hash_files(request: &Request) -> Result<Value, Fault> {
    let text = needed("manifest", request.manifest("manifest"))?;
    let options = hash_options(request)?;
    manifest(&match any::decode(&text)? {
        DecodedManifest::AbsSnapshot(abs) => {
            DecodedManifest::AbsSnapshot(hash_abs_snapshot(&abs, options)?.manifest)
        }
        DecodedManifest::AbsSnapshotDiff(abs) => {
            DecodedManifest::AbsSnapshotDiff(hash_abs_snapshot_diff(&abs, options)?.manifest)
        }
        other => {
            return Err(Fault::request(format!(
                "{} has no files",
                any::kind(&other)
            )));
        }
    })
}

pub(crate) fn diff_options(request: &Request) -> Result<DiffOptions, Fault> {
    Ok(DiffOptions {
        parent_manifest_hash: request.text("parentManifestHash")?.map(str::to_owned),
        ignore_hashes: request.flag("ignore_hashes", false)?,
        preserve_runnable: request.flag("preserve_runnable", false)?,
    })
}

fn diff(request: &Request) -> Result<Value, Fault> {
    let parent = any::decode(&needed("parent", request.manifest("parent"))?)?;
    let current = any::decode(&needed("current", request.manifest("current"))?)?;
    let options = diff_options(request)?;
    manifest(&match (&parent, &current) {
        (DecodedManifest::Snapshot(parent), DecodedManifest::Snapshot(current)) => {
            DecodedManifest::SnapshotDiff(diff_snapshots(parent, current, &options)?)
        }
        (DecodedManifest::AbsSnapshot(parent), DecodedManifest::AbsSnapshot(current)) => {
            DecodedManifest::AbsSnapshotDiff(diff_snapshots(parent, current, &options)?)
        }
        _ => {
            let kinds = (any::kind(&parent), any::kind(&current));
            return Err(Fault::request(format!(
                "no diff of {} and {}",
                kinds.0, kinds.1
            )));
        }
    })
}

fn compose(request: &Request) -> Result<Value, Fault> {
    let diffs = request.manifests("diffs")?;
    let base = request.manifest("base")?;
    let base = base.as_deref().map(any::decode).transpose()?;
    let is_absolute = match (&base, diffs.first()) {
        (Some(base), _) => any::kind(base).starts_with("abs"),
        (None, Some(first)) => any::kind(&any::decode(first)?).starts_with("abs"),
        (None, None) => false,
    };
    if is_absolute {
        let diffs = diffs.iter().map(|text| any::decode_abs_diff(text));
        let diffs: Vec<_> = diffs.collect::<Result<_, _>>()?;
        let diffs: Vec<_> = diffs.iter().collect();
        return manifest(&match base {
            Some(DecodedManifest::AbsSnapshot(base)) => {
                DecodedManifest::AbsSnapshot(compose_snapshot_with_diffs(&base, &diffs)?)
            }
            None => DecodedManifest::AbsSnapshotDiff(compose_diffs(&diffs)?),
            Some(_) => return Err(Fault::request("the base is a diff")),
        });
    }
    let diffs = diffs.iter().map(|text| any::decode_diff(text));
    let diffs: Vec<_> = diffs.collect::<Result<_, _>>()?;
    let diffs: Vec<_> = diffs.iter().collect();
    manifest(&match base {
        Some(DecodedManifest::Snapshot(base)) => {
            DecodedManifest::Snapshot(compose_snapshot_with_diffs(&base, &diffs)?)
        }
        None => DecodedManifest::SnapshotDiff(compose_diffs(&diffs)?),
        Some(_) => return Err(Fault::request("the base is a diff")),
    })
}

fn filter(request: &Request) -> Result<Value, Fault> {
    let text = needed("manifest", request.manifest("manifest"))?;
    let include = request.texts("include")?.unwrap_or_default();
    let exclude = request.texts("exclude")?.unwrap_or_default();
    let filter = IncludeExcludePathsFilter::new(&include, &exclude)?;
    let keeps = |entry: &openjd_snapshots::ManifestEntry<'_>| filter.matches(entry);
    manifest(&match any::decode(&text)? {
        DecodedManifest::Snapshot(all) => DecodedManifest::Snapshot(filter_manifest(&all, &keeps)),
        DecodedManifest::SnapshotDiff(all) => {
            DecodedManifest::SnapshotDiff(filter_manifest(&all, &keeps))
        }
        DecodedManifest::AbsSnapshot(all) => {
            DecodedManifest::AbsSnapshot(filter_manifest(&all, &keeps))
        }
        DecodedManifest::AbsSnapshotDiff(all) => {
            DecodedManifest::AbsSnapshotDiff(filter_manifest(&all, &keeps))
        }
    })
}

fn subtree(request: &Request) -> Result<Value, Fault> {
    let text = needed("manifest", request.manifest("manifest"))?;
    let root = needed("root", request.text("root"))?;
    let policy = needed("policy", request.policy("policy"))?;
    manifest(&match any::decode(&text)? {
        DecodedManifest::Snapshot(all) => {
            DecodedManifest::Snapshot(subtree_rel_snapshot(&all, root, policy)?)
        }
        DecodedManifest::SnapshotDiff(all) => {
            DecodedManifest::SnapshotDiff(subtree_rel_snapshot_diff(&all, root, policy)?)
        }
        DecodedManifest::AbsSnapshot(all) => {
            DecodedManifest::Snapshot(subtree_snapshot(&all, root, policy)?)
        }
        DecodedManifest::AbsSnapshotDiff(all) => {
            DecodedManifest::SnapshotDiff(subtree_snapshot_diff(&all, root, policy)?)
        }
    })
}

fn partition(request: &Request) -> Result<Value, Fault> {
    let text = needed("manifest", request.manifest("manifest"))?;
    let owned = |field| -> Result<Option<Vec<String>>, Fault> {
        let all = request.texts(field)?;
        Ok(all.map(|all| all.into_iter().map(str::to_owned).collect()))
    };
    let mut options = PartitionOptions::default();
    options.roots = owned("roots")?;
    options.referenced_paths = owned("referenced_paths")?;
    options.symlink_policy = request.policy("policy")?.unwrap_or(options.symlink_policy);
    let parts = match any::decode(&text)? {
        DecodedManifest::AbsSnapshot(all) => partition_manifest(&all, &options)?,
        DecodedManifest::Snapshot(all) => partition_rel_manifest(&all, &options)?,
        other => {
            return Err(Fault::request(format!(
                "no partition of {}",
                any::kind(&other)
            )));
        }
    };
    let parts = parts.into_iter().map(|(root, part)| {
        let text = any::encode(&DecodedManifest::Snapshot(part))?;
        Ok(json!({ "root": root, "manifest": from_bytes(text) }))
    });
    Ok(json!({ "parts": parts.collect::<Result<Vec<_>, Fault>>()? }))
}

fn join(request: &Request) -> Result<Value, Fault> {
    let text = needed("manifest", request.manifest("manifest"))?;
    let prefix = needed("prefix", request.text("prefix"))?;
    let to = needed("to", request.text("to"))?;
    manifest(&match (any::decode(&text)?, to) {
        (DecodedManifest::Snapshot(all), "absolute") => {
            DecodedManifest::AbsSnapshot(join_snapshot(&all, prefix)?)
        }
        (DecodedManifest::Snapshot(all), "relative") => {
            DecodedManifest::Snapshot(join_snapshot_rel(&all, prefix)?)
        }
        (DecodedManifest::SnapshotDiff(all), "absolute") => {
            DecodedManifest::AbsSnapshotDiff(join_snapshot_diff(&all, prefix)?)
        }
        (DecodedManifest::SnapshotDiff(all), "relative") => {
            DecodedManifest::SnapshotDiff(join_snapshot_diff_rel(&all, prefix)?)
        }
        (other, to) => {
            return Err(Fault::request(format!(
                "no join of {} to {to}",
                any::kind(&other)
            )));
        }
    })
}
