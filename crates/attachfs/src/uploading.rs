//! Files into stores: what is known of a store at an earlier time, the files of manifests that there are,
//! and publishing manifests.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attachfs_manifest::wire::Manifest;
use attachfs_manifest::{Change, Content, ContentHash, ManifestPath, Node, PathRef};
use attachfs_scan::Below;
use attachfs_scan::cache::{BUSY_TIMEOUT, S3CheckCache};
use attachfs_store::{ChunkStore, ManifestAddress, ManifestKey, Metadata, StoreAddress};
use attachfs_transfer::{
    NamedFile, Progress, SeenObjects, Summary, UploadOptions, Uploader, publish_manifest,
    upload_named,
};

use crate::Error;
use crate::manifest::OpenedManifest;
use crate::store::OpenStore;

/// What is known of a store at an earlier time.
#[derive(Debug, Clone, Default)]
pub struct Uploading {
    /// Where it is remembered which objects were seen in buckets; every object is asked for if nowhere.
    pub seen: Option<SeenPlaces>,
    /// Ask for every object all the same, and remember the answers.
    pub force_check: bool,
}

/// Where it is remembered which objects were seen in buckets.
#[derive(Debug, Clone)]
pub struct SeenPlaces {
    /// Our own cache directory.
    pub cache: PathBuf,
    /// The directory of the deadline client's caches, if they are to be shared. The client does not write
    /// down which server a bucket was on, so this is used only where there is no endpoint.
    pub deadline: Option<PathBuf>,
    /// The server, if it is not AWS's. Buckets of the same name on two servers are kept apart.
    pub endpoint: Option<String>,
    /// The profile, which may name a server as well.
    pub profile: Option<String>,
}

impl SeenPlaces {
    /// The directory for one way to a store.
    fn directory(&self) -> PathBuf {
        if let (Some(deadline), None) = (&self.deadline, &self.endpoint) {
            return deadline.clone();
        }
        let seen = self.cache.join("seen");
        match (&self.endpoint, &self.profile) {
            (None, None) => seen.join("aws"),
            way => seen.join(ContentHash::of(format!("{way:?}").as_bytes()).to_string()),
        }
    }
}

/// An uploader for a store that believes what may be believed of it.
pub(crate) fn uploader(
    open: &OpenStore,
    options: UploadOptions,
    uploading: &Uploading,
) -> Uploader {
    let chunks: Arc<dyn ChunkStore> = open.store.clone();
    let StoreAddress::S3 { bucket, prefix } = open.store.address() else {
        // Looking into a directory is much less than writing to it.
        return Uploader::new(
            chunks,
            UploadOptions {
                unasked: 0,
                ..options
            },
        );
    };
    let uploader = Uploader::new(chunks, options);
    let Some(places) = &uploading.seen else {
        return uploader;
    };
    match S3CheckCache::open(&places.directory(), BUSY_TIMEOUT) {
        Ok(cache) => {
            // Keys of a hash table are as random as a sample needs to be.
            let seed = RandomState::new().build_hasher().finish();
            let seen = SeenObjects::new(cache, bucket, prefix, seed);
            uploader.believing(if uploading.force_check {
                seen.doubted()
            } else {
                seen
            })
        }
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "going on without the cache of seen objects"
            );
            uploader
        }
    }
}

/// Uploads the files of manifests that there are already: from `root`, or from where absolute manifests
/// say. A diff's files are those that it puts.
pub async fn upload_manifests(
    manifests: &[OpenedManifest],
    root: Option<&Path>,
    store: &OpenStore,
    uploading: &Uploading,
    progress: &dyn Progress,
) -> Result<Summary, Error> {
    let mut files = Vec::new();
    for opened in manifests {
        if root.is_none() && !opened.format.is_absolute() {
            return Err(Error::Usage(format!(
                "{} has paths relative to a folder: say which with --root",
                opened.name
            )));
        }
        files.extend(named(opened)?);
    }
    let below = Below::open(root.unwrap_or(Path::new("/")))?;
    let uploader = uploader(store, UploadOptions::default(), uploading);
    let (_, summary) = upload_named(&below, files, &uploader, progress).await?;
    Ok(summary)
}

/// The files of a manifest that have bytes.
fn named(opened: &OpenedManifest) -> Result<Vec<NamedFile>, Error> {
    let chunk_size = opened.manifest.chunk_size();
    let mut files = Vec::new();
    let mut unhashed: Vec<ManifestPath> = Vec::new();
    let mut add = |path: PathRef<'_>, node: Node| {
        let Node::File(file) = node else { return };
        if file.content == Content::Unhashed {
            unhashed.push(path.to_owned());
            return;
        }
        files.push(NamedFile {
            path: path.to_owned(),
            size: file.size,
            mtime: file.mtime,
            hashes: file.content.hashes().to_vec(),
            chunk_size,
        });
    };
    match &opened.manifest {
        Manifest::Snapshot(snapshot) => {
            for (path, node) in snapshot.entries() {
                add(path, node);
            }
        }
        Manifest::Diff(diff) => {
            for (path, change) in diff.changes() {
                if let Change::Put(node) = change {
                    add(path, node);
                }
            }
        }
    }
    match unhashed.first() {
        None => Ok(files),
        Some(first) => Err(Error::Unhashed {
            first: first.clone(),
            count: unhashed.len(),
        }),
    }
}

/// Publishes a manifest all of whose objects are in the store, and gives its address. The same bytes may be
/// there already; others are an error, and stay.
pub async fn publish(
    key: &ManifestKey,
    bytes: &[u8],
    metadata: &Metadata,
    store: &OpenStore,
) -> Result<String, Error> {
    publish_manifest(store.store.as_ref(), key, bytes.to_vec().into(), metadata).await?;
    Ok(ManifestAddress {
        store: store.store.address(),
        key: key.clone(),
    }
    .to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_on_one_server_is_not_believed_of_another() {
        let places = |endpoint: Option<&str>, profile: Option<&str>, deadline: Option<&str>| {
            let places = SeenPlaces {
                cache: "/cache".into(),
                deadline: deadline.map(PathBuf::from),
                endpoint: endpoint.map(str::to_owned),
                profile: profile.map(str::to_owned),
            };
            places.directory()
        };
        let (one, two) = (Some("http://one"), Some("http://two"));
        let aws = places(None, None, None);
        assert_eq!(aws, Path::new("/cache/seen/aws"));
        assert_ne!(places(one, None, None), aws);
        assert_ne!(places(one, None, None), places(two, None, None));
        assert_ne!(places(None, Some("p"), None), aws);
        // The client's cache knows no servers.
        assert_eq!(places(None, None, Some("/client")), Path::new("/client"));
        assert_eq!(places(one, None, Some("/client")), places(one, None, None));
    }
}
