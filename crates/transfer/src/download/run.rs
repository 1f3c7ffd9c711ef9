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

use std::sync::Arc;

use attachfs_scan::Progress;
use parking_lot::Mutex;

use super::acts::Acts;
use super::file::{Done, file};
use super::options::DownloadOptions;
use super::plan::Plan;
use super::report::DownloadReport;
use super::shared::Shared;
use super::step::FileStep;
use super::swaps::Swaps;
use super::sync::{DirPaths, sync, written_to};
use crate::error::TransferError;
use crate::run::{blocking, run_all, run_one};

/// A plan that is being carried out.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) shared: Arc<Shared>,
    options: DownloadOptions,
    /// What was done until now. A lock of the waitlist may be taken under it.
    pub(super) report: Mutex<DownloadReport>,
}

impl Run {
    pub(super) fn new(shared: Shared, options: &DownloadOptions) -> Self {
        Self {
            shared: Arc::new(shared),
            options: options.clone(),
            report: Mutex::default(),
        }
    }

    /// Does all of it. `report` is what was done until then, and is what was done when it ends, whatever it
    /// ends by.
    pub(super) async fn act(
        self,
        mut plan: Plan,
        progress: &dyn Progress,
        report: &mut DownloadReport,
    ) -> Result<(), TransferError> {
        let run = Arc::new(self);
        let shared = &run.shared;
        for _ in 0..plan.links_there {
            shared.meter.known(0, 0);
        }
        for (path, size, error) in std::mem::take(&mut plan.failed) {
            if size.is_some() {
                shared.meter.finished(|| path.to_string());
            }
            report.fail(&path, error);
        }
        for (path, why) in std::mem::take(&mut plan.left) {
            report.leave(&path, why);
        }
        let not_deleted = std::mem::take(&mut plan.not_deleted);
        *run.report.lock() = std::mem::take(report);
        let ended = run.carry_out(plan, progress).await;
        shared.threads.wait_idle().await;
        let last = Arc::clone(shared);
        let let_go = blocking(&shared.meter, move || {
            let root = &last.folder.dir;
            last.waitlist.let_go(root);
            last.naming.comparison.remembered.write(root);
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
            DirPaths::new()
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
                let remembered = &run.shared.naming.comparison.remembered;
                remembered.look_up(&files, &run.shared.meter)?;
            }
            run.acts().make_dirs(&dirs)?;
            Ok(files)
        });
        let files = before.await?;
        self.place_files(files, progress).await?;
        let after = self.watched(progress, move |run| {
            run.shared.leftovers.remove_unused(&run.shared.folder.dir);
            run.acts().make_links(&links)?;
            run.swaps().make_all(&swaps)?;
            run.acts().make_deletions(&deletions)
        });
        after.await?;
        if self.options.sync {
            // Not as a step that is waited for in any case: the kernel may take minutes, and cannot be told to stop.
            let (shared, meter) = (Arc::clone(&self.shared), Arc::clone(&self.shared.meter));
            let job = async move {
                let step = move || sync(&shared.folder.dir, &written_to, &shared.meter);
                blocking(&meter, step).await
            };
            run_one(job, &self.shared.meter, progress).await?;
        }
        Ok(())
    }

    /// Fetches and compares files.
    async fn place_files(
        self: &Arc<Self>,
        files: Vec<FileStep>,
        progress: &dyn Progress,
    ) -> Result<(), TransferError> {
        let shared = &self.shared;
        let jobs = files.into_iter().map(|step| file(Arc::clone(shared), step));
        // Twice the requests, so that fetching goes on while files are written.
        let limit = 2 * self.options.max_in_flight + self.options.max_large_in_flight;
        run_all(jobs, limit, &shared.meter, progress, |done: Done| {
            let mut report = self.report.lock();
            report.add(done.size, done.resumed, done.outcome);
        })
        .await
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
            run.shared.threads.blocking(move || step(&acting)).await?
        };
        run_one(job, &self.shared.meter, progress).await
    }

    pub(super) fn acts(&self) -> Acts<'_> {
        let shared = &*self.shared;
        Acts {
            root: &shared.folder.dir,
            names: &shared.folder.names,
            copies: &shared.naming.copies,
            conflict: shared.naming.conflict,
            permissions: shared.permissions,
            meter: &shared.meter,
            report: &self.report,
        }
    }

    pub(super) fn swaps(&self) -> Swaps<'_> {
        Swaps {
            acts: self.acts(),
            naming: &self.shared.naming,
            waitlist: &self.shared.waitlist,
        }
    }
}
