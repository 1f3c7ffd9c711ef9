//! Swaps: what a diff deletes to put something else in its place, which waits until everything else could be done.

use std::collections::BTreeMap;

use attachfs_manifest::ManifestPath;

use super::acts::{Acts, NOT_ALL_IS_THERE};
use super::failure::{Failure, FileResult, disk};
use super::naming::{NAMING, Naming, Target};
use super::paths::parent_bytes;
use super::report::Outcome;
use super::states::{Waiting, Waitlist};
use super::step::Swap;
use crate::error::TransferError;

/// Why nothing is put in the place of what is not deleted.
const PLACE_IS_KEPT: &str = "what is in its place is kept, since not everything could be placed";

/// Deletes what is in the place of something else, and puts that there.
pub(super) struct Swaps<'a> {
    pub(super) acts: Acts<'a>,
    pub(super) naming: &'a Naming,
    pub(super) waitlist: &'a Waitlist,
}

impl Swaps<'_> {
    /// Makes all of them, each if everything before could be done.
    pub(super) fn make_all(
        &self,
        swaps: &BTreeMap<ManifestPath, Swap>,
    ) -> Result<(), TransferError> {
        self.fail_changed();
        for (path, swap) in swaps {
            self.acts.meter.go_on()?;
            let is_whole = self.acts.report.lock().is_whole();
            if is_whole {
                self.make(path, swap)?;
            } else {
                self.leave(path, swap);
            }
        }
        Ok(())
    }

    /// Fails files that waited and are not what was fetched any more.
    fn fail_changed(&self) {
        let Acts {
            root,
            meter,
            report,
            ..
        } = self.acts;
        self.waitlist.retain(|file| {
            // Nothing comes of it when it is to stop.
            if meter.go_on().is_err() {
                return true;
            }
            let Err(error) = file.take_up(root) else {
                return true;
            };
            let why = format!("what was fetched of it cannot be given its name: {error}");
            report.lock().fail(&file.step.path, why);
            meter.finished(|| file.step.path.to_string());
            false
        });
    }

    /// Once it has begun to delete it puts what there is to put, whatever happens to the first of it.
    pub(super) fn make(&self, path: &ManifestPath, swap: &Swap) -> Result<(), TransferError> {
        let acts = &self.acts;
        let waiting = self.waitlist.take(path);
        let mut stopped = None;
        let mut open = acts.open();
        for deletion in &swap.deletions {
            acts.delete(&mut open, deletion);
        }
        let mut open = acts.open();
        for dir in &swap.dirs {
            acts.make_dir(&mut open, dir);
        }
        for file in waiting {
            let (size, resumed) = (file.step.file.size, file.resumed);
            let placed = self.place(&file);
            acts.meter.finished(|| file.step.path.to_string());
            let outcome = match placed {
                Ok(outcome) => outcome,
                Err(failure) => {
                    let failed = match failure {
                        Failure::Stop(error) => {
                            stopped.get_or_insert(error);
                            None
                        }
                        Failure::File(error) => Some(Outcome::failed(&file.step.path, &error)),
                    };
                    self.waitlist.add(path, file);
                    let Some(failed) = failed else { continue };
                    failed
                }
            };
            acts.report.lock().add(size, resumed, outcome);
        }
        for link in &swap.links {
            acts.make_link(&mut open, link);
        }
        stopped.map_or(Ok(()), Err)
    }

    /// Gives a file its place that has waited for it.
    fn place(&self, waiting: &Waiting) -> FileResult<Outcome> {
        let (root, step) = (self.acts.root, &waiting.step);
        let failed = |error| disk(&step.path, NAMING, error);
        let verified = waiting.take_up(root).map_err(failed)?;
        let dir = root.dir(parent_bytes(step.path.borrowed()));
        let verified = verified.bound_for(dir.map_err(failed)?);
        let time = waiting.stamp.mtime_ns;
        self.naming.place(verified, step, Target::Free, time)
    }

    fn leave(&self, path: &ManifestPath, swap: &Swap) {
        let Acts { report, meter, .. } = self.acts;
        let mut report = report.lock();
        for deletion in &swap.deletions {
            report.leave(&deletion.path, NOT_ALL_IS_THERE);
        }
        for dir in &swap.dirs {
            report.fail(dir, PLACE_IS_KEPT.to_owned());
        }
        let files = self.waitlist.paths(path);
        let links = swap.links.iter().map(|link| &link.path);
        for path in files.iter().chain(links) {
            report.fail(path, PLACE_IS_KEPT.to_owned());
            meter.finished(|| path.to_string());
        }
    }
}
