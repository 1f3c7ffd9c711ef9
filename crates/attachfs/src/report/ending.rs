//! The reports that a mount writes when it ends, in whichever way it ends.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Mutex;

use super::file::check_place_of_report;
use super::money::Prices;
use crate::error::Error;
use crate::output_file::check_is_elsewhere;

/// The reports that a mount is to write when it ends.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reports {
    /// The files, with absolute paths: their names say whether they get JSON (`.json`) or a page (`.html`). That one cannot be
    /// written when the time has come is told, and fails nothing.
    pub files: Vec<PathBuf>,
    /// What requests and bytes cost.
    pub prices: Prices,
}

/// The reports that a mount writes when it ends.
#[derive(Debug)]
pub(crate) struct ReportAtEnd {
    /// The files. Nothing is left here once they are being written.
    files: Mutex<Vec<PathBuf>>,
    prices: Prices,
    has_failed: AtomicBool,
}

impl ReportAtEnd {
    pub(crate) fn new(wanted: Reports) -> Self {
        Self {
            files: Mutex::new(wanted.files),
            prices: wanted.prices,
            has_failed: AtomicBool::new(false),
        }
    }

    pub(crate) fn prices(&self) -> Prices {
        self.prices
    }

    /// The files that are still to be written. The caller writes them: they are given out once.
    pub(super) async fn take_files(&self) -> Vec<PathBuf> {
        std::mem::take(&mut *self.files.lock().await)
    }

    /// One could not be written.
    pub(super) fn note_failed(&self) {
        self.has_failed.store(true, Ordering::Relaxed);
    }

    /// Whether one could not be written.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Writes nothing when the mount ends.
    pub(crate) async fn give_up(&self) {
        self.files.lock().await.clear();
    }
}

/// Fails if a report that is written at the end cannot be where it is to be.
pub(crate) fn check_files(files: &[PathBuf], mount_point: &Path, dir: &Path) -> Result<(), Error> {
    for path in files {
        check_place_of_report(path)?;
        check_is_elsewhere("report", path, mount_point, dir)?;
    }
    Ok(())
}
