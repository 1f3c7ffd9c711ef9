//! Files that no scan found, in the form that the caches take.

use std::path::PathBuf;
use std::sync::Arc;

use attachfs_durable::FileStamp;
use attachfs_manifest::{Mtime, PathRef};

use crate::anchor::{Anchor, Folder};
use crate::os::Facts;
use crate::{ScanError, ScannedFile};

/// A folder whose files the caller finds or makes by itself, and looks up in
/// [`HashCaches`](crate::cache::HashCaches).
#[derive(Debug, Clone)]
pub struct Ground(Arc<Anchor>);

impl Ground {
    /// `real` is absolute and has no symbolic links in it.
    pub fn open(real: PathBuf) -> Result<Self, ScanError> {
        Ok(Self(Arc::new(Anchor::new(real)?)))
    }

    /// The file at `path` in the folder, which has this state.
    pub fn file(&self, path: PathRef<'_>, stamp: FileStamp, runnable: bool) -> ScannedFile {
        let (folder, name) = Folder::of_one(&self.0, path);
        let facts = Facts {
            mtime: mtime_of(&stamp),
            runnable,
            stamp,
        };
        ScannedFile::new(folder, name, &facts)
    }
}

/// A stamp's modification time as manifests have it.
pub fn mtime_of(stamp: &FileStamp) -> Mtime {
    let microseconds = stamp.mtime_ns.div_euclid(1000);
    Mtime(microseconds.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
}
