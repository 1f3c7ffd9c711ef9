//! Puts together the chunks of a file that was partly written: what was written from scratch, the
//! rest from the store, into a file of the session that lives as long as the commit.

use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;

use attachfs_durable::FileStamp;
use attachfs_fetch::Fetcher;
use attachfs_manifest::{ContentHash, Hasher};
use attachfs_transfer::Source;
use attachfs_tree::{BaseTree, FileContent, Ino};
use attachfs_vfs::{Vfs, read_content};

use crate::CommitError;

/// How much is read at once.
const STEP: u64 = 8 << 20;

/// A file with the touched chunks of another at their offsets. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Assembly {
    file: Arc<File>,
    path: PathBuf,
}

impl Assembly {
    pub(crate) fn new(vfs: &Vfs, ino: Ino) -> Result<Self, CommitError> {
        let session = vfs.session().ok_or(CommitError::ReadOnly)?;
        let path = session
            .commit_work_dir()?
            .join(format!("{:016x}", ino.raw()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| CommitError::Io {
                doing: "create",
                path: path.display().to_string(),
                source,
            })?;
        Ok(Self {
            file: Arc::new(file),
            path,
        })
    }

    fn failed(&self, doing: &'static str) -> impl FnOnce(std::io::Error) -> CommitError {
        let path = self.path.display().to_string();
        move |source| CommitError::Io {
            doing,
            path,
            source,
        }
    }

    /// Adds a chunk and hashes it on the way.
    pub(crate) async fn add(
        &self,
        fetcher: &Fetcher,
        tree: &BaseTree,
        ino: Ino,
        content: &FileContent,
        scratch: &File,
        range: Range<u64>,
    ) -> Result<ContentHash, CommitError> {
        let mut hasher = Hasher::new();
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at + STEP);
            let bytes = read_content(fetcher, tree, ino, content, Some(scratch), at..end).await?;
            if bytes.len() as u64 != end - at {
                let short = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                return Err(self.failed("fill")(short));
            }
            hasher.update(&bytes);
            self.file
                .write_all_at(&bytes, at)
                .map_err(self.failed("fill"))?;
            at = end;
        }
        Ok(hasher.finish())
    }

    /// The file, complete.
    pub(crate) fn source(&self) -> Result<Source, CommitError> {
        let stamp = FileStamp::of(&self.file).map_err(self.failed("look at"))?;
        let (path, file) = (self.path.clone(), self.file.clone());
        Ok(Source {
            path,
            file,
            stamp,
            size: stamp.size,
        })
    }
}

impl Drop for Assembly {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            // Discard removes it with the session.
            tracing::warn!(%error, path = %self.path.display(), "cannot remove a file of a commit");
        }
    }
}
