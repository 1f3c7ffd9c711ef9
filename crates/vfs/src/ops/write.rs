//! write: bytes to the scratch file, then for a file that is partly the base's the record of which bytes they are.
//!
//! ```text
//!     begin_change       writing has not ended, and does not end meanwhile              change.rs
//!     begin_writing      once for each handle: the journal says that the file is open    handles.rs
//!     scratch            the bytes                                                       here
//!     bytes_first        a sync writes these bytes before the next record                overlay/disk.rs
//!     mutate             the record in the journal, then the namespace in memory         change.rs, overlay/journal.rs
//! ```
//!
//! A file whose bytes are all in scratch needs no record: its scratch file tells length and time. So the kernel may write to it by
//! itself, and nothing of that comes here (`serving.rs`).

use attachfs_durable::steps::{Step, perform};
use attachfs_durable::write_at;
use attachfs_tree::{FileContent, Mutation};

use crate::handles::Handles;
use crate::overlay::Record;
use crate::vfs::{journal_failed, now};
use crate::{FsError, FsErrorKind, HandleId, Vfs};

impl Vfs {
    /// Bytes were lost of which a program believes that they are written: the file counts as possibly incomplete once it is closed.
    pub(crate) fn note_lost(&self, handle: HandleId) {
        if let (Ok(open), Some(overlay)) = (self.handles.file(handle), &self.overlay)
            && overlay.lost.lock().insert(open.ino())
        {
            let path = self.describe(open.ino());
            tracing::error!(
                path,
                "bytes that a program had stored could not be written: a commit asks about the file"
            );
        }
    }

    /// Writes to an open file: the bytes to scratch, then for a mapped file the record that says
    /// so. When it returns they outlive this process.
    pub fn write(&self, handle: HandleId, offset: u64, data: &[u8]) -> Result<usize, FsError> {
        let change = self.begin_change()?;
        let overlay = change.overlay;
        let open = self.handles.file(handle)?;
        if !open.access.write {
            return Err(FsErrorKind::BadHandle.into());
        }
        let scratch = self.open_scratch_of(&open)?;
        let opened = || overlay.append(&Record::Opened(open.ino()));
        Handles::begin_writing(&open, opened).map_err(journal_failed)?;
        let mapped = matches!(
            self.namespace.read().content(open.ino()),
            Some(FileContent::Mapped(_))
        );
        // From before the bytes are written until they are recorded no other thread shortens the scratch file.
        let no_sync = mapped.then(|| overlay.disk.hold_sync());
        let path = || overlay.disk.scratch.path(open.ino());
        let mut written = data.len();
        let write = || {
            let range = offset..offset.saturating_add(data.len() as u64);
            let file = &overlay.disk.scratch;
            written = file.grow(open.ino(), &scratch, range, || {
                write_at(&scratch, data, offset)
            })?;
            Ok(())
        };
        perform(Step::ScratchWrite, path, write)
            .map_err(|error| FsError::io("write to a scratch file", error))?;
        self.tally.bytes_written.add(written as u64);
        if let Some(no_sync) = no_sync
            && written > 0
        {
            // They take the place of the base's bytes, which must not be lost without them.
            overlay.disk.bytes_first(&no_sync, open.ino());
            self.turn(overlay).mutate(Mutation::Write {
                ino: open.ino(),
                offset,
                len: written as u64,
                time: now(),
            })?;
        }
        Ok(written)
    }
}
