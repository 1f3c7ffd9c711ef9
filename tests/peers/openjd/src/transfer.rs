//! Files to an S3 bucket and back, with the crate's own settings.
//!
//! The crate wants a client that is there already; this one is made of the request, so that nothing is looked for in the environment.

use std::sync::Arc;

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use openjd_snapshots::s3_check_cache::S3CheckCache;
use openjd_snapshots::{
    AbsManifest, DownloadOptions, HashCache, HashUploadOptions, S3DataCache, Snapshot,
    download_abs_manifest, hash_upload_abs_manifest, join_snapshot,
};
use tokio::runtime::Runtime;

use crate::operations::walked;
use crate::request::{Fault, Request, needed};

/// A bucket that a request names, and what the crate remembers of it.
pub(crate) struct Transfer {
    runtime: Runtime,
    store: Arc<S3DataCache>,
    hash_cache: Option<Arc<HashCache>>,
}

impl Transfer {
    pub(crate) fn new(request: &Request) -> Result<Self, Fault> {
        let text = |field| needed(field, request.text(field));
        let credentials = Credentials::new(
            text("access_key")?,
            text("secret_key")?,
            None,
            None,
            "request",
        );
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .credentials_provider(credentials)
            .region(Region::new(text("region")?.to_owned()))
            .endpoint_url(text("endpoint")?)
            .force_path_style(true)
            .build();
        let client = aws_sdk_s3::Client::from_conf(config);
        let prefix = format!("{}/Data", text("prefix")?);
        let cache = request.text("cache")?;
        let seen = cache.map(S3CheckCache::new).transpose()?;
        let store = S3DataCache::new(text("bucket")?.to_owned(), prefix, client);
        Ok(Self {
            runtime: Runtime::new()?,
            store: Arc::new(store.with_s3_check_cache(seen.map(Arc::new))),
            hash_cache: cache.map(HashCache::new).transpose()?.map(Arc::new),
        })
    }

    /// Walks folders as a request says, and hashes and uploads what it finds.
    pub(crate) fn upload(&self, request: &Request) -> Result<AbsManifest, Fault> {
        let found = AbsManifest::Snapshot(walked(request)?);
        let options = HashUploadOptions {
            hash_cache: self.hash_cache.clone(),
            ..HashUploadOptions::default()
        };
        let done = hash_upload_abs_manifest(&found, self.store.clone(), options);
        let uploaded = self.runtime.block_on(done)?;
        let statistics = &uploaded.statistics;
        let done = statistics.uploaded_files + statistics.skipped_files;
        whole(done, statistics.total_files)?;
        Ok(uploaded.manifest)
    }

    /// Places the files of a manifest below `root`.
    pub(crate) fn download(&self, manifest: &Snapshot, request: &Request) -> Result<(), Fault> {
        let root = needed("root", request.text("root"))?;
        let absolute = AbsManifest::Snapshot(join_snapshot(manifest, root)?);
        let options = DownloadOptions {
            hash_cache: self.hash_cache.clone(),
            ..DownloadOptions::default()
        };
        let done = download_abs_manifest(&absolute, self.store.clone(), options);
        let statistics = self.runtime.block_on(done)?.statistics;
        whole(statistics.downloaded_files, statistics.total_files)
    }
}

/// Work that did less than it should would look fast.
fn whole(done: usize, total: usize) -> Result<(), Fault> {
    if done == total {
        Ok(())
    } else {
        Err(Fault::request(format!("{done} files instead of {total}")))
    }
}
