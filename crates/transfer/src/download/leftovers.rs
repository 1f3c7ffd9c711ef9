//! What interrupted runs left, and who goes on with it.
//!
//! A part lies in the directory where the file that it was to become is fetched. One that was moved or copied elsewhere
//! since is nothing to go on with: it would place the file where it lies now.
//!
//! ```text
//!     before the files    what no file of this download can go on with goes: its room is needed
//!     with a file         one that lies beside it and has its key is taken
//!     after the files     what was not taken goes
//! ```

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use attachfs_durable::HeldDir;
use attachfs_manifest::ContentHash;

use super::large::key_of;
use super::part::{Part, remove_left, room_of_left};
use super::plan::FileStep;
use super::survey::joined;

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

    /// Leaves out those of which `is_theirs` says, given their paths, that they are none.
    pub(super) fn leave_out(&mut self, is_theirs: impl Fn(&[u8]) -> bool) {
        for ((dir, _), lefts) in &mut self.0 {
            lefts.retain(|left| !is_theirs(&joined(dir, &left.name)));
        }
    }

    fn of(&self, step: &FileStep) -> &[Leftover] {
        let place = (step.fetched_in().to_vec(), key_of(step));
        self.0.get(&place).map_or(&[], Vec::as_slice)
    }

    /// The room on the disk that what is gone on with for this file has already. Blocks.
    pub(super) fn room_of(&self, root: &HeldDir, step: &FileStep) -> u64 {
        let lefts = self.of(step);
        if lefts.is_empty() {
            return 0;
        }
        let Ok(dir) = root.dir(step.fetched_in()) else {
            return 0;
        };
        let mut rooms = lefts.iter();
        rooms
            .find_map(|left| room_of_left(&dir, &left.name, step.file.size))
            .unwrap_or(0)
    }

    /// Takes over what was left of a file in its directory `dir`, or creates a new part there. Blocks.
    pub(super) fn part(&self, dir: HeldDir, step: &FileStep) -> std::io::Result<Part> {
        let size = step.file.size;
        let mut dir = dir;
        for left in self.of(step) {
            dir = match Part::take_over(dir, &left.name, size) {
                Ok(part) => {
                    left.was_taken.store(true, Ordering::Relaxed);
                    return Ok(part);
                }
                Err((dir, None)) => dir,
                Err((dir, Some(error))) => {
                    tracing::debug!(path = %step.path, %error, "what was left of a file is not used");
                    dir
                }
            };
        }
        Part::create(dir, key_of(step), size, step.file.runnable)
    }

    /// Removes what none of these files can go on with. Blocks.
    pub(super) fn remove_unwanted<'a>(
        &self,
        root: &HeldDir,
        files: impl Iterator<Item = &'a FileStep>,
    ) {
        if self.0.is_empty() {
            return;
        }
        let wanted: HashSet<_> = files
            .map(|step| (step.fetched_in(), key_of(step)))
            .collect();
        self.remove(root, |dir, key, _| !wanted.contains(&(dir, key)));
    }

    /// Removes what no file went on with. Blocks.
    pub(super) fn remove_unused(&self, root: &HeldDir) {
        self.remove(root, |_, _, left| !left.was_taken.load(Ordering::Relaxed));
    }

    fn remove(&self, root: &HeldDir, goes: impl Fn(&[u8], ContentHash, &Leftover) -> bool) {
        for ((dir, key), lefts) in &self.0 {
            for left in lefts.iter().filter(|left| goes(dir, *key, left)) {
                let held = root.dir(dir);
                let removed = held.and_then(|held| remove_left(&held, &left.name));
                if let Err(error) = removed {
                    tracing::debug!(%error, "what an interrupted run left stays");
                }
            }
        }
    }
}
