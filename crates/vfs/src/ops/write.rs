//! write.

use std::sync::atomic::Ordering;

use attachfs_durable::write_at;
use attachfs_tree::{FileContent, Mutation};

use crate::overlay::Record;
use crate::vfs::{journal_failed, now};
use crate::{FsError, FsErrorKind, HandleId, Vfs};

impl Vfs {
    /// Writes to an open file: the bytes to scratch, then for a mapped file the record that says
    /// so. When it returns they outlive this process.
    pub fn write(&self, handle: HandleId, offset: u64, data: &[u8]) -> Result<usize, FsError> {
        let (overlay, _changing) = self.begin_change()?;
        let open = self.handles.file(handle)?;
        if !open.access.write {
            return Err(FsErrorKind::BadHandle.into());
        }
        let scratch = open
            .scratch
            .as_ref()
            .ok_or(FsError::plain(FsErrorKind::BadHandle))?;
        let opened = || overlay.append(&Record::Opened(open.ino));
        self.handles
            .begin_writing(&open, opened)
            .map_err(journal_failed)?;
        let written = write_at(scratch, data, offset)
            .map_err(|error| FsError::io("write to a scratch file", error))?;
        self.tally
            .bytes_written
            .fetch_add(written as u64, Ordering::Relaxed);
        let mapped = matches!(
            self.namespace.read().content(open.ino),
            Some(FileContent::Mapped(_))
        );
        if mapped && written > 0 {
            // Other bytes were there.
            let step = overlay.disk.step();
            overlay.disk.bytes_first(&step, open.ino);
            let mut namespace = self.namespace.write();
            let len = written as u64;
            let write = Mutation::Write {
                ino: open.ino,
                offset,
                len,
                time: now(),
            };
            self.mutate(&mut namespace, overlay, write)?;
        }
        Ok(written)
    }
}
