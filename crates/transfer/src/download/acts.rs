//! Carries out a plan, in its order.
//!
//! ```text
//!     directories, files, links     what clears nothing away; files that wait for a swap are fetched too
//!     swaps                         if all of that could be done: delete, then put what was fetched for it
//!     deletions                     if the swaps could be done too
//! ```
//!
//! So what a diff deletes is there until everything that it puts is on this disk. Whoever watches can end
//! it between any two steps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use attachfs_durable::HeldDir;
use attachfs_manifest::ManifestPath;

use super::error::Trouble;
use super::file::{Done, Outcome, failed_by};
use super::plan::{Deletion, FileStep, LinkStep, Plan, Swap};
use super::run::Run;
use super::survey::parent_bytes;
use super::tree::{Dirs, Linked};
use super::{Copied, DownloadError, DownloadReport, Remark};
use crate::run::{blocking, run_all, run_one};
use crate::{Failed, Progress, TransferError};

/// Why a diff does not delete when something failed: it may be all that is left of it.
const NOT_ALL_IS_THERE: &str = "it is not deleted, since not everything could be placed";
/// Why nothing is put in the place of what is not deleted.
const PLACE_IS_KEPT: &str = "what is in its place is kept, since not everything could be placed";

impl DownloadReport {
    fn fail(&mut self, path: &ManifestPath, error: String) {
        self.summary.errors.push(Failed {
            path: path.to_string(),
            error,
        });
    }

    fn leave(&mut self, path: &ManifestPath, why: &str) {
        self.left.push(Remark::new(path, why));
    }

    /// Counts what became of a file.
    fn add(&mut self, size: u64, resumed: u64, outcome: Outcome) {
        let summary = &mut self.summary;
        let mut is_placed = true;
        match outcome {
            Outcome::Fetched => {}
            Outcome::Copied(copy) => self.copied.push(copy),
            Outcome::Skipped => is_placed = false,
            Outcome::Left(remark) => {
                self.left.push(remark);
                is_placed = false;
            }
            Outcome::Failed(failed) => return summary.errors.push(failed),
            Outcome::Waits => return,
        }
        if is_placed {
            summary.processed.add(size - resumed);
            summary.skipped.bytes += resumed;
        } else {
            summary.skipped.add(size);
        }
    }
}

impl Run {
    /// Does all of it. `report` is what was done until then, and is what was done when it ends, whatever it
    /// ends by.
    pub(super) async fn act(
        self,
        plan: Plan,
        progress: &dyn Progress,
        report: &mut DownloadReport,
    ) -> Result<(), TransferError> {
        let mut plan = plan;
        let run = Arc::new(self);
        for _ in 0..plan.links_there {
            run.meter.known(0, 0);
        }
        for (path, size, error) in std::mem::take(&mut plan.failed) {
            if size.is_some() {
                run.meter.finished(|| path.to_string());
            }
            report.fail(&path, error);
        }
        for (path, why) in std::mem::take(&mut plan.left) {
            report.leave(&path, why);
        }
        let not_deleted = std::mem::take(&mut plan.not_deleted);
        *run.report.lock() = std::mem::take(report);
        let ended = run.carry_out(plan, progress).await;
        run.rest().await;
        let last = Arc::clone(&run);
        let meter = Arc::clone(&run.meter);
        let let_go = blocking(&meter, move || {
            last.waitlist.let_go(&last.root);
            last.remembered.write(&last.root);
            Ok(())
        });
        let let_go = let_go.await;
        *report = std::mem::take(&mut *run.report.lock());
        for (path, why) in not_deleted {
            report.fail(&path, format!("cannot delete it: {why}"));
        }
        ended.and(let_go)
    }

    async fn carry_out(
        self: &Arc<Self>,
        plan: Plan,
        progress: &dyn Progress,
    ) -> Result<(), TransferError> {
        let written_to = if self.options.sync {
            written_to(&plan)
        } else {
            BTreeSet::new()
        };
        let Plan {
            dirs,
            mut files,
            links,
            swaps,
            deletions,
            ..
        } = plan;
        // The long ones first: they end last.
        files.sort_by_key(|step| step.file.size <= self.options.block_bytes);
        let before = self.watched(progress, move |run| {
            if !run.options.force_rehash {
                run.remembered.look_up(&files, &run.meter)?;
            }
            run.make_dirs(&dirs)?;
            Ok(files)
        });
        let files = before.await?;
        self.files(files, progress).await?;
        let after = self.watched(progress, move |run| {
            run.leftovers.remove_unused(&run.root);
            run.make_links(&links)?;
            run.make_swaps(&swaps)?;
            run.make_deletions(&deletions)
        });
        after.await?;
        if self.options.sync {
            // Not as a step that is waited for in any case: the kernel may take minutes, and cannot be told to stop.
            let (run, meter) = (Arc::clone(self), Arc::clone(&self.meter));
            let sync = async move { blocking(&meter, move || run.sync(&written_to)).await };
            run_one(sync, &self.meter, progress).await?;
        }
        Ok(())
    }

