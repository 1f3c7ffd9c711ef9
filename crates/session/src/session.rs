//! A session: one mount's writes, on disk, from the mount until they are committed or discarded.
//!
//! ```text
//!     <session>/               0700, one process at a time (lock)
//!         session.json         the description: which manifests are mounted where, from which store
//!         lock
//!         base/0, base/1 ...   the manifests, as they were given
//!         journal              the changes, in order
//!         reserve              room on the disk for a commit
//!         scratch/             bytes; elsewhere if asked for
//!         scratch/aside/       files of the scratch directory that no record of the journal explains
//!         commits/1.manifest   what commit 1 published or is about to publish
//!         layers/1             what the first manifest that was added while it was mounted changed, see [`Stack`]
//!         layers/aside/        files of layers that only a damaged journal names, which is in `scratch/aside`
//!         commits/1.total      everything committed up to 1, relative to the base
//!         tainted.json         wrong objects of which programs were given bytes, see [`Taint`]
//!         cut                  empty: the journal was damaged and lost its end, and nobody has accepted what is left
//!         control.sock         while it is mounted
//!         log, log.1           the log, and its older half
//!         mnt/                 where it is mounted, if nowhere else
//! ```
//!
//! A session is made in a new or an empty directory. From then on only its user can put
//! anything there: a directory or a file of another user, one that others may write to, and a link
//! in place of either are refused, and all are reached through the session's directory, which is held
//! open. Only `discard` deletes files of a session, and only those in this list; `sweep` deletes what a killed process left
//! half done.

mod check;
mod discard;
mod error;
mod id;
mod layout;
mod meta;
mod new;
mod stack;
mod sweep;
mod taint;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use attachfs_durable::{FileLock, Mapped, OwnDir, publish_own_file};
use attachfs_manifest::{ContentHash, Hasher};
use attachfs_tree::Ino;
use serde::{Deserialize, Serialize};

use self::discard::delete;
pub use self::error::SessionError;
pub use self::id::{ParseSessionIdError, SessionId};
pub(crate) use self::layout::SOCKET;
use self::layout::{
    BASE, COMMITS, DESCRIPTION, ENDING, FORMAT, JOURNAL, LAYERS, LOCK, RESERVE, SCRATCH, WORK,
};
pub use self::meta::{BaseManifest, SessionMeta, StoreSettings};
pub use self::new::NewSession;
pub(crate) use self::new::remove_unfinished;
pub use self::stack::{Stack, StackedManifest};
pub use self::taint::Taint;

/// How often, and at what interval, a lock is tried that another process holds.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// The longest description that is read, in bytes. It names each manifest and its hash.
pub(crate) const LONGEST_DESCRIPTION: u64 = 64 << 20;
/// The journal of the session in a directory.
pub(crate) fn journal_in(dir: &Path) -> PathBuf {
    dir.join(JOURNAL)
}

/// Where the scratch files of a session in a directory are.
pub(crate) fn scratch_of(dir: &Path, meta: &SessionMeta) -> PathBuf {
    match &meta.scratch_dir {
        Some(elsewhere) => elsewhere.join(meta.id.as_str()),
        None => dir.join(SCRATCH),
    }
}

/// The fields that every version of the description has.
#[derive(Deserialize)]
struct Versioned {
    format: u32,
    #[serde(default)]
    program: Option<String>,
}

/// The content of `session.json`.
#[derive(Serialize, Deserialize)]
struct Description {
    #[serde(flatten)]
    meta: SessionMeta,
    /// The permission bits of the empty directory that the session was made in. One that was made for the
    /// session has none, and is deleted with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    found_mode: Option<u32>,
}

/// A session's directory, held open and locked.
#[derive(Debug)]
pub struct Session {
    dir: OwnDir,
    meta: SessionMeta,
    found_mode: Option<u32>,
    lock: Arc<FileLock>,
}

impl Session {
    /// Opens a session that another process left. Fails with [`SessionError::Ending`] if that process was deleting it.
    pub fn open(dir: &Path) -> Result<Self, SessionError> {
        let session = Self::open_to_discard(dir)?;
        if session.dir.kind(ENDING.as_ref())?.is_some() {
            return Err(SessionError::Ending(dir.to_owned()));
        }
        Ok(session)
    }

    /// Opens a session that another process left, to [discard](Self::discard) it. The session may be half deleted.
    pub fn open_to_discard(dir: &Path) -> Result<Self, SessionError> {
        let held = Self::hold(dir)?;
        // The lock file is made only after the directory is known to be a session: a mere question leaves no trace.
        Self::read_description(&held, dir)?;
        let lock = Self::take_lock(&held)?;
        let Description { meta, found_mode } = Self::read_description(&held, dir)?;
        Ok(Self {
            dir: held,
            meta,
            found_mode,
            lock: Arc::new(lock),
        })
    }

