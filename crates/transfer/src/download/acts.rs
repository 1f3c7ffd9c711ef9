//! The quick acts of a download: directories, links and deletions, each noted in the account.

use attachfs_durable::HeldDir;
use attachfs_manifest::ManifestPath;
use parking_lot::Mutex;

use super::conflict::Conflict;
use super::copies::CopyNames;
use super::leading::RootNames;
use super::options::Permissions;
use super::report::{Copied, DownloadReport};
use super::step::{Deletion, LinkStep};
use super::tree::{Dirs, Linked};
use crate::error::TransferError;
use crate::meter::Meter;

/// Why a diff does not delete when something failed: it may be all that is left of it.
pub(super) const NOT_ALL_IS_THERE: &str = "it is not deleted, since not everything could be placed";

/// Makes directories and links, and deletes. Whoever watches can end it between any two.
pub(super) struct Acts<'a> {
    pub(super) root: &'a HeldDir,
    pub(super) names: &'a RootNames,
    pub(super) copies: &'a CopyNames,
    pub(super) conflict: Conflict,
    pub(super) permissions: Permissions,
    pub(super) meter: &'a Meter,
    pub(super) report: &'a Mutex<DownloadReport>,
}

impl<'a> Acts<'a> {
    /// The directories of the root, to be opened one after the other.
    pub(super) fn open(&self) -> Dirs<'a> {
        Dirs::new(self.root)
    }

    pub(super) fn make_dirs(&self, dirs: &[ManifestPath]) -> Result<(), TransferError> {
        let mut open = self.open();
        for path in dirs {
            self.meter.go_on()?;
            self.make_dir(&mut open, path);
        }
        Ok(())
    }

    pub(super) fn make_dir(&self, open: &mut Dirs<'_>, path: &ManifestPath) {
        if let Err(error) = open.make(path, self.permissions) {
            let why = format!("cannot make the directory: {error}");
            self.report.lock().fail(path, why);
        }
    }

    pub(super) fn make_links(&self, links: &[LinkStep]) -> Result<(), TransferError> {
        let mut open = self.open();
        for step in links {
            self.meter.go_on()?;
            self.make_link(&mut open, step);
        }
        Ok(())
    }

    pub(super) fn make_link(&self, open: &mut Dirs<'_>, step: &LinkStep) {
        let copies = self.copies.of(&step.path);
        let made = open.link(step, self.conflict, self.names, copies);
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

    /// Deletes what is not in anything's way, if everything else could be done.
    pub(super) fn make_deletions(&self, deletions: &[Deletion]) -> Result<(), TransferError> {
        let mut report = self.report.lock();
        if !report.is_whole() {
            for deletion in deletions {
                report.leave(&deletion.path, NOT_ALL_IS_THERE);
            }
            return Ok(());
        }
        drop(report);
        let mut open = self.open();
        for deletion in deletions {
            self.meter.go_on()?;
            self.delete(&mut open, deletion);
        }
        Ok(())
    }

    pub(super) fn delete(&self, open: &mut Dirs<'_>, deletion: &Deletion) {
        let deleted = open.delete(deletion);
        let mut report = self.report.lock();
        match deleted {
            Ok(None) => report.deleted += 1,
            Ok(Some(why)) => report.leave(&deletion.path, why),
            Err(error) => report.fail(&deletion.path, format!("cannot delete it: {error}")),
        }
    }
}
