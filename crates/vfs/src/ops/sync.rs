//! fsync, fsyncdir, seal.

use crate::overlay::Record;
use crate::vfs::{journal_failed, now};
use crate::{FsError, HandleId, Vfs};

impl Vfs {
    /// Makes an open file durable: its bytes, its scratch file's name, and the journal with all the
    /// names that lead to it.
    pub fn fsync(&self, handle: HandleId, data_only: bool) -> Result<(), FsError> {
        let open = self.handles.file(handle)?;
        let (Some(overlay), Some(scratch)) = (&self.overlay, &open.scratch) else {
            return Ok(());
        };
        let synced = if data_only {
            scratch.sync_data()
        } else {
            scratch.sync_all()
        };
        synced.map_err(|error| FsError::io("sync a scratch file", error))?;
        overlay.scratch.sync_names()?;
        overlay.journal.sync().map_err(journal_failed)
    }

    /// Makes all names durable, and the scratch files they lead to. What is in those files is
    /// `fsync`'s.
    pub fn fsyncdir(&self) -> Result<(), FsError> {
        match &self.overlay {
            Some(overlay) => {
                overlay.scratch.sync_names()?;
                overlay.journal.sync().map_err(journal_failed)
            }
            None => Ok(()),
        }
    }

    /// Records that the mount ended in order, durably.
    pub fn seal(&self) -> Result<(), FsError> {
        if let Some(overlay) = &self.overlay {
            overlay.scratch.sync_names()?;
            overlay
                .journal
                .append(&Record::Sealed { time: now() })
                .map_err(journal_failed)?;
            overlay.journal.sync().map_err(journal_failed)?;
        }
        Ok(())
    }
}