    fn hold(dir: &Path) -> Result<OwnDir, SessionError> {
        OwnDir::open(dir).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SessionError::Missing(dir.to_owned()),
            _ => error.into(),
        })
    }

    /// Whether a directory has the description of a session.
    pub(crate) fn is_described_in(dir: &Path) -> bool {
        dir.join(DESCRIPTION).is_file()
    }

    /// The description of a session. It can be read while another process has the session.
    pub fn read_meta(dir: &Path) -> Result<SessionMeta, SessionError> {
        Ok(Self::read_description(&Self::hold(dir)?, dir)?.meta)
    }

    fn read_description(held: &OwnDir, dir: &Path) -> Result<Description, SessionError> {
        let path = dir.join(DESCRIPTION);
        let bytes = held
            .read_at_most(DESCRIPTION, LONGEST_DESCRIPTION)
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => SessionError::Missing(dir.to_owned()),
                _ => error.into(),
            })?;
        let unreadable = |source| SessionError::Description {
            path: path.clone(),
            source,
        };
        let Versioned { format, program } = serde_json::from_slice(&bytes).map_err(unreadable)?;
        if format != FORMAT {
            return Err(SessionError::Format {
                path: dir.to_owned(),
                found: format,
                program,
            });
        }
        serde_json::from_slice(&bytes).map_err(unreadable)
    }

    /// Whether a process has the session. A session that does not exist is held by none.
    pub fn is_in_use(dir: &Path) -> Result<bool, SessionError> {
        match OwnDir::open(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            held => Ok(held?.is_locked(LOCK)?),
        }
    }

    /// Whether a process began to delete the session.
    pub fn is_ending(dir: &Path) -> Result<bool, SessionError> {
        Ok(Self::hold(dir)?.kind(ENDING.as_ref())?.is_some())
    }

    fn take_lock(dir: &OwnDir) -> Result<FileLock, SessionError> {
        for _ in 0..LOCK_TRIES {
            if let Some(lock) = dir.lock(LOCK)? {
                return Ok(lock);
            }
            // Someone may only be looking.
            std::thread::sleep(LOCK_PAUSE);
        }
        Err(SessionError::InUse(dir.path().to_owned()))
    }

    /// Writes down the new mount point of the session.
    pub fn move_to(&mut self, mount_point: &Path) -> Result<(), SessionError> {
        if self.meta.mount_point != mount_point {
            mount_point.clone_into(&mut self.meta.mount_point);
            self.describe()?;
        }
        Ok(())
    }

    fn describe(&self) -> Result<(), SessionError> {
        let description = Description {
            meta: self.meta.clone(),
            found_mode: self.found_mode,
        };
        let failed = |source| SessionError::Description {
            path: self.dir().join(DESCRIPTION),
            source,
        };
        let bytes = serde_json::to_vec_pretty(&description).map_err(failed)?;
        Ok(self.dir.publish(DESCRIPTION, &bytes)?)
    }

    /// The session's directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The description, written when the session began.
    pub fn meta(&self) -> &SessionMeta {
        &self.meta
    }

    /// Bounds how many bytes scratch files may take on their disk while this process has the session. Its description stays as it is.
    pub fn bound_scratch(&mut self, bytes: u64) {
        self.meta.max_scratch = Some(bytes);
    }

    /// The manifests' bytes, the lowest first, checked against their hashes.
    pub fn manifests(&self) -> Result<Vec<Vec<u8>>, SessionError> {
        each_manifest(&self.dir, &self.meta, read_checked)
    }

    /// As [`manifests`](Self::manifests), of a session that may be in use: they never change.
    pub fn read_manifests(dir: &Path, meta: &SessionMeta) -> Result<Vec<Vec<u8>>, SessionError> {
        each_manifest(&Self::hold(dir)?, meta, read_checked)
    }

    /// As [`read_manifests`](Self::read_manifests), mapped and not read into memory.
    pub fn map_manifests(dir: &Path, meta: &SessionMeta) -> Result<Vec<Mapped>, SessionError> {
        each_manifest(&Self::hold(dir)?, meta, map_checked)
    }

    /// The journal's place.
    pub fn journal_path(&self) -> PathBuf {
        journal_in(self.dir())
    }

    /// The file that holds room on the disk for a commit.
    pub fn reserve_path(&self) -> PathBuf {
        self.dir().join(RESERVE)
    }

    /// The lock, which is held as long as anybody has this.
    pub fn lock(&self) -> Arc<FileLock> {
        self.lock.clone()
    }

    /// Gives back the room on the disk that is held for a commit, of a session that is about to be deleted.
    pub fn release_reserve(&self) -> Result<(), SessionError> {
        Ok(self.dir.remove_file(RESERVE)?)
    }

    /// The scratch directory, held open; `None` if it is missing.
    pub fn scratch_dir(&self) -> Result<Option<OwnDir>, SessionError> {
        let opened = match &self.meta.scratch_dir {
            Some(_) => OwnDir::open(&self.scratch_path()),
            None => self.dir.dir(SCRATCH),
        };
        match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            dir => Ok(Some(dir?)),
        }
    }

    /// Where the scratch directory is, or should be.
    pub fn scratch_path(&self) -> PathBuf {
        scratch_of(self.dir(), &self.meta)
    }

    /// Where a commit keeps the bytes of its manifest.
    pub fn commit_manifest(&self, generation: u32) -> PathBuf {
        self.dir().join(COMMITS).join(manifest_name(generation))
    }

    /// The bytes of a commit's manifest, which have this hash, out of a session that may be in use: they
    /// never change.
    pub fn read_commit(
        dir: &Path,
        generation: u32,
        hash: ContentHash,
    ) -> Result<Vec<u8>, SessionError> {
        let commits = Self::hold(dir)?.dir(COMMITS)?;
        read_checked(&commits, &manifest_name(generation), hash)
    }

    /// Where a commit keeps all changes up to it, as one diff against the base.
    pub fn commit_total(&self, generation: u32) -> PathBuf {
        self.dir().join(COMMITS).join(format!("{generation}.total"))
    }

    /// A new, empty file for what a commit puts together of an inode's bytes and then drops, and where it
    /// is. The leftover of a process that died is removed.
    pub fn create_work_file(&self, ino: Ino) -> Result<(File, PathBuf), SessionError> {
        let work = self.dir.dir(COMMITS)?.make_dir(WORK)?;
        let name = ino.digits();
        work.remove_file(&name)?;
        Ok((work.create_file(&name)?, work.path().join(name)))
    }

    /// The directory of the diffs that are laid over the base while it is mounted. In a session of an earlier version it may
    /// be missing; then the first diff makes it.
    pub fn layers_path(&self) -> PathBuf {
        self.dir().join(LAYERS)
    }

    /// Writes a file of a commit, durably.
    pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), SessionError> {
        Ok(publish_own_file(path, bytes)?)
    }

    /// Deletes the session and everything that was not committed: what is in the list at the head of this
    /// module. Fails with [`SessionError::Foreign`], and deletes nothing, if there is anything else. The
    /// journal goes first, so that a half deleted session is never taken for a whole one; the description
    /// goes last, so that it can be deleted again. A directory that was there before the session stays,
    /// empty, with its former permission bits.
    pub fn discard(&self) -> Result<(), SessionError> {
        let elsewhere = self.meta.scratch_dir.as_deref();
        let elsewhere = elsewhere.map(|place| (place, &self.meta.id));
        delete(&self.dir, elsewhere, self.found_mode)
    }
}