    /// Runs a step that blocks, while somebody watches who may end it.
    async fn watched<T: Send + 'static>(
        self: &Arc<Self>,
        progress: &dyn Progress,
        step: impl FnOnce(&Self) -> Result<T, TransferError> + Send + 'static,
    ) -> Result<T, TransferError> {
        let run = Arc::clone(self);
        let job = async move {
            let acting = Arc::clone(&run);
            run.blocking(move || step(&acting)).await?
        };
        run_one(job, &self.meter, progress).await
    }

    /// Fetches and compares files.
    async fn files(
        self: &Arc<Self>,
        files: Vec<FileStep>,
        progress: &dyn Progress,
    ) -> Result<(), TransferError> {
        let jobs = files.into_iter().map(|step| Arc::clone(self).file(step));
        // Twice the requests, so that fetching goes on while files are written.
        let limit = 2 * self.options.max_in_flight + self.options.max_large_in_flight;
        run_all(jobs, limit, &self.meter, progress, |done: Done| {
            let mut report = self.report.lock();
            report.add(done.size, done.resumed, done.outcome);
        })
        .await
    }

    pub(super) fn make_dirs(&self, dirs: &[ManifestPath]) -> Result<(), TransferError> {
        let mut open = Dirs::new(&self.root);
        for path in dirs {
            self.meter.go_on()?;
            self.make_dir(&mut open, path);
        }
        Ok(())
    }

    fn make_dir(&self, open: &mut Dirs<'_>, path: &ManifestPath) {
        if let Err(error) = open.make(path, self.options.permissions) {
            let why = format!("cannot make the directory: {error}");
            self.report.lock().fail(path, why);
        }
    }

    pub(super) fn make_links(&self, links: &[LinkStep]) -> Result<(), TransferError> {
        let mut open = Dirs::new(&self.root);
        for step in links {
            self.meter.go_on()?;
            self.make_link(&mut open, step);
        }
        Ok(())
    }

    fn make_link(&self, open: &mut Dirs<'_>, step: &LinkStep) {
        let copies = self.copies(&step.path);
        let made = open.link(step, self.options.conflict, &self.names, copies);
        let mut report = self.report.lock();
        match made {
            Ok(Linked::Made) => report.summary.processed.count += 1,
            Ok(Linked::Copied(name)) => {
                report.summary.processed.count += 1;
                report.copied.push(Copied::new(&step.path, &name));
            }
            Ok(Linked::There) => report.summary.skipped.count += 1,
            Ok(Linked::Left(why)) => {
                report.summary.skipped.count += 1;
                report.leave(&step.path, why);
            }
            Err(error) => report.fail(&step.path, format!("cannot make the link: {error}")),
        }
        drop(report);
        self.meter.finished(|| step.path.to_string());
    }

    /// Whether nothing failed until now.
    fn is_whole(&self) -> bool {
        self.report.lock().summary.errors.is_empty()
    }

    /// Deletes what is in the place of something else and puts that there, if everything before could be
    /// done.
    pub(super) fn make_swaps(
        &self,
        swaps: &BTreeMap<ManifestPath, Swap>,
    ) -> Result<(), TransferError> {
        self.fail_changed();
        for (path, swap) in swaps {
            self.meter.go_on()?;
            if self.is_whole() {
                self.make_swap(path, swap)?;
            } else {
                self.leave_swap(path, swap);
            }
        }
        Ok(())
    }

    /// Fails files that waited and are not what was fetched any more.
    fn fail_changed(&self) {
        self.waitlist.retain(|file| {
            // Nothing comes of it when it is to stop.
            if self.meter.go_on().is_err() {
                return true;
            }
            let Err(error) = file.take_up(&self.root) else {
                return true;
            };
            let why = format!("what was fetched of it cannot be given its name: {error}");
            self.report.lock().fail(&file.step.path, why);
            self.meter.finished(|| file.step.path.to_string());
            false
        });
    }

    /// Once it has begun to delete it puts what there is to put, whatever happens to the first of it.
    pub(super) fn make_swap(&self, path: &ManifestPath, swap: &Swap) -> Result<(), TransferError> {
        let waiting = self.waitlist.take(path);
        let mut stopped = None;
        let mut open = Dirs::new(&self.root);
        for deletion in &swap.deletions {
            self.delete(&mut open, deletion);
        }
        let mut open = Dirs::new(&self.root);
        for dir in &swap.dirs {
            self.make_dir(&mut open, dir);
        }
        for file in waiting {
            let (size, resumed) = (file.step.file.size, file.resumed);
            let placed = self.place_waiting(&file);
            self.meter.finished(|| file.step.path.to_string());
            let outcome = match placed {
                Ok(outcome) => outcome,
                Err(trouble) => {
                    let failed = match trouble {
                        Trouble::Stop(error) => {
                            stopped.get_or_insert(error);
                            None
                        }
                        Trouble::File(error) => Some(failed_by(&file.step.path, &error)),
                    };
                    self.waitlist.add(path, file);
                    let Some(failed) = failed else { continue };
                    failed
                }
            };
            self.report.lock().add(size, resumed, outcome);
        }
        for link in &swap.links {
            self.make_link(&mut open, link);
        }
        stopped.map_or(Ok(()), Err)
    }

    fn leave_swap(&self, path: &ManifestPath, swap: &Swap) {
        let mut report = self.report.lock();
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
            self.meter.finished(|| path.to_string());
        }
    }

    /// Deletes what is not in anything's way, if everything else could be done.
    pub(super) fn make_deletions(&self, deletions: &[Deletion]) -> Result<(), TransferError> {
        if !self.is_whole() {
            let mut report = self.report.lock();
            for deletion in deletions {
                report.leave(&deletion.path, NOT_ALL_IS_THERE);
            }
            return Ok(());
        }
        let mut open = Dirs::new(&self.root);
        for deletion in deletions {
            self.meter.go_on()?;
            self.delete(&mut open, deletion);
        }
        Ok(())
    }

    fn delete(&self, open: &mut Dirs<'_>, deletion: &Deletion) {
        let deleted = open.delete(deletion);
        let mut report = self.report.lock();
        match deleted {
            Ok(None) => report.deleted += 1,
            Ok(Some(why)) => report.leave(&deletion.path, why),
            Err(error) => report.fail(&deletion.path, format!("cannot delete it: {error}")),
        }
    }

    /// Writes everything to the disk: the file system of the folder, and those that are mounted below it
    /// where something was written to.
    pub(super) fn sync(&self, written_to: &BTreeSet<Vec<u8>>) -> Result<(), TransferError> {
        for dir in one_of_each_file_system(&self.root, written_to) {
            self.meter.go_on()?;
            dir.sync_file_system()
                .map_err(|source| DownloadError::Sync { source })?;
        }
        Ok(())
    }
}

