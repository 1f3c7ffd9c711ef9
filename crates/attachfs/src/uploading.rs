//! Files into stores: what earlier uploads remember of a store, and uploading the files of manifests.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attachfs_durable::CacheDir;
use attachfs_manifest::{Content, ContentHash, ManifestPath, Node, PathRef};
use attachfs_scan::Below;
use attachfs_scan::cache::{BUSY_TIMEOUT, S3CheckCache};
use attachfs_store::{ChunkStore, StoreAddress};
use attachfs_transfer::{
    NamedFile, Progress, SeenObjects, Summary, UploadOptions, Uploader, upload_named,
};
use tokio_util::sync::CancellationToken;

use crate::cancel::Cancellable;
use crate::error::Error;
use crate::manifest::{OpenedManifest, each_put, without_hash};
use crate::store::OpenStore;

/// How an upload finds out which objects the store has already.
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
    pub cache: CacheDir,
    /// The directory of the deadline client's caches, if they are to be shared. The client does not write
    /// down which server a bucket was on, so this is used for AWS's only.
    pub deadline: Option<PathBuf>,
}

impl SeenPlaces {
    /// The directory for a bucket. Buckets of the same name on two servers are kept apart.
    pub(crate) fn directory(&self, bucket_url: Option<&str>) -> PathBuf {
        match bucket_url {
            Some(url) if !is_of_aws(url) => {
                let server = ContentHash::of(url.as_bytes());
                self.cache.seen_objects(Some(*server.as_bytes()))
            }
            _ => {
                let shared = self.deadline.clone();
                shared.unwrap_or_else(|| self.cache.seen_objects(None))
            }
        }
    }
}

/// Whether a URL is that of a bucket in AWS's commercial regions, where a name belongs to one bucket. Those of
/// its other partitions have the same names once more: GovCloud's end alike, and are told by their region.
fn is_of_aws(url: &str) -> bool {
    url.strip_prefix("https://").is_some_and(|rest| {
        let host = rest.split(['/', ':']).next().unwrap_or_default();
        let Some(service) = host.strip_suffix(".amazonaws.com") else {
            return false;
        };
        // `b.s3.us-east-1`; `s3-us-east-1` and `s3` are of old; `b.bucket.vpce-1.s3.us-east-1.vpce`. What is before
        // the service is the name of a bucket or of an endpoint.
        let mut labels = service.rsplit('.');
        let own = |label: &&str| label.starts_with("s3");
        let place = labels.by_ref().take_while(|label| !own(label));
        let is_governments = |label: &str| label.contains("us-gov-");
        !place
            .chain(service.rsplit('.').find(own))
            .any(is_governments)
    })
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
    match S3CheckCache::open(&places.directory(open.bucket_url.as_deref()), BUSY_TIMEOUT) {
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
    cancel: &CancellationToken,
) -> Result<Summary, Error> {
    let mut files = Vec::new();
    for opened in manifests {
        if root.is_none() && !opened.format.is_absolute() {
            return Err(Error::usage(format!(
                "{} has paths relative to a folder: say which with --root",
                opened.name
            )));
        }
        files.extend(named(opened)?);
    }
    let below = Below::open(root.unwrap_or(Path::new("/")))?;
    let uploader = uploader(store, UploadOptions::default(), uploading);
    let progress = Cancellable::new(progress, cancel);
    let uploaded = async {
        let (_, summary) = upload_named(&below, files, &uploader, &progress).await?;
        Ok(summary)
    };
    progress.run(uploaded).await
}

/// The files of a manifest that have bytes.
fn named(opened: &OpenedManifest) -> Result<Vec<NamedFile>, Error> {
    let chunk_size = opened.manifest.chunk_size();
    let mut files = Vec::new();
    let mut unhashed: Vec<ManifestPath> = Vec::new();
    let add = |path: PathRef<'_>, node: Node| {
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
    each_put(&opened.manifest, add);
    match unhashed.first() {
        None => Ok(files),
        Some(first) => Err(without_hash(first, unhashed.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_on_one_server_is_not_believed_of_another() {
        let shared = |deadline: Option<&str>, url: &str| {
            let places = SeenPlaces {
                cache: CacheDir::new("/cache"),
                deadline: deadline.map(PathBuf::from),
            };
            places.directory(Some(url))
        };
        let own = |url| shared(None, url);
        let aws = "https://b.s3.eu-west-1.amazonaws.com";
        assert_eq!(own(aws), Path::new("/cache/seen/aws"));
        for alike in [
            "https://s3.us-east-1.amazonaws.com/b",
            "https://s3.amazonaws.com/b",
            "https://s3-us-west-2.amazonaws.com/b",
            "https://us-gov-b.s3.us-east-1.amazonaws.com",
            "https://us-gov-b.bucket.vpce-1.s3.us-east-1.vpce.amazonaws.com",
        ] {
            assert_eq!(own(alike), own(aws), "{alike}");
        }
        let others = [
            "http://127.0.0.1:9000/b",
            "http://127.0.0.1:9001/b",
            "https://b.s3.cn-north-1.amazonaws.com.cn",
            "https://b.s3.us-gov-west-1.amazonaws.com",
            "https://b.s3-fips.dualstack.us-gov-east-1.amazonaws.com",
            "https://s3-us-gov-west-1.amazonaws.com/b",
            "https://b.bucket.vpce-1.s3.us-gov-west-1.vpce.amazonaws.com",
            "https://proxy/s3.eu-west-1.amazonaws.com/b",
        ];
        for (at, url) in others.iter().enumerate() {
            assert_ne!(own(url), own(aws), "{url}");
            assert_eq!(own(url), shared(Some("/client"), url), "{url}");
            assert!(others[..at].iter().all(|other| own(other) != own(url)));
        }
        // The client's cache knows no servers.
        assert_eq!(shared(Some("/client"), aws), Path::new("/client"));
    }
}
