//! Another layer of the base, while the file system is used.

use std::collections::BTreeSet;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use attachfs_manifest::wire::{Format, encode_diff};
use attachfs_manifest::{ChunkSize, ContentHash, Diff, Name};
use attachfs_tree::{DiffLayer, Ino};

use crate::overlay::{LayerFileError, Record};
use crate::vfs::{journal_failed, sync_failed};
use crate::{Acknowledgement, FsError, FsErrorKind, Invalidation, Vfs};

/// A listing that was on its way when a name got its new meaning reaches the kernel well within this time.
const LISTING_ARRIVES: Duration = Duration::from_secs(1);

/// How long the kernel may take to drop names: it does so as soon as no request in their directory is being answered.
const KERNEL_ANSWERS: Duration = Duration::from_secs(10);

/// What has the kernel forget these names, and the listings that they are missing in.
fn names(told: &[(Ino, Name)], after: Duration) -> impl Iterator<Item = Invalidation> {
    let dirs: BTreeSet<Ino> = told.iter().map(|(parent, _)| *parent).collect();
    let names = told.iter().map(move |(parent, name)| Invalidation::Name {
        parent: (*parent).into(),
        name: name.clone(),
        after,
    });
    names.chain(dirs.into_iter().map(move |dir| Invalidation::Listing {
        dir: dir.into(),
        after,
    }))
}

fn failed(error: LayerFileError) -> FsError {
    let kind = match error {
        LayerFileError::Build { .. } => FsErrorKind::Invalid,
        _ => FsErrorKind::Io,
    };
    FsError::caused(kind, "add a layer", error)
}

impl Vfs {
    /// How the manifests that were mounted cut large files: those that are added have to do so, too.
    pub fn chunk_size(&self) -> ChunkSize {
        self.namespace.read().base().chunk_size()
    }

    /// Lays a diff over the base: the difference between what the base is and what it is to be. When this returns, every
    /// look-up sees the new base, also of names that were missing, and it survives a power loss. What the job changed
    /// stays as it is; no inode gets another number. Where nobody can write, it lasts as long as this file system.
    ///
    /// A kernel that does not drop its old names within ten seconds is not waited for any longer. Not for a thread that
    /// answers the kernel, which may need that answer first.
    pub fn add_layer(&self, diff: &Diff) -> Result<(), FsError> {
        if self.overlay.is_none() {
            let layer = DiffLayer::new(diff)
                .map_err(|error| FsError::caused(FsErrorKind::Invalid, "add a layer", error))?;
            let told = {
                let _alone = self.changing.lock();
                let mut added = self.namespace.read().clone();
                let told = added
                    .add_layer(layer)
                    .map_err(|error| failed(error.into()))?;
                self.show(added);
                told
            };
            self.tell_of_layer(&told);
            return Ok(());
        }
        let change = self.begin_change()?;
        let overlay = change.overlay;
        let bytes = encode_diff(diff, Format::V2025_12)
            .map_err(|error| FsError::caused(FsErrorKind::Invalid, "add a layer", error))?;
        let hash = ContentHash::of(&bytes);
        // Before the turn: nobody waits for a large layer to be built.
        let layer = overlay
            .layer_files
            .decode(self.layer_count() + 1, &bytes)
            .map_err(failed)?;
        let told = {
            let turn = self.turn(overlay);
            let mut added = turn.namespace().clone();
            let number = added.base().layers();
            let told = added.add_layer(layer);
            let told = told.map_err(|error| failed(error.into()))?;
            let written = overlay.layer_files.write(number, &bytes);
            written.map_err(|error| failed(error.into()))?;
            let record = Record::Layer { number, diff: hash };
            overlay.append(&record).map_err(journal_failed)?;
            overlay.layers.lock().push(hash);
            turn.replace(added);
            told
        };
        let synced = overlay.disk.sync().map_err(sync_failed);
        self.tell_of_layer(&told);
        synced
    }

    /// Has the kernel forget these names, and waits until it has; and once more when no listing from before is on its way
    /// any more.
    fn tell_of_layer(&self, told: &[(Ino, Name)]) {
        let (acknowledgement, acknowledged) = Acknowledgement::new();
        self.invalidate(names(told, Duration::ZERO));
        self.invalidate([Invalidation::Answer(acknowledgement)]);
        self.invalidate(names(told, LISTING_ARRIVES));
        if let Err(RecvTimeoutError::Timeout) = acknowledged.recv_timeout(KERNEL_ANSWERS) {
            tracing::warn!("the kernel still shows names from before the layer was added");
        }
    }

    /// How many diffs were laid over the base that it began with.
    pub fn layer_count(&self) -> u32 {
        self.namespace.read().base().layers() - 1
    }

    /// The diffs that were laid over the base while it was mounted, in their order: their bytes.
    pub fn layers(&self) -> Result<Vec<Vec<u8>>, LayerFileError> {
        let Some(overlay) = &self.overlay else {
            return Ok(Vec::new());
        };
        let layers = overlay.layers.lock().clone();
        (1..)
            .zip(layers)
            .map(|(number, hash)| overlay.layer_files.bytes(number, hash))
            .collect()
    }
}
