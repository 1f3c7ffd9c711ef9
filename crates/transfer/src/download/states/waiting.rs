//! Files that are whole and wait for their places.
//!
//! Such a file lies beside its place, or above, closed and under its made-up name. Being closed it is not locked, so a mark in
//! the same directory, which is, tells other downloads that it is not left behind. It is taken up again when its
//! place is free; what nobody took up is left for another run.

use std::collections::HashMap;
use std::fs::TryLockError;
use std::io;

use attachfs_durable::{FileStamp, HeldDir};
use attachfs_manifest::{ContentHash, ManifestPath};
use parking_lot::Mutex;

use super::staged::{Fate, Staged, lock_left};
use super::verified::Verified;
use crate::download::stamps::is_unchanged;
use crate::download::step::FileStep;

/// A file that was fetched and waits for its place.
#[derive(Debug)]
pub(in crate::download) struct Waiting {
    pub(in crate::download) step: FileStep,
    /// In the directory where it was fetched.
    name: Vec<u8>,
    /// As it was put by.
    pub(in crate::download) stamp: FileStamp,
    /// How many of its bytes an earlier run had fetched.
    pub(in crate::download) resumed: u64,
}

impl Waiting {
    /// Takes it up. It stays if it is dropped without a name. Fails if somebody has changed it. Blocks.
    pub(in crate::download) fn take_up(&self, root: &HeldDir) -> io::Result<Verified> {
        let dir = root.dir(self.step.fetched_in())?;
        take_up(dir, &self.name, self.step.file.size, &self.stamp)
    }
}

/// All files that wait, by the path of the swap that each waits for.
#[derive(Debug, Default)]
pub(in crate::download) struct Waitlist {
    /// Short and innermost.
    files: Mutex<HashMap<ManifestPath, Vec<Waiting>>>,
    /// What says that something waits in a directory, by the paths of directories. Held while one is made, and
    /// innermost.
    marks: Mutex<HashMap<Vec<u8>, Staged>>,
}

impl Waitlist {
    /// Puts a file by until a swap. It has this stamp, and `resumed` bytes of it were left by an earlier run.
    /// Blocks.
    pub(in crate::download) fn put_by(
        &self,
        root: &HeldDir,
        verified: Verified,
        step: &FileStep,
        swap: &ManifestPath,
        (stamp, resumed): (FileStamp, u64),
    ) -> io::Result<()> {
        self.mark(root, step.fetched_in())?;
        let file = Waiting {
            step: step.clone(),
            name: verified.put_by(),
            stamp,
            resumed,
        };
        self.add(swap, file);
        Ok(())
    }

    /// Has other downloads know that something waits in a directory of this path.
    fn mark(&self, root: &HeldDir, dir: &[u8]) -> io::Result<()> {
        let mut marks = self.marks.lock();
        if !marks.contains_key(dir) {
            marks.insert(dir.to_vec(), mark(root.dir(dir)?)?);
        }
        Ok(())
    }

    /// Has a file wait, once more if it was taken out.
    pub(in crate::download) fn add(&self, swap: &ManifestPath, file: Waiting) {
        let mut files = self.files.lock();
        files.entry(swap.clone()).or_default().push(file);
    }

    /// Takes out the files that wait for a swap.
    pub(in crate::download) fn take(&self, swap: &ManifestPath) -> Vec<Waiting> {
        self.files.lock().remove(swap).unwrap_or_default()
    }

    /// The paths of the files that wait for a swap.
    pub(in crate::download) fn paths(&self, swap: &ManifestPath) -> Vec<ManifestPath> {
        let files = self.files.lock();
        let waiting = files.get(swap).into_iter().flatten();
        waiting.map(|file| file.step.path.clone()).collect()
    }

    /// Takes out the files of which `stays` does not say that they stay. Blocks as long as that does, without a
    /// lock.
    pub(in crate::download) fn retain(&self, mut stays: impl FnMut(&Waiting) -> bool) {
        let mut all = std::mem::take(&mut *self.files.lock());
        for files in all.values_mut() {
            files.retain(&mut stays);
        }
        *self.files.lock() = all;
    }

    /// Leaves the files for another run, or removes them where none could take them over. Blocks.
    pub(in crate::download) fn let_go(&self, root: &HeldDir) {
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
    pub(in crate::download) fn len(&self) -> usize {
        self.files.lock().len()
    }
}

/// Takes up a file that was put by when it had this stamp. Where files cannot be locked, or show another owner than
/// the one who made them, that is no reason to refuse: it is known by its stamp.
pub(super) fn take_up(
    dir: HeldDir,
    name: &[u8],
    size: u64,
    stamp: &FileStamp,
) -> io::Result<Verified> {
    let file = dir.open_file_to_write(name)?;
    let is_in_use = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
    if is_in_use || !is_unchanged(&FileStamp::of(&file)?, stamp) {
        return Err(io::Error::other("it was changed after it was fetched"));
    }
    let staged = Staged::held(dir, name.to_vec(), file, size, Fate::Left);
    Ok(Verified::new(staged))
}

/// Removes a file that was put by when it had this stamp, unless another run can take it over.
pub(super) fn let_go(dir: &HeldDir, name: &[u8], stamp: &FileStamp) -> io::Result<()> {
    if matches!(lock_left(dir, name), Ok(Some(_))) {
        return Ok(());
    }
    match dir.look(name)? {
        Some(facts) if is_unchanged(&facts.stamp, stamp) => dir.remove_file(name),
        _ => Ok(()),
    }
}

/// Makes what says, as long as it is held, that something waits in `dir`. Blocks.
pub(super) fn mark(dir: HeldDir) -> io::Result<Staged> {
    Staged::create(dir, mark_key(), 0, false)
}

/// The key of such a mark.
pub(super) fn mark_key() -> ContentHash {
    ContentHash::of(b"something waits here")
}
