//! Opening stores.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use attachfs_session::StoreSettings;
use attachfs_store::{
    DirectoryStore, Folder, KeyPrefix, ListStore as _, ManifestAddress, ManifestKey, Store,
    StoreAddress, StoreError,
};
use attachfs_store_s3::{S3Options, S3Store};
use tokio_util::sync::CancellationToken;

use crate::cancel::unless_cancelled;
use crate::error::{Doing as _, Error};

/// An open store and how to find it again.
#[derive(Debug, Clone)]
pub struct OpenStore {
    /// The store.
    pub store: Arc<dyn Store>,
    /// How it was named.
    pub settings: StoreSettings,
    /// Where the bucket turned out to be, if it is one.
    pub bucket_url: Option<String>,
}

impl OpenStore {
    /// The address of a manifest in it: a file, or an `s3://` address.
    pub fn address_of(&self, key: &ManifestKey) -> String {
        ManifestAddress {
            store: self.store.address(),
            key: key.clone(),
        }
        .to_string()
    }
}

/// Opens a store that exists.
pub async fn open_store(
    settings: &StoreSettings,
    cancel: &CancellationToken,
) -> Result<OpenStore, Error> {
    // Connecting to S3 is a large future, which each use case that opens a store would have in it.
    let opening = Box::pin(open(settings));
    unless_cancelled(cancel, opening).await
}

async fn open(settings: &StoreSettings) -> Result<OpenStore, Error> {
    let address: StoreAddress = settings.address.parse()?;
    let doing = || format!("cannot use the store {}", settings.address);
    let mut found = settings.clone();
    let (store, bucket_url): (Arc<dyn Store>, _) = match address {
        StoreAddress::Directory(root) => {
            let store = DirectoryStore::open(&root).doing(doing)?;
            found.address = text(store.root())?;
            (Arc::new(store), None)
        }
        StoreAddress::S3 { bucket, prefix } => {
            let options = S3Options {
                access: settings.s3.clone(),
                ..S3Options::new(bucket, prefix)
            };
            let store = S3Store::connect(options.clone()).await.doing(doing)?;
            warn_of_slashes(&store, options).await;
            let url = store.bucket_url().to_owned();
            (Arc::new(store), Some(url))
        }
    };
    Ok(OpenStore {
        store,
        settings: found,
        bucket_url,
    })
}

/// How long the question may take whether slashes were meant.
const WARNING_TIME: Duration = Duration::from_secs(10);

/// An address is taken as it is written. If its root prefix has slashes that people write out of habit, and there
/// is nothing below it, but something below the one without them, a warning says so: an upload would go where
/// nobody looks for it.
async fn warn_of_slashes(store: &S3Store, options: S3Options) {
    let Some(prefix) = options.prefix.without_odd_slashes() else {
        return;
    };
    let options = S3Options { prefix, ..options };
    let asked = async {
        if is_used(store).await? {
            return Ok(None);
        }
        let other = S3Store::connect(options).await?;
        let is_there = is_used(&other).await?;
        Ok::<_, StoreError>(is_there.then(|| other.address()))
    };
    match tokio::time::timeout(WARNING_TIME, asked).await {
        Ok(Ok(Some(other))) => tracing::warn!(
            "there is nothing in {}, but there is in {other}: each slash counts, and keys have the root prefix \
             exactly as it is written",
            store.address()
        ),
        Ok(Ok(None)) => {}
        // A failure here repeats itself in the request that needs the store, and is reported there.
        Ok(Err(error)) => tracing::debug!(
            error = &error as &dyn std::error::Error,
            "cannot see whether the slashes in the address were meant"
        ),
        Err(late) => {
            tracing::debug!(%late, "cannot see whether the slashes in the address were meant");
        }
    }
}

/// Whether there is an object or a manifest in a store.
async fn is_used(store: &S3Store) -> Result<bool, StoreError> {
    for folder in [Folder::Data, Folder::Manifests(KeyPrefix::default())] {
        if !store.list(&folder, None).await?.entries.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Opens the store in a directory, creating it if need be.
pub fn create_directory_store(root: &Path) -> Result<(DirectoryStore, OpenStore), Error> {
    let store = DirectoryStore::create(root)
        .doing(|| format!("cannot use the store {}", root.display()))?;
    let settings = StoreSettings {
        address: text(store.root())?,
        ..StoreSettings::default()
    };
    Ok((
        store.clone(),
        OpenStore {
            store: Arc::new(store),
            settings,
            bucket_url: None,
        },
    ))
}

fn text(path: &Path) -> Result<String, Error> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Error::usage(format!(
            "the name of the store {} is not UTF-8 text",
            path.display()
        ))
    })
}
