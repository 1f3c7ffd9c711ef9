//! What stays in the cache although room is needed.

use attachfs_durable::{CacheDir, Pin, Stock};
use attachfs_manifest::ContentHash;
use attachfs_store::StoreAddress;
use attachfs_transfer::{Progress, Silent};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::answering::on_disk;
use super::{WarmRequest, check_cached, objects_of};
use crate::error::{Doing as _, Error};
use crate::manifests::ManifestBytes;
use crate::opened::partition;
use crate::places::Places;
use crate::store::OpenStore;

/// A pin, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CachePin {
    /// Its name, by which it can be taken away.
    pub id: String,
    /// What the manifest was called.
    pub manifest: String,
    /// The hash of the manifest.
    pub hash: String,
    /// The store whose objects they are.
    pub store: String,
    /// How many objects it holds.
    pub objects: u64,
}

impl CachePin {
    /// Whether this is its name, or the hash of its manifest.
    pub fn is_called(&self, name: &str) -> bool {
        self.id == name || self.hash == name
    }
}

/// What a pin says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    manifest: String,
    hash: ContentHash,
    store: String,
}

/// A manifest that was pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PinnedManifest {
    /// The pin.
    #[serde(flatten)]
    pub pin: CachePin,
    /// Bytes of its objects.
    pub bytes: u64,
}

/// Keeps the objects of manifests in the cache until they are unpinned: those that are there, and those that come. A
/// pin of the same manifest and store is replaced. Needs a tokio runtime with time enabled.
pub async fn pin_manifests(
    manifests: &[ManifestBytes],
    request: &WarmRequest,
    store: &OpenStore,
    places: &Places,
    cancel: &CancellationToken,
) -> Result<Vec<PinnedManifest>, Error> {
    check_cached(store)?;
    let filter = request.filter();
    let partition = partition(store);
    let mut pins = Vec::with_capacity(manifests.len());
    for manifest in manifests {
        let needed = objects_of(manifest, &filter)?;
        let bytes = needed.values().map(|object| object.len).sum();
        let mut objects: Vec<_> = needed.keys().map(|hash| *hash.as_bytes()).collect();
        objects.sort_unstable();
        let hash = ContentHash::of(&manifest.bytes);
        let about = About {
            manifest: manifest.name.clone(),
            hash,
            store: store.store.address().to_string(),
        };
        let name = [&hash.as_bytes()[..], &partition].concat();
        let pin = Pin {
            name: *ContentHash::of(&name).as_bytes(),
            about: serde_json::to_string(&about)
                .map_err(std::io::Error::other)
                .doing(|| format!("cannot describe the pin of {}", manifest.name))?,
            partition,
            objects,
        };
        pins.push((pin, bytes));
    }
    let pin = move |cache: &CacheDir, _: &dyn Progress| {
        // The directories, if they are missing.
        cache.objects(partition)?;
        let Some(stock) = cache.stock()? else {
            return Ok(Vec::new());
        };
        let mut pinned = Vec::with_capacity(pins.len());
        for (pin, bytes) in &pins {
            stock.pins().pin(pin)?;
            pinned.push(PinnedManifest {
                pin: shown(pin),
                bytes: *bytes,
            });
        }
        Ok(pinned)
    };
    on_disk(&places.cache, &Silent, cancel, pin).await
}

/// Unpins the manifests with these names, which are those of pins or the hashes of manifests, of this store or of whichever, and
/// says which pins that were. Needs a tokio runtime with time enabled.
pub async fn unpin(
    names: Vec<String>,
    store: Option<StoreAddress>,
    places: &Places,
    cancel: &CancellationToken,
) -> Result<Vec<CachePin>, Error> {
    let store = store.map(|store| store.to_string());
    let unpin = move |cache: &CacheDir, _: &dyn Progress| {
        cache.check()?;
        let Some(stock) = cache.stock()? else {
            return Ok(Vec::new());
        };
        let mut gone = Vec::new();
        for pin in stock.pins().all()? {
            let shown = shown(&pin);
            let is_of_store = store.as_ref().is_none_or(|store| *store == shown.store);
            if is_of_store && names.iter().any(|name| shown.is_called(name)) {
                stock.pins().unpin(pin.name)?;
                gone.push(shown);
            }
        }
        Ok(gone)
    };
    on_disk(&places.cache, &Silent, cancel, unpin).await
}

pub(super) fn shown_pins(stock: &Stock) -> Result<Vec<CachePin>, Error> {
    Ok(stock.pins().all()?.iter().map(shown).collect())
}

fn shown(pin: &Pin) -> CachePin {
    // A pin of another version may say it differently; it holds all the same.
    let about = serde_json::from_str::<About>(&pin.about).ok();
    let (manifest, hash, store) = about.map_or_else(
        || (pin.about.clone(), String::new(), String::new()),
        |about| (about.manifest, about.hash.to_string(), about.store),
    );
    CachePin {
        id: ContentHash::from_bytes(pin.name).to_string(),
        manifest,
        hash,
        store,
        objects: pin.objects.len() as u64,
    }
}
