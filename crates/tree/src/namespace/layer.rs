//! Another layer of the base, under what the mutations made.
//!
//! What a job changed stays as the job left it: a file that it wrote or whose attributes it set, a name that it
//! deleted or took, and the directories that lead there. Everything else is what the base says now.

use std::collections::{HashMap, HashSet};

use attachfs_manifest::Name;

use super::Namespace;
use crate::{AddLayerError, DiffLayer, Flip, Ino, Kind};

impl Namespace {
    /// Adds a diff as a layer of the base. Returns the names that lead to another inode now: caches have
    /// to drop them. If it fails, nothing changed.
    pub fn add_layer(&mut self, layer: DiffLayer) -> Result<Vec<(Ino, Name)>, AddLayerError> {
        let (base, flips) = self.base.with(layer)?;
        let touched = self.touched_and_above();
        let mut changed = Vec::new();
        // What is counted is what is shown, whatever becomes of the base's own count.
        let mut counts: HashMap<Ino, u32> = HashMap::new();
        for Flip {
            parent,
            name,
            was,
            is,
        } in flips
        {
            if self.is_removed(parent) {
                continue;
            }
            let now = self.subdirectories(parent);
            let count = counts.entry(parent).or_insert(now);
            let taken = self.entries.get(&parent);
            let taken = taken.and_then(|names| names.get(&name)).copied();
            match (taken, was, is) {
                // The job deleted the name, and the base does not have it any more.
                (Some(None), _, None) => {
                    let names = self.entries.entry(parent).or_default();
                    names.remove(&name);
                    continue;
                }
                (Some(_), ..) => {}
                (None, Some(was), _) if touched.contains(&was) => {
                    let names = self.entries.entry(parent).or_default();
                    names.insert(name.clone(), Some(was));
                    let names = self.names.entry(was);
                    names.or_insert_with(|| vec![(parent, name)]);
                }
                (None, ..) => {
                    let is_dir = |ino| base.plain_kind(ino) == Some(Kind::Dir);
                    *count += u32::from(is.is_some_and(is_dir));
                    *count = count.saturating_sub(was.is_some_and(is_dir).into());
                    changed.push((parent, name));
                    continue;
                }
            }
            if let Some(hidden) = is {
                self.names.insert(hidden, Vec::new());
            }
        }
        self.base = base;
        for (dir, count) in counts {
            if self.subdirectories(dir) != count {
                self.subdirectories.insert(dir, count);
            }
        }
        Ok(changed)
    }

    /// What mutations changed, and the directories that lead there.
    fn touched_and_above(&self) -> HashSet<Ino> {
        let mut touched = HashSet::new();
        let mut open: Vec<Ino> = self.inodes.keys().copied().collect();
        while let Some(ino) = open.pop() {
            if touched.insert(ino) {
                open.extend(self.names(ino).into_iter().map(|(parent, _)| parent));
            }
        }
        touched
    }
}
