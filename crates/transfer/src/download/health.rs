//! Whether the store is there, or only some objects cannot be had.
//!
//! A single refusal may be of one object or of all of them. So many different objects in a row, with
//! nothing that was given in between, mean that none can be had; a refusal that says itself that it is of
//! everything means it at once, unless something was given before. What is not there, or is damaged, says
//! nothing of other objects.

use std::sync::atomic::{AtomicBool, Ordering};

use attachfs_manifest::ContentHash;
use attachfs_store::{Reach, StoreError};
use parking_lot::Mutex;

use super::DownloadError;
use super::error::{FileError, Trouble};

/// So many objects in a row that cannot be had mean that none can.
const MOST_FAILURES: usize = 8;

/// How the sources of a download do.
#[derive(Debug, Default)]
pub(super) struct Health {
    has_given: AtomicBool,
    is_failing: AtomicBool,
    /// Objects that could not be had since one could, each once. Short and innermost.
    failing: Mutex<Vec<ContentHash>>,
}

impl Health {
    /// Something was given, by whichever source.
    pub(super) fn is_well(&self) {
        // Read before written: all threads share the line.
        if !self.has_given.load(Ordering::Relaxed) {
            self.has_given.store(true, Ordering::Relaxed);
        }
        if self.is_failing.load(Ordering::Relaxed) {
            let mut failing = self.failing.lock();
            failing.clear();
            self.is_failing.store(false, Ordering::Relaxed);
        }
    }

    /// What it means that an object could not be had.
    pub(super) fn judge(&self, hash: ContentHash, source: StoreError) -> Trouble {
        if self.is_of_everything(hash, &source) {
            Trouble::Stop(DownloadError::Store { hash, source }.into())
        } else {
            Trouble::File(FileError::Store { hash, source })
        }
    }

    fn is_of_everything(&self, hash: ContentHash, error: &StoreError) -> bool {
        match error {
            StoreError::Denied {
                reach: Reach::Everything,
                ..
            } if !self.has_given.load(Ordering::Relaxed) => true,
            StoreError::Denied { .. } | StoreError::Unreachable { .. } => {
                let mut failing = self.failing.lock();
                if !failing.contains(&hash) {
                    failing.push(hash);
                }
                self.is_failing.store(true, Ordering::Relaxed);
                failing.len() >= MOST_FAILURES
            }
            StoreError::NotFound { .. }
            | StoreError::Full { .. }
            | StoreError::SourceChanged { .. }
            | StoreError::Source { .. }
            | StoreError::Other { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(reach: Reach) -> StoreError {
        StoreError::Denied {
            what: "reading".to_owned(),
            advice: "no".to_owned(),
            reach,
            source: "403".into(),
        }
    }

    fn stops(health: &Health, object: usize, reach: Reach) -> bool {
        let hash = ContentHash::of(&object.to_le_bytes());
        matches!(health.judge(hash, denied(reach)), Trouble::Stop(_))
    }

    #[test]
    fn different_objects_in_a_row_concern_everything() {
        let health = Health::default();
        let passed = (0..100).take_while(|&object| !stops(&health, object, Reach::Unknown));
        assert_eq!(passed.count(), MOST_FAILURES - 1);
    }

    #[test]
    fn one_object_that_fails_again_and_again_is_one() {
        let health = Health::default();
        assert!((0..100).all(|_| !stops(&health, 1, Reach::Unknown)));
    }

    #[test]
    fn failures_with_something_given_between_them_are_single_ones() {
        let health = Health::default();
        for object in 0..100 {
            assert!(!stops(&health, object, Reach::Unknown));
            health.is_well();
        }
    }

    #[test]
    fn what_refuses_everything_ends_it_at_once_unless_something_was_given() {
        let health = Health::default();
        assert!(stops(&health, 1, Reach::Everything));
        health.is_well();
        assert!(!stops(&health, 1, Reach::Everything));
    }
}