/// The directories whose names a plan changes; empty for the root.
fn written_to(plan: &Plan) -> BTreeSet<Vec<u8>> {
    let files = plan.files.iter().map(|step| &step.path);
    let links = plan.all_links().map(|step| &step.path);
    let swapped = plan.swaps.values().flat_map(|swap| &swap.deletions);
    let deletions = plan.deletions.iter().chain(swapped).map(|one| &one.path);
    let all = plan.all_dirs().chain(files).chain(links).chain(deletions);
    all.map(|path| parent_bytes(path.borrowed()).to_vec())
        .collect()
}

/// The root, and of these directories below it the first on each other file system.
pub(super) fn one_of_each_file_system(root: &HeldDir, dirs: &BTreeSet<Vec<u8>>) -> Vec<HeldDir> {
    let mut found: Vec<(u64, HeldDir)> = Vec::new();
    for below in std::iter::once(&b""[..]).chain(dirs.iter().map(Vec::as_slice)) {
        // What is gone by now has nothing to be written.
        let Ok(dir) = root.dir(below) else { continue };
        let Ok(Some(facts)) = dir.look(b".") else {
            continue;
        };
        if found.iter().all(|(device, _)| *device != facts.stamp.dev) {
            found.push((facts.stamp.dev, dir));
        }
    }
    found.into_iter().map(|(_, dir)| dir).collect()
}
