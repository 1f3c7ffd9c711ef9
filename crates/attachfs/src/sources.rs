//! Which manifest a path comes from.
//!
//! The base of a mount is one tree of all its manifests, and does not say which of them has a path. Where there is only
//! one, that is known. Otherwise the manifests that the session keeps are read when somebody asks, and kept for the next
//! question for a minute: who asks about one file mostly asks about many.

use std::error::Error as StdError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use attachfs_manifest::ManifestPath;
use attachfs_session::{BaseManifest, Session, StackedManifest};
use attachfs_tree::{Layer, Root, Said};
use attachfs_vfs::SourceOf;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::manifests::ManifestBytes;

/// How long manifests are kept in memory after the last question.
const KEPT_FOR: Duration = Duration::from_mins(1);

/// A manifest of a mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownManifest {
    /// Its number in the session; no other manifest of the session ever has it.
    pub number: u32,
    /// Where it came from.
    pub source: String,
    /// The hash of its bytes.
    pub hash: String,
    /// The directory that it is placed in; `None` is the root.
    pub at: Option<String>,
    /// Whether it was added while the mount was used.
    pub added: bool,
}

impl From<&StackedManifest> for ShownManifest {
    fn from(stacked: &StackedManifest) -> Self {
        let BaseManifest { source, hash, at } = &stacked.manifest;
        Self {
            number: stacked.number,
            source: source.clone(),
            hash: hash.to_string(),
            at: at.as_ref().map(ToString::to_string),
            added: stacked.layer > 0,
        }
    }
}

/// The manifests of a session, for questions about single paths.
#[derive(Debug)]
pub(crate) struct Sources {
    session: Arc<Session>,
    kept: Mutex<Option<Kept>>,
}

#[derive(Debug)]
struct Kept {
    /// How many layers there were.
    layers: u32,
    manifests: Arc<Vec<(ShownManifest, Layer)>>,
    used: Instant,
}

impl Sources {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self {
            session,
            kept: Mutex::new(None),
        }
    }

    /// These sources as the file system asks for them.
    pub(crate) fn of_file_system(self: &Arc<Self>) -> Arc<SourceOf> {
        let ours = Arc::clone(self);
        let named = |found: ShownManifest| format!("{} {}", found.number, found.source);
        Arc::new(
            move |layers: u32, path: &ManifestPath| -> Result<_, Box<dyn StdError + Send + Sync>> {
                Ok(ours.source_of(layers, path)?.map(named))
            },
        )
    }

    /// The manifest that a path of the base comes from: the highest one that puts something there. Reads manifests: not for a
    /// thread that serves requests. Needs a tokio runtime with time enabled.
    pub(crate) fn source_of(
        self: &Arc<Self>,
        layers: u32,
        path: &ManifestPath,
    ) -> Result<Option<ShownManifest>, Error> {
        let stack = self.session.stack(layers)?;
        if let [only] = &stack.manifests[..] {
            return Ok(Some(ShownManifest::from(only)));
        }
        let manifests = self.manifests(layers, stack.manifests)?;
        let root = self.root();
        let mut from_above = manifests.iter().rev();
        let found = from_above.find(|(_, layer)| matches!(layer.says(path, root), Said::Puts(_)));
        Ok(found.map(|(shown, _)| shown.clone()))
    }

    /// What each manifest says of a path, the lowest first. As [`source_of`](Self::source_of).
    pub(crate) fn said(
        self: &Arc<Self>,
        layers: u32,
        path: &ManifestPath,
    ) -> Result<Vec<(ShownManifest, Said)>, Error> {
        let stack = self.session.stack(layers)?;
        let manifests = self.manifests(layers, stack.manifests)?;
        let root = self.root();
        let said = manifests.iter();
        Ok(said
            .map(|(shown, layer)| (shown.clone(), layer.says(path, root)))
            .collect())
    }

    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        // A thread that panicked under the lock had not stored anything yet.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn root(&self) -> Option<&Root> {
        self.session.meta().layers.root.as_ref()
    }

    fn manifests(
        self: &Arc<Self>,
        layers: u32,
        stack: Vec<StackedManifest>,
    ) -> Result<Arc<Vec<(ShownManifest, Layer)>>, Error> {
        // Held while the manifests are read: other threads that ask meanwhile wait for them instead of reading them too.
        let mut kept = self.kept();
        if let Some(kept) = kept.as_mut().filter(|kept| kept.layers == layers) {
            kept.used = Instant::now();
            return Ok(Arc::clone(&kept.manifests));
        }
        let read = |stacked: StackedManifest| {
            let shown = ShownManifest::from(&stacked);
            let manifest = ManifestBytes {
                bytes: self.session.stacked_bytes(&stacked)?,
                name: stacked.manifest.source,
                at: stacked.manifest.at,
            };
            Ok((shown, manifest.layer()?))
        };
        let manifests: Result<Vec<_>, Error> = stack.into_iter().map(read).collect();
        let manifests = Arc::new(manifests?);
        let is_first = kept.is_none();
        *kept = Some(Kept {
            layers,
            manifests: Arc::clone(&manifests),
            used: Instant::now(),
        });
        drop(kept);
        if is_first {
            tokio::spawn(forget_later(Arc::downgrade(self)));
        }
        Ok(manifests)
    }

    /// Forgets the manifests if nobody has asked for long; otherwise how long it is until then.
    fn forget_unused(&self) -> Option<Duration> {
        let mut kept = self.kept();
        let left = KEPT_FOR.checked_sub(kept.as_ref()?.used.elapsed());
        if left.is_none() {
            *kept = None;
        }
        left
    }
}

async fn forget_later(ours: Weak<Sources>) {
    let mut left = KEPT_FOR;
    loop {
        tokio::time::sleep(left).await;
        let Some(next) = ours.upgrade().and_then(|ours| ours.forget_unused()) else {
            return;
        };
        left = next;
    }
}
