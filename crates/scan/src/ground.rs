//! Files that no scan found, as the caches know files.

use std::path::PathBuf;
use std::sync::Arc;

use attachfs_durable::FileStamp;
use attachfs_manifest::{Mtime, PathRef};

use crate::anchor::{Anchor, Folder};
use crate::os::Facts;
use crate::{ScanError, ScannedFile};

/// A folder whose files somebody else looks at or makes, and that wants to ask
/// [`HashCaches`](crate::cache::HashCaches) about them.
#[derive(Debug, Clone)]
pub struct Ground(Arc<Anchor>);

impl Ground {
    /// `real` is absolute and has no symbolic links in it.
    pub fn open(real: PathBuf) -> Result<Self, ScanError> {
        Ok(Self(Arc::new(Anchor::new(real)?)))
    }

    /// The file at `path` in the folder, which has this state.
    pub fn file(&self, path: PathRef<'_>, stamp: FileStamp, runnable: bool) -> ScannedFile {
        let (below, name) = match path.parent() {
            Some(parent) => (parent.as_bytes(), path.name()),
            None => (&b""[..], path.as_bytes()),
        };
        let folder = Folder {
            anchor: Arc::clone(&self.0),
            below: below.into(),
            names: name.into(),
        };
        let facts = Facts {
            mtime: mtime_of(&stamp),
            runnable,
            stamp,
        };
        // No name of a path has more than 255 bytes.
        ScannedFile::new(Arc::new(folder), (0, name.len() as u8), &facts)
    }
}

/// A stamp's modification time as manifests have it.
fn mtime_of(stamp: &FileStamp) -> Mtime {
    let microseconds = stamp.mtime_ns.div_euclid(1000);
    Mtime(i64::try_from(microseconds).unwrap_or(if microseconds < 0 { i64::MIN } else { i64::MAX }))
}
