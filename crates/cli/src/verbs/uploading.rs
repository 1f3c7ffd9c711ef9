//! `upload`, and what `snapshot` does in the same way.

use std::path::PathBuf;

use attachfs::manifest::{OpenedManifest, PlacedManifest, open_manifest};
use attachfs::{
    CancellationToken, Error, ManifestKey, Metadata, OpenStore, SeenPlaces, Summary, Uploading,
};

use super::client;
use super::manifest::deadline;
use super::reading::{read, source};
use super::stores::create_or_open;
use crate::args::Globals;
use crate::args::manifest::Remembering;
use crate::args::upload::{Publishing, Upload};
use crate::exit::{self, Failure};
use crate::output;
use crate::places::places_with;
use crate::progress::Shown;

pub(super) async fn upload(globals: &Globals, args: Upload) -> Result<(), Failure> {
    if args.publishing.publish.is_some() && args.manifests.len() > 1 {
        let why = "--publish names one key, for one manifest".to_owned();
        return Err(Error::usage(why).into());
    }
    let mut manifests = Vec::new();
    for manifest in &args.manifests {
        manifests.push(read(globals, &source(manifest)?, None).await?);
    }
    let opened = manifests.iter().map(|bytes| open_manifest(bytes, false));
    let opened: Vec<OpenedManifest> = opened.collect::<Result<_, _>>()?;
    let rules = client::rules(&args.client)?;
    let mut asset_root = args.client.asset_root.clone();
    // The manifests of one folder are uploaded together.
    let mut groups: Vec<(Option<PathBuf>, Vec<OpenedManifest>)> = Vec::new();
    for (manifest, name) in opened.into_iter().zip(&args.manifests) {
        let folder = match &rules {
            None => args.root.clone(),
            Some(rules) => {
                let rule = client::rule(rules, name)?;
                asset_root.get_or_insert_with(|| rule.source.clone());
                Some(PathBuf::from(&rule.destination))
            }
        };
        match groups.iter_mut().find(|(known, _)| *known == folder) {
            Some((_, manifests)) => manifests.push(manifest),
            None => groups.push((folder, vec![manifest])),
        }
    }
    let metadata = client::metadata(asset_root.as_deref())?;
    let store = create_or_open(globals, &args.store).await?;
    let uploading = uploading(&args.publishing, &args.remembering)?;
    let shown = Shown::cancellable(globals.json);
    let cancel = shown.cancel();
    let mut summary = Summary::default();
    for (root, manifests) in &groups {
        let root = root.as_deref();
        let uploaded =
            attachfs::upload_manifests(manifests, root, &store, &uploading, &shown, cancel).await;
        match uploaded {
            Ok(part) => {
                summary.add(&part);
                summary.elapsed += part.elapsed;
            }
            Err(error) => {
                shown.clear();
                return unfinished(globals, error, output::print);
            }
        }
    }
    shown.clear();
    let bytes = manifests.first().map(|manifest| &*manifest.bytes);
    let published = published(
        args.publishing.publish.as_ref(),
        (bytes.unwrap_or_default(), metadata),
        Some(&store),
        cancel,
    )
    .await;
    // The account of the upload is printed even if the manifest could not be published.
    let address = published.as_ref().ok().and_then(Option::as_deref);
    if globals.json {
        let mut value = serde_json::to_value(&summary)?;
        value["published"] = address.into();
        output::print_json(&value)?;
    } else {
        let text = output::summary("uploaded", &summary) + &output::published(address);
        output::print(&text)?;
    }
    published?;
    Ok(())
}

/// Where it is remembered what a store has, and whether that is believed.
pub(super) fn uploading(
    args: &Publishing,
    remembering: &Remembering,
) -> Result<Uploading, Failure> {
    let seen = SeenPlaces {
        cache: places_with(remembering.cache_dir.clone())?.cache,
        deadline: deadline(remembering)?,
    };
    Ok(Uploading {
        seen: Some(seen),
        force_check: args.force_s3_check,
    })
}

/// Publishes a manifest if it is to be, and gives its address.
pub(super) async fn published(
    key: Option<&ManifestKey>,
    (bytes, metadata): (&[u8], Metadata),
    store: Option<&OpenStore>,
    cancel: &CancellationToken,
) -> Result<Option<String>, Error> {
    match (key, store) {
        (Some(key), Some(store)) => {
            let manifest = PlacedManifest {
                key: key.clone(),
                bytes: bytes.to_vec().into(),
                metadata,
            };
            manifest.put(store, cancel).await?;
            Ok(Some(store.address_of(key)))
        }
        _ => Ok(None),
    }
}

/// Ends an upload that did not store everything: with its account, if it has one, which `print` shows.
pub(super) fn unfinished(
    globals: &Globals,
    error: Error,
    print: fn(&str) -> anyhow::Result<()>,
) -> Result<(), Failure> {
    let Some(summary) = error.unfinished().cloned() else {
        return Err(error.into());
    };
    if globals.json {
        print(&format!("{}\n", serde_json::to_string(&summary)?))?;
    } else {
        print(&output::summary("uploaded", &summary))?;
    }
    exit::report(&error.into());
    exit::of_summary(&summary)
}
