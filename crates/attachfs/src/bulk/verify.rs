//! Whether a store has what it should, and as it should be.

use std::collections::HashMap;
use std::sync::Arc;

use attachfs_manifest::ContentHash;
use attachfs_store::{ChunkStore, ListedName};
use attachfs_transfer::{ObjectFault, Progress, check_objects};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::listing::Listing;
use crate::cancel::Cancellable;
use crate::error::Error;
use crate::manifest::{UNHASHED, needed, open_manifest, reason, unhashed};
use crate::manifests::ManifestBytes;
use crate::store::OpenStore;

/// What a verification found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct VerifyReport {
    /// Objects that were looked at.
    pub objects: u64,
    /// Their bytes, as listed or as the manifests say.
    pub bytes: u64,
    /// Whether they were read and hashed.
    pub deep: bool,
    /// Objects of another length or with other bytes than they should have, and files without a hash.
    pub damaged: Vec<StoreTrouble>,
    /// Objects that manifests need and the store does not have.
    pub missing: Vec<StoreTrouble>,
    /// Objects that could not be read.
    pub unread: Vec<StoreTrouble>,
    /// Files among the objects that are no objects.
    pub foreign: u64,
}

/// An object that is not as it should be.
#[derive(Debug, Clone, Serialize)]
pub struct StoreTrouble {
    /// Its hash; `-` for a file that has none.
    pub object: String,
    /// The first manifest that needs it, if manifests were given.
    pub manifest: Option<String>,
    /// The first file in it that does.
    pub path: Option<String>,
    /// What is wrong.
    pub reason: String,
}

impl VerifyReport {
    fn add(&mut self, trouble: StoreTrouble, fault: &ObjectFault) {
        match fault {
            ObjectFault::Missing => self.missing.push(trouble),
            ObjectFault::Length(_) | ObjectFault::Damaged(_) => self.damaged.push(trouble),
            ObjectFault::Unread(_) => self.unread.push(trouble),
        }
    }
}

/// Checks the objects of these manifests; without any, all that are in the store. If it goes `deep`, they are
/// read and hashed; else a manifest's objects are asked for their lengths, and of a store on its own only
/// empty objects that should not be are found.
pub async fn verify_store(
    store: &OpenStore,
    manifests: &[ManifestBytes],
    deep: bool,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<VerifyReport, Error> {
    let progress = Cancellable::new(progress, cancel);
    progress
        .run(verify(store, manifests, deep, &progress))
        .await
}

async fn verify(
    store: &OpenStore,
    manifests: &[ManifestBytes],
    deep: bool,
    progress: &dyn Progress,
) -> Result<VerifyReport, Error> {
    let mut report = VerifyReport {
        deep,
        ..VerifyReport::default()
    };
    if manifests.is_empty() {
        verify_all(store, &mut report, progress).await?;
    } else {
        verify_needed(store, manifests, &mut report, progress).await?;
    }
    for list in [&mut report.damaged, &mut report.missing, &mut report.unread] {
        list.sort_by(|a, b| a.object.cmp(&b.object));
    }
    Ok(report)
}

async fn verify_all(
    store: &OpenStore,
    report: &mut VerifyReport,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let nothing = ContentHash::of(b"");
    let mut listing = Listing::of_objects(store, progress);
    // An old name comes before the name of now, which is the one that is read if there are both.
    let mut last_old = None;
    while let Some(page) = listing.next().await? {
        let mut objects = Vec::with_capacity(page.len());
        for entry in page {
            match entry.name {
                ListedName::Object { hash, old } => {
                    let before = last_old.take();
                    objects.extend(before.filter(|&(before, _)| before != hash));
                    if old {
                        last_old = Some((hash, entry.len));
                    } else {
                        objects.push((hash, entry.len));
                    }
                }
                ListedName::Manifest(_) | ListedName::Foreign => report.foreign += 1,
            }
        }
        if listing.is_over() {
            objects.extend(last_old.take());
        }
        report.objects += objects.len() as u64;
        report.bytes += objects.iter().map(|&(_, len)| len).sum::<u64>();
        let lens: HashMap<_, _> = objects.iter().copied().collect();
        let faults = if report.deep {
            check_objects(chunks(store), objects, true, progress).await?
        } else {
            let empty = objects.into_iter();
            let empty = empty.filter(|&(hash, len)| len == 0 && hash != nothing);
            let faults = empty.map(|(hash, _)| (hash, ObjectFault::Damaged(nothing)));
            faults.collect()
        };
        for (hash, fault) in faults {
            // The object was removed since it was listed, and no manifest names it.
            if fault != ObjectFault::Missing {
                let trouble = StoreTrouble {
                    object: hash.to_string(),
                    manifest: None,
                    path: None,
                    reason: reason(&fault, lens[&hash]),
                };
                report.add(trouble, &fault);
            }
        }
    }
    Ok(())
}

async fn verify_needed(
    store: &OpenStore,
    manifests: &[ManifestBytes],
    report: &mut VerifyReport,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let mut all: HashMap<ContentHash, u64> = HashMap::new();
    for manifest in manifests {
        let opened = open_manifest(manifest, false)?;
        let (needed, contradictions) = needed(&opened.manifest);
        let said = |object: String, path: String, reason: String| StoreTrouble {
            object,
            manifest: Some(manifest.name.clone()),
            path: Some(path),
            reason,
        };
        let contradictions = contradictions.into_iter();
        report
            .damaged
            .extend(contradictions.map(|found| said(found.object, found.path, found.reason)));
        let unhashed = unhashed(&opened.manifest).into_iter();
        report.damaged.extend(
            unhashed.map(|path| said("-".to_owned(), path.to_string(), UNHASHED.to_owned())),
        );
        // What an earlier manifest needs too is asked for once, unless the two do not agree.
        let new: Vec<_> = needed
            .iter()
            .map(|(&hash, &(len, _))| (hash, len))
            .filter(|&(hash, len)| all.insert(hash, len) != Some(len))
            .collect();
        report.objects += new.len() as u64;
        report.bytes += new.iter().map(|&(_, len)| len).sum::<u64>();
        for (hash, fault) in check_objects(chunks(store), new, report.deep, progress).await? {
            let (len, path) = needed[&hash];
            let trouble = said(hash.to_string(), path.to_string(), reason(&fault, len));
            report.add(trouble, &fault);
        }
    }
    Ok(())
}

fn chunks(store: &OpenStore) -> Arc<dyn ChunkStore> {
    store.store.clone()
}
