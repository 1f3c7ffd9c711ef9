//! The disk cache as a whole: its content, making room, verifying it, filling it ahead of a job, and pins.

mod answering;
mod pins;
mod reporting;
mod upkeep;
mod warm;

pub use pins::{CachePin, PinnedManifest, pin_manifests, unpin};
pub use reporting::CacheTrouble;
pub use upkeep::{
    CacheCollected, CacheGoal, CacheInfo, CacheVerified, cache_info, collect_cache, verify_cache,
};
pub use warm::{WarmReport, WarmRequest, warm_cache};

use std::collections::HashMap;

use attachfs_manifest::{ContentHash, DownloadFilter};
use attachfs_store::StoreAddress;

use crate::error::Error;
use crate::manifest::{needed, open_manifest};
use crate::manifests::ManifestBytes;
use crate::store::OpenStore;

/// An object of a manifest.
#[derive(Debug)]
struct NeededObject {
    /// Its length.
    len: u64,
    /// The first file that needs it, for messages.
    path: String,
}

/// The objects of what patterns choose of a manifest.
fn objects_of(
    manifest: &ManifestBytes,
    filter: &DownloadFilter,
) -> Result<HashMap<ContentHash, NeededObject>, Error> {
    let mut opened = open_manifest(manifest, false)?;
    if !filter.is_everything() {
        opened.manifest = chosen(opened.manifest, filter);
    }
    let (needed, _) = needed(&opened.manifest);
    Ok(needed
        .into_iter()
        .map(|(hash, (len, path))| {
            let path = path.to_string();
            (hash, NeededObject { len, path })
        })
        .collect())
}

fn chosen(
    manifest: attachfs_manifest::wire::Manifest,
    filter: &DownloadFilter,
) -> attachfs_manifest::wire::Manifest {
    use attachfs_manifest::wire::Manifest;
    let mut whole = Vec::new();
    let mut keep = |path: attachfs_manifest::PathRef<'_>| {
        whole.clear();
        whole.push(b'/');
        whole.extend_from_slice(path.as_bytes());
        filter.matches(&whole)
    };
    match manifest {
        Manifest::Snapshot(all) => Manifest::Snapshot(all.filter(|path, _| keep(path))),
        Manifest::Diff(all) => Manifest::Diff(all.filter(|path, _| keep(path))),
    }
}

/// Fails for a store that is read without the cache.
fn check_cached(store: &OpenStore) -> Result<(), Error> {
    match store.store.address() {
        StoreAddress::S3 { .. } => Ok(()),
        StoreAddress::Directory(dir) => Err(Error::usage(format!(
            "{} is a directory on this machine: its objects are read where they are, without the cache",
            dir.display()
        ))),
    }
}
