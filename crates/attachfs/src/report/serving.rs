//! The reports of a mount: made by the process that serves it, for a client that asks, and into files when the mount ends.
//!
//! That a file cannot be written then is told, and keeps nothing else from being done. It takes a bounded time, whatever the disk does
//! that it goes to.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use attachfs_session::{EventSink, Request, SessionEntry};
use attachfs_transfer::error_chain;
use attachfs_vfs::{Operations, Vfs};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::content::{ReportedMount, UseReport};
use super::file;
use super::money::Prices;
use super::written::WrittenReport;
use crate::cancel::{cancelled, unless_cancelled};
use crate::error::{Doing as _, Error};
use crate::layering::blocking;
use crate::served::ServedMount;
use crate::session::ask_if_served;

/// How long making and writing reports may take.
const PATIENCE: Duration = Duration::from_secs(20);

impl ServedMount {
    /// What a report says of the mount itself.
    fn reported(&self, ended: bool) -> Result<ReportedMount, Error> {
        let session = &self.session;
        Ok(ReportedMount {
            session: session.meta.id.to_string(),
            mount_point: self.mounted.mount_point(),
            store: session.meta.store.address.clone(),
            manifests: session.layers()?.manifests,
            ended,
        })
    }

    /// What was used so far. One report is made at a time; none for a client that has gone while it waited for its turn.
    pub(crate) async fn report(&self, client: &EventSink) -> Result<UseReport, Error> {
        let alone = Arc::clone(&self.reporting).lock_owned().await;
        if client.is_gone() {
            return Err(cancelled());
        }
        let of = self.reported(false)?;
        let (vfs, operations) = (self.session.vfs().clone(), Arc::clone(&self.operations));
        let prices = self.report_at_end.prices();
        blocking(move || {
            // Held by who makes it, to the end.
            let _alone = alone;
            let mut report = UseReport::new(of, &vfs, &operations);
            report.price(prices);
            Ok(report)
        })
        .await
    }

    /// Writes the reports that are to be written at the end, once, and says what became of each.
    pub(crate) async fn write_reports(&self) -> Vec<WrittenReport> {
        let files = self.report_at_end.take_files().await;
        if files.is_empty() {
            return Vec::new();
        }
        let failed = |why: &str| {
            let failed = files.iter().map(|file| WrittenReport {
                file: file.clone(),
                failure: Some(why.to_owned()),
            });
            failed.collect()
        };
        let written: Vec<WrittenReport> = match self.begin_reports(files.clone()) {
            Err(error) => failed(&error_chain(&error)),
            Ok(written) => match tokio::time::timeout(PATIENCE, written).await {
                Ok(Ok(written)) => written,
                Ok(Err(_)) => failed("it failed inside; the log says more"),
                Err(_) => {
                    let seconds = PATIENCE.as_secs();
                    failed(&format!("it was not made and written within {seconds} s"))
                }
            },
        };
        for report in &written {
            if let Some(failure) = &report.failure {
                self.report_at_end.note_failed();
                tracing::warn!(file = %report.file.display(), failure, "a report was not written");
            }
        }
        written
    }

    /// Begins to make and to write them, on a thread of their own: a disk that hangs keeps nobody.
    fn begin_reports(
        &self,
        files: Vec<PathBuf>,
    ) -> Result<oneshot::Receiver<Vec<WrittenReport>>, Error> {
        let of = self.reported(true)?;
        let prices = self.report_at_end.prices();
        // What hangs must not keep the session.
        let (vfs, operations) = (
            Arc::downgrade(self.session.vfs()),
            Arc::clone(&self.operations),
        );
        let (told, written) = oneshot::channel();
        let thread = std::thread::Builder::new().name("attachfs-report".to_owned());
        let started = thread.spawn(move || {
            let written = make_and_write(of, &vfs, &operations, prices, files);
            // The one who waited may have given up.
            let _ = told.send(written);
        });
        started.doing(|| "cannot start a thread".to_owned())?;
        Ok(written)
    }
}

fn make_and_write(
    of: ReportedMount,
    vfs: &Weak<Vfs>,
    operations: &Operations,
    prices: Prices,
    files: Vec<PathBuf>,
) -> Vec<WrittenReport> {
    let report = vfs.upgrade().map(|vfs| {
        let mut report = UseReport::new(of, &vfs, operations);
        report.price(prices);
        report
    });
    let written = files.into_iter().map(|path| {
        let failure = match &report {
            Some(report) => file::write(&path, report)
                .err()
                .map(|error| error_chain(&error)),
            None => Some("the session was closed before".to_owned()),
        };
        WrittenReport {
            file: path,
            failure,
        }
    });
    written.collect()
}

/// What was used of a mount so far. Fails with [`FailureClass::Usage`](crate::FailureClass::Usage) if the session is not mounted.
pub async fn report(found: &SessionEntry, cancel: &CancellationToken) -> Result<UseReport, Error> {
    unless_cancelled(cancel, async {
        let asked = ask_if_served(found, Request::Report, None);
        asked.await?.ok_or_else(|| {
            let id = &found.meta.id;
            let sentence = format!("session {id} is not mounted: nothing is known of its use");
            let advice = "`mount --report FILE` writes a report when a mount ends";
            Error::usage(sentence).advise(advice)
        })
    })
    .await
}
