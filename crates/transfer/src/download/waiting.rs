//! Files that are whole and wait for their places.
//!
//! Such a file lies beside its place, or above, closed and under the name of a part. A mark in the same directory
//! tells other downloads that it is not left behind. It is taken up again when its place is free; what nobody took
//! up is left for another run.

use std::collections::HashMap;
use std::io;

use attachfs_durable::{FileStamp, HeldDir};
use attachfs_manifest::ManifestPath;
use parking_lot::Mutex;

use super::part::{Part, let_go, mark};
use super::plan::FileStep;

/// A file that was fetched and waits for its place.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) step: FileStep,
    /// In the directory where it was fetched.
    pub(super) name: Vec<u8>,
    pub(super) stamp: FileStamp,
    /// How many of its bytes an earlier run had fetched.
    pub(super) resumed: u64,
}

impl Waiting {
    /// Takes it up. Fails if somebody has changed it. Blocks.
    pub(super) fn take_up(&self, root: &HeldDir) -> io::Result<Part> {
        let dir = root.dir(self.step.fetched_in())?;
        Part::take_up(dir, &self.name, self.step.file.size, self.stamp)
    }
}

/// All files that wait, by the path of the swap that each waits for.
#[derive(Debug, Default)]
pub(super) struct Waitlist {
    /// Short and innermost.
    files: Mutex<HashMap<ManifestPath, Vec<Waiting>>>,
    /// What says that something waits in a directory, by the paths of directories. Held while one is made, and
    /// innermost.
    marks: Mutex<HashMap<Vec<u8>, Part>>,
}

impl Waitlist {
    /// Has other downloads know that something waits in a directory of this path. Blocks.
    pub(super) fn mark(&self, root: &HeldDir, dir: &[u8]) -> io::Result<()> {
        let mut marks = self.marks.lock();
        if !marks.contains_key(dir) {
            marks.insert(dir.to_vec(), mark(root.dir(dir)?)?);
        }
        Ok(())
    }

    pub(super) fn add(&self, swap: &ManifestPath, file: Waiting) {
        let mut files = self.files.lock();
        files.entry(swap.clone()).or_default().push(file);
    }

    /// Takes out the files that wait for a swap.
    pub(super) fn take(&self, swap: &ManifestPath) -> Vec<Waiting> {
        self.files.lock().remove(swap).unwrap_or_default()
    }

    /// The paths of the files that wait for a swap.
    pub(super) fn paths(&self, swap: &ManifestPath) -> Vec<ManifestPath> {
        let files = self.files.lock();
        let waiting = files.get(swap).into_iter().flatten();
        waiting.map(|file| file.step.path.clone()).collect()
    }

    /// Takes out the files of which `stays` does not say that they stay. Blocks as long as that does, without a
    /// lock.
    pub(super) fn retain(&self, mut stays: impl FnMut(&Waiting) -> bool) {
        let mut all = std::mem::take(&mut *self.files.lock());
        for files in all.values_mut() {
            files.retain(&mut stays);
        }
        *self.files.lock() = all;
    }

    /// Leaves the files for another run, or removes them where none could take them over. Blocks.
    pub(super) fn let_go(&self, root: &HeldDir) {
        let files = std::mem::take(&mut *self.files.lock());
        for file in files.into_values().flatten() {
            let dir = root.dir(file.step.fetched_in());
            if let Err(error) = dir.and_then(|dir| let_go(&dir, &file.name, &file.stamp)) {
                tracing::debug!(path = %file.step.path, %error, "a file that was not placed stays behind");
            }
        }
        self.marks.lock().clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.files.lock().len()
    }
}
