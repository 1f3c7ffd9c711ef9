//! Carries out a plan, in its order.
//!
//! Once the files are placed nothing is cancelled any more: what is left takes no time to speak of.

use std::collections::HashSet;
use std::sync::Arc;

use attachfs_manifest::ManifestPath;

use super::file::{Done, Outcome};
use super::large::key_of;
use super::part::remove_left;
use super::plan::{FileStep, LinkStep, Plan};
use super::run::{Run, look_up};
use super::tree::{Dirs, Linked, delete_all};
use super::{Copied, DownloadError, DownloadReport, Remark};
use crate::run::{blocking, run_all};
use crate::{Failed, Progress, TransferError};

/// What the quick acts before or after the files gave.
#[derive(Debug, Default)]
struct Acted {
    failed: Vec<Failed>,
    left: Vec<Remark>,
    copied: Vec<Copied>,
    deleted: u64,
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
        report.deleted += self.deleted;
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
        let (run, files, before) = blocking(&meter, move || {
            self.known = look_up(&self.ground, &self.options, self.chunk_size, &files);
            self.remove_leftovers(&files);
            let mut acted = Acted::default();
            acted.deleted = delete_all(
                &self.root,
                &clear,
                &mut acted.left,
                &mut acted.failed,
                || self.meter.go_on(),
            )?;
            self.make_dirs(&dirs, &mut acted)?;
            Ok((Arc::new(self), files, acted))
        })
        .await?;
        before.report(report);
        let ended = self::files(&run, files, progress, report).await;
        run.rest().await;
        ended?;
        let after = blocking(&meter, move || {
            let mut acted = Acted::default();
            run.make_links(&links, &mut acted);
            acted.deleted = delete_all(
                &run.root,
                &deletions,
                &mut acted.left,
                &mut acted.failed,
                || Ok(()),
            )?;
            if run.options.sync {
                let synced = run.root.sync_file_system();
                synced.map_err(|source| DownloadError::Sync { source })?;
            }
            run.remember_placed();
            Ok(acted)
        });
        after.await?.report(report);
        Ok(())
    }

    fn make_dirs(&self, dirs: &[ManifestPath], acted: &mut Acted) -> Result<(), TransferError> {
        let mut open = Dirs::new(&self.root);
        for path in dirs {
            self.meter.go_on()?;
            if let Err(error) = open.make(path, self.options.permissions) {
                acted.fail(path, format!("cannot make the directory: {error}"));
            }
        }
        Ok(())
    }

    fn make_links(&self, links: &[LinkStep], acted: &mut Acted) {
        let mut open = Dirs::new(&self.root);
        for step in links {
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

    /// Removes what interrupted runs left and nobody goes on with.
    fn remove_leftovers(&self, files: &[FileStep]) {
        if self.leftovers.is_empty() {
            return;
        }
        let large = files
            .iter()
            .filter(|step| step.file.size > self.options.block_bytes);
        let wanted: HashSet<_> = large.map(key_of).collect();
        for (key, left) in &self.leftovers {
            if wanted.contains(key) {
                continue;
            }
            let removed = self
                .root
                .dir(&left.dir)
                .and_then(|dir| remove_left(&dir, &left.name));
            if let Err(error) = removed {
                tracing::debug!(%error, "what an interrupted run left stays");
            }
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