fn manifest_name(generation: u32) -> String {
    format!("{generation}.manifest")
}

/// The content of a file whose bytes must have this hash.
fn read_checked(dir: &OwnDir, name: &str, expected: ContentHash) -> Result<Vec<u8>, SessionError> {
    let bytes = dir.read(name)?;
    check_hash(dir, name, expected, ContentHash::of(&bytes))?;
    Ok(bytes)
}

/// As [`read_checked`], mapped. All of it is read first, so what the disk cannot read is an error here.
fn map_checked(dir: &OwnDir, name: &str, expected: ContentHash) -> Result<Mapped, SessionError> {
    let mut hasher = Hasher::new();
    dir.read_through(name, |piece| hasher.update(piece))?;
    check_hash(dir, name, expected, hasher.finish())?;
    Ok(dir.map(name)?)
}

fn check_hash(
    dir: &OwnDir,
    name: &str,
    expected: ContentHash,
    found: ContentHash,
) -> Result<(), SessionError> {
    if found == expected {
        return Ok(());
    }
    Err(SessionError::DamagedBase {
        path: dir.path().join(name),
        expected,
        found,
    })
}

/// The bytes of each manifest that a session began with, as `read` gives them.
fn each_manifest<B>(
    dir: &OwnDir,
    meta: &SessionMeta,
    read: impl Fn(&OwnDir, &str, ContentHash) -> Result<B, SessionError>,
) -> Result<Vec<B>, SessionError> {
    if meta.manifests.is_empty() {
        return Ok(Vec::new());
    }
    let base = dir.dir(BASE)?;
    let numbered = meta.manifests.iter().enumerate();
    let read = numbered.map(|(number, manifest)| read(&base, &number.to_string(), manifest.hash));
    read.collect()
}
