//! Opening stores.

use std::path::Path;
use std::sync::Arc;

use attachfs_store::{DirectoryStore, ManifestAddress, ManifestKey, Store, StoreAddress};
use attachfs_store_s3::{S3Options, S3Store};
use attachfs_vfs::StoreSettings;

use crate::Error;

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
pub async fn open_store(settings: &StoreSettings) -> Result<OpenStore, Error> {
    let address: StoreAddress = settings.address.parse()?;
    let failed = |source| Error::OpenStore {
        address: settings.address.clone(),
        source,
    };
    let mut settings = settings.clone();
    let (store, bucket_url): (Arc<dyn Store>, _) = match address {
        StoreAddress::Directory(root) => {
            let store = DirectoryStore::open(&root).map_err(failed)?;
            settings.address = text(store.root())?;
            (Arc::new(store), None)
        }
        StoreAddress::S3 { bucket, prefix } => {
            let options = S3Options {
                access: settings.s3.clone(),
                ..S3Options::new(bucket, prefix)
            };
            let store = S3Store::connect(options).await.map_err(failed)?;
            let url = store.bucket_url().to_owned();
            (Arc::new(store), Some(url))
        }
    };
    Ok(OpenStore {
        store,
        settings,
        bucket_url,
    })
}

/// Opens the store in a directory, creating it if need be.
pub fn create_directory_store(root: &Path) -> Result<(DirectoryStore, OpenStore), Error> {
    let failed = |source| Error::OpenStore {
        address: root.display().to_string(),
        source,
    };
    let store = DirectoryStore::create(root).map_err(failed)?;
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
        Error::Usage(format!(
            "the name of the store {} is not UTF-8 text",
            path.display()
        ))
    })
}
