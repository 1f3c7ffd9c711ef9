//! A file whose bytes are all here and right, and what has its name.

use std::fs::File;
use std::io;

use attachfs_durable::{FileStamp, HeldDir, set_modified, share_file};
use attachfs_manifest::{ManifestPath, Mtime};

use super::staged::{Fate, Staged};
use crate::download::failure::{FileResult, disk};
use crate::download::options::Permissions;

pub(in crate::download) const SETTING_TIME: &str = "set its time";

/// A file that has all its bytes and no name of its own yet. Dropped without one it is as it was before it was
/// verified: left for another run if that can use it, and else removed.
#[derive(Debug)]
pub(in crate::download) struct Verified {
    staged: Staged,
    /// Where its place is, if not in the directory in which it lies.
    elsewhere: Option<HeldDir>,
}

/// What came of an attempt to give a file a name.
#[derive(Debug)]
pub(in crate::download) enum Named {
    Placed(Placed),
    /// Something else has the name.
    Taken(Verified),
}

/// A file that has a name of its own.
#[derive(Debug)]
pub(in crate::download) struct Placed(Staged);

impl Verified {
    pub(super) fn new(staged: Staged) -> Self {
        Self {
            staged,
            elsewhere: None,
        }
    }

    /// The same file, to be placed in this directory.
    pub(in crate::download) fn bound_for(self, dir: HeldDir) -> Self {
        Self {
            elsewhere: Some(dir),
            ..self
        }
    }

    /// The directory in which it is to be placed.
    pub(in crate::download) fn place(&self) -> &HeldDir {
        self.elsewhere.as_ref().unwrap_or(&self.staged.dir)
    }

    /// Gives it its permissions and its time, the last things before its name. `path` is for messages. Gives its
    /// stamp then.
    pub(in crate::download) fn set_attributes(
        &self,
        path: &ManifestPath,
        share: Permissions,
        mtime: Mtime,
    ) -> FileResult<FileStamp> {
        let failed = |doing| move |error| disk(path, doing, error);
        let file = &self.staged.file;
        if share.add_file_mode != 0 || share.group.is_some() {
            share_file(file, share.add_file_mode, share.group)
                .map_err(failed("set its permissions"))?;
        }
        // Behind its bytes there may be records.
        if self.staged.fate() == Fate::Left {
            file.set_len(self.staged.size).map_err(failed("write it"))?;
        }
        let (seconds, nanoseconds) = mtime.to_unix();
        set_modified(file, seconds, nanoseconds).map_err(failed(SETTING_TIME))?;
        FileStamp::of(file).map_err(failed(SETTING_TIME))
    }

    /// Gives it a name that is free.
    pub(in crate::download) fn place_if_free(self, name: &[u8]) -> io::Result<Named> {
        Ok(if self.staged.rename_to_free(self.place(), name)? {
            Named::Placed(Placed(self.staged))
        } else {
            Named::Taken(self)
        })
    }

    /// Gives it a name, in place of the file or link that has it.
    pub(in crate::download) fn place_over(self, name: &[u8]) -> io::Result<Placed> {
        self.staged.rename_over(self.place(), name)?;
        Ok(Placed(self.staged))
    }

    /// Removes it: something else is in its place, and stays there.
    pub(in crate::download) fn discard(self) {
        self.staged.discard();
    }

    /// Closes it and has it stay. Gives the name under which it does.
    pub(super) fn put_by(mut self) -> Vec<u8> {
        self.staged.keep();
        std::mem::take(&mut self.staged.name)
    }
}

impl Placed {
    pub(in crate::download) fn file(&self) -> &File {
        &self.0.file
    }
}
