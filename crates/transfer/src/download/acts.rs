//! Carries out a plan, in its order.
//!
//! Once the files are placed nothing is cancelled any more: what is left takes no time to speak of.

use std::collections::HashSet;
use std::sync::Arc;

use attachfs_manifest::ManifestPath;

use super::file::{Done, Outcome};
use super::plan::{Deletion, FileStep, LinkStep, Plan};
use super::replacing::Replacing;
use super::run::{Run, look_up};
use super::tree::{Dirs, Linked};
use super::{Copied, DownloadError, DownloadReport, Remark};
use crate::run::{blocking, run_all};
use crate::{Failed, Progress, TransferError};

/// Why a diff does not delete when something failed: it may be all that is left of it.
const NOT_ALL_IS_THERE: &str = "it is not deleted, since not everything could be placed";

/// What the quick acts before or after the files gave.
#[derive(Debug, Default)]
struct Acted {
    failed: Vec<Failed>,
    left: Vec<Remark>,
    copied: Vec<Copied>,
    links_made: u64,
    links_skipped: u64,
}

impl Acted {
    fn fail(&mut self, path: &ManifestPath, error: String) {
        self.failed.push(Failed {
            path: path.to_string(),
            error,
        });
    }

    fn report(self, report: &mut DownloadReport) {
        report.summary.errors.extend(self.failed);
        report.summary.processed.count += self.links_made;
        report.summary.skipped.count += self.links_skipped;
        report.left.extend(self.left);
        report.copied.extend(self.copied);
    }
}

impl Run {
    pub(super) async fn act(
        mut self,
        plan: Plan,
        progress: &dyn Progress,
        report: &mut DownloadReport,
    ) -> Result<(), TransferError> {
        let Plan {
            clear,
            dirs,
            mut files,
            links,
            deletions,
            failed,
            left,
            links_there,
        } = plan;
        for _ in 0..links_there {
            self.meter.known(0, 0);
        }
        for (path, size, error) in failed {
            if size.is_some() {
                self.meter.finished(|| path.to_string());
            }
            let path = path.to_string();
            report.summary.errors.push(Failed { path, error });
        }
        report
            .left
            .extend(left.into_iter().map(|(path, why)| Remark {
                path: path.to_string(),
                why: why.to_owned(),
            }));
        let meter = Arc::clone(&self.meter);
        // The long ones first: they end last.
        files.sort_by_key(|step| step.file.size <= self.options.block_bytes);
        let replacing = Replacing::of(&dirs, &clear, &files, self.chunk_size);
        self.clear = clear.into();
        let (run, files) = blocking(&meter, move || {
            self.known = look_up(&self.ground, &self.options, self.chunk_size, &files);
            let large = files.iter();
            let large = large.filter(|step| step.file.size > self.options.block_bytes);
            self.leftovers.remove_unwanted(&self.root, large);
            Ok((Arc::new(self), files))
        })
        .await?;
        let kept = replacing.kept(&run, progress).await?;
        let making = Arc::clone(&run);
        let before = blocking(&meter, move || making.make_dirs(&dirs, &kept));
        before.await?.report(report);
        let ended = self::files(&run, files, progress, report).await;
        run.rest().await;
        ended?;
        let is_whole = report.summary.errors.is_empty();
        let after = blocking(&meter, move || {
            let mut acted = Acted::default();
            run.leftovers.remove_unused(&run.root);
            run.make_links(&links, &mut acted);
            run.make_deletions(&deletions, is_whole && acted.failed.is_empty());
            if run.options.sync {
                let synced = run.root.sync_file_system();
                synced.map_err(|source| DownloadError::Sync { source })?;
            }
            run.remember_placed();
            let deleted = std::mem::take(&mut *run.deleted.lock());
            Ok((acted, deleted))
        });
        let (after, deleted) = after.await?;
        after.report(report);
        report.summary.errors.extend(deleted.failed);
        report.left.extend(deleted.left);
        report.deleted += deleted.count;
        Ok(())
    }

    /// Makes directories, but for those in whose place something is `kept`.
    fn make_dirs(
        &self,
        dirs: &[ManifestPath],
        kept: &HashSet<ManifestPath>,
    ) -> Result<Acted, TransferError> {
        let mut acted = Acted::default();
        let mut open = Dirs::new(&self.root);
        for path in dirs {
            self.meter.go_on()?;
            if kept.contains(path) {
                let why = "what is in its place is kept, since the store gives nothing that is to \
                           be in the directory";
                acted.fail(path, why.to_owned());
                continue;
            }
            self.make_room(path);
            if let Err(error) = open.make(path, self.options.permissions) {
                acted.fail(path, format!("cannot make the directory: {error}"));
            }
        }
        Ok(acted)
    }

    fn make_links(&self, links: &[LinkStep], acted: &mut Acted) {
        let mut open = Dirs::new(&self.root);
        for step in links {
            self.make_room(&step.path);
            match open.link(step, self.options.conflict) {
                Ok(Linked::Made) => acted.links_made += 1,
                Ok(Linked::Copied(name)) => {
                    acted.links_made += 1;
                    acted.copied.push(Copied::new(&step.path, &name));
                }
                Ok(Linked::There) => acted.links_skipped += 1,
                Ok(Linked::Left(why)) => {
                    acted.links_skipped += 1;
                    acted.left.push(Remark::new(&step.path, why));
                }
                Err(error) => acted.fail(&step.path, format!("cannot make the link: {error}")),
            }
            self.meter.finished(|| step.path.to_string());
        }
    }

    /// Deletes what is not in anything's way, if everything else could be done.
    fn make_deletions(&self, deletions: &[Deletion], is_whole: bool) {
        // Of what was to be put in place of something and was not.
        let clear = std::mem::take(&mut *self.clear.lock());
        if is_whole && self.deleted.lock().failed.is_empty() {
            self.delete(deletions);
            return;
        }
        let mut deleted = self.deleted.lock();
        for deletion in clear.values().flatten().chain(deletions) {
            deleted.leave(deletion, NOT_ALL_IS_THERE);
        }
    }
}

/// Fetches and compares files.
async fn files(
    run: &Arc<Run>,
    files: Vec<FileStep>,
    progress: &dyn Progress,
    report: &mut DownloadReport,
) -> Result<(), TransferError> {
    let DownloadReport {
        summary,
        left,
        copied,
        ..
    } = report;
    let jobs = files.into_iter().map(|step| Arc::clone(run).file(step));
    // Twice the requests, so that fetching goes on while files are written.
    let limit = 2 * run.options.max_in_flight + run.options.max_large_in_flight;
    run_all(
        jobs,
        limit,
        &run.meter,
        progress,
        |Done { size, outcome }| match outcome {
            Outcome::Fetched => summary.processed.add(size),
            Outcome::Copied(copy) => {
                summary.processed.add(size);
                copied.push(copy);
            }
            Outcome::Skipped => summary.skipped.add(size),
            Outcome::Left(remark) => {
                summary.skipped.add(size);
                left.push(remark);
            }
            Outcome::Failed(failed) => summary.errors.push(failed),
        },
    )
    .await
}
