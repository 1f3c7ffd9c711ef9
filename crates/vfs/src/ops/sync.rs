//! fsync, fsyncdir, seal, save.

use std::sync::atomic::Ordering;

use attachfs_durable::steps::{Step, perform};
use attachfs_tree::FileContent;

use crate::overlay::Record;
use crate::vfs::{journal_failed, now, sync_failed};
use crate::{FsError, FsErrorKind, HandleId, Vfs};

impl Vfs {
    /// Makes an open file durable: its bytes, its scratch file's name, and the journal with all the
    /// names that lead to it.
    pub fn fsync(&self, handle: HandleId, data_only: bool) -> Result<(), FsError> {
        let open = self.handles.file(handle)?;
        let Some(overlay) = &self.overlay else {
            return Ok(());
        };
        let is_base = self.namespace.read().content(open.ino()) == Some(&FileContent::Base);
        if is_base {
            return Ok(());
        }
        let scratch = self.open_scratch_of(&open)?;
        let sync = || {
            if data_only {
                scratch.sync_data()
            } else {
                scratch.sync_all()
            }
        };
        let path = || overlay.disk.scratch.path(open.ino());
        perform(Step::ScratchSync, path, sync)
            .map_err(|error| FsError::io("sync a scratch file", error))?;
        overlay.disk.sync().map_err(sync_failed)
    }

    /// Makes all names durable, and the names of their scratch files. The content of the files is
    /// made durable by `fsync`.
    pub fn fsyncdir(&self) -> Result<(), FsError> {
        match &self.overlay {
            Some(overlay) => overlay.disk.sync().map_err(sync_failed),
            None => Ok(()),
        }
    }

    /// Makes all that was written durable, and records that: for a session that stays when its mount has ended. Nobody writes any more,
    /// but programs that were cut off, whose files count as open. Without it a commit after a power loss would ask about each file.
    pub fn save(&self) -> Result<(), FsError> {
        let Some(overlay) = &self.overlay else {
            return Ok(());
        };
        if overlay.saved.load(Ordering::Acquire) {
            return Ok(());
        }
        let failed = |error| FsError::caused(FsErrorKind::Io, "save what was written", error);
        overlay.disk.scratch.sync_all().map_err(failed)?;
        overlay.append(&Record::Saved).map_err(journal_failed)?;
        overlay.disk.sync().map_err(sync_failed)?;
        overlay.saved.store(true, Ordering::Release);
        Ok(())
    }

    /// Records durably that the mount ended in order. On a full disk it uses the room that is reserved
    /// for a commit.
    pub fn seal(&self) -> Result<(), FsError> {
        let Some(overlay) = &self.overlay else {
            return Ok(());
        };
        // A commit that comes next may need the room of what was deleted.
        overlay.reaper.reap_now();
        let seal = || {
            let sealed = Record::Sealed { time: now() };
            overlay.append(&sealed).map_err(journal_failed)?;
            overlay.disk.sync().map_err(sync_failed)
        };
        let sealed = match seal() {
            Err(error) if error.kind() == FsErrorKind::NoSpace && overlay.reserve.release() => {
                let again = seal();
                overlay.reserve.refill();
                again
            }
            sealed => sealed,
        };
        sealed.map_err(|error| {
            let doing = format!("seal the journal {}", overlay.journal.display());
            FsError::caused(error.kind(), doing, error)
        })
    }
}
