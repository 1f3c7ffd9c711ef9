//! What all files of a download share, and the two steps that all of them have: the look at what was left of them, and
//! their end.

use std::sync::Arc;

use attachfs_durable::HeldDir;
use attachfs_manifest::ChunkSize;

use super::compare::Comparison;
use super::copies::CopyNames;
use super::failure::{Failure, FileResult, disk};
use super::folder::Folder;
use super::leftovers::Leftovers;
use super::naming::{Naming, Target};
use super::options::{DownloadOptions, Permissions, Sources};
use super::remembered::Remembered;
use super::report::Outcome;
use super::states::{Partial, Verified, Waitlist};
use super::step::FileStep;
use super::supply::Supply;
use super::threads::Threads;
use crate::meter::Meter;

/// What all files of a download share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) folder: Folder,
    pub(super) permissions: Permissions,
    pub(super) chunk_size: ChunkSize,
    pub(super) meter: Arc<Meter>,
    pub(super) threads: Threads,
    pub(super) supply: Supply,
    pub(super) leftovers: Leftovers,
    pub(super) naming: Naming,
    pub(super) waitlist: Waitlist,
}

/// What there is of a file that an interrupted run began.
pub(super) enum Resumed {
    Nothing,
    Some(Partial),
    All(Verified),
}

impl Shared {
    pub(super) fn new(
        folder: Folder,
        (leftovers, copies): (Leftovers, CopyNames),
        from: Sources,
        options: &DownloadOptions,
        chunk_size: ChunkSize,
        meter: Arc<Meter>,
    ) -> Self {
        let caches = options.caches.clone();
        let comparison = Comparison {
            remembered: Remembered::new(caches, folder.ground.clone(), chunk_size),
            chunk_size,
            meter: Arc::clone(&meter),
        };
        Self {
            folder,
            permissions: options.permissions,
            chunk_size,
            threads: Threads::new(Arc::clone(&meter)),
            meter,
            supply: Supply::new(from, options),
            leftovers,
            naming: Naming {
                conflict: options.conflict,
                copies,
                comparison,
            },
            waitlist: Waitlist::default(),
        }
    }

    /// Runs a step that blocks in the directory where a file is fetched.
    pub(super) async fn in_place<T: Send + 'static>(
        self: &Arc<Self>,
        step: &Arc<FileStep>,
        work: impl FnOnce(&Self, HeldDir, &FileStep) -> FileResult<T> + Send + 'static,
    ) -> FileResult<T> {
        let (shared, step) = (Arc::clone(self), Arc::clone(step));
        self.threads
            .blocking(move || {
                let dir = shared.folder.dir.dir(step.fetched_in());
                let dir = dir.map_err(|error| disk(&step.path, "open the directory of it", error));
                dir.and_then(|dir| work(&shared, dir, &step))
            })
            .await?
    }

    /// Takes over what was left of a file. Blocks.
    pub(super) fn resume(&self, step: &FileStep) -> FileResult<Resumed> {
        let Some(partial) = self.leftovers.take(&self.folder.dir, step) else {
            return Ok(Resumed::Nothing);
        };
        if !partial.is_cut().unwrap_or(false) {
            return Ok(Resumed::Some(partial));
        }
        // Who is told to stop knows nothing of it.
        partial.keep();
        let proof = match self.naming.comparison.proof_of(partial.file(), step) {
            Err(Failure::File(_)) => None,
            read => read?,
        };
        Ok(match proof {
            Some(proof) => Resumed::All(partial.verified(proof)),
            None => {
                partial.discard();
                Resumed::Some(partial)
            }
        })
    }

    /// Gives a file its times, permissions and name; if it has to wait for that, notes that it does.
    /// `resumed` bytes of it were left by an earlier run. Blocks.
    pub(super) fn finish(
        &self,
        verified: Verified,
        step: &FileStep,
        target: Target,
        resumed: u64,
    ) -> FileResult<Outcome> {
        let stamp = verified.set_attributes(&step.path, self.permissions, step.file.mtime)?;
        let Some(swap) = &step.swap else {
            return self.naming.place(verified, step, target, stamp.mtime_ns);
        };
        self.waitlist
            .put_by(&self.folder.dir, verified, step, swap, (stamp, resumed))
            .map_err(|error| disk(&step.path, "keep it", error))?;
        Ok(Outcome::Waits)
    }
}
