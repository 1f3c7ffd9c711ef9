//! The stores that a verb works on.
//!
//! While a store is opened or a manifest is read, Ctrl-C ends the program, because there is nothing to report yet. So
//! these calls get tokens that are never cancelled.

use attachfs::{
    CancellationToken, ManifestSource, OpenStore, Places, SessionEntry, StoreAddress,
    StoreSettings, session,
};

use crate::args::Globals;

/// How to reach S3, without an address.
pub(super) fn access(globals: &Globals) -> Result<StoreSettings, attachfs::Error> {
    Ok(StoreSettings {
        address: String::new(),
        s3: globals.s3.access()?,
    })
}

/// Fails if options of S3 were typed that the process of a session's mount will not use. Variables and profiles are not meant: they
/// say how this user reaches S3 as a rule.
pub(super) async fn require_used(
    globals: &Globals,
    found: &SessionEntry,
) -> Result<(), attachfs::Error> {
    let never = CancellationToken::new();
    session::require_same_access(found, &globals.s3.typed()?, &never).await
}

/// Opens an existing store.
pub(super) async fn open_store(
    globals: &Globals,
    address: &str,
) -> Result<OpenStore, attachfs::Error> {
    let settings = StoreSettings {
        address: address.to_owned(),
        ..access(globals)?
    };
    open(&settings).await
}

/// Opens a store with settings of its own.
pub(super) async fn open(settings: &StoreSettings) -> Result<OpenStore, attachfs::Error> {
    attachfs::open_store(settings, &CancellationToken::new()).await
}

/// A directory that is to be filled is made; a bucket is not.
pub(super) async fn create_or_open(
    globals: &Globals,
    address: &str,
) -> Result<OpenStore, attachfs::Error> {
    match address.parse()? {
        StoreAddress::Directory(dir) => Ok(attachfs::create_directory_store(&dir)?.1),
        StoreAddress::S3 { .. } => open_store(globals, address).await,
    }
}

/// The store that was named; else that of the manifests that are in one, else the user's own. It is there already:
/// what is read is in it.
pub(super) async fn store_of(
    globals: &Globals,
    named: Option<&str>,
    sources: &[ManifestSource],
    places: &Places,
) -> Result<OpenStore, attachfs::Error> {
    if let Some(address) = named {
        return open_store(globals, address).await;
    }
    let mut of_manifests = sources.iter().filter_map(|source| match source {
        ManifestSource::S3(address) => Some(&address.store),
        ManifestSource::File(_) | ManifestSource::Stdin => None,
    });
    if let Some(store) = of_manifests.next() {
        return match of_manifests.find(|other| *other != store) {
            None => open_store(globals, &store.to_string()).await,
            Some(other) => Err(attachfs::Error::usage(format!(
                "the manifests are in two stores, {store} and {other}; say with --store where the objects \
                 of all of them are"
            ))),
        };
    }
    let own = places.embedded_store();
    if !own.exists() {
        return Err(attachfs::Error::usage(format!(
            "there is no store of your own in {}; say with --store where the objects are",
            own.display()
        )));
    }
    Ok(attachfs::create_directory_store(&own)?.1)
}
