//! Directories that take the place of a file or link, which a diff deletes for them.
//!
//! A directory has to be there before a file can be fetched into it, so what is in its place goes before
//! the files. It goes only if the store was seen to give one of the objects that are to come below; a
//! store that is gone, or has none of them, would leave nothing of either.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use attachfs_manifest::{ChunkSize, ContentHash, ManifestPath};

use super::error::Trouble;
use super::file::layout_of;
use super::plan::{Deletion, FileStep};
use super::run::Run;
use crate::run::run_all;
use crate::{Progress, TransferError};

/// So many objects are asked for before it is believed that there is none.
const TRIES: usize = 8;

/// An object, and how long it is.
type Object = (ContentHash, u64);

/// Directories that replace something, each with the first objects of the files below it.
#[derive(Debug, Default)]
pub(super) struct Replacing(HashMap<ManifestPath, Vec<Object>>);

impl Replacing {
    pub(super) fn of(
        dirs: &[ManifestPath],
        clear: &HashMap<ManifestPath, Vec<Deletion>>,
        files: &[FileStep],
        chunk_size: ChunkSize,
    ) -> Self {
        if clear.is_empty() {
            return Self::default();
        }
        let replacing = dirs.iter().filter(|dir| clear.contains_key(dir));
        let mut replacing: HashMap<_, _> = replacing.map(|dir| (dir.clone(), Vec::new())).collect();
        for step in files {
            let Some(dir) = step
                .path
                .ancestors()
                .find(|dir| replacing.contains_key(dir))
            else {
                continue;
            };
            let layout = layout_of(step, chunk_size).ok();
            let first = layout.and_then(|layout| layout.pieces(0..step.file.size).next());
            if let (Some(objects), Some(first)) = (replacing.get_mut(&dir), first)
                && first.object_len > 0
            {
                objects.push((first.hash, first.object_len));
            }
        }
        Self(replacing)
    }

    /// Those in whose place everything has to stay as it is.
    pub(super) async fn kept(
        self,
        run: &Arc<Run>,
        progress: &dyn Progress,
    ) -> Result<HashSet<ManifestPath>, TransferError> {
        let mut kept = HashSet::new();
        if self.0.is_empty() {
            return Ok(kept);
        }
        let jobs = self.0.into_iter().map(|(dir, objects)| {
            let run = Arc::clone(run);
            async move {
                let goes = objects.is_empty() || run.gives_one_of(&objects).await?;
                Ok((dir, goes))
            }
        });
        let limit = run.options.max_in_flight;
        run_all(jobs, limit, &run.meter.anew(), progress, |(dir, goes)| {
            if !goes {
                kept.insert(dir);
            }
        })
        .await?;
        Ok(kept)
    }
}

impl Run {
    async fn gives_one_of(self: &Arc<Self>, objects: &[Object]) -> Result<bool, TransferError> {
        for &(object, len) in objects.iter().take(TRIES) {
            let run = Arc::clone(self);
            let near = self.blocking(move || run.nearby(object, len).is_some());
            if near.await? {
                return Ok(true);
            }
            match self.get(object, 0..1, len).await {
                Ok(_) => return Ok(true),
                Err(Trouble::Stop(error)) => return Err(error),
                Err(Trouble::File(error)) => tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "an object for a new directory is not given"
                ),
            }
        }
        Ok(false)
    }
}
