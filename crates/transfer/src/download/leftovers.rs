//! What interrupted runs left, and who goes on with it.
//!
//! A part lies in the directory where the file that it was to become is fetched. That is the file's own, or
//! one above it if the file waited for its place; by now that place may be there. One that was moved or copied
//! elsewhere since is nothing to go on with. What another download uses, or has put by while it runs, is none.
//!
//! ```text
//!     before the files    what no file of this download can go on with goes: its room is needed
//!     with a file         one that lies beside it or above and has its key is taken
//!     after the files     what was not taken goes
//! ```

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use attachfs_durable::HeldDir;
use attachfs_manifest::ContentHash;

use super::paths::{above, joined, parent_bytes};
use super::states::{Partial, left_in, remove_left, room_of_left};
use super::step::FileStep;

/// Names of parts, by the directory that they lie in (empty for the root) and by what they were to become.
#[derive(Debug, Default)]
pub(super) struct Leftovers(HashMap<(Vec<u8>, ContentHash), Vec<Leftover>>);

#[derive(Debug)]
struct Leftover {
    name: Vec<u8>,
    was_taken: AtomicBool,
}

impl Leftovers {
    /// Adds a part of this name in the directory at `dir`.
    pub(super) fn add(&mut self, dir: &[u8], key: ContentHash, name: Vec<u8>) {
        let beside = self.0.entry((dir.to_vec(), key)).or_default();
        beside.push(Leftover {
            name,
            was_taken: AtomicBool::new(false),
        });
    }

    /// Adds what interrupted runs left in the directory at `path`. One that cannot be listed is used as it is. Blocks.
    pub(super) fn add_from(&mut self, dir: &HeldDir, path: &[u8]) {
        match left_in(dir) {
            Ok(left) => {
                for (key, name) in left {
                    self.add(path, key, name);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a directory is not looked through for what was left");
            }
        }
    }

    /// Leaves out those of which `is_theirs` says, given their paths, that they are none.
    pub(super) fn leave_out(&mut self, is_theirs: impl Fn(&[u8]) -> bool) {
        for ((dir, _), lefts) in &mut self.0 {
            lefts.retain(|left| !is_theirs(&joined(dir, &left.name)));
        }
    }

    /// What was left of a file: beside it, and in the directories above, where it waited for its own. With
    /// the directories.
    fn of<'a>(&'a self, step: &'a FileStep) -> impl Iterator<Item = (&'a [u8], &'a Leftover)> {
        let key = (!self.0.is_empty()).then(|| step.key());
        let dirs =
            std::iter::successors(Some(parent_bytes(step.path.borrowed())), |&dir| above(dir));
        let all = key.into_iter().flat_map(move |key| {
            dirs.clone()
                .filter_map(move |dir| Some((dir, self.0.get(&(dir.to_vec(), key))?)))
        });
        all.flat_map(|(dir, lefts)| lefts.iter().map(move |left| (dir, left)))
    }

    /// Whether something was left of a file.
    pub(super) fn has(&self, step: &FileStep) -> bool {
        self.of(step).next().is_some()
    }

    /// The room on the disk that what is gone on with for this file has already, at most `most` bytes. Blocks.
    pub(super) fn room_of(&self, root: &HeldDir, step: &FileStep, most: u64) -> u64 {
        let mut rooms = self.of(step);
        rooms
            .find_map(|(dir, left)| room_of_left(&root.dir(dir).ok()?, &left.name, most))
            .unwrap_or(0)
    }

    /// Takes over what was left of a file, and moves it to where the file is fetched. Blocks.
    pub(super) fn take(&self, root: &HeldDir, step: &FileStep) -> Option<Partial> {
        let take = |dir: &[u8], left: &Leftover| -> std::io::Result<Option<Partial>> {
            let taken = Partial::take_over(root.dir(dir)?, &left.name, step.file.size)?;
            let Some(mut part) = taken else {
                return Ok(None);
            };
            if dir != step.fetched_in() {
                part.move_to(root.dir(step.fetched_in())?)?;
            }
            Ok(Some(part))
        };
        self.of(step).find_map(|(dir, left)| {
            let taken = take(dir, left).unwrap_or_else(|error| {
                tracing::debug!(path = %step.path, %error, "what was left of a file is not used");
                None
            });
            taken.inspect(|_| left.was_taken.store(true, Ordering::Relaxed))
        })
    }

    /// Removes what none of these files can go on with. Blocks.
    pub(super) fn remove_unwanted(&self, root: &HeldDir, files: &[FileStep]) {
        let mut wanted = HashSet::new();
        for (dir, left) in files.iter().flat_map(|step| self.of(step)) {
            wanted.insert((dir, &left.name[..]));
        }
        self.remove(root, |dir, left| !wanted.contains(&(dir, &left.name[..])));
    }

    /// Removes what no file went on with. Blocks.
    pub(super) fn remove_unused(&self, root: &HeldDir) {
        self.remove(root, |_, left| !left.was_taken.load(Ordering::Relaxed));
    }

    fn remove(&self, root: &HeldDir, goes: impl Fn(&[u8], &Leftover) -> bool) {
        for ((dir, _), lefts) in &self.0 {
            for left in lefts.iter().filter(|left| goes(dir, left)) {
                let held = root.dir(dir);
                let removed = held.and_then(|held| remove_left(&held, &left.name));
                if let Err(error) = removed {
                    tracing::debug!(%error, "what an interrupted run left stays");
                }
            }
        }
    }
}
